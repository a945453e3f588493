//! Backfills in the background: features that came after facts left are filled in from the log.
//!
//! A worker backfills one slot at a time. It lists entities from the slot's log, loads those that are not
//! in memory, folds those that lack something at a measured pace, and hands over what they lack. Judging
//! and reads go on meanwhile. Marks say how far it came once the heads are stored.

mod progress;

use std::collections::VecDeque;
use std::time::Duration;

use millrace_client::port::{SlotStatus, StorePort};
use millrace_kernel::slot::{Fold, Listing};
use millrace_store::StoreError;
use millrace_types::{Chunk, DecodeError, Entity, KnownAt, Micros, Position, SlotId};
use tokio::time::Instant;

use super::recover::{damaged, decode};
use super::save::Which;
use super::scan_rate::ScanRate;
use super::{TICK, Waits, Worker};
use crate::message::{Backfilled, Message};
pub(super) use progress::Progress;

/// Entities listed in one scan of a slot's log.
const LISTED_MAX: usize = 65_536;
/// Batches looked at in one turn of the worker: most lack nothing.
const BATCHES_A_TURN: usize = 8;
/// How long to wait after the log could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// The backfill of one slot.
pub(super) struct Backfill {
    slot: SlotId,
    /// Of the ownership it was begun in.
    epoch: u64,
    /// The catalog version it goes to.
    version: u32,
    step: Step,
    /// What was listed and not looked at yet, by hash, ascending.
    listed: VecDeque<(u64, Entity)>,
    /// Where the list ends; `None` at the slot's end.
    end: Option<u64>,
    /// What is to be looked at once more: it waits for a rebuild.
    later: Vec<(u64, Entity)>,
    /// When that is, unless a rebuild is installed before.
    retry: Instant,
    /// What is being loaded or folded.
    batch: Vec<(u64, Entity)>,
}

/// Where a backfill stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The log is scanned for entities.
    Listing,
    /// The next batch can be looked at.
    Next,
    /// A batch is being loaded.
    Loading,
    /// The log is folded for a batch.
    Folding,
    /// Heads of the batch are being put.
    Saving,
}

/// What the log gave for a backfill.
#[derive(Debug)]
pub(crate) enum Scanned {
    /// Entities.
    Listed(Listing),
    /// Those of a batch, folded, with the horizons before which facts leave.
    Folded(Fold, Vec<(u64, Entity, Micros)>),
}

/// How a scan of the log goes.
struct Scan {
    up_to: Position,
    /// Bytes of the log a second.
    rate: ScanRate,
    /// Memory of what is folded.
    bytes: usize,
}

impl Backfill {
    /// True when nothing is left but what waits for a rebuild.
    fn waits(&self) -> bool {
        self.listed.is_empty() && !self.later.is_empty()
    }
}

impl Worker {
    /// A rebuild of this slot is installed: what waited for it can be looked at before the next chunk.
    pub(super) fn backfill_retries(&mut self, id: SlotId) {
        if let Some(fill) = self.backfill.as_mut().filter(|fill| fill.slot == id) {
            fill.retry = Instant::now();
        }
    }

    /// Starts and continues a backfill.
    pub(super) fn start_backfills(&mut self) {
        if self.fail.borrow().is_some() {
            return;
        }
        if self.backfill.as_ref().is_some_and(|fill| !self.goes_on(fill)) {
            self.stop_backfill();
        }
        for _ in 0..BATCHES_A_TURN {
            let Some(fill) = &mut self.backfill else {
                if !self.begin_backfill() {
                    return;
                }
                continue;
            };
            let Some(slot) = self.slots.get_mut(&fill.slot) else { return };
            match fill.step {
                Step::Listing | Step::Loading | Step::Folding => return,
                // Those of a backfill before count too.
                Step::Saving | Step::Next if slot.core.fills_unsaved() > 0 => return,
                Step::Saving => fill.step = Step::Next,
                Step::Next if fill.waits() && Instant::now() < fill.retry => return,
                Step::Next => self.next_batch(),
            }
        }
    }

    /// False when the slot is gone or about to, or another catalog version came.
    fn goes_on(&self, fill: &Backfill) -> bool {
        let version = self.plan.catalog.version;
        self.slots.get(&fill.slot).is_some_and(|slot| {
            slot.epoch == fill.epoch && slot.leaving.is_none() && fill.version == version
        })
    }

    fn stop_backfill(&mut self) {
        let Some(fill) = self.backfill.take() else { return };
        if let Some(slot) = self.slots.get_mut(&fill.slot) {
            fill.batch.iter().for_each(|(_, entity)| slot.core.fill_failed(entity));
        }
    }

