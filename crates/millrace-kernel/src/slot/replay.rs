//! Following chunks that were judged before: on recovery, and for subscribers. Nothing is re-judged
//! and nothing leaves.

use std::sync::Arc;

use millrace_types::{
    Chunk, ChunkHeader, DecodeError, Entity, EntityKey, Filled, KnownAt, Op, Position, Rebuilt,
    Verdict,
};

use super::save::MarkState;
use super::{Before, LookedUp, SlotCore, Waiting, raise};
use crate::entity::{EntityState, Outcome};
use crate::watermark::SlotWatermarks;

impl SlotCore {
    /// Starts recovery from a mark.
    pub fn recover_from(&mut self, mark: &MarkState) {
        self.position = mark.position;
        self.confirmed = mark.position;
        self.known_at = mark.closed;
        self.confirmed_at = mark.closed;
        self.watermarks =
            SlotWatermarks::from_parts(&mark.watermarks, &mark.views, &mark.incarnations);
        self.note_confirmed();
        self.latest = mark.latest.iter().copied().collect();
        self.restore_fence(mark.erasures);
        self.restore_retained(&mark.retained);
        self.filled = mark.filled;
        self.complete = false;
    }

    /// Restores the list of dirty entities from a header between the mark's oldest waiting position
    /// and the mark.
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn restore_waiting<B: AsRef<[u8]>>(
        &mut self,
        position: Position,
        chunk: &Chunk<B>,
    ) -> Result<(), DecodeError> {
        // No chunk stands between the one before and this one, so any known_at below this one's
        // names the same facts, imports apart. The watermarks are the mark's: nothing of a dirty entity
        // is final.
        let before = Before {
            position: Position { epoch: position.epoch, sequence: position.sequence - 1 },
            known_at: KnownAt(chunk.header.known_at.0 - 1),
            watermarks: self.shown.clone(),
        };
        self.restore_scrubs(position, &chunk.header);
        self.follow_dirtied(position, &chunk.header, before);
        for rebuilt in &chunk.header.rebuilt {
            self.dirty.remove(&rebuilt.entity);
        }
        for (record, verdict) in chunk.records().zip(chunk.header.all_verdicts()) {
            let record = record?;
            if verdict == Verdict::Queued {
                let key = EntityKey::from_bytes(record.key)?;
                if let Some(w) = self.dirty.get_mut(&Entity { kind: record.kind, key }) {
                    w.last = position;
                }
            }
        }
        Ok(())
    }

    /// Entities whose heads may be in the store and must be loaded before [`SlotCore::replay`] of
    /// this chunk.
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn heads_to_replay<B: AsRef<[u8]>>(
        &self,
        chunk: &Chunk<B>,
    ) -> Result<Vec<Entity>, DecodeError> {
        let mut heads = self.missing(chunk.fact_bytes())?;
        let rebuilt = chunk.header.rebuilt.iter().map(|r| &r.entity);
        let erased = chunk.header.erasures.iter().flat_map(|notes| &notes.erased);
        let erased = erased.filter(|e| e.is_here).map(|e| &e.entity);
        heads.extend(rebuilt.chain(erased).filter(|e| !self.has(e)).cloned());
        heads.sort_unstable();
        heads.dedup();
        Ok(heads)
    }

    /// Rebuilt heads that take effect in this chunk and that no head in memory is ahead of. To be
    /// asked once the heads are loaded: what a newer head replaced may be deleted in part.
    #[must_use]
    pub fn rebuilt_to_replay(&self, position: Position, header: &ChunkHeader) -> Vec<Rebuilt> {
        let behind = |rebuilt: &&Rebuilt| {
            let slab = self.slab_of(&rebuilt.entity);
            slab.is_none_or(|s| self.residents.get(s).state.applied() < position)
        };
        header.rebuilt.iter().filter(behind).cloned().collect()
    }

