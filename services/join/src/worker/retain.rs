//! Retention, slot by slot: a base chunk once a boundary moves, from which on what lies before it is
//! forgotten; then the chunks before it are rewritten without it, round by round, in the background and at
//! the pace of backfills; then the store is told to let go of the bytes.
//!
//! In each round the heads of those who had such facts are stored once more before their facts are taken out
//! of the log: afterwards nobody can tell who had some. Nothing waits for any of it. A restart begins a
//! rewrite anew that no mark tells of, and takes out what is left.

use std::sync::Arc;
use std::time::Duration;

use millrace_kernel::RetentionScrub;
use millrace_store::StoreError;
use millrace_telemetry::Span;
use millrace_types::{Boundaries, Entity, Position, SlotId};
use tokio::time::Instant;

use super::erase::{Erasing, delete_unlisted};
use super::save::Which;
use super::scan_rate::ScanRate;
use super::{Slot, Waits, Worker};
use crate::message::{Message, RetentionStep, RetentionWent};

mod rounds;

/// How long a slot waits after a step that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Ids that a round looks at, each about 16 bytes.
const IDS_MAX: usize = 1 << 20;
/// Heads that are stored once more at a time.
const HEADS_AT_ONCE: usize = 512;
/// How often a store is told to let go of bytes at most: it takes a while, whatever there is.
const COMPACT_EVERY: Duration = Duration::from_secs(3_600);

/// Where the rewriting of a slot's log for the retention of its streams stands.
pub(super) enum Retaining {
    /// None is under way.
    Idle,
    /// A step failed; the log is rewritten anew from then on.
    Failed(Instant),
    /// The log is being looked through in the background.
    Finding(Target),
    /// Heads of those who have such facts are being stored once more.
    Renewing(Renewing),
    /// Chunks are being rewritten in the background.
    Rewriting(Target),
    /// Another round follows: entities from this hash on.
    Next(u64, Target),
    /// All is rewritten; the store is to let go of the bytes before the mark says so.
    Rewritten(Target),
}

/// What all rounds of a rewrite take out: facts before the boundaries, of chunks before the base chunk.
#[derive(Debug, Clone)]
pub(super) struct Target {
    base: Position,
    boundaries: Arc<Boundaries>,
    /// Bytes may be left that no row holds any more: facts were taken out, now or before a restart.
    leaves_bytes: bool,
}

/// Heads that are stored once more.
pub(super) struct Renewing {
    target: Target,
    scrub: RetentionScrub,
    /// Entities whose turn is to come.
    left: Vec<Entity>,
    /// Those whose turn it is.
    batch: Vec<Entity>,
    /// Of these, those whose head is not on its way yet, …
    waiting: Vec<Entity>,
    /// … and those whose head is not stored yet.
    putting: Vec<Entity>,
    /// Some are being loaded.
    is_loading: bool,
    /// What the heads of the batch do not list any more is being deleted.
    is_deleting: bool,
}

/// Telling the store to let go of bytes.
#[derive(Debug, Default)]
pub(super) struct Compacting {
    /// The slots that it is done for, with their ownership, while it is under way.
    of: Option<Vec<(SlotId, u64)>>,
    /// When it was begun last.
    last: Option<Instant>,
}

impl Worker {
    /// Takes the retention of every slot one step further.
    pub(super) fn retain(&mut self) {
        if self.fail.borrow().is_some() {
            return;
        }
        let ids: Vec<SlotId> = self.slots.keys().copied().collect();
        let mut is_idle = true;
        for id in ids {
            if self.slots.get(&id).is_some_and(|slot| slot.core.base_due().is_some()) {
                self.bases_due.insert(id);
            }
            is_idle &= self.continue_retention(id);
        }
        if is_idle {
            self.compact();
        }
    }

    /// Writes base chunks of slots where one is due, before more facts are judged there.
    pub(super) fn write_bases(&mut self) {
        for id in std::mem::take(&mut self.bases_due) {
            self.write_base(id);
        }
    }

