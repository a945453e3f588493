//! Retention in a slot: base chunks, from which on facts before a boundary are forgotten and LATE for
//! good, and how far earlier chunks were rewritten without them.
//!
//! The boundary of a stream follows its watermark in the slot, in steps, and never goes back: a version
//! that keeps facts longer, or for ever, has what is still there.

use std::sync::Arc;

use millrace_catalog::Stream;
use millrace_types::chunk::encode_chunk;
use millrace_types::fact::RecordView;
use millrace_types::{
    Boundaries, ChunkHeader, Entity, KnownAt, Micros, Op, Position, Retained, RetentionNotes,
};

use super::resident::{Renewal, Slab};
use super::{Draft, SlotCore};

/// A retention has so many steps. A boundary stays a step behind the retention, so that a reader whose
/// clock is behind the watermark has its windows too.
const STEPS: i64 = 16;

/// The retention of a slot's streams.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    boundaries: Arc<Boundaries>,
    /// The last base chunk.
    base: Option<Position>,
    scrubbed: Boundaries,
    /// Base chunks that a mark may still lie before: each with the boundaries and the base chunk before
    /// it.
    before: Vec<(Position, Arc<Boundaries>, Option<Position>)>,
}

impl SlotCore {
    /// Facts before these are forgotten.
    #[must_use]
    pub fn boundaries(&self) -> &Arc<Boundaries> {
        &self.forgetting.boundaries
    }

    /// The boundaries of a base chunk that is due by the confirmed watermarks, if one is.
    #[must_use]
    pub fn base_due(&self) -> Option<Boundaries> {
        let mut boundaries = Boundaries::clone(self.boundaries());
        let mut moves = false;
        for stream in &self.plan.catalog.streams {
            let boundary = boundary(stream, self.shown.of(stream.id));
            moves |= boundary.is_some_and(|at| boundaries.raise(stream.id, at));
        }
        moves.then_some(boundaries)
    }

    /// The base chunk of these boundaries. From it on what lies before them is forgotten.
    pub fn draft_base(&mut self, boundaries: Boundaries, known_at: KnownAt) -> Draft {
        let position = self.next_position();
        let notes = RetentionNotes { base: boundaries, ..RetentionNotes::default() };
        let header = ChunkHeader {
            known_at,
            catalog_version: self.plan.catalog.version,
            retention: Some(notes),
            ..ChunkHeader::default()
        };
        self.follow_base(position, &header);
        self.position = position;
        self.known_at = known_at;
        Draft { position, known_at, bytes: encode_chunk(&header, []), judged: Vec::new() }
    }

    /// A base chunk takes effect.
    pub(super) fn follow_base(&mut self, position: Position, header: &ChunkHeader) {
        let base = header.retention.as_ref().map(|notes| &notes.base);
        let Some(base) = base.filter(|base| !base.is_empty()) else { return };
        let mut boundaries = Boundaries::clone(self.boundaries());
        boundaries.raise_all(base);
        let Forgetting { boundaries: now, base, before, .. } = &mut self.forgetting;
        before.push((position, now.clone(), *base));
        *now = Arc::new(boundaries);
        *base = Some(position);
        self.forget_at_hand();
    }

    /// Facts at hand that are forgotten go. What waits for a rebuild is rebuilt without them.
    fn forget_at_hand(&mut self) {
        let boundaries = self.boundaries().clone();
        let all: Vec<Slab> = self.residents.iter().map(|(slab, _)| slab).collect();
        for slab in all {
            let resident = self.residents.get_mut(slab);
            if !resident.waiting && resident.state.forget(&boundaries) {
                self.residents.recount(slab);
            }
        }
    }

    /// Has the head of an entity stored once more, since the stored one may have facts that are forgotten.
    /// False when that cannot begin yet: the entity waits for a rebuild, or is not in memory.
    pub fn renew_head(&mut self, entity: &Entity) -> bool {
        let Some(slab) = self.slab_of(entity) else { return false };
        let next = self.next_position();
        let resident = self.residents.get_mut(slab);
        if resident.waiting {
            return false;
        }
        resident.renewal = Renewal::Unsaved;
        let unsaved = resident.unsaved_since().unwrap_or(next);
        self.residents.set_unsaved(slab, Some(unsaved));
        true
    }

    /// True once a head that was to be stored again is stored.
    #[must_use]
    pub fn is_renewed(&self, entity: &Entity) -> bool {
        let renewal = self.slab_of(entity).map(|slab| self.residents.get(slab).renewal);
        renewal.is_none_or(|renewal| renewal == Renewal::No)
    }

    /// True when a fact came after its boundary's base chunk: it is LATE for good. The `at` of a RETRACT
    /// never matters.
    pub(super) fn is_forgotten(&self, record: &RecordView<'_>) -> bool {
        record.body.op != Op::Retract && record.body.at < self.boundaries().of(record.stream)
    }

    /// What the log up to the last confirmed base chunk still has to be rewritten without, if anything:
    /// facts before these boundaries, in chunks before this position.
    #[must_use]
    pub fn scrub_due(&self) -> Option<(Position, Arc<Boundaries>)> {
        let Forgetting { boundaries, base, scrubbed, .. } = &self.forgetting;
        let base = base.filter(|base| *base <= self.confirmed)?;
        (!scrubbed.reach(boundaries)).then(|| (base, boundaries.clone()))
    }

    /// The log was rewritten without what [`SlotCore::scrub_due`] named. The next mark says so.
    pub fn scrubbed(&mut self, boundaries: &Boundaries) {
        self.forgetting.scrubbed.raise_all(boundaries);
    }

    /// How far the log was rewritten.
    #[must_use]
    pub fn scrubbed_to(&self) -> &Boundaries {
        &self.forgetting.scrubbed
    }

    pub(super) fn restore_retained(&mut self, retained: &Retained) {
        let Retained { boundaries, base, scrubbed } = retained.clone();
        let boundaries = Arc::new(boundaries);
        self.forgetting = Forgetting { boundaries, base, scrubbed, before: Vec::new() };
    }

    /// What was forgotten as of a position that a mark may name, and all that was rewritten since.
    pub(super) fn retained_at(&mut self, position: Position) -> Retained {
        let Forgetting { boundaries, base, scrubbed, before } = &mut self.forgetting;
        // A later mark names this position or a later one.
        before.retain(|(base, ..)| *base > position);
        let (boundaries, base) = match before.first() {
            Some((_, boundaries, base)) => (boundaries, *base),
            None => (&*boundaries, *base),
        };
        let boundaries = Boundaries::clone(boundaries);
        Retained { boundaries, base, scrubbed: scrubbed.clone() }
    }
}

/// Before which instant a stream's facts are to be forgotten at a watermark.
fn boundary(stream: &Stream, watermark: Option<Micros>) -> Option<Micros> {
    let retention_us = stream.retention_us?;
    let step_us = (retention_us / STEPS).max(1);
    Some(watermark?.minus(retention_us).floor(step_us).minus(step_us))
}

#[cfg(test)]
mod tests;
