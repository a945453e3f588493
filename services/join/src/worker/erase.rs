//! Erasures, slot by slot: the log is looked through for what they take away, an entry puts them into
//! effect, the chunks before it are rewritten without these facts, entities that had some are rebuilt, and
//! what is left of old snapshots is deleted. Receipts say what was done.
//!
//! The slot judges nothing while the look catches up with the last chunks and the entry is in flight:
//! the entry then stands right behind everything that was found. A restart goes on from the entry.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use millrace_client::port::StorePort;
use millrace_kernel::erase::{ErasureScan, Erasures, scrubbed};
use millrace_kernel::slot::Scrub;
use millrace_kernel::{Head, Plan};
use millrace_store::{Append, Part, Put, Receipt, StoreError};
use millrace_telemetry::{Span, TraceContext};
use millrace_types::{Entity, KnownAt, Position, SlotId};
use tokio::time::Instant;

use super::rebuild::Rebuilding;
use super::recover::{SCAN_BYTES, damaged, decode};
use super::save::Which;
use super::{Slot, Worker};
use crate::message::{ErasureStep, ErasureWent, Message};

/// How long a slot waits after a step that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Entities whose parts are looked for at a time.
const CLEANED_AT_ONCE: usize = 16;

/// Where a slot's erasure stands.
pub(super) enum Erasing {
    /// None is under way, or the next step waits for its turn.
    Idle,
    /// A step failed; it is tried again from then on.
    Failed(Instant),
    /// The log is being looked through in the background.
    Scanning,
    /// Looked through up to some chunk; the slot is held.
    Scanned(ErasureScan),
    /// A chunk of the entry is in flight; what is left to be said, if anything.
    Entering(Option<ErasureScan>),
    /// Chunks are being rewritten in the background.
    Scrubbing,
    /// Entities are being rebuilt; then their heads are to be stored up to this position.
    Rebuilding(Option<Position>),
    /// Parts are being deleted in the background.
    Cleaning,
    /// All is done but for the chunk that says so.
    Cleaned,
}

impl Worker {
    /// Takes the newest list to every slot.
    pub(super) fn learn_of_erasures(&mut self) {
        if self.erasures.has_changed().unwrap_or(false) {
            let erasures = self.erasures.borrow_and_update().clone();
            for slot in self.slots.values_mut() {
                slot.core.set_erasures(erasures.clone());
            }
        }
    }

    /// Takes every slot's erasure one step further.
    pub(super) fn continue_erasures(&mut self) {
        if self.fail.borrow().is_some() {
            return;
        }
        let due = |slot: &Slot| {
            let new = slot.core.erased_up_to() < slot.core.erasures().last();
            new || slot.core.scrub().is_some() || !matches!(slot.erasing, Erasing::Idle)
        };
        let ids: Vec<SlotId> =
            self.slots.iter().filter(|(_, slot)| due(slot)).map(|(id, _)| *id).collect();
        for id in ids {
            self.continue_erasure(id);
        }
    }

