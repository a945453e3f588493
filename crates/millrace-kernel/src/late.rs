//! The LATE facts in a slot's log, and which of them took effect since (design §3).
//!
//! Two passes over the log: the first finds a page of LATE facts, reading only the facts of chunks
//! whose header has any; the second looks for the same facts with a verdict that takes effect, which
//! is what a replay leaves in the log.

use std::collections::HashMap;

use millrace_types::entity::entity_hash;
use millrace_types::{
    Chunk, DecodeError, Entity, EntityKey, FactBody, KnownAt, Micros, Position, StreamId, Verdict,
};

use crate::plan::Plan;

/// Where a fact stands in a slot's log: the chunk, and its index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LatePlace {
    /// The chunk.
    pub position: Position,
    /// The fact's index in the chunk, from 0; the greatest number stands for the chunk's end.
    pub index: u32,
}

/// A fact that was judged LATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateFact {
    /// Where it stands.
    pub place: LatePlace,
    /// Since when it was known: what an import stated, else when its chunk became known.
    pub known_at: KnownAt,
    /// The entity it is routed to.
    pub entity: Entity,
    /// The fact.
    pub body: FactBody,
    /// The first chunk in which the same fact takes effect, that of its replay as a rule, and since when
    /// that copy counts.
    pub in_effect: Option<(Position, KnownAt)>,
}

impl LateFact {
    /// True when it is LATE for good: it is not in effect, and lies before the instant from which on the
    /// slot keeps facts of its stream, so that a replay leaves it as it is.
    #[must_use]
    pub fn is_for_good(&self, boundary: Micros) -> bool {
        self.in_effect.is_none() && self.body.at < boundary
    }
}

/// A page of the LATE facts of one stream in one slot.
#[derive(Debug)]
pub struct LateScan {
    stream: StreamId,
    after: Option<LatePlace>,
    max: usize,
    bytes_max: usize,
    bytes: usize,
    found: Vec<LateFact>,
    /// The found ones by the hash of their entity.
    by_entity: HashMap<u64, Vec<usize>>,
    covered: Position,
    more: bool,
    facts: u64,
}

impl LateScan {
    /// Looks for up to `max` LATE facts of this stream, of about `bytes_max` bytes together and at
    /// least one, after a place, or from the beginning without one.
    #[must_use]
    pub fn new(stream: StreamId, after: Option<LatePlace>, max: usize, bytes_max: usize) -> Self {
        let covered = match after {
            None => Position::START,
            Some(LatePlace { position, index: u32::MAX }) => position,
            // The chunk may hold more behind that place.
            Some(LatePlace { position: Position { epoch, sequence }, .. }) => {
                Position { epoch, sequence: sequence.saturating_sub(1) }
            }
        };
        Self {
            stream,
            after,
            max: max.max(1),
            bytes_max,
            bytes: 0,
            found: Vec::new(),
            by_entity: HashMap::new(),
            covered,
            more: false,
            facts: 0,
        }
    }

    /// First pass: takes the next chunk in. To be called until [`LateScan::is_full`].
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn chunk<B: AsRef<[u8]>>(
        &mut self,
        plan: &Plan,
        position: Position,
        chunk: &Chunk<B>,
    ) -> Result<(), DecodeError> {
        self.covered = position;
        if !chunk.header.verdicts.iter().any(|(_, verdict)| *verdict == Verdict::Late) {
            return Ok(());
        }
        for (index, (record, verdict)) in
            (0..).zip(chunk.records().zip(chunk.header.all_verdicts()))
        {
            let record = record?;
            self.facts += 1;
            let place = LatePlace { position, index };
            let wanted = verdict == Verdict::Late && record.stream == self.stream;
            if !wanted || self.after.is_some_and(|after| place <= after) {
                continue;
            }
            if self.found.len() == self.max || self.bytes > self.bytes_max {
                self.more = true;
                return Ok(());
            }
            self.bytes += record.key.len() + record.body.bytes.len();
            let name = plan.kind(record.kind).map_or("", |k| k.kind_name.as_str());
            let same = self.by_entity.entry(entity_hash(name, record.key)).or_default();
            same.push(self.found.len());
            let entity = Entity { kind: record.kind, key: EntityKey::from_bytes(record.key)? };
            let known_at = record.body.known_in(chunk.header.known_at);
            let body = record.body.to_body();
            self.found.push(LateFact { place, known_at, entity, body, in_effect: None });
        }
        Ok(())
    }

    /// Second pass: takes a chunk in, from the beginning of the log on, in order.
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn settle<B: AsRef<[u8]>>(
        &mut self,
        plan: &Plan,
        position: Position,
        chunk: &Chunk<B>,
    ) -> Result<(), DecodeError> {
        if !self.by_entity.keys().any(|hash| chunk.header.may_contain(*hash)) {
            return Ok(());
        }
        let mut buffer = Vec::new();
        for (record, verdict) in chunk.records().zip(chunk.header.all_verdicts()) {
            let record = record?;
            self.facts += 1;
            if record.stream != self.stream
                || matches!(verdict, Verdict::Late | Verdict::Rejected(_))
            {
                continue;
            }
            let name = plan.kind(record.kind).map_or("", |k| k.kind_name.as_str());
            let hash = entity_hash(name, record.key);
            for index in self.by_entity.get(&hash).into_iter().flatten() {
                let late = &mut self.found[*index];
                let same = late.entity.kind == record.kind
                    && late.entity.key.as_bytes() == record.key
                    && *late.body.id == *record.body.id
                    && late.body.view(&mut buffer).same_payload(&record.body);
                if same && late.in_effect.is_none() {
                    late.in_effect = Some((position, record.body.known_in(chunk.header.known_at)));
                }
            }
        }
        Ok(())
    }

    /// True when the page is full and at least one more LATE fact follows it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.more
    }

    /// The last chunk the first pass took in.
    #[must_use]
    pub fn covered(&self) -> Position {
        self.covered
    }

    /// Facts looked at in both passes, for budgets.
    #[must_use]
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// The size of the facts found, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when the page holds none, so that no second pass is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The page, in the order of the log.
    #[must_use]
    pub fn finish(self) -> Vec<LateFact> {
        self.found
    }
}

/// Those that took no effect yet, each once however often it came.
#[must_use]
pub fn pending(found: &[LateFact]) -> Vec<&LateFact> {
    let mut seen = std::collections::HashSet::new();
    found
        .iter()
        .filter(|f| f.in_effect.is_none())
        .filter(|f| seen.insert((&f.entity, &f.body)))
        .collect()
}
