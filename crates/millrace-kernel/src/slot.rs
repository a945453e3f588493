//! The pure core of a slot: judges micro-batches into chunks, follows chunks judged before, and says
//! what to load, save, evict and rebuild. The join service around it does the I/O.
//!
//! A chunk is judged against the state after the chunk before it and takes effect on the state at
//! once; nothing of it is shown before [`SlotCore::confirm`] (design §6, `slot-log.md`).

mod backfill;
mod erase;
mod load;
mod read;
mod rebuild;
mod replay;
mod resident;
mod retention;
mod save;
mod suspect;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hint::black_box;
use std::sync::Arc;

use millrace_types::chunk::{encode_chunk, fingerprint};
use millrace_types::codec::Reader;
use millrace_types::entity::entity_hash;
use millrace_types::fact::RecordView;
use millrace_types::limits::REPAIR_ROWS_MAX;
use millrace_types::{
    ChunkHeader, DecodeError, Entity, EntityKey, Filled, Judged, KnownAt, Micros, Op, Position,
    SlotId, StreamId, StreamWatermark, Verdict,
};

use crate::entity::{EntityState, Outcome};
use crate::plan::Plan;
use crate::watermark::SlotWatermarks;

pub use backfill::{Fillable, Listing};
pub use erase::Scrub;
pub use read::{ReadAnswer, SlotRead, Stamp};
pub use rebuild::{Fold, RebuiltPut};
use resident::{Residents, Slab};
pub use save::{AtHand, Due, HeadPut, MarkState};
pub use suspect::Suspected;
use work::{Work, is_late};

/// What the slot receives of one batch of one ingest process.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The ingest process.
    pub incarnation: u64,
    /// Encoded fact records, all of this slot.
    pub facts: &'a [u8],
    /// The ingest process's watermarks after these facts.
    pub watermarks: &'a [StreamWatermark],
    /// True when the incarnation leaves.
    pub departs: bool,
    /// True when the facts were LATE before and are replayed: they are not LATE this time.
    pub replays_late: bool,
}

/// A judged chunk, to be appended.
#[derive(Debug)]
pub struct Draft {
    /// Its place.
    pub position: Position,
    /// Its known_at.
    pub known_at: KnownAt,
    /// The encoded chunk.
    pub bytes: Vec<u8>,
    /// By input: the verdict of each fact, in order.
    pub judged: Vec<Vec<Judged>>,
}

/// Why an entity waits, and how far.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// The chunk in which it became dirty.
    since: Position,
    /// The last chunk with a fact of it.
    last: Position,
    /// The slot as of the chunk before `since`.
    before: Arc<Before>,
    /// A rebuild is under way.
    rebuilding: bool,
}

/// What reads of a dirty entity state: the slot as of the chunk before it became dirty.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    pub(crate) position: Position,
    pub(crate) known_at: KnownAt,
    pub(crate) watermarks: Arc<SlotWatermarks>,
}

/// The state of one slot.
#[derive(Debug)]
pub struct SlotCore {
    slot: SlotId,
    plan: Arc<Plan>,
    residents: Residents,
    dirty: BTreeMap<Entity, Waiting>,
    /// Entities that become dirty in the next chunk without a fact of theirs in it.
    suspects: BTreeSet<Entity>,
    /// Entities that were dirty until a marker a mark may not cover yet: the marker, and since when.
    rebuilt: Vec<(Position, Position)>,
    watermarks: SlotWatermarks,
    /// The watermarks as of the last confirmed chunk.
    shown: Arc<SlotWatermarks>,
    /// The slot as of each confirmed chunk that a mark may still name, ascending.
    history: VecDeque<Before>,
    /// The greatest `at` confirmed of each stream, RETRACTs and what was REJECTED apart.
    latest: BTreeMap<StreamId, Micros>,
    /// The same of the chunk that is not confirmed yet.
    latest_judged: BTreeMap<StreamId, Micros>,
    /// The last chunk judged or followed, and its known_at.
    position: Position,
    known_at: KnownAt,
    /// The last chunk confirmed, and its known_at.
    confirmed: Position,
    confirmed_at: KnownAt,
    /// True while every entity that has facts is resident: nothing needs loading.
    complete: bool,
    /// Facts before it leave.
    horizon: Micros,
    rows_max: u64,
    fence: erase::Fence,
    /// How far stored heads know every feature.
    filled: Filled,
    /// Entities filled in whose head is not stored yet.
    fills_unsaved: usize,
    forgetting: retention::Forgetting,
}