    fn continue_erasure(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let leaves = slot.leaving.is_some();
        let next = match std::mem::replace(&mut slot.erasing, Erasing::Idle) {
            // Two who rewrite chunks would undo each other's work.
            Erasing::Idle if leaves || slot.is_scrubbing() => Erasing::Idle,
            Erasing::Idle => self.begin_erasure(id),
            Erasing::Failed(again) if Instant::now() >= again => Erasing::Idle,
            // Its next owner looks again.
            Erasing::Scanned(_) if leaves => {
                slot.held.erasing = false;
                Erasing::Idle
            }
            Erasing::Scanned(scan) if slot.flight.is_none() => self.enter(id, scan),
            Erasing::Rebuilding(stored) => self.await_rebuilt(id, stored),
            Erasing::Cleaned if slot.flight.is_none() && !slot.held.any() && !leaves => {
                self.end_erasure(id)
            }
            other @ (Erasing::Failed(_)
            | Erasing::Scanning
            | Erasing::Scanned(_)
            | Erasing::Entering(_)
            | Erasing::Scrubbing
            | Erasing::Cleaning
            | Erasing::Cleaned) => other,
        };
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.erasing = next;
        }
    }

    fn begin_erasure(&mut self, id: SlotId) -> Erasing {
        let Some(slot) = self.slots.get_mut(&id) else { return Erasing::Idle };
        if let Some(scrub) = slot.core.scrub().cloned() {
            let Some(ver) = self.clock.next() else { return Erasing::Idle };
            let erasures = slot.core.erasures().clone();
            let work = rewrite(self.store.clone(), (id, ver), self.plan.clone(), erasures, scrub);
            self.spawn_step(id, async move { ErasureStep::Scrubbed(work.await) });
            return Erasing::Scrubbing;
        }
        if !matches!(slot.rebuild, Rebuilding::Idle) {
            return Erasing::Idle;
        }
        match slot.core.start_erasure() {
            Some(scan) => self.look_again(id, scan),
            None => Erasing::Idle,
        }
    }

    fn look_again(&mut self, id: SlotId, scan: ErasureScan) -> Erasing {
        let Some(slot) = self.slots.get_mut(&id) else { return Erasing::Idle };
        let (store, up_to) = (self.store.clone(), slot.core.confirmed().0);
        self.spawn_step(id, async move {
            ErasureStep::Scanned(look_through(&*store, id, scan, up_to).await)
        });
        Erasing::Scanning
    }

    /// Writes the next chunk of the entry, or looks through what came meanwhile.
    fn enter(&mut self, id: SlotId, mut scan: ErasureScan) -> Erasing {
        let Some(slot) = self.slots.get_mut(&id) else { return Erasing::Idle };
        if scan.covered() < slot.core.confirmed().0 {
            return self.look_again(id, scan);
        }
        let Some(known_at) = self.clock.next() else { return Erasing::Scanned(scan) };
        let (draft, is_last) = slot.core.draft_erasure(&mut scan, known_at);
        let append = slot.take_off_notes(draft);
        self.append(vec![id], vec![append], Span::default());
        Erasing::Entering((!is_last).then_some(scan))
    }

    /// Waits until who had some of the facts is rebuilt and stored without them.
    fn await_rebuilt(&mut self, id: SlotId, stored: Option<Position>) -> Erasing {
        let Some(slot) = self.slots.get_mut(&id) else { return Erasing::Idle };
        let Some(scrub) = slot.core.scrub().cloned() else { return Erasing::Idle };
        let Some(stored) = stored else {
            let is_rebuilt = slot.core.is_rebuilt(&scrub);
            return Erasing::Rebuilding(is_rebuilt.then(|| slot.core.confirmed().0));
        };
        if slot.marked < stored {
            self.put_heads(id, Which::All);
            self.mark_now(id);
            return Erasing::Rebuilding(Some(stored));
        }
        let Some(ver) = self.clock.next() else { return Erasing::Rebuilding(Some(stored)) };
        let work = clean(self.store.clone(), (id, ver), self.plan.clone(), scrub);
        self.spawn_step(id, async move { ErasureStep::Cleaned(work.await) });
        Erasing::Cleaning
    }

    fn end_erasure(&mut self, id: SlotId) -> Erasing {
        let Some(slot) = self.slots.get_mut(&id) else { return Erasing::Idle };
        let Some(known_at) = self.clock.next() else { return Erasing::Cleaned };
        let draft = slot.core.draft_scrubbed(known_at);
        let append = slot.take_off_notes(draft);
        self.append(vec![id], vec![append], Span::default());
        Erasing::Idle
    }

    fn spawn_step(&self, slot: SlotId, step: impl Future<Output = ErasureStep> + Send + 'static) {
        let Some(epoch) = self.slots.get(&slot).map(|s| s.epoch) else { return };
        let own = self.own.clone();
        self.runtime.spawn(async move {
            let went = ErasureWent { slot, epoch, step: step.await };
            if let Some(own) = own.upgrade() {
                // A worker that is gone erases nothing.
                let _ = own.send(Message::Erasing(went)).await;
            }
        });
    }

    /// A step in the background ended.
    pub(super) fn erasure_went_on(&mut self, went: ErasureWent) {
        let owned = |slot: &&mut Slot| slot.epoch == went.epoch;
        let Some(slot) = self.slots.get_mut(&went.slot).filter(owned) else { return };
        let is = |state: fn(&Erasing) -> bool| state(&slot.erasing);
        let next = match went.step {
            ErasureStep::Scanned(looked) if is(|e| matches!(e, Erasing::Scanning)) => {
                looked.map(Erasing::Scanned)
            }
            ErasureStep::Scrubbed(outcome) if is(|e| matches!(e, Erasing::Scrubbing)) => {
                outcome.map(|()| Erasing::Rebuilding(None))
            }
            ErasureStep::Cleaned(outcome) if is(|e| matches!(e, Erasing::Cleaning)) => {
                outcome.map(|()| Erasing::Cleaned)
            }
            // Of an erasure that was given up.
            ErasureStep::Scanned(_) | ErasureStep::Scrubbed(_) | ErasureStep::Cleaned(_) => return,
        };
        slot.held.erasing = matches!(next, Ok(Erasing::Scanned(_)));
        slot.erasing = next.unwrap_or_else(|error| {
            tracing::warn!(slot = went.slot.0, ?error, "erase");
            Erasing::Failed(Instant::now() + AGAIN_AFTER)
        });
    }
}

