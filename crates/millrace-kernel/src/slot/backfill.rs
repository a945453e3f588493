//! Backfill: what a new feature folds of facts that left is filled in from the log.
//!
//! A feature that comes after facts left lacks its partials over them; nothing else of the entity
//! changes, so that it is judged and read as before meanwhile. The slot's owner goes over its entities in
//! the order of their hashes: it lists them from the log, folds those that lack something once more, and
//! takes the partials over. How far it came stands in the mark.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millrace_types::entity::entity_hash;
use millrace_types::{Chunk, DecodeError, Entity, EntityKey, Filled, Micros, Position};

use super::SlotCore;
use super::resident::{Fill, Renewal, Slab};
use crate::entity::EntityState;
use crate::plan::Plan;

/// Lists the entities of a slot's log in the order of their hashes.
#[derive(Debug)]
pub struct Listing {
    plan: Arc<Plan>,
    from: u64,
    max: usize,
    found: BTreeMap<u64, Vec<Entity>>,
    count: usize,
    end: Option<u64>,
    covered: Position,
}

impl Listing {
    /// Lists the entities with hashes from `from` on, about `max` of them at most: those with the
    /// least hashes.
    #[must_use]
    pub fn new(plan: Arc<Plan>, from: u64, max: usize) -> Self {
        let found = BTreeMap::new();
        Self { plan, from, max, found, count: 0, end: None, covered: Position::START }
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
        for record in chunk.records() {
            let record = record?;
            let Some(kind) = self.plan.kind(record.kind) else { continue };
            let hash = entity_hash(&kind.kind_name, record.key);
            if hash < self.from || self.end.is_some_and(|end| hash >= end) {
                continue;
            }
            let same = self.found.entry(hash).or_default();
            let known = |e: &Entity| e.kind == record.kind && e.key.as_bytes() == record.key;
            if !same.iter().any(known) {
                same.push(Entity { kind: record.kind, key: EntityKey::from_bytes(record.key)? });
                self.count += 1;
            }
            while self.count > self.max && self.found.len() > 1 {
                let Some((hash, gone)) = self.found.pop_last() else { break };
                self.count -= gone.len();
                self.end = Some(hash);
            }
        }
        Ok(())
    }

    /// The last chunk taken in.
    #[must_use]
    pub fn covered(&self) -> Position {
        self.covered
    }

    /// The entities with their hashes, ascending, and the hash at which they end; `None` when no
    /// entity lies beyond them.
    #[must_use]
    pub fn finish(self) -> (VecDeque<(u64, Entity)>, Option<u64>) {
        let each = |(hash, same): (u64, Vec<Entity>)| same.into_iter().map(move |e| (hash, e));
        (self.found.into_iter().flat_map(each).collect(), self.end)
    }
}

/// What becomes of entities that a backfill looks at.
#[derive(Debug, Default)]
pub struct Fillable {
    /// Those that lack something, with their horizons: to be folded from the log up to the last
    /// confirmed chunk, and what lies before the horizon to be let leave. They stay in memory until
    /// [`SlotCore::fill`] or [`SlotCore::fill_failed`].
    pub lacking: Vec<(u64, Entity, Micros)>,
    /// Those that wait for a rebuild or are not in memory: to be looked at once more.
    pub later: Vec<(u64, Entity)>,
}

impl SlotCore {
    /// How far stored heads know every feature of the catalog.
    #[must_use]
    pub fn filled(&self) -> Filled {
        self.filled
    }

    /// What is left to do, if anything is.
    #[must_use]
    pub fn backfilling(&self) -> Option<Filled> {
        let version = self.plan.catalog.version;
        let begun = self.filled.toward == version;
        let below = if begun { self.filled.below } else { 0 };
        let filled = Filled { toward: version, below, ..self.filled };
        (self.filled.version < version).then_some(filled)
    }

    /// True when the slot is to be backfilled. Nothing is to be read for a slot that is wholly in memory
    /// with nothing lacking.
    pub fn needs_backfill(&mut self) -> bool {
        let version = self.plan.catalog.version;
        if self.filled.version >= version {
            return false;
        }
        if self.filled.toward == version {
            return true;
        }
        self.filled = Filled { toward: version, below: 0, ..self.filled };
        let settled = self.dirty.is_empty() && self.fills_unsaved == 0;
        if self.complete && settled && self.all_filled() {
            self.filled = Filled::whole(version);
            return false;
        }
        true
    }

    fn all_filled(&mut self) -> bool {
        let all: Vec<Slab> = self.residents.iter().map(|(slab, _)| slab).collect();
        all.into_iter().all(|slab| self.is_resident_filled(slab) && !self.is_stale(slab))
    }

    /// Whether a resident knows every feature of the slot's plan.
    fn is_resident_filled(&mut self, slab: Slab) -> bool {
        let resident = self.residents.get_mut(slab);
        if let Some(kind) = self.plan.kind(resident.entity.kind) {
            resident.state.replan(kind);
        }
        resident.state.is_filled()
    }

