//! Taking slots over: a new epoch, then the log from the mark on, re-judging nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millrace_client::heads::{assemble, load_states};
use millrace_client::port::{StorePort, TakenOver};
use millrace_kernel::erase::Erasures;
use millrace_kernel::slot::{MarkState, SlotCore};
use millrace_kernel::{EntityState, Plan};
use millrace_store::{Fencing, Incarnation, Mark, NodeId, Part, SlotEpoch, StoreError};
use millrace_types::{Chunk, Entity, Position, Rebuilt, SlotId};
use tokio::time::Instant;

use super::batches::Queue;
use super::erase::Erasing;
use super::head_budget::Overdue;
use super::held::Held;
use super::leave::Pace;
use super::reads::RebuiltStates;
use super::rebuild::Rebuilding;
use super::retain::Retaining;
use super::{Slot, Worker};

/// Bytes of the log read at a time.
pub(super) const SCAN_BYTES: usize = 4 << 20;

/// A slot that was taken over and followed to the end of its log.
pub(super) struct Recovered {
    core: SlotCore,
    epoch: SlotEpoch,
    /// What its stored heads cover.
    marked: Position,
}

/// What it takes to take a slot over, apart from its worker: other slots are served meanwhile.
#[derive(Clone)]
pub(super) struct Recovery {
    store: Arc<dyn StorePort>,
    plan: Arc<Plan>,
    erasures: Arc<Erasures>,
    node: NodeId,
    incarnation: Incarnation,
}

impl Worker {
    pub(super) fn recovery(&self) -> Recovery {
        Recovery {
            store: self.store.clone(),
            plan: self.plan.clone(),
            erasures: self.erasures.borrow().clone(),
            node: self.node.clone(),
            incarnation: self.incarnation,
        }
    }

    /// Takes over and follows all of these slots, whoever has them.
    pub(super) async fn recover(&mut self, slots: Vec<SlotId>) -> Result<(), StoreError> {
        let recovery = self.recovery();
        // All at once, so that the steps of many slots share the store's commits.
        let taken = slots.into_iter().map(|id| {
            let recovery = recovery.clone();
            async move {
                match recovery.take_over(id, &Fencing::Anyone).await? {
                    TakenOver::Mine(epoch) => Ok((id, epoch)),
                    TakenOver::Theirs(by) => Err(StoreError::Unavailable {
                        operation: "take over",
                        reason: format!("slot {} was taken by {}", id.0, by.node.0),
                    }),
                }
            }
        });
        for (id, epoch) in futures::future::try_join_all(taken).await? {
            let recovered = recovery.follow(id, epoch).await?;
            self.own(recovered);
        }
        Ok(())
    }

    /// Serves a slot from now on.
    pub(super) fn own(&mut self, recovered: Recovered) {
        let Recovered { mut core, epoch, marked } = recovered;
        // A version may have come while it was recovered.
        core.set_plan(self.plan.clone());
        core.set_erasures(self.erasures.borrow().clone());
        self.clock.raise(core.known_at());
        self.clock.raise(epoch.floor);
        let known_at = core.known_at();
        let recovered_to = core.confirmed().0;
        core.open_epoch(epoch.epoch);
        let id = core.slot();
        let Some(confirmed) = self.confirmed.get(id.0 as usize).cloned() else { return };
        let reached = (core.confirmed().0, known_at);
        confirmed.send_if_modified(|last| {
            let moves = last.0 < reached.0;
            if moves {
                *last = reached;
            }
            moves
        });
        let inherited = core.watermark_incarnations();
        let inherited_scrub = core.scrub_due().is_some();
        let (marked_filled, marked_scrubbed) = (core.filled(), core.scrubbed_to().clone());
        let mut overdue = Overdue::default();
        overdue.confirmed(recovered_to, self.config.head_overdue_after);
        let slot = Slot {
            core,
            epoch: epoch.epoch,
            recovered_to,
            since: Instant::now(),
            leaving: None,
            pace: Pace::default(),
            queue: Queue::default(),
            flight: None,
            held: Held::default(),
            rebuild: Rebuilding::Idle,
            erasing: Erasing::Idle,
            retaining: Retaining::Idle,
            inherited_scrub,
            parked: Vec::new(),
            closing: Vec::new(),
            suspecting: Vec::new(),
            confirmed,
            told: BTreeMap::new(),
            last_chunk: Instant::now(),
            marked,
            marked_filled,
            marked_scrubbed,
            uncovered: VecDeque::new(),
            heads_again: None,
            overdue,
            unsaved: Some(Instant::now()),
            unsaved_traces: Vec::new(),
            budget_again: None,
            inherited,
            putting: false,
            marking: false,
            last_mark: Instant::now(),
            loads: 0,
        };
        self.slots.insert(id, slot);
        self.backfill_due = true;
    }
}

impl Recovery {
    pub(super) async fn take_over(
        &self,
        slot: SlotId,
        fencing: &Fencing,
    ) -> Result<TakenOver, StoreError> {
        self.store.take_over(slot, &self.node, self.incarnation, fencing).await
    }

    /// Loads the mark and replays the log after it, re-judging nothing.
    pub(super) async fn follow(
        &self,
        id: SlotId,
        epoch: SlotEpoch,
    ) -> Result<Recovered, StoreError> {
        let mark = self.store.load_mark(id).await?.map(|(_, mark)| mark);
        let mut core = SlotCore::new(id, self.plan.clone());
        core.set_erasures(self.erasures.clone());
        let mut marked = Position::START;
        if let Some(mark) = &mark {
            core.recover_from(&mark_state(mark));
            marked = mark.position;
            if let Some(oldest) = mark.oldest_waiting {
                self.restore_waiting(&mut core, oldest, mark.position).await?;
            }
        }
        self.follow_log(&mut core, marked).await?;
        self.learn_of_erasures(&mut core).await?;
        if mark.is_none() && core.position() == Position::START {
            core.set_empty();
        }
        Ok(Recovered { core, epoch, marked })
    }

    /// Its log may be ahead of the list that was read last.
    async fn learn_of_erasures(&self, core: &mut SlotCore) -> Result<(), StoreError> {
        while core.erased_up_to() > core.erasures().last() {
            let further = self.store.erasures_after(core.erasures().last()).await?;
            let longer = core.erasures().with(further.into_iter().map(|(n, e)| (n, e.entity)));
            if longer.last() == core.erasures().last() {
                return Err(StoreError::Damaged {
                    what: format!("erasure {}", longer.last() + 1),
                    reason: format!("the log of slot {} has it", core.slot().0),
                });
            }
            core.set_erasures(Arc::new(longer));
        }
        Ok(())
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
    async fn follow_log(&self, core: &mut SlotCore, from: Position) -> Result<(), StoreError> {
        let mut after = from;
        loop {
            let page = self.store.read_log(core.slot(), after, Position::END, SCAN_BYTES).await?;
            for (position, bytes) in &page.chunks {
                self.follow_chunk(core, *position, bytes.as_ref()).await?;
                after = *position;
            }
            if page.complete || page.chunks.is_empty() {
                return core.end_replay().map_err(|(at, e)| damaged(core.slot(), at, &e));
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
        for (entity, state) in load_states(&*self.store, &self.plan, heads).await? {
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

pub(super) fn damaged(
    slot: SlotId,
    position: Position,
    error: &millrace_types::DecodeError,
) -> StoreError {
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
        erasures: mark.erasures,
        filled: mark.filled,
        retained: mark.retained.clone(),
    }
}
