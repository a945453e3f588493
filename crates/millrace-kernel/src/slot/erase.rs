//! Erasures in a slot: an entry in its log, from which on facts that name the entity are refused;
//! then what earlier chunks hold of it is taken away, and whoever had such facts is rebuilt.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_types::chunk::encode_chunk;
use millrace_types::fact::{RecordView, records};
use millrace_types::{
    ChunkHeader, DecodeError, Entity, ErasureNotes, Judged, KnownAt, Position, RejectReason,
    Verdict,
};

use super::{Before, Draft, Input, SlotCore, Waiting};
use crate::entity::EntityState;
use crate::erase::{ErasureScan, Erasures};

/// Bytes of keys that one chunk names as dirty because of an erasure.
const DIRTIED_BYTES: usize = 512 << 10;

/// The erasures of a slot.
#[derive(Debug, Default)]
pub(super) struct Fence {
    erasures: Arc<Erasures>,
    /// The last one whose entry is in the slot's log.
    up_to: u64,
    /// Those as of confirmed chunks that a mark may still name: the entry, and the last one before it.
    entered: Vec<(Position, u64)>,
    /// Entries that are not scrubbed yet, oldest first.
    scrubs: Vec<Scrub>,
    /// Dirtied for an entry that is still to come, and since when.
    coming: Option<(Position, Vec<Entity>)>,
    /// While the log is followed: what an entry that is still to come must erase or rebuild.
    doubted: BTreeMap<Entity, Position>,
}

/// An entry of erasures whose slot is not scrubbed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrub {
    /// The first chunk that is about it.
    pub since: Position,
    /// The entry. Chunks before it are scrubbed.
    pub position: Position,
    /// The last erasure that is in effect with it.
    pub up_to: u64,
    /// By erasure: its number, facts, chunks.
    pub found: Vec<(u64, u64, u64)>,
    /// Entities whose snapshots held what is erased: those that are erased and have been here, and those
    /// that are rebuilt.
    pub entities: Vec<Entity>,
    /// How many of them are rebuilt.
    pub rebuilt: u64,
}

/// Inputs without the facts that are refused, and which those were.
pub(super) struct Kept {
    facts: Vec<Vec<u8>>,
    refused: Vec<Vec<bool>>,
}

impl Kept {
    pub(super) fn inputs<'a>(&'a self, inputs: &[Input<'a>]) -> Vec<Input<'a>> {
        let kept = |(input, facts): (&Input<'a>, &'a Vec<u8>)| Input { facts, ..*input };
        inputs.iter().zip(&self.facts).map(kept).collect()
    }

    /// Puts the verdicts of the refused facts between those of the others.
    pub(super) fn all_judged(&self, judged: Vec<Vec<Judged>>) -> Vec<Vec<Judged>> {
        let refused = || Judged::from(Verdict::Rejected(RejectReason::ErasedEntity));
        let merge = |(refused_here, judged): (&Vec<bool>, Vec<Judged>)| {
            let mut judged = judged.into_iter();
            let next = |is: &bool| if *is { Some(refused()) } else { judged.next() };
            refused_here.iter().filter_map(next).collect()
        };
        self.refused.iter().zip(judged).map(merge).collect()
    }
}

impl SlotCore {
    /// Takes the newest list of erasures, unless it has a longer one.
    pub fn set_erasures(&mut self, erasures: Arc<Erasures>) {
        if erasures.last() > self.fence.erasures.last() {
            self.fence.erasures = erasures;
        }
    }

    /// The list of erasures it goes by.
    #[must_use]
    pub fn erasures(&self) -> &Arc<Erasures> {
        &self.fence.erasures
    }

    /// The last erasure that is in effect in the slot; 0 before the first.
    #[must_use]
    pub fn erased_up_to(&self) -> u64 {
        self.fence.up_to
    }

    /// A scan for the erasures that have no entry in the slot's log yet, if there are any and earlier
    /// ones are scrubbed.
    #[must_use]
    pub fn start_erasure(&self) -> Option<ErasureScan> {
        let fence = &self.fence;
        let due = fence.up_to < fence.erasures.last() && fence.scrubs.is_empty();
        due.then(|| ErasureScan::new(self.plan.clone(), fence.erasures.after(fence.up_to)))
    }

