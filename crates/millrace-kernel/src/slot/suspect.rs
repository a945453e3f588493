//! Entities of which an answer was not what the log says: they become dirty like one that needs the log
//! for a fact, in the next chunk that is judged, and are rebuilt.

use millrace_types::entity::entity_hash;
use millrace_types::{ChunkHeader, Entity};

use super::{SlotCore, Waiting, Work};
use crate::entity::EntityState;

/// Entities that may wait for the next chunk to become dirty in.
const SUSPECTS_MAX: usize = 128;

/// What becomes of a suspicion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspected {
    /// It becomes dirty in the next chunk that is judged.
    Noted,
    /// It is dirty already, since a chunk that is judged.
    Dirty,
    /// The catalog has no such kind.
    Unknown,
    /// As many as there may be wait already: say so again later.
    Full,
}

impl SlotCore {
    /// Says that the head of an entity is not to be trusted. Until the rebuild its value stays as it is,
    /// flagged.
    pub fn suspect(&mut self, entity: Entity) -> Suspected {
        if self.plan.kind(entity.kind).is_none() {
            return Suspected::Unknown;
        }
        if self.dirty.contains_key(&entity) {
            return Suspected::Dirty;
        }
        if self.suspects.len() >= SUSPECTS_MAX && !self.suspects.contains(&entity) {
            return Suspected::Full;
        }
        self.suspects.insert(entity);
        Suspected::Noted
    }

    /// True when the next chunk makes entities dirty, whether there are facts for it or not.
    #[must_use]
    pub fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Before the facts of the chunk are judged: those of a suspect wait.
    pub(super) fn judge_suspects(&mut self, header: &mut ChunkHeader, work: &Work) {
        for entity in std::mem::take(&mut self.suspects) {
            let Some(kind) = self.plan.kind(entity.kind).cloned() else { continue };
            if self.dirty.contains_key(&entity) {
                continue;
            }
            let hash = entity_hash(&kind.kind_name, entity.key.as_bytes());
            match self.residents.find(hash, entity.kind, entity.key.as_bytes()) {
                Some(slab) => self.residents.get_mut(slab).waiting = true,
                // Nothing is ever loaded: the head says that it has no fact, which may be wrong.
                None if self.complete => {
                    let state = EntityState::new(kind);
                    self.residents.insert(hash, entity.clone(), state, true, false);
                }
                // Once loaded, it is found among the dirty ones.
                None => {}
            }
            header.dirtied.push(entity.clone());
            let waiting = Waiting {
                since: work.position,
                last: work.position,
                before: work.before.clone(),
                rebuilding: false,
            };
            self.dirty.insert(entity, waiting);
        }
    }
}