impl Slot {
    /// A chunk is confirmed; it may be one of an entry.
    pub(super) fn erasure_entered(&mut self, position: Position) {
        match std::mem::replace(&mut self.erasing, Erasing::Idle) {
            Erasing::Entering(Some(mut scan)) => {
                scan.pass(position);
                self.erasing = Erasing::Scanned(scan);
            }
            Erasing::Entering(None) => {
                self.held.erasing = false;
                self.unsaved.get_or_insert_with(Instant::now);
            }
            other @ (Erasing::Idle
            | Erasing::Failed(_)
            | Erasing::Scanning
            | Erasing::Scanned(_)
            | Erasing::Scrubbing
            | Erasing::Rebuilding(_)
            | Erasing::Cleaning
            | Erasing::Cleaned) => self.erasing = other,
        }
    }

    /// Whether rebuilds may begin: not from a log that is about to lose facts.
    pub(super) fn may_rebuild(&self) -> bool {
        match self.erasing {
            Erasing::Idle | Erasing::Failed(_) => self.core.scrub().is_none(),
            Erasing::Rebuilding(_) | Erasing::Cleaning | Erasing::Cleaned => true,
            Erasing::Scanning | Erasing::Scanned(_) | Erasing::Entering(_) | Erasing::Scrubbing => {
                false
            }
        }
    }
}

async fn look_through(
    store: &dyn StorePort,
    slot: SlotId,
    mut scan: ErasureScan,
    up_to: Position,
) -> Result<ErasureScan, StoreError> {
    loop {
        let page = store.read_log(slot, scan.covered(), up_to, SCAN_BYTES).await?;
        for (position, bytes) in &page.chunks {
            let chunk = decode(slot, *position, bytes.as_ref())?;
            scan.chunk(*position, &chunk).map_err(|e| damaged(slot, *position, &e))?;
        }
        if page.complete || page.chunks.is_empty() {
            // An epoch may have no chunk yet.
            scan.pass(up_to);
            return Ok(scan);
        }
        tokio::task::yield_now().await;
    }
}

