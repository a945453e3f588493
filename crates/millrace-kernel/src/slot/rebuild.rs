//! Rebuilds: dirty entities are folded anew from the slot's log; a marker then makes them current.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_types::entity::entity_hash;
use millrace_types::{Boundaries, Chunk, DecodeError, Entity, KnownAt, Micros, Position, Verdict};

use super::SlotCore;
use crate::entity::EntityState;
use crate::page::PageName;
use crate::plan::Plan;
use crate::snapshot::SnapshotParts;

/// Folds entities from log chunks: for rebuilds, for reads a head does not cover, for training.
#[derive(Debug)]
pub struct Fold {
    plan: Arc<Plan>,
    /// By entity hash.
    states: BTreeMap<u64, Vec<(Entity, EntityState)>>,
    known_at: KnownAt,
    covered: Position,
    facts: u64,
    boundaries: Boundaries,
}

impl Fold {
    /// Starts a fold of these entities over what is known at `known_at`.
    #[must_use]
    pub fn new(
        plan: Arc<Plan>,
        entities: impl IntoIterator<Item = Entity>,
        known_at: KnownAt,
    ) -> Self {
        let mut states: BTreeMap<u64, Vec<(Entity, EntityState)>> = BTreeMap::new();
        for entity in entities {
            let Some(kind) = plan.kind(entity.kind) else { continue };
            let hash = entity_hash(&kind.kind_name, entity.key.as_bytes());
            let state = EntityState::new(kind.clone());
            states.entry(hash).or_default().push((entity, state));
        }
        let (covered, boundaries) = (Position::START, Boundaries::default());
        Self { plan, states, known_at, covered, facts: 0, boundaries }
    }

    /// Takes a chunk in. Facts judged LATE or REJECTED are left out, and those that were not known at
    /// the fold's instant, fact by fact: a later chunk may hold what an import states to have been known
    /// before. A repeat counts like its first copy, so that the least known_at of its copies decides.
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn chunk<B: AsRef<[u8]>>(
        &mut self,
        position: Position,
        chunk: &Chunk<B>,
    ) -> Result<(), DecodeError> {
        self.covered = position;
        if let Some(notes) = &chunk.header.retention {
            self.boundaries.raise_all(&notes.scrubbed);
            self.forget(&notes.base);
        }
        if !chunk.header.may_be_known(self.known_at) {
            return Ok(());
        }
        if !self.states.keys().any(|hash| chunk.header.may_contain(*hash)) {
            return Ok(());
        }
        for (record, verdict) in chunk.records().zip(chunk.header.all_verdicts()) {
            let record = record?;
            self.facts += 1;
            let known_at = record.body.known_in(chunk.header.known_at);
            if known_at > self.known_at || matches!(verdict, Verdict::Late | Verdict::Rejected(_)) {
                continue;
            }
            let name = self.plan.kind(record.kind).map_or("", |k| k.kind_name.as_str());
            let Some(same) = self.states.get_mut(&entity_hash(name, record.key)) else { continue };
            let found = same
                .iter_mut()
                .find(|(e, _)| e.kind == record.kind && e.key.as_bytes() == record.key);
            if let Some((_, state)) = found
                && let Some(stream) = state.plan.stream_index(record.stream)
            {
                state.apply(stream, &record.body, u64::MAX);
                state.set_applied(position, chunk.header.known_at);
            }
        }
        Ok(())
    }

    /// A base chunk takes effect.
    fn forget(&mut self, base: &Boundaries) {
        if base.is_empty() {
            return;
        }
        self.boundaries.raise_all(base);
        let base = Arc::new(base.clone());
        for (_, state) in self.states.values_mut().flatten() {
            state.forget(&base);
        }
    }

    /// Before which facts may be missing in the chunks taken in, those that a later base chunk forgets
    /// among them: reads of its states are to be held against these ([`KindPlan::too_early`]).
    ///
    /// [`KindPlan::too_early`]: crate::KindPlan::too_early
    #[must_use]
    pub fn boundaries(&self) -> &Boundaries {
        &self.boundaries
    }

    /// The catalog version it folds under. Facts of streams that a later one brought are not in it.
    #[must_use]
    pub fn catalog_version(&self) -> u32 {
        self.plan.catalog.version
    }

    /// Lets entities go, those with the greatest hashes first, until the rest take at most so much
    /// memory; one stays in any case.
    pub fn shed(&mut self, bytes: usize) {
        let of = |states: &Vec<(Entity, EntityState)>| {
            states.iter().map(|(_, state)| state.heap_bytes()).sum::<usize>()
        };
        let mut have: usize = self.states.values().map(of).sum();
        while have > bytes && self.states.len() > 1 {
            let Some((_, states)) = self.states.pop_last() else { return };
            have -= of(&states);
        }
    }

    /// Lets the facts of an entity leave that lie before a horizon, for [`SlotCore::fill`].
    pub fn let_leave(&mut self, hash: u64, entity: &Entity, horizon: Micros) {
        let same = self.states.get_mut(&hash).into_iter().flatten();
        for (_, state) in same.filter(|(found, _)| found == entity) {
            state.evict(horizon);
        }
    }

