//! Taking forgotten facts out of the log: whose facts a base chunk forgot, found by looking through the
//! chunks before it twice, and what is left of a chunk without them.
//!
//! Entities are taken in the order of their hashes, as many in one round as memory allows; the next round
//! goes on behind them. Between finding and taking out, stored heads are to be put without these facts:
//! once they are gone from the log nobody can tell who had some.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use millrace_types::entity::entity_hash;
use millrace_types::fact::RecordView;
use millrace_types::{Boundaries, Chunk, ChunkHeader, DecodeError, Entity, EntityKey, Op, Verdict};
use xxhash_rust::xxh3::Xxh3;

use crate::plan::Plan;
use crate::rewrite::rewritten;

/// What an entity weighs besides its ids.
const ENTITY_WEIGHT: usize = 16;

/// An entity with facts before a boundary.
#[derive(Debug)]
struct Found {
    entity: Entity,
    /// Exact hashes of stream and id, of streams in which ids may have several facts: those that are
    /// forgotten.
    ids: HashSet<u64>,
    /// It has forgotten facts of other streams.
    others: bool,
}

/// One round over the chunks before a base chunk.
#[derive(Debug)]
pub struct RetentionScrub {
    plan: Arc<Plan>,
    boundaries: Arc<Boundaries>,
    /// The round looks at entities with hashes from here on …
    from: u64,
    /// … and before this one, if any are left for the next round.
    end: Option<u64>,
    max: usize,
    weight: usize,
    found: BTreeMap<u64, Vec<Found>>,
    /// Facts taken out.
    facts: u64,
}

impl RetentionScrub {
    /// A round over entities with hashes from `from` on, until they have about `max` ids with facts before
    /// the boundaries; one entity is taken whatever it has.
    #[must_use]
    pub fn new(plan: Arc<Plan>, boundaries: Arc<Boundaries>, from: u64, max: usize) -> Self {
        let found = BTreeMap::new();
        Self { plan, boundaries, from, end: None, max, weight: 0, found, facts: 0 }
    }

    /// First pass, over each chunk before the base chunk: finds ids with ASSERTs before the boundary.
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn find<B: AsRef<[u8]>>(&mut self, chunk: &Chunk<B>) -> Result<(), DecodeError> {
        if !self.may_forget(&chunk.header) {
            return Ok(());
        }
        for record in chunk.records() {
            let record = record?;
            if record.body.op == Op::Retract || !self.is_before(&record) {
                continue;
            }
            let Some(hash) = self.hash_here(&record) else { continue };
            let id = self.remembers(&record).then(|| id_hash(&record));
            let same = self.found.entry(hash).or_default();
            let is = |found: &&mut Found| is_of(&found.entity, &record);
            if same.iter_mut().find(is).is_none() {
                let key = EntityKey::from_bytes(record.key)?;
                let entity = Entity { kind: record.kind, key };
                same.push(Found { entity, ids: HashSet::new(), others: false });
                self.weight += ENTITY_WEIGHT;
            }
            if let Some(found) = same.iter_mut().find(is) {
                match id {
                    Some(id) => self.weight += usize::from(found.ids.insert(id)),
                    None => found.others = true,
                }
            }
            self.shed();
        }
        Ok(())
    }

    /// Leaves the entities with the greatest hashes to the next round.
    fn shed(&mut self) {
        while self.weight > self.max && self.found.len() > 1 {
            let Some((hash, gone)) = self.found.pop_last() else { return };
            self.weight -= gone.iter().map(|f| f.ids.len() + ENTITY_WEIGHT).sum::<usize>();
            self.end = Some(hash);
        }
    }