/// Rewrites the chunks before an entry without what it erases.
async fn rewrite(
    store: Arc<dyn StorePort>,
    (slot, ver): (SlotId, KnownAt),
    plan: Arc<Plan>,
    erasures: Arc<Erasures>,
    scrub: Scrub,
) -> Result<(), StoreError> {
    let mut after = Position::START;
    loop {
        let page = store.read_log(slot, after, scrub.position, SCAN_BYTES).await?;
        let mut left = Vec::new();
        for (position, bytes) in &page.chunks {
            after = *position;
            let chunk = decode(slot, *position, bytes.as_ref())?;
            let rest = scrubbed(&plan, &erasures, scrub.up_to, &chunk)
                .map_err(|e| damaged(slot, *position, &e))?;
            left.extend(rest.map(|bytes| Append {
                slot,
                position: *position,
                known_at: chunk.header.known_at,
                bytes: Bytes::from(bytes),
            }));
        }
        if !left.is_empty() {
            store.rewrite(ver, left).await?;
        }
        if page.complete || page.chunks.is_empty() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

/// Deletes what no head lists any more of entities whose snapshots held what is erased, and writes the
/// receipts.
///
/// Of the stored head's lineage every later head lists only parts that this one lists or newer ones, so
/// nothing is deleted that anybody will look for; a reader with an older head reads the head again.
async fn clean(
    store: Arc<dyn StorePort>,
    (slot, ver): (SlotId, KnownAt),
    plan: Arc<Plan>,
    scrub: Scrub,
) -> Result<(), StoreError> {
    let deleted = delete_unlisted(&*store, (slot, ver), &plan, scrub.entities).await?;
    for (number, facts, chunks) in scrub.found {
        let receipt = Receipt {
            slot,
            position: scrub.position,
            facts,
            chunks,
            entities: scrub.rebuilt,
            parts: deleted,
        };
        store.put_receipt(number, ver, receipt).await?;
    }
    Ok(())
}

/// Deletes what the stored heads of these entities do not list. Gives how many parts that was.
pub(super) async fn delete_unlisted(
    store: &dyn StorePort,
    (slot, ver): (SlotId, KnownAt),
    plan: &Plan,
    entities: Vec<Entity>,
) -> Result<u64, StoreError> {
    let doomed: Vec<Vec<(Entity, Part)>> = stream::iter(entities)
        .map(|entity| unlisted(store, plan, entity))
        .buffer_unordered(CLEANED_AT_ONCE)
        .try_collect()
        .await?;
    let delete = |(entity, part)| Put { slot, entity, part, ver, bytes: Bytes::new() };
    let parts: Vec<Put> = doomed.into_iter().flatten().map(delete).collect();
    let deleted = parts.len() as u64;
    if !parts.is_empty() {
        store.put(parts, TraceContext::default()).await?;
    }
    Ok(deleted)
}

/// The parts of an entity that are older than its head and that it does not list.
async fn unlisted(
    store: &dyn StorePort,
    plan: &Plan,
    entity: Entity,
) -> Result<Vec<(Entity, Part)>, StoreError> {
    let Some(kind) = plan.kind(entity.kind) else { return Ok(Vec::new()) };
    let head = store.load(vec![(entity.clone(), Part::Head)]).await?.into_iter().next().flatten();
    let Some((head_ver, bytes)) = head else { return Ok(Vec::new()) };
    let head = Head::decode(kind, &bytes).map_err(|error| StoreError::Damaged {
        what: format!("head of entity {}", entity.key),
        reason: error.to_string(),
    })?;
    let (pages, ids) = head.part_names();
    let is_old = |part: &Part| match part {
        Part::Head => false,
        Part::RebuiltHead(ver) => *ver < head_ver,
        Part::Page(ver, number) => *ver < head_ver && !pages.contains(&(*ver, *number)),
        Part::Ids(ver, number) => *ver < head_ver && !ids.contains(&(*ver, *number)),
    };
    let parts = store.parts(entity.clone()).await?;
    Ok(parts.into_iter().filter(is_old).map(|part| (entity.clone(), part)).collect())
}
