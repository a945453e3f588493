//! Taking slots over: a new epoch, then the log from the mark on, re-judging nothing.

use std::collections::{BTreeMap, VecDeque};

use millrace_client::heads::assemble;
use millrace_kernel::EntityState;
use millrace_kernel::slot::{MarkState, SlotCore};
use millrace_store::{Mark, Part, SlotEpoch, StoreError};
use millrace_types::{Chunk, Entity, KnownAt, Position, Rebuilt, SlotId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::batches::Queue;
use super::reads::RebuiltStates;
use super::rebuild::Rebuilding;
use super::{Slot, Worker};

/// Bytes of the log read at a time.
pub(super) const SCAN_BYTES: usize = 4 << 20;

impl Worker {
    /// Takes over and follows every slot of the worker.
    pub(super) async fn recover(
        &mut self,
        slots: Vec<(SlotId, watch::Sender<(Position, KnownAt)>)>,
    ) -> Result<(), StoreError> {
        // All at once, so that the steps of many slots share the store's commits.
        let taken = slots.iter().map(|(id, _)| {
            let (store, node) = (self.store.clone(), self.node.clone());
            let (id, incarnation) = (*id, self.incarnation);
            async move { store.take_over(id, &node, incarnation).await }
        });
        let epochs = futures::future::try_join_all(taken).await?;
        for ((id, confirmed), epoch) in slots.into_iter().zip(epochs) {
            let slot = self.recover_slot(id, epoch, confirmed).await?;
            self.slots.insert(id, slot);
        }
        Ok(())
    }

    async fn recover_slot(
        &mut self,
        id: SlotId,
        epoch: SlotEpoch,
        confirmed: watch::Sender<(Position, KnownAt)>,
    ) -> Result<Slot, StoreError> {
        let mark = self.store.load_mark(id).await?.map(|(_, mark)| mark);
        let mut core = SlotCore::new(id, self.plan.clone());
        let mut from = Position::START;
        if let Some(mark) = &mark {
            core.recover_from(&mark_state(mark));
            from = mark.position;
            if let Some(oldest) = mark.oldest_waiting {
                self.restore_waiting(&mut core, oldest, mark.position).await?;
            }
        }
        self.follow(&mut core, from).await?;
        if mark.is_none() && core.position() == Position::START {
            core.set_empty();
        }
        self.clock.raise(core.known_at());
        self.clock.raise(epoch.floor);
        let known_at = core.known_at();
        core.open_epoch(epoch.epoch);
        confirmed.send_replace((core.confirmed().0, known_at));
        let inherited = core.watermark_incarnations();
        Ok(Slot {
            core,
            epoch: epoch.epoch,
            queue: Queue::default(),
            flight: None,
            held: false,
            rebuild: Rebuilding::Idle,
            parked: Vec::new(),
            closing: Vec::new(),
            confirmed,
            told: BTreeMap::new(),
            last_chunk: Instant::now(),
            marked: from,
            uncovered: VecDeque::new(),
            unsaved: Some(Instant::now()),
            unsaved_traces: Vec::new(),
            since_budget: 0,
            inherited,
            putting: false,
            marking: false,
            last_mark: Instant::now(),
            loads: 0,
        })
    }

    /// Finds the dirty entities again from the headers between the oldest waiting fact and the mark.
    async fn restore_waiting(
        &self,
        core: &mut SlotCore,
        oldest: Position,
        mark: Position,
    ) -> Result<(), StoreError> {
        let mut after =
            Position { epoch: oldest.epoch, sequence: oldest.sequence.saturating_sub(1) };
        loop {
            let page = self.store.read_log(core.slot(), after, mark, SCAN_BYTES).await?;
            for (position, bytes) in &page.chunks {
                let chunk = decode(core.slot(), *position, bytes.as_ref())?;
                core.restore_waiting(*position, &chunk)
                    .map_err(|e| damaged(core.slot(), *position, &e))?;
                after = *position;
            }
            if page.complete || page.chunks.is_empty() {
                return Ok(());
            }
        }
    }

    /// Follows the log from a position to its end.
    async fn follow(&self, core: &mut SlotCore, from: Position) -> Result<(), StoreError> {
        let mut after = from;
        loop {
            let page = self.store.read_log(core.slot(), after, Position::END, SCAN_BYTES).await?;
            for (position, bytes) in &page.chunks {
                self.follow_chunk(core, *position, bytes.as_ref()).await?;
                after = *position;
            }
            if page.complete || page.chunks.is_empty() {
                return Ok(());
            }
        }
    }

    async fn follow_chunk(
        &self,
        core: &mut SlotCore,
        position: Position,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let slot = core.slot();
        let chunk = decode(slot, position, bytes)?;
        let heads = core.heads_to_replay(&chunk).map_err(|e| damaged(slot, position, &e))?;
        for (entity, state) in self.load_heads(heads).await? {
            core.insert_loaded(&entity, state);
        }
        let rebuilt = core.rebuilt_to_replay(position, &chunk.header);
        let mut found = self.load_rebuilt(&rebuilt).await?;
        let states = rebuilt
            .into_iter()
            .filter_map(|r| found.remove(&r.entity).map(|state| (r.entity, r.part, state)))
            .collect();
        core.replay(position, &chunk, states).map_err(|e| damaged(slot, position, &e))
    }

    /// Reads rebuilt heads.
    async fn load_rebuilt(&self, wanted: &[Rebuilt]) -> Result<RebuiltStates, StoreError> {
        let names = wanted.iter().map(|r| (r.entity.clone(), Part::RebuiltHead(r.part))).collect();
        let mut states: BTreeMap<Entity, EntityState> = BTreeMap::new();
        for (rebuilt, found) in wanted.iter().zip(self.store.load(names).await?) {
            let Some(kind) = self.plan.kind(rebuilt.entity.kind) else { continue };
            let (_, bytes) = found.ok_or_else(|| StoreError::Damaged {
                what: format!("rebuilt head of entity {}", rebuilt.entity.key),
                reason: "a marker names it, and it is not in the store".to_owned(),
            })?;
            let part = Part::RebuiltHead(rebuilt.part);
            let state = assemble(&*self.store, &rebuilt.entity, part, kind, bytes).await?;
            states.insert(rebuilt.entity.clone(), state);
        }
        Ok(states)
    }
}

/// Decodes a chunk, naming it when it is damaged.
pub(crate) fn decode(
    slot: SlotId,
    position: Position,
    bytes: &[u8],
) -> Result<Chunk<&[u8]>, StoreError> {
    Chunk::decode(bytes).map_err(|error| damaged(slot, position, &error))
}

fn damaged(slot: SlotId, position: Position, error: &millrace_types::DecodeError) -> StoreError {
    StoreError::Damaged {
        what: format!("chunk {position} of slot {}", slot.0),
        reason: error.to_string(),
    }
}

fn mark_state(mark: &Mark) -> MarkState {
    MarkState {
        position: mark.position,
        closed: mark.closed,
        watermarks: mark.watermarks.clone(),
        views: mark.views.clone(),
        incarnations: mark.incarnations.clone(),
        latest: mark.latest.clone(),
        oldest_waiting: mark.oldest_waiting,
    }
}
