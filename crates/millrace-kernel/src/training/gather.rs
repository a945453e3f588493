//! The facts of a slot's entities, as references into the chunks they stand in.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use hashbrown::HashTable;
use millrace_types::codec::Reader;
use millrace_types::entity::entity_hash;
use millrace_types::fact::RecordView;
use millrace_types::{
    Boundaries, Chunk, DecodeError, EntityKey, FactView, KindId, KnownAt, StreamId, Verdict,
};

use super::AsKnown;
use crate::entity::EntityState;
use crate::plan::{KindPlan, Plan};
use crate::retention::Cuts;

/// Entities up to which the filters of chunks are asked whether they hold one of them.
const ASK_FILTERS_MAX: usize = 64;

/// A fact, by where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct FactRef {
    pub(super) chunk: u32,
    offset: u32,
    entity: u32,
    /// Its index among [`KindPlan::streams`].
    pub(super) stream: u16,
    /// Whether it was known by its own instant.
    pub(super) in_time: bool,
}

/// A chunk that holds facts that are referred to.
#[derive(Debug)]
struct Kept<B> {
    bytes: KeptBytes<B>,
    known_at: KnownAt,
}

/// The whole chunk, or, where most of it is not wanted, what is.
#[derive(Debug)]
enum KeptBytes<B> {
    Whole(B),
    Wanted(Vec<u8>),
}

impl<B: AsRef<[u8]>> KeptBytes<B> {
    #[inline]
    fn get(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes.as_ref(),
            Self::Wanted(bytes) => bytes,
        }
    }
}

/// Gathers the facts of entities of one kind from the log of a slot.
#[derive(Debug)]
pub struct SlotFacts<B> {
    plan: Arc<KindPlan>,
    kind: KindId,
    /// By stream of the catalog: its index among those of the kind, if it is wanted.
    streams: Vec<Option<u16>>,
    known: AsKnown,
    include_late: bool,
    /// Entities by hash; all that are met are taken in where none were named.
    table: HashTable<u32>,
    entities: Vec<(u64, EntityKey)>,
    takes_all: bool,
    /// Of those that are met, only entities with such a hash.
    within: RangeInclusive<u64>,
    chunks: Vec<Kept<B>>,
    facts: Vec<FactRef>,
    looked_at: u64,
    bytes: usize,
    cuts: Cuts,
}

impl<B: AsRef<[u8]>> SlotFacts<B> {
    /// Gathers facts of these streams for entities of a kind; `None` when the plan lacks the kind.
    /// Facts judged LATE count where `include_late` says so.
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
        Some(Self {
            plan,
            kind,
            streams: wanted,
            known,
            include_late,
            table: HashTable::new(),
            entities: Vec::new(),
            takes_all: true,
            within: 0..=u64::MAX,
            chunks: Vec::new(),
            facts: Vec::new(),
            looked_at: 0,
            bytes: 0,
            cuts: Cuts::default(),
        })
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
        self.name_hashed(entity_hash(&self.plan.kind_name, key), key)
    }

    /// The same, for who knows the entity's hash.
    pub fn name_hashed(&mut self, hash: u64, key: &[u8]) -> u32 {
        self.takes_all = false;
        self.find(hash, key).unwrap_or_else(|| self.insert(hash, key))
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let same = |number: &u32| {
            let (have, name) = &self.entities[*number as usize];
            *have == hash && name.as_bytes() == key
        };
        self.table.find(hash, same).copied()
    }

    fn insert(&mut self, hash: u64, key: &[u8]) -> u32 {
        let number = self.entities.len() as u32;
        self.entities.push((hash, EntityKey::from_canonical(key)));
        let entities = &self.entities;
        self.table.insert_unique(hash, number, |n| entities[*n as usize].0);
        number
    }

    /// Takes the next chunk in, and keeps it if it holds facts that are wanted.
    ///
    /// # Errors
    /// [`DecodeError`] when it does not decode.
    pub fn chunk(&mut self, bytes: B) -> Result<(), DecodeError> {
        let all = bytes.as_ref();
        let chunk = Chunk::decode(all)?;
        let header = &chunk.header;
        self.cuts.chunk(header, self.chunks.len() as u32);
        let holds = |(hash, _): &(u64, EntityKey)| header.may_contain(*hash);
        let few = !self.takes_all && self.entities.len() <= ASK_FILTERS_MAX;
        if few && !self.entities.iter().any(holds) {
            return Ok(());
        }
        let before = self.facts.len();
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
        if self.facts.len() > before {
            let known_at = header.known_at;
            // Where entities take turns, each turn would keep all chunks otherwise.
            let bytes = if wanted < all.len() / 2 {
                KeptBytes::Wanted(copied(all, wanted, &mut self.facts[before..])?)
            } else {
                KeptBytes::Whole(bytes)
            };
            self.bytes += bytes.get().len();
            self.chunks.push(Kept { bytes, known_at });
        }
        Ok(())
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
        let hash = entity_hash(&self.plan.kind_name, record.key);
        let entity = match self.find(hash, record.key) {
            Some(entity) => entity,
            None if self.takes_all && self.within.contains(&hash) => self.insert(hash, record.key),
            None => return false,
        };
        let in_time = known_at.0 <= record.body.at.0;
        let chunk = self.chunks.len() as u32;
        self.facts.push(FactRef { chunk, offset, entity, stream, in_time });
        true
    }

    /// The hash in the middle of the entities gathered: a range of hashes that ends there has about half
    /// of them. `None` where it would have all or nothing.
    #[must_use]
    pub fn middle(&self) -> Option<u64> {
        let mut hashes: Vec<u64> = self.entities.iter().map(|(hash, _)| *hash).collect();
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
        self.bytes
            + self.facts.len() * size_of::<FactRef>()
            + self.entities.len() * (size_of::<(u64, EntityKey)>() + 16)
    }

    /// Brings the facts of each entity together.
    #[must_use]
    pub fn finish(self) -> GatheredSlot<B> {
        let mut starts = vec![0u32; self.entities.len() + 1];
        for fact in &self.facts {
            starts[fact.entity as usize + 1] += 1;
        }
        for entity in 1..starts.len() {
            starts[entity] += starts[entity - 1];
        }
        let mut next = starts.clone();
        let mut facts = self.facts.clone();
        for fact in self.facts {
            let place = &mut next[fact.entity as usize];
            facts[*place as usize] = fact;
            *place += 1;
        }
        let entities = self.entities;
        GatheredSlot {
            plan: self.plan,
            entities,
            starts,
            facts,
            chunks: self.chunks,
            known: self.known,
            cuts: self.cuts,
        }
    }
}

