//! Heads from the store, for a feature-serving process beside the join service: the mark first, then
//! the heads, so that everything up to the mark is in them. It needs the owner of a slot only to
//! close a log that is still open.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use millrace_client::heads::{load_states, outcome};
use millrace_client::port::{
    CatalogPort, HeadAnswer, HeadPort, HeadRequest, JoinError, SlotPort, SlotStatus, StorePort,
};
use millrace_kernel::slot::Stamp;
use millrace_kernel::{EntityState, KindPlan, Plan};
use millrace_placement::Slots;
use millrace_store::{Mark, StoreError};
use millrace_types::entity::view_key;
use millrace_types::{Chunk, Entity, KnownAt, Micros, Position, SlotId};

use crate::plans::Plans;

/// Bytes of the log read at a time.
const SCAN_BYTES: usize = 4 << 20;
/// A head may be replaced, and its pages be gone, between the reads of the two.
const ATTEMPTS: usize = 3;

/// Reads of stored heads.
pub struct StoredHeads {
    store: Arc<dyn StorePort>,
    owner: Arc<dyn SlotPort>,
    slots: Slots,
    plans: Plans,
    /// By slot, at most one each: the dirty entities as of its newest mark.
    waiting: Mutex<HashMap<SlotId, Arc<Waiting>>>,
}

/// The dirty entities of a slot as of a mark, each with the chunk it became dirty in.
#[derive(Debug, Default)]
struct Waiting {
    mark: Position,
    dirty: BTreeMap<Entity, Since>,
}

#[derive(Debug, Clone, Copy)]
struct Since {
    position: Position,
    known_at: KnownAt,
}

impl StoredHeads {
    /// Reads through this store; `owner` is asked to close logs, and for the state of slots.
    #[must_use]
    pub fn new(
        store: Arc<dyn StorePort>,
        owner: Arc<dyn SlotPort>,
        catalog: Arc<dyn CatalogPort>,
        slots: Slots,
    ) -> Self {
        Self { store, owner, slots, plans: Plans::new(catalog), waiting: Mutex::default() }
    }

    async fn mark(&self, slot: SlotId) -> Result<Option<Mark>, StoreError> {
        Ok(self.store.load_mark(slot).await?.map(|(_, mark)| mark))
    }

    /// The dirty entities as of a mark.
    async fn waiting(&self, slot: SlotId, mark: &Mark) -> Result<Arc<Waiting>, StoreError> {
        let Some(oldest) = mark.oldest_waiting else { return Ok(Arc::default()) };
        let known = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(&slot)
            && found.mark == mark.position
        {
            return Ok(found.clone());
        }
        let found = Arc::new(self.scan_waiting(slot, oldest, mark.position).await?);
        known().insert(slot, found.clone());
        Ok(found)
    }

    /// Finds the dirty entities from the headers between the oldest waiting fact and the mark.
    async fn scan_waiting(
        &self,
        slot: SlotId,
        oldest: Position,
        mark: Position,
    ) -> Result<Waiting, StoreError> {
        let mut waiting = Waiting { mark, dirty: BTreeMap::new() };
        let mut after =
            Position { epoch: oldest.epoch, sequence: oldest.sequence.saturating_sub(1) };
        loop {
            let page = self.store.read_log(slot, after, mark, SCAN_BYTES).await?;
            for (position, bytes) in &page.chunks {
                let chunk = Chunk::decode(bytes.as_ref()).map_err(|e| StoreError::Damaged {
                    what: format!("chunk {position} of slot {}", slot.0),
                    reason: e.to_string(),
                })?;
                let since = Since { position: *position, known_at: chunk.header.known_at };
                for entity in &chunk.header.dirtied {
                    waiting.dirty.entry(entity.clone()).or_insert(since);
                }
                for rebuilt in &chunk.header.rebuilt {
                    waiting.dirty.remove(&rebuilt.entity);
                }
                after = *position;
            }
            if page.complete || page.chunks.is_empty() {
                return Ok(waiting);
            }
        }
    }