impl SlotCore {
    /// A slot before its first chunk, whose entities may have heads in the store.
    #[must_use]
    pub fn new(slot: SlotId, plan: Arc<Plan>) -> Self {
        let position = Position::START;
        Self {
            slot,
            plan,
            residents: Residents::default(),
            dirty: BTreeMap::new(),
            suspects: BTreeSet::new(),
            rebuilt: Vec::new(),
            watermarks: SlotWatermarks::default(),
            shown: Arc::default(),
            history: VecDeque::new(),
            latest: BTreeMap::new(),
            latest_judged: BTreeMap::new(),
            position,
            known_at: KnownAt::default(),
            confirmed: position,
            confirmed_at: KnownAt::default(),
            complete: false,
            horizon: Micros::MIN,
            rows_max: REPAIR_ROWS_MAX,
            fence: erase::Fence::default(),
            filled: Filled::FIRST,
            fills_unsaved: 0,
            forgetting: retention::Forgetting::default(),
        }
    }

    /// Bounds the rows one fact may repair at once; beyond it the entity is rebuilt.
    pub fn set_rows_max(&mut self, rows_max: u64) {
        self.rows_max = rows_max;
    }

    /// The slot.
    #[must_use]
    pub fn slot(&self) -> SlotId {
        self.slot
    }

    /// A rebuild takes effect in the chunk at `marker`.
    fn end_waiting(&mut self, entity: &Entity, marker: Position) {
        if let Some(waiting) = self.dirty.remove(entity) {
            self.rebuilt.push((marker, waiting.since));
        }
    }

    /// The last chunk judged or followed.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The known_at of the last chunk judged or followed.
    #[must_use]
    pub fn known_at(&self) -> KnownAt {
        self.known_at
    }

    /// The last confirmed chunk and its known_at.
    #[must_use]
    pub fn confirmed(&self) -> (Position, KnownAt) {
        (self.confirmed, self.confirmed_at)
    }

    /// The slot's watermarks as of the last confirmed chunk.
    #[must_use]
    pub fn watermarks(&self) -> &SlotWatermarks {
        &self.shown
    }

    /// The ingest incarnations whose statements hold watermarks.
    #[must_use]
    pub fn watermark_incarnations(&self) -> Vec<u64> {
        self.watermarks.incarnations().collect()
    }

    /// The greatest `at` confirmed of each stream.
    #[must_use]
    pub fn latest(&self) -> Vec<(StreamId, Micros)> {
        self.latest.iter().map(|(s, at)| (*s, *at)).collect()
    }

    /// The number of entities that wait for a rebuild.
    #[must_use]
    pub fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// The number of entities in memory.
    #[must_use]
    pub fn resident_len(&self) -> usize {
        self.residents.len()
    }

    /// The plan facts are judged under.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Judges from now on under another catalog version; states follow when they are touched.
    pub fn set_plan(&mut self, plan: Arc<Plan>) {
        self.fill_toward(&plan);
        self.plan = plan;
    }

    /// Begins an epoch: the next chunk is its first.
    pub fn open_epoch(&mut self, epoch: u64) {
        self.position = Position { epoch, sequence: 0 };
        self.confirmed = self.position;
        self.note_confirmed();
    }

    fn hash(&self, record: &RecordView<'_>) -> u64 {
        let name = self.plan.kind(record.kind).map_or("", |k| k.kind_name.as_str());
        entity_hash(name, record.key)
    }