/// The facts that are referred to, copied out of their chunk; they are referred to there from now on.
fn copied(chunk: &[u8], bytes: usize, facts: &mut [FactRef]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(bytes);
    for place in facts {
        let fact = FactView::read(&mut Reader::new(&chunk[place.offset as usize..]))?;
        place.offset = out.len() as u32;
        out.extend_from_slice(fact.bytes);
    }
    Ok(out)
}

/// The facts of a slot, by entity.
#[derive(Debug)]
pub struct GatheredSlot<B> {
    pub(super) plan: Arc<KindPlan>,
    entities: Vec<(u64, EntityKey)>,
    /// Where each entity's facts begin, and the end.
    starts: Vec<u32>,
    facts: Vec<FactRef>,
    chunks: Vec<Kept<B>>,
    pub(super) known: AsKnown,
    pub(super) cuts: Cuts,
}

/// The facts of one entity, in the order of the log.
pub struct EntityFacts<'a, B> {
    slot: &'a GatheredSlot<B>,
    pub(super) facts: &'a [FactRef],
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
        &self.entities[number as usize].1
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
        let mut numbers: Vec<u32> = (0..self.entities.len() as u32).collect();
        numbers.sort_unstable_by_key(|number| &self.entities[*number as usize]);
        numbers
    }

    /// The facts of an entity.
    ///
    /// # Panics
    /// When there is no entity of this number.
    #[must_use]
    pub fn entity(&self, number: u32) -> EntityFacts<'_, B> {
        let number = number as usize;
        let (start, end) = (self.starts[number] as usize, self.starts[number + 1] as usize);
        EntityFacts { slot: self, facts: &self.facts[start..end] }
    }
}

impl<'a, B: AsRef<[u8]>> EntityFacts<'a, B> {
    /// The fact that is referred to.
    #[inline]
    pub(super) fn fact(&self, place: &FactRef) -> FactView<'a> {
        let bytes = self.slot.chunks[place.chunk as usize].bytes.get();
        FactView::read(&mut Reader::new(&bytes[place.offset as usize..]))
            .expect("only facts that decoded are referred to")
    }

    /// When it became known.
    pub(super) fn known_at(&self, place: &FactRef, fact: &FactView<'_>) -> KnownAt {
        fact.known_in(self.slot.chunks[place.chunk as usize].known_at)
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
        let mut first: HashMap<(u16, &[u8]), u32> = HashMap::new();
        self.facts.iter().any(|place| {
            let key = (place.stream, self.fact(place).id);
            let first = *first.entry(key).or_insert(place.chunk);
            self.cuts().is_between(first, place.chunk)
        })
    }

    /// The state of all these facts, or of those for which `counts` is true.
    pub(super) fn state(&self, counts: impl Fn(&FactRef, &FactView<'_>) -> bool) -> EntityState {
        let mut state = EntityState::new(self.plan().clone());
        let mut cut = 0;
        for place in self.facts {
            while let Some(boundaries) = self.cuts().before(place.chunk, &mut cut) {
                state.forget(boundaries);
            }
            let fact = self.fact(place);
            if counts(place, &fact) {
                state.apply(usize::from(place.stream), &fact, u64::MAX);
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