    /// Whether the stored head has another horizon, at which it may lack what the resident does not.
    fn is_stale(&self, slab: Slab) -> bool {
        let resident = self.residents.get(slab);
        resident.saved_horizon != resident.state.horizon()
    }

    /// The resident's head is to be put before a mark says that it is filled in.
    fn save_fill(&mut self, slab: Slab) {
        let next = self.next_position();
        let resident = self.residents.get_mut(slab);
        match resident.fill {
            Fill::No | Fill::Pinned => self.fills_unsaved += 1,
            Fill::Unsaved | Fill::Saving => {}
        }
        resident.fill = Fill::Unsaved;
        let unsaved = resident.unsaved_since().unwrap_or(next);
        self.residents.set_unsaved(slab, Some(unsaved));
    }

    /// Another plan comes: where it needs nothing that heads may lack, all that is done holds for it.
    pub(super) fn fill_toward(&mut self, plan: &Plan) {
        let (before, now) = (self.plan.catalog.version, plan.catalog.version);
        if now <= before || plan.adds_to(&self.plan) {
            return;
        }
        if self.filled.version == before {
            self.filled = Filled::whole(now);
        } else if self.filled.toward == before {
            self.filled.toward = now;
        }
    }

    /// Looks which of these entities lack something; all that may be in the store must be loaded.
    pub fn start_fill(&mut self, entities: Vec<(u64, Entity)>) -> Fillable {
        let mut out = Fillable::default();
        for (hash, entity) in entities {
            let Some(slab) = self.slab_of(&entity) else {
                // All that has facts is in memory, so this one has none that count.
                if !self.complete {
                    out.later.push((hash, entity));
                }
                continue;
            };
            // Its rebuild may have begun before the feature came.
            if self.residents.get(slab).waiting {
                out.later.push((hash, entity));
            } else if !self.is_resident_filled(slab) {
                let resident = self.residents.get_mut(slab);
                match resident.fill {
                    Fill::No => resident.fill = Fill::Pinned,
                    // Its heads are on their way for another catalog version: the next time.
                    Fill::Unsaved | Fill::Saving => {
                        out.later.push((hash, entity));
                        continue;
                    }
                    Fill::Pinned => {}
                }
                out.lacking.push((hash, entity, resident.state.horizon()));
            } else if self.is_stale(slab) {
                self.save_fill(slab);
            }
        }
        out
    }

    /// Takes over what an entity lacks from `whole`, which was folded from the log for
    /// [`Fillable::lacking`] under the slot's plan. False when the entity became dirty meanwhile: it is to
    /// be looked at once more.
    pub fn fill(&mut self, entity: &Entity, whole: EntityState) -> bool {
        let Some(slab) = self.slab_of(entity) else { return false };
        let resident = self.residents.get_mut(slab);
        let pinned = resident.fill == Fill::Pinned;
        if pinned {
            resident.fill = Fill::No;
        }
        let fits = Arc::ptr_eq(&resident.state.plan, &whole.plan)
            && resident.state.horizon() == whole.horizon();
        if !pinned || resident.waiting || !fits {
            return false;
        }
        if resident.state.fill_from(whole) {
            self.save_fill(slab);
            self.residents.recount(slab);
        }
        true
    }

    /// The fold did not come about: the entities may be looked at once more.
    pub fn fill_failed(&mut self, entity: &Entity) {
        if let Some(slab) = self.slab_of(entity) {
            let resident = self.residents.get_mut(slab);
            if resident.fill == Fill::Pinned {
                resident.fill = Fill::No;
            }
        }
    }

    /// Entities that were filled in and whose stored heads do not know yet.
    #[must_use]
    pub fn fills_unsaved(&self) -> usize {
        self.fills_unsaved
    }

    /// Every entity with a smaller hash is filled in and stored; with `None` every one. The next mark
    /// says so.
    pub fn filled_below(&mut self, below: Option<u64>) {
        debug_assert!(self.fills_unsaved == 0, "a mark never says more than heads know");
        self.filled = match below {
            Some(below) => Filled { below, ..self.filled },
            None => Filled::whole(self.filled.toward),
        };
    }

    /// A put of the resident's head is known. Gives the chunk from which on it is to be put once more
    /// when it was filled in meanwhile.
    pub(super) fn fill_saved(&mut self, slab: Slab) -> Option<Position> {
        let next = self.next_position();
        let resident = self.residents.get_mut(slab);
        match resident.fill {
            Fill::No | Fill::Pinned => None,
            Fill::Unsaved => Some(next),
            Fill::Saving => {
                resident.fill = Fill::No;
                self.fills_unsaved -= 1;
                None
            }
        }
    }

    /// A rebuilt state replaces the resident's: the put that is under way counts no longer.
    pub(super) fn note_rebuilt(&mut self, slab: Slab) {
        let resident = self.residents.get_mut(slab);
        if resident.fill == Fill::Saving {
            resident.fill = Fill::Unsaved;
        }
        if resident.renewal == Renewal::Saving {
            resident.renewal = Renewal::Unsaved;
        }
    }
}

#[cfg(test)]
mod tests;
