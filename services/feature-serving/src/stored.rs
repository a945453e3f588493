//! Heads from the store, for a feature-serving process beside the join service: the mark first, then
//! the heads, so that everything up to the mark is in them. It needs the owner of a slot only to
//! close a log that is still open.
//!
//! A head tells which pages a read needs besides; most reads need none, and those of large entities the
//! few that their windows cut.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_client::heads::outcome;
use millrace_client::port::{
    BackfillStatus, CatalogPort, HeadAnswer, HeadPort, HeadRequest, JoinError, SlotPort,
    SlotStatus, StorePort,
};
use millrace_kernel::slot::Stamp;
use millrace_kernel::{
    EntityState, Evaluation, FeatureOutcome, Head, KindPlan, PageName, PartlyLoaded, Plan, TooEarly,
};
use millrace_placement::Slots;
use millrace_store::{Mark, StoreError};
use millrace_types::entity::view_key;
use millrace_types::{
    Boundaries, Chunk, DecodeError, Entity, Filled, KnownAt, Micros, Position, SlotId, Status,
};

use self::hot::MarksSeen;
use self::loads::HeadLoads;
use self::pages::Pages;
use crate::plans::Plans;

mod hot;
mod loads;
mod pages;
mod parts;

/// Bytes of the log read at a time.
const SCAN_BYTES: usize = 4 << 20;
/// Heads that one read holds at a time.
const HEADS_AT_ONCE: usize = 64;
/// A head may be replaced, and its pages be gone, between the reads of the two.
const ATTEMPTS: usize = 3;

/// Bounds of the pages that reads of stored heads hold in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredLimits {
    /// Memory for pages that are kept for further reads, in bytes; 0 for none.
    pub page_cache_bytes: u64,
    /// Pages that reads under way hold at once; more wait. About 150 KiB each at most.
    pub pages_at_once: u32,
    /// How long a head answers further reads as long as its slot's mark stands; 0 for not at all.
    pub hot_heads_for: Duration,
    /// Memory for heads that are kept for further reads, in bytes.
    pub hot_head_bytes: u64,
}

impl Default for StoredLimits {
    fn default() -> Self {
        Self {
            page_cache_bytes: 64 << 20,
            pages_at_once: 512,
            hot_heads_for: Duration::from_millis(50),
            hot_head_bytes: 16 << 20,
        }
    }
}

/// Reads of stored heads.
pub struct StoredHeads {
    store: Arc<dyn StorePort>,
    marks: MarksSeen,
    loads: HeadLoads,
    pages: Pages,
    pages_at_once: usize,
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
        limits: StoredLimits,
    ) -> Self {
        Self {
            marks: MarksSeen::default(),
            loads: HeadLoads::new(store.clone(), limits),
            pages: Pages::new(store.clone(), limits),
            pages_at_once: limits.pages_at_once as usize,
            store,
            owner,
            slots,
            plans: Plans::new(catalog),
            waiting: Mutex::default(),
        }
    }

    async fn mark(&self, slot: SlotId) -> Result<Option<Mark>, StoreError> {
        Ok(self.store.load_mark(slot).await?.map(|(_, mark)| mark))
    }

    /// What the newest plan adds to what heads know.
    fn backfill(&self, filled: Filled) -> Option<BackfillStatus> {
        let toward = self.plans.newest().catalog.version;
        let below = if filled.toward == toward { filled.below } else { 0 };
        let filled = Filled { toward, below, ..filled };
        (filled.version < toward).then(|| BackfillStatus::of(filled, self.slots.count()))
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
        let found = Box::pin(self.scan_waiting(slot, oldest, mark.position)).await?;
        let found = Arc::new(found);
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

    /// What the stored heads say; tried again when a head was replaced, and its pages gone, between two
    /// reads.
    async fn read(
        &self,
        plan: &Plan,
        request: &HeadRequest,
        mut since: Option<Instant>,
    ) -> Result<Vec<Said>, JoinError> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            match self.read_once(plan, request, since).await {
                Err(JoinError::Store(StoreError::Damaged { .. })) if attempts > 0 => since = None,
                other => return other,
            }
        }
    }

    async fn read_once(
        &self,
        plan: &Plan,
        request: &HeadRequest,
        since: Option<Instant>,
    ) -> Result<Vec<Said>, JoinError> {
        let mut said = Vec::with_capacity(request.entities.len());
        for entities in request.entities.chunks(HEADS_AT_ONCE) {
            let heads = self.loads.load(entities, since).await?;
            let (mut opened, mut pages) = (Vec::new(), 0);
            for (entity, head) in entities.iter().zip(heads) {
                let one = Opened::new(plan, request, entity, head)?;
                if pages + one.needed.len() > self.pages_at_once && !opened.is_empty() {
                    self.finish(request, &mut opened, &mut said).await?;
                    pages = 0;
                }
                pages += one.needed.len();
                opened.push(one);
            }
            self.finish(request, &mut opened, &mut said).await?;
        }
        Ok(said)
    }

    /// Reads the pages that opened heads need, all at once, and evaluates them.
    async fn finish(
        &self,
        request: &HeadRequest,
        opened: &mut Vec<Opened<'_>>,
        said: &mut Vec<Said>,
    ) -> Result<(), StoreError> {
        let key = |one: &Opened<'_>, name: &PageName| (one.entity.clone(), *name);
        let wanted: Vec<(Entity, PageName)> =
            opened.iter().flat_map(|one| one.needed.iter().map(|n| key(one, n))).collect();
        if wanted.is_empty() {
            for one in opened.drain(..) {
                said.push(one.evaluate(request)?);
            }
            return Ok(());
        }
        let _turn = self.pages.turn(wanted.len()).await;
        let mut pages = wanted.iter().zip(self.pages.load(&wanted).await?);
        for mut one in opened.drain(..) {
            for (key, page) in pages.by_ref().take(one.needed.len()) {
                if let Some(state) = &mut one.state {
                    let inserted = state.insert(key.1, &page);
                    inserted.map_err(|error| pages::damaged(key, &error.to_string()))?;
                }
            }
            said.push(one.evaluate(request)?);
        }
        Ok(())
    }

    async fn answers(&self, request: &HeadRequest) -> Result<Vec<HeadAnswer>, JoinError> {
        let plan = self.plans.newest();
        if request.catalog_version != plan.catalog.version {
            return Err(JoinError::UnknownCatalog(request.catalog_version));
        }
        let (ver, mark) = self.store.load_mark(request.slot).await?.unzip();
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
        if let Some(early) = too_early(&plan, request, mark.as_ref()) {
            return Ok(request
                .entities
                .iter()
                .map(|_| HeadAnswer::TooEarly(early.clone()))
                .collect());
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
        let known = ver.and_then(|ver| self.marks.since(request.slot, ver));
        let mut said = self.read(&plan, request, known).await?;
        if mark.as_ref().is_some_and(|mark| is_filled(&plan, mark)) {
            said.iter_mut().for_each(Said::end_filling);
        }
        let since = |entity| waiting.dirty.get(entity).copied();
        let answers = request.entities.iter().zip(said);
        Ok(answers.map(|(entity, said)| answer(request, said, &stamp, since(entity))).collect())
    }
}

