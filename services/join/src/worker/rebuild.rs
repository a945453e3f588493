//! Rebuilds in the background: fold dirty entities from the log, put them, append the marker.
//!
//! While the fold catches up with the last chunks and the parts are put, the slot judges nothing:
//! the marker then covers exactly the chunks before it. That pause is one short read of the log and
//! one put.

use millrace_client::port::StorePort;
use millrace_kernel::slot::{Fold, RebuiltPut};
use millrace_store::{Part, Put, StoreError};
use millrace_telemetry::{Span, TraceContext};
use millrace_types::{Entity, KnownAt, Position, Rebuilt, SlotId};

use super::recover::{SCAN_BYTES, decode};
use super::{Done, Slot, Worker};
use crate::message::{Folded, Message};

/// Rebuilds a worker runs at a time.
const REBUILDS_MAX: usize = 2;

/// Where a slot's rebuild stands.
pub(super) enum Rebuilding {
    /// None is under way.
    Idle,
    /// The log is being folded in the background.
    Folding,
    /// Folded; waits for the slot's flight to land before it is put.
    Ready(Folded),
    /// Parts are being put, or the marker is in flight.
    Installing,
}

impl Worker {
    /// Starts and continues rebuilds.
    pub(super) fn start_rebuilds(&mut self) {
        if self.fail.borrow().is_some() {
            return;
        }
        let ids: Vec<SlotId> = self
            .slots
            .iter()
            .filter(|(_, s)| s.core.dirty_len() > 0 || !matches!(s.rebuild, Rebuilding::Idle))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.continue_rebuild(id);
        }
    }

    fn continue_rebuild(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match std::mem::replace(&mut slot.rebuild, Rebuilding::Idle) {
            Rebuilding::Idle => {
                if self.rebuilds < REBUILDS_MAX
                    && slot.leaving.is_none()
                    && slot.may_rebuild()
                    && let Some((entities, up_to)) =
                        slot.core.start_rebuild(self.config.rebuild_entities)
                {
                    slot.rebuild = Rebuilding::Folding;
                    self.rebuilds += 1;
                    let epoch = slot.epoch;
                    let fold = Fold::new(self.plan.clone(), entities.clone(), KnownAt::MAX);
                    self.fold((id, epoch), entities, fold, up_to);
                }
            }
            Rebuilding::Ready(folded) if slot.flight.is_none() => self.install(id, folded),
            other @ (Rebuilding::Folding | Rebuilding::Ready(_) | Rebuilding::Installing) => {
                slot.rebuild = other;
            }
        }
    }

    fn fold(
        &self,
        (slot, epoch): (SlotId, u64),
        entities: Vec<Entity>,
        fold: Fold,
        up_to: Position,
    ) {
        let store = self.store.clone();
        let own = self.own.clone();
        self.runtime.spawn(async move {
            let fold = fold_log(&*store, slot, fold, up_to).await;
            if let Some(own) = own.upgrade() {
                // A worker that is gone needs no rebuild.
                let _ = own.send(Message::Folded(Folded { slot, epoch, entities, fold })).await;
            }
        });
    }

    /// The log is folded: hold the slot until what came meanwhile is folded too.
    pub(super) fn folded(&mut self, folded: Folded) {
        let owned = |slot: &&mut Slot| {
            slot.epoch == folded.epoch && matches!(slot.rebuild, Rebuilding::Folding)
        };
        let Some(slot) = self.slots.get_mut(&folded.slot).filter(owned) else { return };
        match folded.fold {
            Ok(_) => {
                slot.held.rebuilding = true;
                slot.rebuild = Rebuilding::Ready(folded);
            }
            Err(error) => {
                tracing::warn!(?error, "fold the log for a rebuild");
                slot.core.rebuild_failed(&folded.entities);
                slot.rebuild = Rebuilding::Idle;
                slot.held.rebuilding = false;
                self.rebuilds = self.rebuilds.saturating_sub(1);
            }
        }
    }

    fn install(&mut self, id: SlotId, folded: Folded) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Ok(fold) = folded.fold else { return };
        if fold.catalog_version() != self.plan.catalog.version {
            // Another version came: what its new streams brought is not in the fold. It begins anew.
            slot.core.rebuild_failed(&folded.entities);
            slot.held.rebuilding = false;
            self.rebuilds = self.rebuilds.saturating_sub(1);
            return;
        }
        let confirmed = slot.core.confirmed().0;
        if !slot.core.rebuild_covers(&folded.entities, fold.covered()) {
            slot.rebuild = Rebuilding::Folding;
            return self.fold((id, folded.epoch), folded.entities, fold, confirmed);
        }
        // One version names the parts; the marker's own comes after it.
        let (Some(ver), Some(known_at)) = (self.clock.next(), self.clock.next()) else {
            slot.rebuild = Rebuilding::Ready(Folded { fold: Ok(fold), ..folded });
            return;
        };
        let marker = (slot.core.marker_position(), known_at);
        let puts: Vec<RebuiltPut> = fold
            .finish()
            .into_iter()
            .map(|(entity, state)| slot.core.prepare_rebuilt(entity, state, ver, marker))
            .collect();
        slot.rebuild = Rebuilding::Installing;
        let parts = puts.iter().flat_map(|put| parts_of(id, put)).collect();
        let store = self.store.clone();
        self.work.push(Box::pin(async move {
            let result = store.put(parts, TraceContext::default()).await;
            Done::RebuiltPut(id, puts, result)
        }));
    }

    /// The rebuilt parts are in the store: the marker goes to the log.
    pub(super) fn rebuilt_put(
        &mut self,
        id: SlotId,
        puts: Vec<RebuiltPut>,
        result: Result<(), StoreError>,
    ) {
        if let Err(error) = result {
            return self.give_up(&error);
        }
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(known_at) = puts.first().map(|p| p.state.known_at()) else { return };
        let rebuilt =
            puts.iter().map(|p| Rebuilt { entity: p.entity.clone(), part: p.ver }).collect();
        let draft = slot.core.draft_marker(rebuilt, known_at);
        let append = slot.take_off_marker(draft, puts);
        self.append(vec![id], vec![append], Span::default());
    }
}

impl Slot {
    /// The marker is confirmed.
    pub(super) fn installed(&mut self, rebuilt: Vec<RebuiltPut>) {
        self.core.install_rebuilt(rebuilt);
        self.rebuild = Rebuilding::Idle;
        self.held.rebuilding = false;
        self.unsaved.get_or_insert_with(tokio::time::Instant::now);
    }
}

fn parts_of(slot: SlotId, put: &RebuiltPut) -> Vec<Put> {
    super::save::puts_of(slot, &put.entity, put.ver, &put.parts, Part::RebuiltHead(put.ver))
}

/// Folds a slot's log into `fold`, from what it covers up to and including `up_to`.
pub(crate) async fn fold_log(
    store: &dyn StorePort,
    slot: SlotId,
    mut fold: Fold,
    up_to: Position,
) -> Result<Fold, StoreError> {
    loop {
        let page = store.read_log(slot, fold.covered(), up_to, SCAN_BYTES).await?;
        for (position, bytes) in &page.chunks {
            let chunk = decode(slot, *position, bytes.as_ref())?;
            fold.chunk(*position, &chunk).map_err(|error| StoreError::Damaged {
                what: format!("chunk {position} of slot {}", slot.0),
                reason: error.to_string(),
            })?;
        }
        if page.complete || page.chunks.is_empty() {
            return Ok(fold);
        }
        // Long scans give way to other tasks between pages.
        tokio::task::yield_now().await;
    }
}
