//! Erasing entities (design §2): which facts name one, what a slot's log has of it, and what is left of
//! a chunk without it.
//!
//! A fact names the entity that it is routed to and, where its stream has several keys, those of its
//! other keys: they stand in its row.

use std::collections::BTreeSet;
use std::hash::RandomState;
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use millrace_catalog::KeyMapping;
use millrace_types::entity::encode_key;
use millrace_types::fact::RecordView;
use millrace_types::{
    Chunk, ChunkHeader, DecodeError, Entity, EntityKey, ErasedEntity, ErasureNotes, KeyPart,
    KindId, Position, RowView, ValueRef, Verdict,
};

use crate::plan::Plan;
use crate::rewrite::rewritten;

/// The entities that are erased, by the number of their erasure.
#[derive(Debug, Clone, Default)]
pub struct Erasures {
    numbers: HashMap<Entity, u64, RandomState>,
    ordered: Vec<Entity>,
}

impl Erasures {
    /// The same with further ones, whose numbers follow. Others are left out: a list is read in order.
    #[must_use]
    pub fn with(&self, further: impl IntoIterator<Item = (u64, Entity)>) -> Self {
        let mut all = self.clone();
        for (number, entity) in further {
            if number == all.last() + 1 {
                // Who asked twice at the same time made two of them: the first one counts.
                all.numbers.entry(entity.clone()).or_insert(number);
                all.ordered.push(entity);
            }
        }
        all
    }

    /// The number of the last one; 0 before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.ordered.len() as u64
    }

    /// The number of an entity's erasure.
    #[must_use]
    pub fn number_of(&self, entity: &Entity) -> Option<u64> {
        self.numbers.get(entity).copied()
    }

    /// Those after a number, ascending.
    pub fn after(&self, number: u64) -> impl Iterator<Item = (u64, &Entity)> {
        let from = usize::try_from(number).unwrap_or(usize::MAX).min(self.ordered.len());
        (number + 1..).zip(&self.ordered[from..])
    }

    /// The first erasure up to `up_to` of an entity that a fact names.
    #[must_use]
    pub fn named_by(&self, plan: &Plan, record: &RecordView<'_>, up_to: u64) -> Option<u64> {
        let mut first: Option<u64> = None;
        each_named(plan, record, |named| {
            let number = self.numbers.get(&named).copied().filter(|n| *n <= up_to);
            first = first.into_iter().chain(number).min();
        });
        first
    }
}

/// An entity that a fact names.
#[derive(Debug, Clone, Copy, Hash)]
struct Named<'a> {
    kind: KindId,
    key: &'a [u8],
}

impl Equivalent<Entity> for Named<'_> {
    fn equivalent(&self, entity: &Entity) -> bool {
        self.kind == entity.kind && self.key == entity.key.as_bytes()
    }
}

/// Calls `each` with every entity that a fact names, the one it is routed to first.
fn each_named(plan: &Plan, record: &RecordView<'_>, mut each: impl FnMut(Named<'_>)) {
    each(Named { kind: record.kind, key: record.key });
    let keys = plan.catalog.stream_by_id(record.stream).map_or(&[][..], |s| &s.keys);
    let mut key = Vec::new();
    for mapping in keys.iter().filter(|k| k.kind != record.kind) {
        key.clear();
        if other(mapping, record.body.row, &mut key).is_some() {
            each(Named { kind: mapping.kind, key: &key });
        }
    }
}

/// Writes the other key of a row; `None` where a part of it is missing.
fn other(mapping: &KeyMapping, row: RowView<'_>, key: &mut Vec<u8>) -> Option<()> {
    for field in &mapping.fields {
        let part = match row.get(*field) {
            ValueRef::Int64(v) => KeyPart::Int64(v),
            ValueRef::String(v) => KeyPart::String(v),
            ValueRef::Null
            | ValueRef::Bool(_)
            | ValueRef::Double(_)
            | ValueRef::Bytes(_)
            | ValueRef::Timestamp(_) => return None,
        };
        // The canonical form of a key is that of its parts, one after the other.
        encode_key(key, &[part]).ok()?;
    }
    Some(())
}

/// Looks through a slot's log for the facts that erasures take away.
#[derive(Debug)]
pub struct ErasureScan {
    plan: Arc<Plan>,
    /// The place in `erased` of each entity.
    places: HashMap<Entity, usize, RandomState>,
    erased: Vec<ErasedEntity>,
    touched: BTreeSet<Entity>,
    covered: Position,
}

