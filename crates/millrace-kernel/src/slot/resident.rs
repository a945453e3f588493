//! Entities in memory, found by their hash, with what has to be saved of them and when they were
//! last used.

use std::collections::BTreeSet;

use hashbrown::HashTable;
use millrace_types::{Entity, KindId, KnownAt, Micros, Position};

use super::save::AtHand;
use crate::entity::EntityState;
use crate::page::PageName;

/// The place of a resident; stays the same while it is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slab(u32);

/// Where the backfill of a resident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// None is under way.
    No,
    /// The log is being folded for it: it stays in memory and nothing of it leaves.
    Pinned,
    /// Filled in; the stored head does not know.
    Unsaved,
    /// Filled in; a head that knows is being put.
    Saving,
}

/// Where the put of a head stands that is to be stored once more, since the stored one may have facts that
/// are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// None is under way.
    No,
    /// The head is to be put.
    Unsaved,
    /// It is being put.
    Saving,
}

#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) hash: u64,
    pub(crate) entity: Entity,
    pub(crate) state: EntityState,
    /// It is dirty: its facts wait in the log.
    pub(crate) waiting: bool,
    /// The first chunk whose facts the stored head lacks; see [`Residents::set_unsaved`].
    unsaved_since: Option<Position>,
    /// A put of its head is under way, as of this position.
    pub(crate) saving: Option<Position>,
    pub(crate) fill: Fill,
    /// Where the put of a head without what was forgotten stands.
    pub(crate) renewal: Renewal,
    /// The version of the head that was put last from here; none before.
    pub(crate) put_at: Option<KnownAt>,
    /// The horizon of the head that was put last; the earliest instant when that is not known.
    pub(crate) saved_horizon: Micros,
    /// The pages and id parts the stored head lists.
    pub(crate) listed: (Vec<PageName>, Vec<PageName>),
    /// Rebuilt heads that the next ordinary head replaces.
    pub(crate) rebuilt_parts: Vec<KnownAt>,
    /// The last chunk that changed its facts.
    pub(crate) changed_in: Position,
    /// While following a chunk: its facts are not in the state yet.
    pub(crate) follows: bool,
    /// The last chunk that touched it.
    touched: Position,
    used: u64,
    /// What [`Residents::at_hand`] counts of it.
    counted: AtHand,
}

impl Resident {
    pub(crate) fn unsaved_since(&self) -> Option<Position> {
        self.unsaved_since
    }
}

/// The residents of a slot.
#[derive(Debug, Default)]
pub(crate) struct Residents {
    table: HashTable<Slab>,
    slab: Vec<Option<Box<Resident>>>,
    free: Vec<Slab>,
    tick: u64,
    /// Those whose stored head lacks facts, by the first chunk it lacks.
    unsaved: BTreeSet<(Position, Slab)>,
    at_hand: AtHand,
}

impl Residents {
    /// Memory of all residents.
    pub(crate) fn at_hand(&self) -> AtHand {
        self.at_hand
    }

    /// Counts what a resident holds after it may have changed.
    pub(crate) fn recount(&mut self, slab: Slab) {
        let resident = self.get_mut(slab);
        let now = AtHand {
            resident_bytes: resident.state.heap_bytes() + size_of::<Resident>(),
            fact_bytes: resident.state.fact_bytes(),
        };
        let before = std::mem::replace(&mut resident.counted, now);
        let sum = &mut self.at_hand;
        sum.resident_bytes = sum.resident_bytes + now.resident_bytes - before.resident_bytes;
        sum.fact_bytes = sum.fact_bytes + now.fact_bytes - before.fact_bytes;
    }

    /// States the first chunk whose facts the stored head of a resident lacks.
    pub(crate) fn set_unsaved(&mut self, slab: Slab, since: Option<Position>) {
        let before = std::mem::replace(&mut self.get_mut(slab).unsaved_since, since);
        if before == since {
            return;
        }
        if let Some(position) = before {
            self.unsaved.remove(&(position, slab));
        }
        if let Some(position) = since {
            self.unsaved.insert((position, slab));
        }
    }