    /// Follows a chunk. `rebuilt` holds the states asked for by
    /// [`SlotCore::rebuilt_to_replay`].
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk does not decode or contradicts the state it follows.
    pub fn replay<B: AsRef<[u8]>>(
        &mut self,
        position: Position,
        chunk: &Chunk<B>,
        rebuilt: Vec<(Entity, KnownAt, EntityState)>,
    ) -> Result<(), DecodeError> {
        for marker in &chunk.header.rebuilt {
            self.end_waiting(&marker.entity, position);
            if let Some(slab) = self.slab_of(&marker.entity) {
                self.residents.get_mut(slab).waiting = false;
            }
        }
        for (entity, part, state) in rebuilt {
            let newer = self.slab_of(&entity).map(|s| self.residents.get(s).state.applied());
            if newer.is_none_or(|applied| applied < position) {
                self.install(entity, state, Some(part));
            }
        }
        self.follow_dirtied(position, &chunk.header, self.as_before());
        self.follow_erasures(position, &chunk.header, &Arc::new(self.as_before()));
        self.follow_base(position, &chunk.header);
        for (record, verdict) in chunk.records().zip(chunk.header.all_verdicts()) {
            let record = record?;
            if record.body.op != Op::Retract && !matches!(verdict, Verdict::Rejected(_)) {
                raise(&mut self.latest, record.stream, record.body.at);
            }
            let hash = self.hash(&record);
            match verdict {
                Verdict::Accepted | Verdict::Repaired { .. } => {
                    self.follow_fact(position, chunk.header.known_at, &record, hash)?;
                }
                Verdict::Queued => {
                    let key = EntityKey::from_bytes(record.key)?;
                    if let Some(w) = self.dirty.get_mut(&Entity { kind: record.kind, key }) {
                        w.last = position;
                    }
                }
                Verdict::Duplicate | Verdict::Late | Verdict::Rejected(_) => {}
            }
        }
        self.watermarks.replay(&chunk.header);
        self.position = position;
        self.confirmed = position;
        self.known_at = chunk.header.known_at;
        self.confirmed_at = chunk.header.known_at;
        self.note_confirmed();
        Ok(())
    }

    fn follow_dirtied(&mut self, position: Position, header: &ChunkHeader, before: Before) {
        let before = Arc::new(before);
        for entity in &header.dirtied {
            if let Some(slab) = self.slab_of(entity) {
                self.residents.get_mut(slab).waiting = true;
            }
            let waiting = Waiting {
                since: position,
                last: position,
                before: before.clone(),
                rebuilding: false,
            };
            // One that waits already waits on, for a fold that covers this chunk.
            self.dirty.entry(entity.clone()).or_insert(waiting).last = position;
        }
    }

    fn follow_fact(
        &mut self,
        position: Position,
        known_at: KnownAt,
        record: &millrace_types::fact::RecordView<'_>,
        hash: u64,
    ) -> Result<(), DecodeError> {
        let looked_up = LookedUp { hash, slab: None };
        let Some((slab, stream)) = self.resident_for(record, looked_up) else {
            let found = u64::from(record.stream.0);
            return Err(DecodeError::Invalid { what: "stream of a fact", found });
        };
        let first = self.residents.touch(slab, position);
        let resident = self.residents.get_mut(slab);
        // A stored head may be ahead of the mark; what it covers is not applied again. Facts of one
        // chunk come one by one, so "covers" is settled by the first of them.
        if first {
            resident.follows = resident.state.applied() < position;
        }
        if !resident.follows {
            return Ok(());
        }
        let outcome = resident.state.apply(stream, &record.body, u64::MAX);
        if outcome == Outcome::Dirty {
            let entity = resident.entity.clone();
            self.doubt(entity, position);
            return Ok(());
        }
        resident.changed_in = position;
        self.residents.chunk_applied(slab, position, known_at);
        Ok(())
    }

    /// States that the slot never had a fact, so that nothing needs loading. Heads may have been
    /// put, and what they replaced deleted, before the first mark: without a mark the log must be
    /// empty too.
    pub fn set_empty(&mut self) {
        debug_assert!(self.residents.len() == 0, "a slot without facts has no residents");
        self.complete = true;
        self.filled = Filled::whole(self.plan.catalog.version);
    }
}
