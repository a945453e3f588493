//! Rows of a section by slot and entity.

use std::ops::Range;

use millrace_placement::Slots as Placement;
use millrace_types::{Micros, SlotId};

use super::spine::{Section, SectionKind};

/// Some rows of a section, those of each entity together, and entities by slot.
#[derive(Debug)]
pub(super) struct Routed {
    /// Entities that have rows, as the section numbers them.
    entities: Vec<u32>,
    /// By place among `entities`: where its rows begin, and the end.
    starts: Vec<u32>,
    /// The instants of the rows, and their numbers in the section. A spine mostly comes in the order of
    /// time, so those of an entity seldom have to be sorted.
    ats: Vec<i64>,
    rows: Vec<u32>,
    /// The slots that rows fall to, with the places of their entities.
    slots: Vec<(SlotId, Range<u32>)>,
}

impl Routed {
    /// Routes these rows of a section by the entities of a kind.
    pub(super) fn new(
        placement: Placement,
        section: &Section,
        kind: usize,
        range: Range<usize>,
    ) -> Self {
        let SectionKind { entities, rows: of_row } = &section.kinds[kind];
        let of_row = &of_row[range.clone()];
        let mut counts = vec![0u32; entities.len()];
        of_row.iter().for_each(|entity| counts[*entity as usize] += 1);
        let (by_slot, slots) = by_slot(placement, section, kind, &counts);
        let mut starts = Vec::with_capacity(by_slot.len() + 1);
        let mut next = counts;
        let mut start = 0;
        for entity in &by_slot {
            starts.push(start);
            start += std::mem::replace(&mut next[*entity as usize], start);
        }
        starts.push(start);
        let mut ats = vec![0i64; of_row.len()];
        let mut rows = vec![0u32; of_row.len()];
        for (row, entity) in range.zip(of_row) {
            let place = &mut next[*entity as usize];
            ats[*place as usize] = section.ats[row];
            rows[*place as usize] = row as u32;
            *place += 1;
        }
        Self { entities: by_slot, starts, ats, rows, slots }
    }

    /// The slots that rows fall to, with the places of their entities.
    pub(super) fn slots(&self) -> &[(SlotId, Range<u32>)] {
        &self.slots
    }

    /// The entity at a place, as the section numbers it.
    pub(super) fn entity(&self, place: u32) -> u32 {
        self.entities[place as usize]
    }

    /// The number of rows of the entity at a place.
    pub(super) fn count(&self, place: u32) -> usize {
        (self.starts[place as usize + 1] - self.starts[place as usize]) as usize
    }

    /// Appends the instants and numbers of the rows of the entity at a place, in the order of their
    /// instants.
    pub(super) fn append(&self, place: u32, ats: &mut Vec<Micros>, rows: &mut Vec<u32>) {
        let place = place as usize;
        let range = self.starts[place] as usize..self.starts[place + 1] as usize;
        let (of_ats, of_rows) = (&self.ats[range.clone()], &self.rows[range]);
        if of_ats.is_sorted() {
            ats.extend(of_ats.iter().map(|at| Micros(*at)));
            rows.extend_from_slice(of_rows);
            return;
        }
        let mut sorted: Vec<(i64, u32)> =
            of_ats.iter().copied().zip(of_rows.iter().copied()).collect();
        sorted.sort_unstable();
        ats.extend(sorted.iter().map(|(at, _)| Micros(*at)));
        rows.extend(sorted.iter().map(|(_, row)| *row));
    }
}

/// The entities that have rows by slot, and the slots with the places of theirs.
fn by_slot(
    placement: Placement,
    section: &Section,
    kind: usize,
    counts: &[u32],
) -> (Vec<u32>, Vec<(SlotId, Range<u32>)>) {
    let entities = &section.kinds[kind].entities;
    let slot_of = |hash: u64| placement.slot_of(hash).0 as usize;
    let with_rows = || entities.iter().enumerate().filter(|(entity, _)| counts[*entity] > 0);
    let mut next = vec![0u32; placement.count() as usize + 1];
    for (_, (hash, _)) in with_rows() {
        next[slot_of(hash) + 1] += 1;
    }
    let mut slots = Vec::new();
    for slot in 0..placement.count() as usize {
        let start = next[slot];
        next[slot + 1] += start;
        if next[slot + 1] > start {
            slots.push((SlotId(slot as u32), start..next[slot + 1]));
        }
    }
    let mut by_slot = vec![0u32; slots.last().map_or(0, |(_, places)| places.end as usize)];
    for (entity, (hash, _)) in with_rows() {
        let place = &mut next[slot_of(hash)];
        by_slot[*place as usize] = entity as u32;
        *place += 1;
    }
    (by_slot, slots)
}