    /// Those whose stored head lacks facts, unsaved longest first, each with the first chunk it lacks.
    pub(crate) fn unsaved(&self) -> impl Iterator<Item = (Position, Slab)> {
        self.unsaved.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn find(&self, hash: u64, kind: KindId, key: &[u8]) -> Option<Slab> {
        self.table
            .find(hash, |slab| {
                let r = self.get(*slab);
                r.hash == hash && r.entity.kind == kind && r.entity.key.as_bytes() == key
            })
            .copied()
    }

    pub(crate) fn get(&self, slab: Slab) -> &Resident {
        self.slab[slab.0 as usize].as_ref().expect("the table names only slabs in use")
    }

    pub(crate) fn get_mut(&mut self, slab: Slab) -> &mut Resident {
        self.slab[slab.0 as usize].as_mut().expect("the table names only slabs in use")
    }

    pub(crate) fn insert(
        &mut self,
        hash: u64,
        entity: Entity,
        state: EntityState,
        waiting: bool,
        stored: bool,
    ) -> Slab {
        self.tick += 1;
        let listed = if stored { state.stored_parts() } else { Default::default() };
        let resident = Box::new(Resident {
            hash,
            entity,
            state,
            waiting,
            unsaved_since: None,
            saving: None,
            fill: Fill::No,
            renewal: Renewal::No,
            put_at: None,
            saved_horizon: Micros::MIN,
            listed,
            rebuilt_parts: Vec::new(),
            changed_in: Position::START,
            follows: false,
            touched: Position::START,
            used: self.tick,
            counted: AtHand::default(),
        });
        let slab = match self.free.pop() {
            Some(slab) => {
                self.slab[slab.0 as usize] = Some(resident);
                slab
            }
            None => {
                self.slab.push(Some(resident));
                Slab((self.slab.len() - 1) as u32)
            }
        };
        let all = &self.slab;
        self.table.insert_unique(hash, slab, |s| all[s.0 as usize].as_ref().map_or(0, |r| r.hash));
        slab
    }

    /// Notes that a chunk touches the entity; true the first time for this chunk.
    pub(crate) fn touch(&mut self, slab: Slab, position: Position) -> bool {
        self.tick += 1;
        let tick = self.tick;
        let resident = self.get_mut(slab);
        resident.used = tick;
        let first = resident.touched != position;
        resident.touched = position;
        first
    }

    pub(crate) fn note_use(&mut self, slab: Slab) {
        self.tick += 1;
        let tick = self.tick;
        self.get_mut(slab).used = tick;
    }

    /// The facts of a chunk are in effect on the entity, unless it waits or none changed it.
    pub(crate) fn chunk_applied(&mut self, slab: Slab, position: Position, known_at: KnownAt) {
        self.recount(slab);
        let resident = self.get_mut(slab);
        if !resident.waiting && resident.changed_in == position {
            resident.state.set_applied(position, known_at);
            if resident.unsaved_since.is_none() {
                self.set_unsaved(slab, Some(position));
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slab, &Resident)> {
        self.slab
            .iter()
            .enumerate()
            .filter_map(|(i, r)| r.as_ref().map(|r| (Slab(i as u32), r.as_ref())))
    }

    pub(crate) fn remove(&mut self, slab: Slab) {
        self.set_unsaved(slab, None);
        let Some(resident) = self.slab[slab.0 as usize].take() else { return };
        self.at_hand.resident_bytes -= resident.counted.resident_bytes;
        self.at_hand.fact_bytes -= resident.counted.fact_bytes;
        if let Ok(entry) = self.table.find_entry(resident.hash, |s| *s == slab) {
            entry.remove();
        }
        self.free.push(slab);
    }

    /// When the entity was last used, as a count of uses.
    pub(crate) fn used(resident: &Resident) -> u64 {
        resident.used
    }
}