    /// The oldest entry whose slot is not scrubbed yet.
    #[must_use]
    pub fn scrub(&self) -> Option<&Scrub> {
        self.fence.scrubs.first()
    }

    /// True once nobody waits any more who had facts of what this entry erased.
    #[must_use]
    pub fn is_rebuilt(&self, scrub: &Scrub) -> bool {
        !self.dirty.values().any(|waiting| waiting.since <= scrub.position)
    }

    /// The next chunk of an entry, from a scan that covers every chunk of the slot. It is followed by
    /// others until [`ErasureScan`] has no more entities to name: true with the last one. The slot must
    /// judge nothing in between.
    pub fn draft_erasure(&mut self, scan: &mut ErasureScan, known_at: KnownAt) -> (Draft, bool) {
        let dirtied = scan.take_touched(DIRTIED_BYTES);
        // Whether more are left shows with the next try: one that is empty ends it.
        let is_last = dirtied.is_empty();
        let erased = if is_last { scan.erased().to_vec() } else { Vec::new() };
        let header = ChunkHeader {
            known_at,
            catalog_version: self.plan.catalog.version,
            dirtied,
            erasures: Some(ErasureNotes { dirties: !is_last, erased, ..ErasureNotes::default() }),
            ..ChunkHeader::default()
        };
        (self.draft_of(header), is_last)
    }

    /// The chunk that says that the oldest entry is scrubbed.
    pub fn draft_scrubbed(&mut self, known_at: KnownAt) -> Draft {
        let notes = ErasureNotes { is_scrubbed: true, ..ErasureNotes::default() };
        let header = ChunkHeader {
            known_at,
            catalog_version: self.plan.catalog.version,
            erasures: Some(notes),
            ..ChunkHeader::default()
        };
        self.draft_of(header)
    }

    fn draft_of(&mut self, header: ChunkHeader) -> Draft {
        let (position, known_at) = (self.next_position(), header.known_at);
        let before = Arc::new(self.as_before());
        self.position = position;
        self.known_at = known_at;
        self.follow_erasures(position, &header, &before);
        Draft { position, known_at, bytes: encode_chunk(&header, []), judged: Vec::new() }
    }

    /// A fact of this entity was applied once, and does not fit what the log has of it by now. That may be
    /// where chunks before it are scrubbed already for an entry that comes later: what they held of the
    /// entity, and when it was rebuilt, is gone. Then that entry erases or rebuilds it.
    pub(super) fn doubt(&mut self, entity: Entity, position: Position) {
        self.fence.doubted.entry(entity).or_insert(position);
    }

    /// States that the log that is followed has no further chunk.
    ///
    /// # Errors
    /// [`DecodeError`] with the first chunk that has a fact that was applied, does not fit, and no entry
    /// explains it, or with a chunk that a stored head covers and that the log does not have: the log is
    /// damaged.
    pub fn end_replay(&self) -> Result<(), (Position, DecodeError)> {
        let covered = self.residents.iter().map(|(_, resident)| resident.state.applied());
        if let Some(beyond) = covered.filter(|applied| *applied > self.position).max() {
            let error =
                DecodeError::Invalid { what: "end of the log, which a head is beyond", found: 0 };
            return Err((beyond, error));
        }
        let error = DecodeError::Invalid { what: "fact that was applied before", found: 0 };
        self.fence.doubted.values().min().map_or(Ok(()), |position| Err((*position, error)))
    }

    /// What a chunk says about erasures takes effect.
    pub(super) fn follow_erasures(
        &mut self,
        position: Position,
        header: &ChunkHeader,
        before: &Arc<Before>,
    ) {
        let Some(notes) = &header.erasures else { return };
        if notes.dirties {
            self.dirty_for_erasure(position, &header.dirtied, before);
        }
        if let Some(last) = notes.erased.last() {
            self.fence.entered.push((position, self.fence.up_to));
            self.fence.up_to = last.number;
            self.note_scrub(position, notes);
            let here = notes.erased.iter().filter(|e| e.is_here);
            for entity in here.map(|e| e.entity.clone()) {
                self.fence.doubted.remove(&entity);
                self.erase(entity, position, header.known_at);
            }
            let dirty = &self.dirty;
            self.fence.doubted.retain(|entity, _| !dirty.contains_key(entity));
        }
        if notes.is_scrubbed && !self.fence.scrubs.is_empty() {
            self.fence.scrubs.remove(0);
        }
    }

