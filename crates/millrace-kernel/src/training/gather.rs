//! The facts of a slot's entities: gathered chunk by chunk into columns, then brought together by
//! entity.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use millrace_types::codec::Reader;
use millrace_types::fact::RecordView;
use millrace_types::{
    Boundaries, Chunk, ChunkHeader, DecodeError, EntityKey, FactView, KindId, KnownAt, StreamId,
    Verdict,
};

use super::AsKnown;
use super::chunks::{Chunks, Place};
use super::entities::Entities;
use super::fields::{fields_of, read_all};
use super::live::{Collected, Live, LiveFacts};
use crate::entity::EntityState;
use crate::plan::{FeaturePlan, KindPlan, Plan, ViewPlan};
use crate::retention::Cuts;

/// Entities up to which the filters of chunks are asked whether they hold one of them.
const ASK_FILTERS_MAX: usize = 64;

/// Gathers the facts of entities of one kind from the log of a slot.
#[derive(Debug)]
pub struct SlotFacts<B> {
    plan: Arc<KindPlan>,
    kind: KindId,
    /// By stream of the catalog: its index among those of the kind, if it is wanted.
    streams: Vec<Option<u16>>,
    known: AsKnown,
    include_late: bool,
    /// All that are met are taken in where none were named.
    entities: Entities,
    takes_all: bool,
    /// Of those that are met, only entities with such a hash.
    within: RangeInclusive<u64>,
    chunks: Chunks<B>,
    /// By stream of the kind.
    collected: Vec<Collected>,
    looked_at: u64,
    bytes: usize,
    cuts: Cuts,
}

impl<B: AsRef<[u8]>> SlotFacts<B> {
    /// Gathers facts of these streams for entities of a kind; `None` when the plan lacks the kind.
    /// Facts judged LATE count where `include_late` says so. What the features of all views of the kind
    /// read is decoded, unless [`SlotFacts::for_features`] says of which.
    #[must_use]
    pub fn new(
        plan: &Plan,
        kind: KindId,
        streams: &[StreamId],
        known: AsKnown,
        include_late: bool,
    ) -> Option<Self> {
        let plan = plan.kind(kind)?.clone();
        let mut wanted = Vec::new();
        for stream in streams {
            let place = usize::from(stream.0);
            wanted.resize(wanted.len().max(place + 1), None);
            wanted[place] = plan.stream_index(*stream).map(|index| index as u16);
        }
        let all = plan.views.iter().flat_map(|view| view.features.iter().map(move |f| (view, f)));
        let collected = fields_of(&plan, all).into_iter().map(Collected::new).collect();
        let entities = Entities::new(&plan.kind_name);
        Some(Self {
            plan,
            kind,
            streams: wanted,
            known,
            include_late,
            entities,
            takes_all: true,
            within: 0..=u64::MAX,
            chunks: Chunks::new(),
            collected,
            looked_at: 0,
            bytes: 0,
            cuts: Cuts::default(),
        })
    }

    /// Decodes only what these features, by the names of their views, read; `None` when there is no such
    /// view or feature. To be called before the first chunk.
    #[must_use]
    pub fn for_features(mut self, views: &[(&str, &[usize])]) -> Option<Self> {
        let plan = Arc::clone(&self.plan);
        let mut read: Vec<(&ViewPlan, &FeaturePlan)> = Vec::new();
        for (view, features) in views {
            let view = &plan.views[plan.view_index(view)?];
            for feature in *features {
                read.push((view, view.features.get(*feature)?));
            }
        }
        let fields = fields_of(&plan, read.into_iter());
        self.collected = fields.into_iter().map(Collected::new).collect();
        Some(self)
    }

    /// Gathers only entities whose hash lies in this range, where none are named.
    #[must_use]
    pub fn within(mut self, hashes: RangeInclusive<u64>) -> Self {
        self.within = hashes;
        self
    }

    /// Names an entity to gather: from the first one on only named ones are. Gives its number, the same
    /// one for the same key.
    pub fn name(&mut self, key: &[u8]) -> u32 {
        self.takes_all = false;
        self.entities.name(key)
    }