    /// The states of entities; tried again when a head was replaced between two reads.
    async fn states(
        &self,
        plan: &Plan,
        entities: &[Entity],
    ) -> Result<Vec<(Entity, Option<EntityState>)>, StoreError> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            match load_states(&*self.store, plan, entities.to_vec()).await {
                Err(StoreError::Damaged { .. }) if attempts > 0 => {}
                other => return other,
            }
        }
    }

    async fn answers(&self, request: &HeadRequest) -> Result<Vec<HeadAnswer>, JoinError> {
        let plan = self.plans.newest();
        if request.catalog_version != plan.catalog.version {
            return Err(JoinError::UnknownCatalog(request.catalog_version));
        }
        let mark = self.mark(request.slot).await?;
        let bounded = request.known_at < KnownAt::MAX;
        if bounded && mark.as_ref().is_none_or(|mark| mark.closed < request.known_at) {
            // Heads may lack facts of before `known_at`; the log has them once it is closed.
            let position = self.owner.close_up_to(request.slot, request.known_at).await?;
            let stamp = Stamp {
                position,
                known_at: request.known_at,
                watermark: mark.as_ref().and_then(|mark| of_view(mark, &request.view)),
                rebuilding: false,
            };
            return Ok(request.entities.iter().map(|_| from_log(stamp.clone())).collect());
        }
        let stamp = Stamp {
            position: mark.as_ref().map_or(Position::START, |mark| mark.position),
            known_at: mark.as_ref().map_or(KnownAt::default(), |mark| mark.closed),
            watermark: mark.as_ref().and_then(|mark| of_view(mark, &request.view)),
            rebuilding: false,
        };
        let waiting = match &mark {
            Some(mark) => self.waiting(request.slot, mark).await?,
            None => Arc::default(),
        };
        let states = self.states(&plan, &request.entities).await?;
        states
            .into_iter()
            .map(|(entity, state)| {
                let kind = plan.kind(entity.kind);
                let since = waiting.dirty.get(&entity).copied();
                kind.and_then(|kind| answer(kind, request, state, &stamp, since))
                    .ok_or_else(|| JoinError::UnknownView(request.view.to_string()))
            })
            .collect()
    }
}

/// The watermark of a view as of a mark.
fn of_view(mark: &Mark, view: &str) -> Option<Micros> {
    let key = view_key(view);
    mark.views.iter().find(|(found, _)| *found == key).map(|(_, at)| *at)
}

fn from_log(stamp: Stamp) -> HeadAnswer {
    let Stamp { position, known_at, watermark, rebuilding } = stamp;
    HeadAnswer::FromLog { position, known_at, watermark, rebuilding }
}

/// What a head answers; `None` when the plan has no such view.
fn answer(
    kind: &Arc<KindPlan>,
    request: &HeadRequest,
    state: Option<EntityState>,
    of_mark: &Stamp,
    since: Option<Since>,
) -> Option<HeadAnswer> {
    let view = kind.view_index(&request.view)?;
    let mut state = state.unwrap_or_else(|| EntityState::new(kind.clone()));
    let mut stamp = of_mark.clone();
    if state.applied() > stamp.position {
        // The head is newer than the mark; its watermark may be too, and is not stated.
        stamp.position = state.applied();
        stamp.known_at = stamp.known_at.max(state.known_at());
    }
    // A head that covers the chunk in which its entity became dirty was rebuilt since.
    let since = since.filter(|since| since.position > state.applied());
    if request.known_at < state.known_at() {
        return Some(from_log(stamp));
    }
    let evaluation = state.evaluate(view, &request.features, request.at);
    stamp.rebuilding = since.is_some();
    let Some(evaluation) = evaluation else { return Some(from_log(stamp)) };
    if let Some(since) = since {
        // Its facts wait from that chunk on: the head is as of the one before.
        let sequence = since.position.sequence.saturating_sub(1);
        stamp.position = Position { sequence, ..since.position };
        stamp.known_at = KnownAt(since.known_at.0.saturating_sub(1));
    }
    Some(HeadAnswer::Answer(outcome(evaluation, stamp)))
}

#[async_trait]
impl HeadPort for StoredHeads {
    async fn read_heads(&self, request: HeadRequest) -> Result<Vec<HeadAnswer>, JoinError> {
        self.answers(&request).await
    }
}

#[async_trait]
impl SlotPort for StoredHeads {
    async fn close_up_to(&self, slot: SlotId, known_at: KnownAt) -> Result<Position, JoinError> {
        match self.mark(slot).await? {
            Some(mark) if mark.closed >= known_at => Ok(mark.position),
            Some(_) | None => self.owner.close_up_to(slot, known_at).await,
        }
    }

    /// As the owners say, or, for slots of which none does, as of their marks.
    async fn status(&self) -> Result<Vec<SlotStatus>, JoinError> {
        let mut slots = self.owner.status().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the state of slots is told from their marks");
            Vec::new()
        });
        let owned: BTreeSet<SlotId> = slots.iter().map(|slot| slot.slot).collect();
        for slot in self.slots.iter().filter(|slot| !owned.contains(slot)) {
            let mark = self.mark(slot).await?;
            let dirty = match &mark {
                Some(mark) => self.waiting(slot, mark).await?.dirty.len() as u64,
                None => 0,
            };
            slots.push(SlotStatus {
                slot,
                is_owned: false,
                position: mark.as_ref().map_or(Position::START, |mark| mark.position),
                known_at: mark.as_ref().map_or(KnownAt::default(), |mark| mark.closed),
                marked: mark.as_ref().map_or(Position::START, |mark| mark.position),
                dirty,
                resident: 0,
                resident_bytes: 0,
                at_hand_bytes: 0,
                queued: 0,
                watermarks: mark.as_ref().map_or_else(Vec::new, |mark| mark.watermarks.clone()),
                latest: mark.map_or_else(Vec::new, |mark| mark.latest),
            });
        }
        slots.sort_by_key(|slot| slot.slot);
        Ok(slots)
    }
}