impl ErasureScan {
    /// A scan for these erasures, before the first chunk.
    #[must_use]
    pub fn new<'a>(plan: Arc<Plan>, erasures: impl IntoIterator<Item = (u64, &'a Entity)>) -> Self {
        let erased = |(number, entity): (u64, &Entity)| ErasedEntity {
            number,
            entity: entity.clone(),
            is_here: false,
            facts: 0,
            chunks: 0,
        };
        let erased: Vec<_> = erasures.into_iter().map(erased).collect();
        let mut places = HashMap::default();
        for (place, one) in erased.iter().enumerate() {
            places.entry(one.entity.clone()).or_insert(place);
        }
        Self { plan, places, erased, touched: BTreeSet::new(), covered: Position::START }
    }

    /// Takes a chunk in.
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn chunk<B: AsRef<[u8]>>(
        &mut self,
        position: Position,
        chunk: &Chunk<B>,
    ) -> Result<(), DecodeError> {
        self.covered = position;
        let mut found: BTreeSet<usize> = BTreeSet::new();
        for record in chunk.records() {
            let record = record?;
            let mut is_own = true;
            each_named(&self.plan, &record, |named| {
                let is_own = std::mem::take(&mut is_own);
                let Some(place) = self.places.get(&named).copied() else { return };
                self.erased[place].facts += 1;
                self.erased[place].is_here |= is_own;
                found.insert(place);
                if !is_own {
                    let key = EntityKey::from_canonical(record.key);
                    self.touched.insert(Entity { kind: record.kind, key });
                }
            });
        }
        for place in found {
            self.erased[place].chunks += 1;
        }
        Ok(())
    }

    /// The last chunk taken in.
    #[must_use]
    pub fn covered(&self) -> Position {
        self.covered
    }

    /// Takes it that up to this position there are no further facts.
    pub fn pass(&mut self, position: Position) {
        self.covered = position;
    }

    /// What was found of each erasure.
    #[must_use]
    pub fn erased(&self) -> &[ErasedEntity] {
        &self.erased
    }

    /// Takes out some of the other entities that have facts to be taken away, until their keys take
    /// about so many bytes. Empty when none is left.
    pub fn take_touched(&mut self, bytes: usize) -> Vec<Entity> {
        let mut taken = Vec::new();
        let mut sum = 0;
        while sum < bytes
            && let Some(entity) = self.touched.pop_first()
        {
            if self.places.contains_key(&entity) {
                continue; // erased itself
            }
            sum += entity.key.as_bytes().len() + 4;
            taken.push(entity);
        }
        taken
    }
}

/// Entities that an entry erases, to look for in facts.
#[derive(Debug)]
pub(crate) struct ErasedSet(HashMap<Entity, (), RandomState>);

impl ErasedSet {
    pub(crate) fn new<'a>(erased: impl IntoIterator<Item = &'a ErasedEntity>) -> Self {
        Self(erased.into_iter().map(|e| (e.entity.clone(), ())).collect())
    }

    /// True when a fact names one of them.
    pub(crate) fn is_named_by(&self, plan: &Plan, record: &RecordView<'_>) -> bool {
        let mut is_named = false;
        each_named(plan, record, |named| is_named |= self.0.contains_key(&named));
        is_named
    }
}

/// What is left of a chunk without the facts that name an entity erased up to `up_to`; `None` when it
/// has nothing of them.
///
/// # Errors
/// [`DecodeError`] when the chunk's facts do not decode.
pub fn scrubbed<B: AsRef<[u8]>>(
    plan: &Plan,
    erasures: &Erasures,
    up_to: u64,
    chunk: &Chunk<B>,
) -> Result<Option<Vec<u8>>, DecodeError> {
    let is_erased = |entity: &Entity| erasures.number_of(entity).is_some_and(|n| n <= up_to);
    let mut kept: Vec<(RecordView<'_>, Verdict)> = Vec::new();
    for (record, verdict) in chunk.records().zip(chunk.header.all_verdicts()) {
        let record = record?;
        if erasures.named_by(plan, &record, up_to).is_none() {
            kept.push((record, verdict));
        }
    }
    let header = &chunk.header;
    let names = header.dirtied.iter().chain(header.rebuilt.iter().map(|r| &r.entity));
    if kept.len() == header.facts as usize && !names.into_iter().any(is_erased) {
        return Ok(None);
    }
    let header = ChunkHeader {
        dirtied: header.dirtied.iter().filter(|e| !is_erased(e)).cloned().collect(),
        rebuilt: header.rebuilt.iter().filter(|r| !is_erased(&r.entity)).cloned().collect(),
        erasures: Some(ErasureNotes {
            is_rewritten: true,
            ..header.erasures.clone().unwrap_or_default()
        }),
        ..header.clone()
    };
    Ok(Some(rewritten(plan, header, &kept)))
}