    /// Takes the next chunk in, and keeps it if it holds facts that are wanted.
    ///
    /// # Errors
    /// [`DecodeError`] when it does not decode.
    pub fn chunk(&mut self, bytes: B) -> Result<(), DecodeError> {
        let all = bytes.as_ref();
        let chunk = Chunk::decode(all)?;
        let header = &chunk.header;
        self.cuts.chunk(header, self.chunks.next());
        if !self.may_want(header) {
            return Ok(());
        }
        let before: Vec<usize> = self.collected.iter().map(Collected::len).collect();
        let mut wanted = 0;
        let mut reader = Reader::new(chunk.fact_bytes());
        for verdict in header.all_verdicts() {
            let record = RecordView::read(&mut reader)?;
            self.looked_at += 1;
            let counts = match verdict {
                Verdict::Rejected(_) => false,
                Verdict::Late => self.include_late,
                Verdict::Accepted
                | Verdict::Repaired { .. }
                | Verdict::Queued
                | Verdict::Duplicate => true,
            };
            if counts && record.kind == self.kind {
                let offset = all.len() - reader.rest().len() - record.body.bytes.len();
                if self.fact(&record, header.known_at, offset as u32) {
                    wanted += record.body.bytes.len();
                }
            }
        }
        if wanted > 0 {
            let known_at = header.known_at;
            let streams = self.collected.iter_mut().zip(before);
            let places = streams.flat_map(|(stream, first)| stream.places_from(first));
            self.bytes += self.chunks.keep(bytes, known_at, wanted, places)?;
        }
        Ok(())
    }

    /// Whether a chunk with this header may hold a fact that is wanted. Its range of `at` tells nothing of
    /// that: a fact behind every row may replace one that lies before.
    fn may_want(&self, header: &ChunkHeader) -> bool {
        if let AsKnown::At(most) = self.known
            && !header.may_be_known(most)
        {
            return false;
        }
        let few = !self.takes_all && self.entities.len() <= ASK_FILTERS_MAX;
        !few || self.entities.iter().any(|(hash, _)| header.may_contain(hash))
    }

    /// Takes a fact in; false when it is not wanted.
    fn fact(&mut self, record: &RecordView<'_>, chunk_known_at: KnownAt, offset: u32) -> bool {
        let Some(stream) = self.streams.get(usize::from(record.stream.0)).copied().flatten() else {
            return false;
        };
        let known_at = record.body.known_in(chunk_known_at);
        if matches!(self.known, AsKnown::At(most) if known_at > most) {
            return false;
        }
        let entity = match self.entities.find(record.key) {
            Some(entity) => entity,
            None if self.takes_all && self.within.contains(&self.entities.hash(record.key)) => {
                self.entities.name(record.key)
            }
            None => return false,
        };
        let is_late = self.known == AsKnown::AtEvent && known_at.0 > record.body.at.0;
        let late = is_late.then_some(known_at);
        let place = Place { chunk: self.chunks.next(), offset };
        self.collected[usize::from(stream)].push(entity, &record.body, late, place);
        true
    }

    /// The hash in the middle of the entities gathered: a range of hashes that ends there has about half
    /// of them. `None` where it would have all or nothing.
    #[must_use]
    pub fn middle(&self) -> Option<u64> {
        let mut hashes: Vec<u64> = self.entities.iter().map(|(hash, _)| hash).collect();
        hashes.sort_unstable();
        let middle = *hashes.get((hashes.len() / 2).checked_sub(1)?)?;
        (hashes.last() > Some(&middle)).then_some(middle)
    }

    /// Facts looked at so far.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Memory held for what was gathered, in bytes, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let columns: usize = self.collected.iter().map(Collected::heap_bytes).sum();
        self.bytes + columns + self.entities.heap_bytes()
    }

    /// Brings the facts of each entity together.
    #[must_use]
    pub fn finish(self) -> GatheredSlot<B> {
        let (entities, chunks, cuts) = (self.entities, self.chunks, self.cuts);
        let streams = self.plan.streams.iter().zip(self.collected);
        let as_known = self.known == AsKnown::AtEvent;
        let streams = streams
            .map(|(stream, facts)| {
                facts.finish(entities.len(), &chunks, (stream.id, &cuts), as_known)
            })
            .collect();
        GatheredSlot { plan: self.plan, entities, streams, chunks, known: self.known, cuts }
    }
}

/// The facts of a slot, by entity.
#[derive(Debug)]
pub struct GatheredSlot<B> {
    pub(super) plan: Arc<KindPlan>,
    entities: Entities,
    /// By stream of the kind.
    streams: Vec<Live>,
    chunks: Chunks<B>,
    pub(super) known: AsKnown,
    pub(super) cuts: Cuts,
}

