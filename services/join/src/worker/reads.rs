//! Reads from live heads: what is not in memory is loaded, what is not confirmed is waited for.

use std::collections::BTreeMap;

use millrace_client::heads::{load_states, outcome};
use millrace_client::port::{HeadAnswer, JoinError};
use millrace_kernel::EntityState;
use millrace_kernel::slot::{ReadAnswer, SlotRead};
use millrace_store::{NodeId, StoreError};
use millrace_types::{Entity, Position, SlotId};

use super::{Done, Slot, Waits, Worker};
use crate::message::ReadJob;
use crate::stop::Stop;

impl Worker {
    /// Answers a read as far as it goes; it comes back when what it waits for is there.
    pub(super) fn read(&mut self, mut job: ReadJob) {
        let id = job.request.slot;
        if job.request.catalog_version > self.plan.catalog.version {
            self.load_catalog();
        }
        let version = self.plan.catalog.version;
        let Some(slot) = self.slots.get_mut(&id) else {
            let _ = job.sender.send(Err(JoinError::NotServing { slot: id }));
            return;
        };
        if job.request.catalog_version != version {
            let error = JoinError::UnknownCatalog(job.request.catalog_version);
            let _ = job.sender.send(Err(error));
            return;
        }
        while let Some(entity) = job.request.entities.get(job.answers.len()) {
            let read = SlotRead {
                entity,
                view: &job.request.view,
                features: &job.request.features,
                at: job.request.at,
                known_at: job.request.known_at,
            };
            match slot.core.read(read) {
                ReadAnswer::Head(evaluation, stamp) => {
                    job.answers.push(HeadAnswer::Answer(outcome(evaluation, stamp)));
                }
                ReadAnswer::Log(stamp) => job.answers.push(HeadAnswer::FromLog {
                    position: stamp.position,
                    known_at: stamp.known_at,
                    watermark: stamp.watermark,
                    rebuilding: stamp.rebuilding,
                }),
                ReadAnswer::TooEarly(early) => job.answers.push(HeadAnswer::TooEarly(early)),
                ReadAnswer::Load => {
                    let from = job.answers.len();
                    let wanted: Vec<Entity> = job.request.entities[from..]
                        .iter()
                        .filter(|e| !slot.core.has(e))
                        .cloned()
                        .collect();
                    return self.load(id, wanted, Waits::Read(job));
                }
                ReadAnswer::Unconfirmed(position) => {
                    slot.parked.push((position, job));
                    return;
                }
                ReadAnswer::Unknown => {
                    let view = job.request.view.to_string();
                    let _ = job.sender.send(Err(JoinError::UnknownView(view)));
                    return;
                }
            }
        }
        // Whoever dropped the receiver does not want to know.
        let _ = job.sender.send(Ok(job.answers));
    }

    /// Reads that waited for this confirmation go on.
    pub(super) fn unpark(&mut self, id: SlotId, confirmed: Position) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let (ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut slot.parked).into_iter().partition(|(at, _)| *at <= confirmed);
        slot.parked = waiting;
        for (_, job) in ready {
            self.read(job);
        }
    }

    /// Loads entities into a slot.
    pub(super) fn load(&mut self, id: SlotId, entities: Vec<Entity>, waits: Waits) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.held.loading |= matches!(waits, Waits::Batches);
            slot.loads += 1;
        }
        let loads = self.load_heads(entities);
        self.work.push(Box::pin(async move { Done::Loaded(id, loads.await, waits) }));
    }

    pub(super) fn loaded(
        &mut self,
        id: SlotId,
        loaded: Result<Vec<(Entity, Option<EntityState>)>, StoreError>,
        waits: Waits,
    ) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.loads -= 1;
        if let Ok(loaded) = &loaded
            && let Some(stop) = slot.contradicted(loaded, &self.node)
        {
            if let Waits::Read(job) = waits {
                let _ = job.sender.send(Err(stop.told(id)));
            }
            return self.stop(stop);
        }
        match loaded {
            Ok(loaded) => {
                for (entity, state) in loaded {
                    slot.core.insert_loaded(&entity, state);
                }
                match waits {
                    Waits::Batches => slot.held.loading = false,
                    Waits::Read(job) => self.read(job),
                    Waits::Backfill => self.backfill_loaded(id, Ok(())),
                    Waits::Retention => self.retention_loaded(id, Ok(())),
                }
            }
            Err(error) => match waits {
                Waits::Batches => self.give_up(&error),
                Waits::Read(job) => {
                    let _ = job.sender.send(Err(JoinError::Store(error)));
                }
                Waits::Backfill => self.backfill_loaded(id, Err(error)),
                Waits::Retention => self.retention_loaded(id, Err(error)),
            },
        }
    }

    /// Reads heads with their pages and id parts.
    pub(super) fn load_heads(
        &self,
        entities: Vec<Entity>,
    ) -> impl Future<Output = Result<Vec<(Entity, Option<EntityState>)>, StoreError>> + use<> {
        let store = self.store.clone();
        let plan = self.plan.clone();
        async move { load_states(&*store, &plan, entities).await }
    }
}

impl Slot {
    /// Why it cannot go on after a load, if it cannot: heads cover confirmed chunks alone, so one that covers
    /// more is of a later owner, or of chunks that this log has lost.
    fn contradicted(
        &self,
        loaded: &[(Entity, Option<EntityState>)],
        node: &NodeId,
    ) -> Option<Stop> {
        let states = loaded.iter().filter_map(|(entity, state)| Some((entity, state.as_ref()?)));
        let end_of = |epoch| match epoch < self.epoch {
            true => self.recovered_to,
            false => self.core.confirmed().0,
        };
        let beyond = |(_, state): &(&Entity, &EntityState)| {
            let applied = state.applied();
            applied > end_of(applied.epoch)
        };
        let (entity, state) = states.into_iter().find(beyond)?;
        let (applied, end) = (state.applied(), end_of(state.applied().epoch));
        if applied.epoch > self.epoch {
            return Some(Stop::Fenced(node.clone()));
        }
        Some(Stop::Store(StoreError::Damaged {
            what: format!("the log of slot {}", self.core.slot().0),
            reason: format!(
                "it ends at {end}, and the head of entity {} covers chunk {applied}",
                entity.key
            ),
        }))
    }
}

/// Rebuilt heads asked for by replay, by entity.
pub(super) type RebuiltStates = BTreeMap<Entity, EntityState>;