    /// Takes the next slot that lacks something, after the one of the last time. False when there is
    /// none, or not now.
    fn begin_backfill(&mut self) -> bool {
        let pauses = self.backfill_pause.is_some_and(|until| Instant::now() < until);
        if !self.backfill_due || pauses {
            return false;
        }
        let last = self.backfilled;
        let mut ids: Vec<SlotId> = self.slots.keys().copied().collect();
        ids.sort_by_key(|id| (*id <= last, *id));
        let version = self.plan.catalog.version;
        for id in ids {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            if slot.leaving.is_some() || slot.core.backfilling().is_none() {
                continue;
            }
            self.backfilled = id;
            if !slot.core.needs_backfill() {
                return true;
            }
            self.backfill = Some(Backfill {
                slot: id,
                epoch: slot.epoch,
                version,
                step: Step::Listing,
                listed: VecDeque::new(),
                end: None,
                later: Vec::new(),
                retry: Instant::now(),
                batch: Vec::new(),
            });
            let from = slot.core.filled().below;
            if self.backfill_progress.is_none_or(|progress| progress.version() != version) {
                self.backfill_progress = Some(Progress::new(version, Instant::now()));
            }
            tracing::info!(slot = id.0, catalog_version = version, from, "backfill");
            self.list(from);
            return true;
        }
        self.backfill_due = false;
        // How long the next one takes is not for the pause until then to tell.
        self.backfill_progress = None;
        false
    }

    /// Lists entities from this hash on.
    fn list(&mut self, from: u64) {
        let listing = Listing::new(self.plan.clone(), from, LISTED_MAX);
        self.scan(Scanned::Listed(listing));
    }

    /// Looks at the next entities; none left: the slot is done, or more is to be listed.
    fn next_batch(&mut self) {
        let Some(fill) = &mut self.backfill else { return };
        let Some(slot) = self.slots.get_mut(&fill.slot) else { return };
        let undone = fill.listed.front().into_iter().chain(&fill.later).map(|(hash, _)| *hash);
        let below = undone.min().or(fill.end);
        let before = slot.core.filled().permille(self.config.slots);
        slot.core.filled_below(below);
        let is_done = below.is_none();
        let after = if is_done { 1_000 } else { slot.core.filled().permille(self.config.slots) };
        if let Some(progress) = &mut self.backfill_progress {
            progress.add(before, after);
        }
        let most = self.config.backfill.entities;
        if fill.waits() {
            fill.retry = Instant::now() + TICK;
            // Whatever of it is listed once more stands in order there.
            fill.later.sort_unstable();
            fill.batch = fill.later.drain(..most.min(fill.later.len())).collect();
        } else {
            fill.batch = fill.listed.drain(..most.min(fill.listed.len())).collect();
        }
        match (fill.batch.is_empty(), fill.end) {
            (true, None) => {
                tracing::info!(slot = fill.slot.0, catalog_version = fill.version, "backfilled");
                let id = fill.slot;
                self.backfill = None;
                self.mark_now(id);
            }
            (true, Some(end)) => {
                fill.step = Step::Listing;
                self.list(end);
            }
            (false, _) => {
                let missing = fill.batch.iter().map(|(_, entity)| entity);
                let missing: Vec<Entity> = missing.filter(|e| !slot.core.has(e)).cloned().collect();
                if missing.is_empty() {
                    return self.look_at_batch();
                }
                fill.step = Step::Loading;
                let id = fill.slot;
                self.load(id, missing, Waits::Backfill);
            }
        }
    }

    /// The batch was loaded.
    pub(super) fn backfill_loaded(&mut self, id: SlotId, loaded: Result<(), StoreError>) {
        let waits = |fill: &Backfill| fill.slot == id && fill.step == Step::Loading;
        if !self.backfill.as_ref().is_some_and(waits) {
            return;
        }
        match loaded {
            Ok(()) => self.look_at_batch(),
            Err(error) => self.pause_backfill(&error),
        }
    }

    /// Folds those of the batch that lack something.
    fn look_at_batch(&mut self) {
        let Some(fill) = &mut self.backfill else { return };
        let Some(slot) = self.slots.get_mut(&fill.slot) else { return };
        let looked = slot.core.start_fill(std::mem::take(&mut fill.batch));
        fill.later.extend(looked.later);
        let lacking = looked.lacking;
        fill.batch = lacking.iter().map(|(hash, entity, _)| (*hash, entity.clone())).collect();
        fill.step = Step::Next;
        if fill.batch.is_empty() {
            return self.save_fills();
        }
        fill.step = Step::Folding;
        let entities = fill.batch.iter().map(|(_, entity)| entity.clone());
        let fold = Fold::new(self.plan.clone(), entities, KnownAt::MAX);
        self.scan(Scanned::Folded(fold, lacking));
    }

    /// Reads the log up to what is confirmed in the background.
    fn scan(&self, scanned: Scanned) {
        let Some(fill) = &self.backfill else { return };
        let Some(slot) = self.slots.get(&fill.slot) else { return };
        let (id, epoch, version) = (fill.slot, fill.epoch, fill.version);
        let limits = self.config.backfill;
        let up_to = slot.core.confirmed().0;
        let scan = Scan { up_to, rate: ScanRate(limits.bytes_per_second), bytes: limits.bytes };
        let (store, own) = (self.store.clone(), self.own.clone());
        self.runtime.spawn(async move {
            let scanned = scan_log(&*store, id, scanned, scan).await;
            if let Some(own) = own.upgrade() {
                // A worker that is gone needs no backfill.
                let scanned = Backfilled { slot: id, epoch, version, scanned };
                let _ = own.send(Message::Backfilled(scanned)).await;
            }
        });
    }