/// The facts of one entity.
pub struct EntityFacts<'a, B> {
    slot: &'a GatheredSlot<B>,
    number: u32,
}

impl<B: AsRef<[u8]>> GatheredSlot<B> {
    /// How many entities there are; their numbers are below it.
    #[must_use]
    pub fn entities(&self) -> u32 {
        self.entities.len() as u32
    }

    /// The key of an entity.
    ///
    /// # Panics
    /// When there is no entity of this number.
    #[must_use]
    pub fn key(&self, number: u32) -> &EntityKey {
        self.entities.get(number).1
    }

    /// The hash and the key of an entity, which is what [`GatheredSlot::in_order`] goes by.
    ///
    /// # Panics
    /// When there is no entity of this number.
    #[must_use]
    pub fn place(&self, number: u32) -> (u64, &EntityKey) {
        self.entities.get(number)
    }

    /// Before which facts may be missing in the chunks taken in: rows are to be held against these
    /// ([`KindPlan::too_early`]).
    #[must_use]
    pub fn boundaries(&self) -> &Boundaries {
        &self.cuts.boundaries
    }

    /// The numbers of all entities, by hash and then key: the same order whatever log they came from.
    #[must_use]
    pub fn in_order(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.entities()).collect();
        numbers.sort_unstable_by_key(|number| self.entities.get(*number));
        numbers
    }

    /// Whether what these features of a view read was decoded.
    pub(super) fn has_read(&self, view: &ViewPlan, features: &[usize]) -> bool {
        let features = features.iter().map(|feature| (view, &view.features[*feature]));
        read_all(&self.plan, features, self.streams.iter().map(|stream| &stream.fields))
    }

    /// The facts of an entity.
    ///
    /// # Panics
    /// When it is used and there is no entity of this number.
    #[must_use]
    pub fn entity(&self, number: u32) -> EntityFacts<'_, B> {
        EntityFacts { slot: self, number }
    }
}

impl<'a, B: AsRef<[u8]>> EntityFacts<'a, B> {
    /// The live facts of a stream of the kind.
    pub(super) fn live(&self, stream: usize) -> LiveFacts<'a> {
        self.slot.streams[stream].facts(self.number)
    }

    /// All facts, with the streams of the kind: each stream's in the order of the log.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, Place)> {
        let streams = self.slot.streams.iter().enumerate();
        streams.flat_map(|(stream, facts)| {
            facts.places(self.number).iter().map(move |place| (stream, *place))
        })
    }

    /// The fact at a place.
    #[inline]
    pub(super) fn fact(&self, place: Place) -> FactView<'a> {
        self.slot.chunks.fact(place)
    }

    /// When the fact at a place became known.
    pub(super) fn known_at(&self, place: Place) -> KnownAt {
        self.slot.chunks.known_at(place)
    }

    /// What base chunks forgot.
    pub(super) fn cuts(&self) -> &'a Cuts {
        &self.slot.cuts
    }

    /// True when facts of one id stand before a base chunk and after it.
    pub(super) fn has_cut_id(&self) -> bool {
        if self.cuts().is_empty() {
            return false;
        }
        let mut first: HashMap<(usize, &[u8]), u32> = HashMap::new();
        self.places().any(|(stream, place)| {
            let first = *first.entry((stream, self.fact(place).id)).or_insert(place.chunk);
            self.cuts().is_between(first, place.chunk)
        })
    }

    /// The state of all these facts, or of those for which `counts` is true.
    pub(super) fn state(&self, counts: impl Fn(Place) -> bool) -> EntityState {
        let mut state = EntityState::new(self.plan().clone());
        let mut places: Vec<(usize, Place)> = self.places().collect();
        if !self.cuts().is_empty() {
            // A base chunk comes between facts of all streams.
            places.sort_by_key(|(_, place)| place.chunk);
        }
        let mut cut = 0;
        for (stream, place) in places {
            while let Some(boundaries) = self.cuts().before(place.chunk, &mut cut) {
                state.forget(boundaries);
            }
            if counts(place) {
                state.apply(stream, &self.fact(place), u64::MAX);
            }
        }
        state
    }

    pub(super) fn plan(&self) -> &'a Arc<KindPlan> {
        &self.slot.plan
    }

    pub(super) fn known(&self) -> AsKnown {
        self.slot.known
    }
}