    /// Second pass, over the same chunks: ids with ASSERTs from the boundary on are kept.
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn keep<B: AsRef<[u8]>>(&mut self, chunk: &Chunk<B>) -> Result<(), DecodeError> {
        if self.found.is_empty() {
            return Ok(());
        }
        for record in chunk.records() {
            let record = record?;
            if record.body.op == Op::Retract || self.is_before(&record) {
                continue;
            }
            if let Some(found) = self.found_of(&record) {
                found.ids.remove(&id_hash(&record));
            }
        }
        Ok(())
    }

    /// The entities that have facts to be taken out. Their stored heads may have them too.
    #[must_use]
    pub fn entities(&self) -> Vec<Entity> {
        let goes = |found: &&Found| found.others || !found.ids.is_empty();
        self.found.values().flatten().filter(goes).map(|found| found.entity.clone()).collect()
    }

    /// Third pass: what is left of a chunk; `None` when nothing of it goes.
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn rest<B: AsRef<[u8]>>(
        &mut self,
        chunk: &Chunk<B>,
    ) -> Result<Option<Vec<u8>>, DecodeError> {
        if !self.may_forget(&chunk.header) {
            return Ok(None);
        }
        let mut kept: Vec<(RecordView<'_>, Verdict)> = Vec::new();
        for (record, verdict) in chunk.records().zip(chunk.header.all_verdicts()) {
            let record = record?;
            if !self.goes(&record) {
                kept.push((record, verdict));
            }
        }
        let gone = u64::from(chunk.header.facts) - kept.len() as u64;
        if gone == 0 {
            return Ok(None);
        }
        self.facts += gone;
        let mut retention = chunk.header.retention.clone().unwrap_or_default();
        retention.scrubbed.raise_all(&self.boundaries);
        let header = ChunkHeader { retention: Some(retention), ..chunk.header.clone() };
        Ok(Some(rewritten(&self.plan, header, &kept)))
    }

    /// The hash from which on the next round is to look; `None` after the last one.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.end
    }

    /// Facts taken out so far.
    #[must_use]
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// Whether a chunk may have facts before a boundary.
    fn may_forget(&self, header: &ChunkHeader) -> bool {
        let last = self.boundaries.iter().map(|(_, at)| at).max();
        header.at_range.zip(last).is_some_and(|((least, _), last)| least < last)
    }

    fn is_before(&self, record: &RecordView<'_>) -> bool {
        record.body.at < self.boundaries.of(record.stream)
    }

    fn goes(&mut self, record: &RecordView<'_>) -> bool {
        if record.body.op == Op::Retract || !self.is_before(record) {
            return false;
        }
        let remembers = self.remembers(record);
        let Some(found) = self.found_of(record) else { return false };
        if remembers { found.ids.contains(&id_hash(record)) } else { found.others }
    }

    /// Whether an id of the fact's stream can have several facts; otherwise each stands for itself.
    fn remembers(&self, record: &RecordView<'_>) -> bool {
        let kind = self.plan.kind(record.kind);
        let stream = kind.and_then(|kind| Some(&kind.streams[kind.stream_index(record.stream)?]));
        stream.is_none_or(|stream| stream.remembers)
    }

    fn found_of(&mut self, record: &RecordView<'_>) -> Option<&mut Found> {
        let hash = self.hash_here(record)?;
        self.found.get_mut(&hash)?.iter_mut().find(|found| is_of(&found.entity, record))
    }

    /// The hash of the fact's entity, if the round looks at it.
    fn hash_here(&self, record: &RecordView<'_>) -> Option<u64> {
        let hash = entity_hash(&self.plan.kind(record.kind)?.kind_name, record.key);
        (hash >= self.from && self.end.is_none_or(|end| hash < end)).then_some(hash)
    }
}

fn is_of(entity: &Entity, record: &RecordView<'_>) -> bool {
    entity.kind == record.kind && entity.key.as_bytes() == record.key
}

fn id_hash(record: &RecordView<'_>) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&record.stream.0.to_le_bytes());
    hasher.update(record.body.id);
    hasher.digest()
}

#[cfg(test)]
mod tests;
