//! What is in memory of a slot's entities, and what the store has of others.

use std::sync::Arc;

use millrace_types::codec::Reader;
use millrace_types::entity::entity_hash;
use millrace_types::fact::RecordView;
use millrace_types::{DecodeError, Entity, EntityKey, Micros};

use super::SlotCore;
use crate::entity::EntityState;

impl SlotCore {
    /// The entities of these encoded facts that are not in memory and may be in the store: load
    /// them ([`SlotCore::insert_loaded`]) before judging the facts.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no records.
    pub fn missing(&self, facts: &[u8]) -> Result<Vec<Entity>, DecodeError> {
        let mut missing = Vec::new();
        if self.complete {
            return Ok(missing);
        }
        let mut reader = Reader::new(facts);
        while !reader.is_empty() {
            let record = RecordView::read(&mut reader)?;
            let hash = self.hash(&record);
            if self.residents.find(hash, record.kind, record.key).is_none() {
                let key = EntityKey::from_bytes(record.key)?;
                missing.push(Entity { kind: record.kind, key });
            }
        }
        missing.sort_unstable();
        missing.dedup();
        Ok(missing)
    }

    /// True when an entity is in memory, or surely nowhere.
    #[must_use]
    pub fn has(&self, entity: &Entity) -> bool {
        let name = self.plan.kind(entity.kind).map_or("", |k| k.kind_name.as_str());
        let hash = entity_hash(name, entity.key.as_bytes());
        self.complete || self.residents.find(hash, entity.kind, entity.key.as_bytes()).is_some()
    }

    /// True when an entity is in memory.
    #[must_use]
    pub fn is_resident(&self, entity: &Entity) -> bool {
        self.slab_of(entity).is_some()
    }

    /// Takes in what the store has of an entity; `None` when it has no head. An entity in memory
    /// stays as it is.
    pub fn insert_loaded(&mut self, entity: &Entity, state: Option<EntityState>) {
        let Some(kind) = self.plan.kind(entity.kind) else { return };
        let hash = entity_hash(&kind.kind_name, entity.key.as_bytes());
        if self.residents.find(hash, entity.kind, entity.key.as_bytes()).is_some() {
            return;
        }
        let stored = state.is_some();
        let is_ahead = state.as_ref().is_some_and(|state| state.applied() > self.position);
        let mut state = state.unwrap_or_else(|| EntityState::new(Arc::clone(kind)));
        state.replan(kind);
        let waiting = self.dirty.contains_key(entity);
        if !waiting {
            state.forget(self.boundaries());
        }
        if !waiting && self.horizon > Micros::MIN {
            state.evict(self.horizon);
        }
        let slab = self.residents.insert(hash, entity.clone(), state, waiting, stored);
        if is_ahead {
            // The log is being followed. The head may be on fewer nodes of the store than a quorum: it is put
            // once more before a mark says that heads have what it covers (slot-log.md, take-over 5).
            let next = self.next_position();
            self.residents.set_unsaved(slab, Some(next));
        }
    }
}