    /// The last chunk taken in.
    #[must_use]
    pub fn covered(&self) -> Position {
        self.covered
    }

    /// Facts looked at so far, for budgets.
    #[must_use]
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// The entities with their states.
    #[must_use]
    pub fn finish(self) -> Vec<(Entity, EntityState)> {
        self.states.into_values().flatten().collect()
    }
}

/// A rebuilt entity ready to be put.
#[derive(Debug)]
pub struct RebuiltPut {
    /// The entity.
    pub entity: Entity,
    /// The version of its parts; the marker names it.
    pub ver: KnownAt,
    /// The parts; the head goes under the rebuilt head's own name.
    pub parts: SnapshotParts,
    /// The state, to be installed once the marker is confirmed.
    pub state: EntityState,
}

impl SlotCore {
    /// Up to `max` entities to rebuild, oldest first, with the position up to which the log has to
    /// be folded. They count as being rebuilt until [`SlotCore::install_rebuilt`] or
    /// [`SlotCore::rebuild_failed`].
    pub fn start_rebuild(&mut self, max: usize) -> Option<(Vec<Entity>, Position)> {
        let confirmed = self.confirmed;
        let mut due: Vec<(Position, Entity)> = self
            .dirty
            .iter()
            .filter(|(_, w)| !w.rebuilding && w.since <= confirmed)
            .map(|(e, w)| (w.since, e.clone()))
            .collect();
        due.sort_unstable();
        due.truncate(max);
        let entities: Vec<Entity> = due.into_iter().map(|(_, e)| e).collect();
        for entity in &entities {
            if let Some(waiting) = self.dirty.get_mut(entity) {
                waiting.rebuilding = true;
            }
        }
        (!entities.is_empty()).then_some((entities, confirmed))
    }

    /// The rebuild did not come about: its entities can be started again.
    pub fn rebuild_failed(&mut self, entities: &[Entity]) {
        for entity in entities {
            if let Some(waiting) = self.dirty.get_mut(entity) {
                waiting.rebuilding = false;
            }
        }
    }

    /// True when a fold up to `covered` holds every fact of these entities that is in the log.
    #[must_use]
    pub fn rebuild_covers(&self, entities: &[Entity], covered: Position) -> bool {
        entities.iter().filter_map(|e| self.dirty.get(e)).all(|w| w.last <= covered)
    }

    /// Makes a folded entity ready to be put: facts beyond the slot's budget leave, and the parts
    /// are encoded. It takes effect at the marker, whose position and known_at it states.
    #[must_use]
    pub fn prepare_rebuilt(
        &self,
        entity: Entity,
        mut state: EntityState,
        ver: KnownAt,
        marker: (Position, KnownAt),
    ) -> RebuiltPut {
        if let Some(kind) = self.plan.kind(entity.kind) {
            state.replan(kind);
        }
        // A base chunk may have come after what was folded; no fact of the entity did.
        state.forget(self.boundaries());
        state.evict(self.horizon);
        state.set_applied(marker.0, marker.1);
        let parts = state.snapshot(ver);
        RebuiltPut { entity, ver, parts, state }
    }

    /// The position and the order of the next chunk, for [`SlotCore::prepare_rebuilt`].
    #[must_use]
    pub fn marker_position(&self) -> Position {
        self.next_position()
    }

    /// The marker is confirmed: the rebuilt states are current and nothing of them waits.
    /// Gives the pages and id parts of the heads they replace, to be deleted like dropped parts
    /// once a head of the new state is put.
    pub fn install_rebuilt(&mut self, rebuilt: Vec<RebuiltPut>) {
        for put in rebuilt {
            self.end_waiting(&put.entity, put.state.applied());
            self.install(put.entity, put.state, Some(put.ver));
        }
    }

    pub(super) fn install(&mut self, entity: Entity, state: EntityState, part: Option<KnownAt>) {
        let Some(kind) = self.plan.kind(entity.kind).cloned() else { return };
        let hash = entity_hash(&kind.kind_name, entity.key.as_bytes());
        let slab = match self.residents.find(hash, entity.kind, entity.key.as_bytes()) {
            Some(slab) => slab,
            None => {
                let empty = EntityState::new(kind);
                self.residents.insert(hash, entity, empty, false, false)
            }
        };
        self.note_rebuilt(slab);
        let resident = self.residents.get_mut(slab);
        resident.waiting = false;
        let unsaved = resident.unsaved_since().unwrap_or(state.applied());
        // What the stored head lists stays listed until a head of the new state replaces it; the
        // rebuilt parts join it, so that whatever the next head does not list is dropped.
        let (pages, ids): (Vec<PageName>, Vec<PageName>) = state.stored_parts();
        resident.listed.0.extend(pages);
        resident.listed.1.extend(ids);
        resident.rebuilt_parts.extend(part);
        resident.saving = None;
        resident.state = state;
        self.residents.set_unsaved(slab, Some(unsaved));
        self.residents.recount(slab);
    }
}

#[cfg(test)]
pub(super) mod tests;