    /// The log was read.
    pub(super) fn backfilled(&mut self, from: Backfilled) {
        let Some(fill) = &mut self.backfill else { return };
        if (fill.slot, fill.epoch, fill.version) != (from.slot, from.epoch, from.version) {
            return;
        }
        match (from.scanned, fill.step) {
            (Ok(Scanned::Listed(listing)), Step::Listing) => {
                (fill.listed, fill.end) = listing.finish();
                fill.step = Step::Next;
            }
            (Ok(Scanned::Folded(fold, _)), Step::Folding) => self.fill(fold),
            (Ok(_), _) => debug_assert!(false, "one scan of a backfill is under way"),
            (Err(error), _) => self.pause_backfill(&error),
        }
    }

    fn fill(&mut self, fold: Fold) {
        let Some(fill) = &mut self.backfill else { return };
        let Some(slot) = self.slots.get_mut(&fill.slot) else { return };
        let mut folded: std::collections::BTreeMap<_, _> = fold.finish().into_iter().collect();
        let mut filled = 0;
        // The last ones may have been let go; they come first in the next batch.
        for (hash, entity) in std::mem::take(&mut fill.batch).into_iter().rev() {
            match folded.remove(&entity) {
                Some(state) => match slot.core.fill(&entity, state) {
                    true => filled += 1,
                    false => fill.later.push((hash, entity)),
                },
                None => {
                    // It took more memory than there is for one fold.
                    slot.core.fill_failed(&entity);
                    fill.listed.push_front((hash, entity));
                }
            }
        }
        fill.step = Step::Saving;
        self.instruments.backfilled.add(filled, &[]);
        self.save_fills();
    }

    /// Puts the heads that a mark waits for.
    fn save_fills(&mut self) {
        let Some(id) = self.backfill.as_ref().map(|fill| fill.slot) else { return };
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.core.fills_unsaved() > 0 {
            slot.unsaved.get_or_insert_with(Instant::now);
            self.put_heads(id, Which::Rested);
        }
    }

    /// Says of slots that are not done how long all of them take.
    pub(super) fn tell_time_left(&self, statuses: &mut [SlotStatus]) {
        let version = self.plan.catalog.version;
        let progress = self.backfill_progress.filter(|progress| progress.version() == version);
        let backfills = || statuses.iter().filter_map(|slot| slot.backfill);
        let left =
            backfills().map(|of| u64::from(1_000_u32.saturating_sub(of.done_permille))).sum();
        let time_left = progress.and_then(|progress| progress.time_left(left, Instant::now()));
        for backfill in statuses.iter_mut().filter_map(|slot| slot.backfill.as_mut()) {
            backfill.time_left = time_left;
        }
    }

    fn pause_backfill(&mut self, error: &StoreError) {
        tracing::warn!(?error, "read the log for a backfill");
        self.stop_backfill();
        self.backfill_pause = Some(Instant::now() + PAUSE);
    }
}

/// Reads a slot's log into what is scanned for, no faster than the pace that is set.
async fn scan_log(
    store: &dyn StorePort,
    slot: SlotId,
    mut scanned: Scanned,
    scan: Scan,
) -> Result<Scanned, StoreError> {
    loop {
        let begun = Instant::now();
        let page_bytes = scan.rate.page_bytes();
        let page = store.read_log(slot, scanned.covered(), scan.up_to, page_bytes).await?;
        let mut bytes = 0;
        for (position, chunk) in &page.chunks {
            bytes += chunk.as_ref().len();
            let decoded = decode(slot, *position, chunk.as_ref())?;
            scanned.chunk(*position, &decoded).map_err(|e| damaged(slot, *position, &e))?;
        }
        scanned.shed(scan.bytes);
        scan.rate.keep(begun, bytes).await;
        if page.complete || page.chunks.is_empty() {
            scanned.let_leave().await;
            return Ok(scanned);
        }
    }
}

impl Scanned {
    fn covered(&self) -> Position {
        match self {
            Self::Listed(listing) => listing.covered(),
            Self::Folded(fold, _) => fold.covered(),
        }
    }

    fn chunk(&mut self, position: Position, chunk: &Chunk<&[u8]>) -> Result<(), DecodeError> {
        match self {
            Self::Listed(listing) => listing.chunk(position, chunk),
            Self::Folded(fold, _) => fold.chunk(position, chunk),
        }
    }

    fn shed(&mut self, bytes: usize) {
        match self {
            Self::Listed(_) => {}
            Self::Folded(fold, _) => fold.shed(bytes),
        }
    }

    /// Facts leave here, not on the worker's thread: for a long history it takes a while.
    async fn let_leave(&mut self) {
        let Self::Folded(fold, lacking) = self else { return };
        for (hash, entity, horizon) in lacking {
            fold.let_leave(*hash, entity, *horizon);
            tokio::task::yield_now().await;
        }
    }
}