    /// Notes of an entry what is to be scrubbed, without its effects.
    fn note_scrub(&mut self, position: Position, notes: &ErasureNotes) {
        let (since, mut entities) =
            self.fence.coming.take().unwrap_or_else(|| (position, Vec::new()));
        let rebuilt = entities.len() as u64;
        entities.extend(notes.erased.iter().filter(|e| e.is_here).map(|e| e.entity.clone()));
        let found = notes.erased.iter().map(|e| (e.number, e.facts, e.chunks)).collect();
        let up_to = notes.erased.last().map_or(self.fence.up_to, |e| e.number);
        self.fence.scrubs.push(Scrub { since, position, up_to, found, entities, rebuilt });
    }

    /// Restores what is to be scrubbed from a header between the oldest waiting position of a mark and
    /// the mark.
    pub(super) fn restore_scrubs(&mut self, position: Position, header: &ChunkHeader) {
        let Some(notes) = &header.erasures else { return };
        if notes.dirties {
            let coming = self.fence.coming.get_or_insert_with(|| (position, Vec::new()));
            coming.1.extend(header.dirtied.iter().cloned());
        }
        if !notes.erased.is_empty() {
            self.note_scrub(position, notes);
        }
        if notes.is_scrubbed && !self.fence.scrubs.is_empty() {
            self.fence.scrubs.remove(0);
        }
    }

    pub(super) fn restore_fence(&mut self, up_to: u64) {
        self.fence.up_to = up_to;
    }

    /// The last erasure that was in effect at a position that a mark may name.
    pub(super) fn erased_at(&mut self, position: Position) -> u64 {
        let entered = &self.fence.entered;
        let at = entered.iter().find(|(entry, _)| *entry > position);
        let up_to = at.map_or(self.fence.up_to, |(_, before)| *before);
        // A later mark names this position or a later one.
        self.fence.entered.retain(|(entry, _)| *entry > position);
        up_to
    }

    /// The oldest position of an entry that is not scrubbed yet.
    pub(super) fn oldest_scrub(&self) -> Option<Position> {
        let coming = self.fence.coming.iter().map(|(since, _)| *since);
        self.fence.scrubs.iter().map(|s| s.since).chain(coming).min()
    }

    fn dirty_for_erasure(&mut self, position: Position, entities: &[Entity], before: &Arc<Before>) {
        let coming = self.fence.coming.get_or_insert_with(|| (position, Vec::new()));
        coming.1.extend(entities.iter().cloned());
        for entity in entities {
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

    /// Nothing is left of an entity.
    fn erase(&mut self, entity: Entity, position: Position, known_at: KnownAt) {
        let Some(kind) = self.plan.kind(entity.kind).cloned() else { return };
        self.end_waiting(&entity, position);
        let slab = self.slab_of(&entity);
        if slab.is_some_and(|s| self.residents.get(s).state.applied() >= position) {
            return; // its stored head is of later
        }
        let mut state = EntityState::new(kind);
        state.set_applied(position, known_at);
        self.install(entity, state, None);
    }

    /// Facts that name an erased entity are refused: they are not even written.
    pub(super) fn refuse_erased(&self, inputs: &[Input<'_>]) -> Result<Option<Kept>, DecodeError> {
        let Fence { erasures, up_to, .. } = &self.fence;
        if *up_to == 0 {
            return Ok(None);
        }
        let mut refused = Vec::with_capacity(inputs.len());
        for input in inputs {
            let is_refused = |record: Result<RecordView<'_>, DecodeError>| {
                Ok(erasures.named_by(&self.plan, &record?, *up_to).is_some())
            };
            let here: Result<Vec<bool>, DecodeError> =
                records(input.facts).map(is_refused).collect();
            refused.push(here?);
        }
        if !refused.iter().flatten().any(|is| *is) {
            return Ok(None);
        }
        let mut facts = Vec::with_capacity(inputs.len());
        for (input, refused) in inputs.iter().zip(&refused) {
            let mut kept = Vec::with_capacity(input.facts.len());
            for (record, _) in records(input.facts).zip(refused).filter(|(_, is)| !**is) {
                record?.encode(&mut kept);
            }
            facts.push(kept);
        }
        Ok(Some(Kept { facts, refused }))
    }
}

#[cfg(test)]
mod tests;