    /// Judges inputs into the chunk at the next position and takes it into the state. `None` when
    /// there is nothing to write: no fact, no watermark moved, nobody under suspicion. Facts that name an erased entity are
    /// REJECTED and not written.
    ///
    /// # Errors
    /// [`DecodeError`] when an input's facts are no records; nothing was changed.
    pub fn judge(
        &mut self,
        inputs: &[Input<'_>],
        known_at: KnownAt,
    ) -> Result<Option<Draft>, DecodeError> {
        let Some(kept) = self.refuse_erased(inputs)? else {
            return self.judge_kept(inputs, known_at, false);
        };
        // Also a chunk without facts: no verdict is given before one is confirmed.
        let draft = self.judge_kept(&kept.inputs(inputs), known_at, true)?;
        Ok(draft.map(|draft| Draft { judged: kept.all_judged(draft.judged), ..draft }))
    }

    fn judge_kept(
        &mut self,
        inputs: &[Input<'_>],
        known_at: KnownAt,
        is_written: bool,
    ) -> Result<Option<Draft>, DecodeError> {
        let (records, counts) = self.read_inputs(inputs)?;
        let before = Arc::new(self.as_before());
        let mut header = ChunkHeader::default();
        self.judge_watermarks(inputs, &mut header);
        let moved = !header.watermarks.is_empty() || !header.departures.is_empty();
        if records.is_empty() && !moved && !is_written && self.suspects.is_empty() {
            return Ok(None);
        }
        let position = self.next_position();
        let mut work = Work {
            position,
            known_at,
            before,
            judged: Vec::with_capacity(records.len()),
            owners: Vec::with_capacity(records.len()),
            touched: Vec::new(),
            replays_late: false,
        };
        self.judge_suspects(&mut header, &work);
        let mut looked_up = Vec::with_capacity(records.len());
        for (input, count) in inputs.iter().zip(&counts) {
            work.replays_late = input.replays_late;
            for _ in 0..*count {
                let index = work.judged.len();
                if index == looked_up.len() {
                    self.look_up(&records[index..], &mut looked_up);
                }
                self.judge_record(&records, index, looked_up[index], &mut header, &mut work);
            }
        }
        let mut filter: Vec<u32> = looked_up.iter().map(|found| fingerprint(found.hash)).collect();
        filter.sort_unstable();
        filter.dedup();
        header.filter = filter;
        self.finish_chunk(&records, &mut header, &work);
        let bytes = encode_chunk(&header, inputs.iter().map(|i| i.facts));
        let mut rest = work.judged.into_iter();
        let judged = counts.into_iter().map(|n| rest.by_ref().take(n).collect()).collect();
        Ok(Some(Draft { position, known_at, bytes, judged }))
    }

    /// Looks up the owners of the next records before any of them is judged, and reads where their facts
    /// will be looked for: none of these looks waits for another, so that the memory that they miss is
    /// fetched for many at a time ("group prefetching", Chen et al., ICDE 2004).
    fn look_up(&self, records: &[RecordView<'_>], looked_up: &mut Vec<LookedUp>) {
        let records = &records[..records.len().min(LOOKED_UP)];
        let start = looked_up.len();
        looked_up.extend(records.iter().map(|r| LookedUp { hash: self.hash(r), slab: None }));
        for (record, found) in records.iter().zip(&mut looked_up[start..]) {
            found.slab = self.residents.find(found.hash, record.kind, record.key);
        }
        for (record, found) in records.iter().zip(&looked_up[start..]) {
            let Some(slab) = found.slab else { continue };
            let state = &self.residents.get(slab).state;
            // What is read is of no use but for being read.
            black_box(state.fetch(record.stream, &record.body));
        }
    }

    /// Reads all records before anything is changed, so that bad bytes change nothing.
    fn read_inputs<'a>(
        &self,
        inputs: &[Input<'a>],
    ) -> Result<(Vec<RecordView<'a>>, Vec<usize>), DecodeError> {
        let mut records = Vec::new();
        let mut counts = Vec::with_capacity(inputs.len());
        for input in inputs {
            let start = records.len();
            let mut reader = Reader::new(input.facts);
            while !reader.is_empty() {
                let record = RecordView::read(&mut reader)?;
                let stream =
                    self.plan.kind(record.kind).and_then(|p| p.stream_index(record.stream));
                if stream.is_none() {
                    let found = u64::from(record.stream.0);
                    return Err(DecodeError::Invalid { what: "stream of a fact", found });
                }
                records.push(record);
            }
            counts.push(records.len() - start);
        }
        Ok((records, counts))
    }

    /// The chunk that says these entities were rebuilt from every chunk before it. It carries no
    /// facts; [`SlotCore::install_rebuilt`] makes it take effect once it is confirmed.
    pub fn draft_marker(
        &mut self,
        rebuilt: Vec<millrace_types::Rebuilt>,
        known_at: KnownAt,
    ) -> Draft {
        let position = self.next_position();
        let header = ChunkHeader {
            known_at,
            catalog_version: self.plan.catalog.version,
            rebuilt,
            ..ChunkHeader::default()
        };
        self.position = position;
        self.known_at = known_at;
        let bytes = encode_chunk(&header, []);
        Draft { position, known_at, bytes, judged: Vec::new() }
    }

    fn next_position(&self) -> Position {
        Position { epoch: self.position.epoch, sequence: self.position.sequence + 1 }
    }

    fn as_before(&self) -> Before {
        Before { position: self.position, known_at: self.known_at, watermarks: self.shown.clone() }
    }

    fn judge_watermarks(&mut self, inputs: &[Input<'_>], header: &mut ChunkHeader) {
        let catalog = self.plan.catalog.clone();
        let mut moved = false;
        for input in inputs {
            moved |= self.watermarks.state(&catalog, input.incarnation, input.watermarks);
            if input.departs && self.watermarks.depart(&catalog, input.incarnation) {
                header.departures.push(input.incarnation);
            }
        }
        if moved || !header.departures.is_empty() {
            header.watermarks = self.watermarks.by_incarnation();
            header.slot_watermarks = self.watermarks.own();
            header.view_watermarks = self.watermarks.views();
        }
    }

    fn judge_record(
        &mut self,
        records: &[RecordView<'_>],
        index: usize,
        looked_up: LookedUp,
        header: &mut ChunkHeader,
        work: &mut Work,
    ) {
        let record = &records[index];
        let Some((slab, stream)) = self.resident_for(record, looked_up) else {
            debug_assert!(false, "read_inputs refuses records of unknown kinds and streams");
            return;
        };
        work.owners.push(slab);
        if self.residents.touch(slab, work.position) {
            work.touched.push(slab);
        }
        if self.is_forgotten(record) {
            work.judged.push(Verdict::Late.into());
            return;
        }
        let state = &self.residents.get(slab).state;
        let held = !work.replays_late
            && is_late(&state.plan.streams[stream], record, &work.before.watermarks);
        // A repeat of what is in effect stays a repeat, however old it is.
        if held && !state.has(stream, &record.body) {
            work.judged.push(Verdict::Late.into());
            return;
        }
        if self.residents.get(slab).waiting {
            if let Some(waiting) = self.dirty.get_mut(&self.residents.get(slab).entity) {
                waiting.last = work.position;
            }
            work.judged.push(Verdict::Queued.into());
            return;
        }
        let resident = self.residents.get_mut(slab);
        let judged = match resident.state.apply(stream, &record.body, self.rows_max) {
            Outcome::Duplicate => Verdict::Duplicate.into(),
            Outcome::Applied { rows, conflict } => {
                resident.changed_in = work.position;
                #[cfg(all(feature = "fault-injection", debug_assertions))]
                if crate::fault::loses_facts() {
                    resident.state.unapply(stream, &record.body);
                }
                let verdict = match rows {
                    0 => Verdict::Accepted,
                    rows => Verdict::Repaired { rows },
                };
                Judged { verdict, conflict }
            }
            Outcome::Dirty => {
                self.become_dirty(records, slab, header, work);
                Verdict::Queued.into()
            }
        };
        work.judged.push(judged);
    }

    /// The resident a record belongs to, made if there is none, and the index of its stream.
    fn resident_for(&mut self, record: &RecordView<'_>, found: LookedUp) -> Option<(Slab, usize)> {
        let plan = self.plan.kind(record.kind)?;
        let stream = plan.stream_index(record.stream)?;
        let LookedUp { hash, slab } = found;
        // An earlier record of the chunk may have made it since.
        let slab = match slab.or_else(|| self.residents.find(hash, record.kind, record.key)) {
            Some(slab) => slab,
            None => {
                let key = EntityKey::from_canonical(record.key);
                let entity = Entity { kind: record.kind, key };
                let state = EntityState::new(Arc::clone(plan));
                self.residents.insert(hash, entity, state, false, false)
            }
        };
        self.residents.get_mut(slab).state.replan(plan);
        Some((slab, stream))
    }

    /// The entity needs the log. What this chunk applied of it so far is taken back: all its facts
    /// of the chunk wait, and its value stays that of the chunk before.
    fn become_dirty(
        &mut self,
        records: &[RecordView<'_>],
        slab: Slab,
        header: &mut ChunkHeader,
        work: &mut Work,
    ) {
        for earlier in (0..work.judged.len()).rev() {
            if work.owners[earlier] != slab {
                continue;
            }
            match work.judged[earlier].verdict {
                Verdict::Accepted | Verdict::Repaired { .. } => {
                    let record = &records[earlier];
                    let resident = self.residents.get_mut(slab);
                    if let Some(stream) = resident.state.plan.stream_index(record.stream) {
                        resident.state.unapply(stream, &record.body);
                    }
                    work.judged[earlier] = Verdict::Queued.into();
                }
                Verdict::Duplicate => work.judged[earlier] = Verdict::Queued.into(),
                Verdict::Queued | Verdict::Late | Verdict::Rejected(_) => {}
            }
        }
        let resident = self.residents.get_mut(slab);
        resident.waiting = true;
        header.dirtied.push(resident.entity.clone());
        let waiting = Waiting {
            since: work.position,
            last: work.position,
            before: work.before.clone(),
            rebuilding: false,
        };
        self.dirty.insert(resident.entity.clone(), waiting);
    }

    fn finish_chunk(&mut self, records: &[RecordView<'_>], header: &mut ChunkHeader, work: &Work) {
        header.known_at = work.known_at;
        header.catalog_version = self.plan.catalog.version;
        header.facts = records.len() as u32;
        header.least_stated = records.iter().filter_map(|r| r.body.known_at).min();
        header.verdicts = work
            .judged
            .iter()
            .enumerate()
            .filter(|(_, j)| j.verdict != Verdict::Accepted)
            .map(|(index, j)| (index as u32, j.verdict))
            .collect();
        for (record, judged) in records.iter().zip(&work.judged) {
            if record.body.op != Op::Retract && !matches!(judged.verdict, Verdict::Rejected(_)) {
                raise(&mut self.latest_judged, record.stream, record.body.at);
            }
        }
        let ats = || records.iter().map(|r| r.body.at);
        header.at_range = ats().min().zip(ats().max());
        self.position = work.position;
        self.known_at = work.known_at;
        for slab in &work.touched {
            self.residents.chunk_applied(*slab, work.position, work.known_at);
        }
    }

    /// States that the chunk at this position, and every one before it, is confirmed.
    pub fn confirm(&mut self, position: Position, known_at: KnownAt) {
        debug_assert!(position > self.confirmed, "chunks are confirmed in order");
        self.confirmed = position;
        self.confirmed_at = known_at;
        // One append a slot is in flight, so the watermarks are those of this chunk.
        for (stream, at) in std::mem::take(&mut self.latest_judged) {
            raise(&mut self.latest, stream, at);
        }
        self.note_confirmed();
    }

    fn note_confirmed(&mut self) {
        if *self.shown != self.watermarks {
            self.shown = Arc::new(self.watermarks.clone());
        }
        self.history.push_back(Before {
            position: self.confirmed,
            known_at: self.confirmed_at,
            watermarks: self.shown.clone(),
        });
    }
}

/// Records whose owners are looked up at a time: what they read has to stay in the cache.
const LOOKED_UP: usize = 256;

/// What is known of a record's owner before it is judged.
#[derive(Debug, Clone, Copy)]
struct LookedUp {
    hash: u64,
    /// Its place, where it is in memory. Nobody leaves while a chunk is judged.
    slab: Option<Slab>,
}

/// Raises what is kept of a stream to an instant.
fn raise(latest: &mut BTreeMap<StreamId, Micros>, stream: StreamId, at: Micros) {
    let greatest = latest.entry(stream).or_insert(Micros::MIN);
    *greatest = (*greatest).max(at);
}