/// Why the features that are asked for cannot be read any more as of a mark, if they cannot.
fn too_early(plan: &Plan, request: &HeadRequest, mark: Option<&Mark>) -> Option<TooEarly> {
    let boundaries = &mark?.retained.boundaries;
    let kind = plan.kind(request.entities.first()?.kind)?;
    let view = kind.view_index(&request.view)?;
    kind.too_early(view, &request.features, request.at, boundaries)
}

/// True when every entity that the log has is filled in, and some may have nothing left there.
fn is_filled(plan: &Plan, mark: &Mark) -> bool {
    mark.filled.version >= plan.catalog.version && !mark.retained.boundaries.is_empty()
}

/// What a stored head says.
struct Said {
    applied: Position,
    known_at: KnownAt,
    /// It forgot what the read needs, whatever the mark says.
    early: Option<TooEarly>,
    /// `None` where the head does not cover the read.
    evaluation: Option<Evaluation>,
}

impl Said {
    /// What waits for a backfill that is over is answered from the log.
    fn end_filling(&mut self) {
        let waits = |f: &FeatureOutcome| f.status == Status::Backfilling;
        self.evaluation.take_if(|evaluation| evaluation.features.iter().any(waits));
    }
}

/// An entity whose head is loaded, and the pages it needs besides.
struct Opened<'a> {
    entity: &'a Entity,
    kind: &'a Arc<KindPlan>,
    view: usize,
    /// `None` where the store has no head: the entity has no facts.
    state: Option<PartlyLoaded>,
    needed: Vec<PageName>,
}

impl<'a> Opened<'a> {
    fn new(
        plan: &'a Plan,
        request: &HeadRequest,
        entity: &'a Entity,
        head: Option<Bytes>,
    ) -> Result<Self, JoinError> {
        let kind = plan.kind(entity.kind);
        let view = kind.and_then(|kind| Some((kind, kind.view_index(&request.view)?)));
        let Some((kind, view)) = view else {
            return Err(JoinError::UnknownView(request.view.to_string()));
        };
        let open =
            |bytes: Bytes| Head::decode(kind, &bytes)?.open(kind.clone(), view, &request.features);
        let mut state = head.map(open).transpose().map_err(|error| damaged(entity, error))?;
        let needed = match &mut state {
            Some(state) if request.known_at >= state.known_at() => {
                state.needed(request.at).map_err(|error| damaged(entity, error))?
            }
            Some(_) | None => Vec::new(),
        };
        Ok(Self { entity, kind, view, state, needed })
    }