    fn write_base(&mut self, id: SlotId) {
        if self.fail.borrow().is_some() {
            return;
        }
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.leaving.is_none()) else {
            return;
        };
        if slot.flight.is_some() || slot.held.any() {
            self.bases_due.insert(id);
            return;
        }
        let Some(boundaries) = slot.core.base_due() else { return };
        let Some(known_at) = self.clock.next() else { return };
        let draft = slot.core.draft_base(boundaries, known_at);
        slot.unsaved.get_or_insert_with(Instant::now);
        let append = slot.take_off_notes(draft);
        self.append(vec![id], vec![append], Span::default());
    }

    /// True when there is nothing left to do in the slot.
    fn continue_retention(&mut self, id: SlotId) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return true };
        let leaves_bytes = slot.inherited_scrub;
        let target = |(base, boundaries)| Target { base, boundaries, leaves_bytes };
        let due = || slot.core.scrub_due().map(target);
        let next = match &slot.retaining {
            Retaining::Idle => due().map(|target| (0, target)),
            Retaining::Failed(again) if Instant::now() >= *again => due().map(|target| (0, target)),
            Retaining::Next(from, target) => Some((*from, target.clone())),
            Retaining::Renewing(_) => {
                self.renew(id);
                return false;
            }
            Retaining::Rewritten(_) => return true,
            Retaining::Finding(_) | Retaining::Rewriting(_) | Retaining::Failed(_) => return false,
        };
        let Some((from, target)) = next else { return true };
        // Two who rewrite chunks would undo each other's work.
        let erases = !matches!(slot.erasing, Erasing::Idle) || slot.core.scrub().is_some();
        if !erases && slot.leaving.is_none() {
            self.find(id, from, target);
        }
        false
    }

    /// Looks in the background for what a round is to take out.
    fn find(&mut self, id: SlotId, from: u64, target: Target) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.retaining = Retaining::Finding(target.clone());
        let scrub = RetentionScrub::new(self.plan.clone(), target.boundaries, from, IDS_MAX);
        let (store, rate) = (self.store.clone(), ScanRate(self.config.backfill.bytes_per_second));
        self.spawn_retention(id, async move {
            RetentionStep::Found(rounds::find(&*store, id, target.base, rate, scrub).await)
        });
    }

    fn spawn_retention(
        &self,
        slot: SlotId,
        step: impl Future<Output = RetentionStep> + Send + 'static,
    ) {
        let Some(epoch) = self.slots.get(&slot).map(|s| s.epoch) else { return };
        let own = self.own.clone();
        self.runtime.spawn(async move {
            let went = RetentionWent { slot, epoch, step: step.await };
            if let Some(own) = own.upgrade() {
                // A worker that is gone forgets nothing.
                let _ = own.send(Message::Retention(went)).await;
            }
        });
    }

    /// A step in the background ended.
    pub(super) fn retention_went_on(&mut self, went: RetentionWent) {
        let owned = |slot: &&mut Slot| slot.epoch == went.epoch;
        let Some(slot) = self.slots.get_mut(&went.slot).filter(owned) else { return };
        let next =
            match (std::mem::replace(&mut slot.retaining, Retaining::Idle), went.step) {
                (Retaining::Finding(target), RetentionStep::Found(found)) => {
                    found.map(|scrub| Retaining::Renewing(Renewing::new(target, scrub)))
                }
                (Retaining::Renewing(mut renewing), RetentionStep::Deleted(outcome)) => outcome
                    .map(|()| {
                        renewing.batch.clear();
                        renewing.is_deleting = false;
                        Retaining::Renewing(renewing)
                    }),
                (Retaining::Rewriting(mut target), RetentionStep::Rewritten(outcome)) => outcome
                    .map(|scrub| {
                        self.instruments.forgotten.add(scrub.facts(), &[]);
                        target.leaves_bytes |= scrub.facts() > 0;
                        match scrub.next() {
                            Some(next) => Retaining::Next(next, target),
                            None if target.leaves_bytes => Retaining::Rewritten(target),
                            None => slot.retained(&target),
                        }
                    }),
                // Of a rewrite that was given up.
                (other, _) => Ok(other),
            };
        slot.retaining = next.unwrap_or_else(|error| retention_failed(went.slot, &error));
        if matches!(slot.retaining, Retaining::Renewing(_)) {
            self.renew(went.slot);
        }
    }

    /// Takes the storing of heads one step further; once all are stored, chunks are rewritten.
    fn renew(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Retaining::Renewing(renewing) = &mut slot.retaining else { return };
        if renewing.is_loading || renewing.is_deleting || slot.leaving.is_some() {
            return;
        }
        if renewing.batch.is_empty() {
            let from = renewing.left.len().saturating_sub(HEADS_AT_ONCE);
            renewing.batch = renewing.left.split_off(from);
            renewing.waiting.clone_from(&renewing.batch);
        }
        if renewing.batch.is_empty() {
            return self.rewrite(id);
        }
        let mut begun: Vec<Entity> = Vec::new();
        renewing.waiting.retain(|entity| {
            let begins = slot.core.renew_head(entity);
            begun.extend(begins.then(|| entity.clone()));
            !begins
        });
        renewing.putting.append(&mut begun);
        renewing.putting.retain(|entity| !slot.core.is_renewed(entity));
        // The others wait for their rebuild, which loads them.
        let missing = |entity: &&Entity| !slot.core.is_resident(entity);
        let missing: Vec<Entity> = renewing.waiting.iter().filter(missing).cloned().collect();
        if !missing.is_empty() {
            renewing.is_loading = true;
            self.load(id, missing, Waits::Retention);
        } else if !renewing.putting.is_empty() {
            slot.unsaved.get_or_insert_with(Instant::now);
            self.put_heads(id, Which::All);
        } else if renewing.waiting.is_empty() {
            renewing.is_deleting = true;
            let batch = renewing.batch.clone();
            self.delete_unlisted(id, batch);
        }
    }

    /// Deletes in the background what the heads of these entities do not list.
    fn delete_unlisted(&mut self, id: SlotId, batch: Vec<Entity>) {
        let Some(ver) = self.clock.next() else {
            if let Some(slot) = self.slots.get_mut(&id)
                && let Retaining::Renewing(renewing) = &mut slot.retaining
            {
                renewing.is_deleting = false;
            }
            return;
        };
        let (store, plan) = (self.store.clone(), self.plan.clone());
        self.spawn_retention(id, async move {
            let deleted = delete_unlisted(&*store, (id, ver), &plan, batch).await;
            RetentionStep::Deleted(deleted.map(|_| ()))
        });
    }

    /// Entities whose heads are to be stored once more were loaded.
    pub(super) fn retention_loaded(&mut self, id: SlotId, loaded: Result<(), StoreError>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Retaining::Renewing(renewing) = &mut slot.retaining else { return };
        renewing.is_loading = false;
        match loaded {
            Ok(()) => self.renew(id),
            Err(error) => slot.retaining = retention_failed(id, &error),
        }
    }

    /// Rewrites chunks in the background.
    fn rewrite(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(ver) = self.clock.next() else { return };
        let (target, scrub) = match std::mem::replace(&mut slot.retaining, Retaining::Idle) {
            Retaining::Renewing(renewing) => (renewing.target, renewing.scrub),
            other @ (Retaining::Idle
            | Retaining::Failed(_)
            | Retaining::Finding(_)
            | Retaining::Rewriting(_)
            | Retaining::Rewritten(_)
            | Retaining::Next(..)) => {
                slot.retaining = other;
                return;
            }
        };
        slot.retaining = Retaining::Rewriting(target.clone());
        let (store, rate) = (self.store.clone(), ScanRate(self.config.backfill.bytes_per_second));
        self.spawn_retention(id, async move {
            let outcome = rounds::rewrite(&*store, (id, ver), target.base, rate, scrub).await;
            RetentionStep::Rewritten(outcome)
        });
    }

    /// Tells the store to let go of what was taken out, now and then.
    fn compact(&mut self) {
        let rewritten = |slot: &Slot| matches!(slot.retaining, Retaining::Rewritten(_));
        let of: Vec<(SlotId, u64)> = self
            .slots
            .iter()
            .filter(|(_, slot)| rewritten(slot))
            .map(|(id, slot)| (*id, slot.epoch))
            .collect();
        let Compacting { of: under_way, last } = &self.compacting;
        let is_early = last.is_some_and(|last| last.elapsed() < COMPACT_EVERY);
        if of.is_empty() || under_way.is_some() || is_early {
            return;
        }
        self.compacting = Compacting { of: Some(of), last: Some(Instant::now()) };
        let (store, own) = (self.store.clone(), self.own.clone());
        self.runtime.spawn(async move {
            let outcome = store.compact().await;
            if let Some(own) = own.upgrade() {
                // A worker that is gone need not know.
                let _ = own.send(Message::Compacted(outcome)).await;
            }
        });
    }

    pub(super) fn compacted(&mut self, outcome: Result<(), StoreError>) {
        let of = self.compacting.of.take().unwrap_or_default();
        if let Err(error) = outcome {
            tracing::warn!(?error, "compact the store after facts were forgotten");
            return;
        }
        for (id, epoch) in of {
            let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.epoch == epoch) else {
                continue;
            };
            if let Retaining::Rewritten(target) = &slot.retaining {
                let target = target.clone();
                slot.retaining = slot.retained(&target);
            }
        }
    }
}

impl Renewing {
    fn new(target: Target, scrub: RetentionScrub) -> Self {
        Self {
            target,
            left: scrub.entities(),
            scrub,
            batch: Vec::new(),
            waiting: Vec::new(),
            putting: Vec::new(),
            is_loading: false,
            is_deleting: false,
        }
    }
}

impl Slot {
    /// Chunks are being rewritten for a retention, or are about to be.
    pub(super) fn is_scrubbing(&self) -> bool {
        match self.retaining {
            Retaining::Finding(_) | Retaining::Renewing(_) | Retaining::Rewriting(_) => true,
            Retaining::Idle
            | Retaining::Failed(_)
            | Retaining::Next(..)
            | Retaining::Rewritten(_) => false,
        }
    }

    /// All is done; the next mark says so.
    fn retained(&mut self, target: &Target) -> Retaining {
        self.inherited_scrub = false;
        self.core.scrubbed(&target.boundaries);
        Retaining::Idle
    }
}

fn retention_failed(slot: SlotId, error: &StoreError) -> Retaining {
    tracing::warn!(slot = slot.0, ?error, "rewrite the log for a retention");
    Retaining::Failed(Instant::now() + AGAIN_AFTER)
}