    fn evaluate(self, request: &HeadRequest) -> Result<Said, StoreError> {
        let Some(mut state) = self.state else {
            let mut empty = EntityState::new(self.kind.clone());
            let evaluation = empty.evaluate(self.view, &request.features, request.at);
            let (applied, known_at) = (empty.applied(), empty.known_at());
            return Ok(Said { applied, known_at, early: None, evaluation });
        };
        let (applied, known_at) = (state.applied(), state.known_at());
        let early = state.too_early(request.at);
        if request.known_at < known_at || early.is_some() {
            return Ok(Said { applied, known_at, early, evaluation: None });
        }
        let evaluation = state.evaluate(request.at);
        let evaluation = evaluation.map_err(|missing| StoreError::Damaged {
            what: format!("head of entity {}", self.entity.key),
            reason: missing.to_string(),
        })?;
        Ok(Said { applied, known_at, early, evaluation })
    }
}

fn damaged(entity: &Entity, error: DecodeError) -> StoreError {
    let what = format!("head of entity {}", entity.key);
    StoreError::Damaged { what, reason: error.to_string() }
}

/// What was forgotten as of a mark.
fn forgotten(mark: &Mark) -> Boundaries {
    mark.retained.boundaries.clone()
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

/// What a head answers to a read.
fn answer(request: &HeadRequest, said: Said, of_mark: &Stamp, since: Option<Since>) -> HeadAnswer {
    if let Some(early) = said.early {
        return HeadAnswer::TooEarly(early);
    }
    let mut stamp = of_mark.clone();
    if said.applied > stamp.position {
        // The head is newer than the mark; its watermark may be too, and is not stated.
        stamp.position = said.applied;
        stamp.known_at = stamp.known_at.max(said.known_at);
    }
    // A head that covers the chunk in which its entity became dirty was rebuilt since.
    let since = since.filter(|since| since.position > said.applied);
    if request.known_at < said.known_at {
        return from_log(stamp);
    }
    stamp.rebuilding = since.is_some();
    let Some(evaluation) = said.evaluation else { return from_log(stamp) };
    if let Some(since) = since {
        // Its facts wait from that chunk on: the head is as of the one before.
        let sequence = since.position.sequence.saturating_sub(1);
        stamp.position = Position { sequence, ..since.position };
        stamp.known_at = KnownAt(since.known_at.0.saturating_sub(1));
    }
    HeadAnswer::Answer(outcome(evaluation, stamp))
}

#[async_trait]
impl HeadPort for StoredHeads {
    async fn read_heads(&self, request: HeadRequest) -> Result<Vec<HeadAnswer>, JoinError> {
        self.answers(&request).await
    }
}

impl StoredHeads {
    /// The state of every slot, and why those that are not known are not: one question that the store does
    /// not answer tells that of all.
    async fn all_status(&self) -> (Vec<SlotStatus>, Option<JoinError>) {
        let mut slots = self.owner.status().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the state of slots is told from their marks");
            Vec::new()
        });
        let owned: BTreeSet<SlotId> = slots.iter().map(|slot| slot.slot).collect();
        let mut failed = None;
        for slot in self.slots.iter().filter(|slot| !owned.contains(slot)) {
            if failed.is_none() {
                match self.status_of_mark(slot).await {
                    Ok(status) => {
                        slots.push(status);
                        continue;
                    }
                    Err(error) => failed = Some(error),
                }
            }
            slots.push(SlotStatus { is_known: false, ..SlotStatus::new(slot) });
        }
        slots.sort_by_key(|slot| slot.slot);
        (slots, failed)
    }

    /// A slot that nobody owns, as of its mark.
    async fn status_of_mark(&self, slot: SlotId) -> Result<SlotStatus, JoinError> {
        let Some(mark) = self.mark(slot).await? else { return Ok(SlotStatus::new(slot)) };
        Ok(SlotStatus {
            position: mark.position,
            known_at: mark.closed,
            marked: mark.position,
            dirty: self.waiting(slot, &mark).await?.dirty.len() as u64,
            backfill: self.backfill(mark.filled),
            forgotten: forgotten(&mark),
            watermarks: mark.watermarks,
            latest: mark.latest,
            ..SlotStatus::new(slot)
        })
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

    async fn suspect(&self, slot: SlotId, entities: Vec<Entity>) -> Result<Position, JoinError> {
        self.owner.suspect(slot, entities).await
    }

    /// As the owners say, or, for slots of which none does, as of their marks.
    async fn status(&self) -> Result<Vec<SlotStatus>, JoinError> {
        match self.all_status().await {
            (slots, None) => Ok(slots),
            (_, Some(error)) => Err(error),
        }
    }

    /// The same; where the store does not answer, what it was asked for is not known.
    async fn known_status(&self) -> Result<Vec<SlotStatus>, JoinError> {
        Ok(self.all_status().await.0)
    }
}
