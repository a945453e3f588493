//! The live facts of one stream of one entity, in order.

use hashbrown::HashTable;
use millrace_types::{FactView, Op, RowView};

use super::gather::EntityFacts;
use crate::facts::live_among;
use crate::page::id_hash;

/// Up to this many facts ids are compared with each other; beyond it by a table.
const COMPARE_MAX: usize = 16;

/// A live fact, by what a sweep needs of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LiveFact<'a> {
    pub(super) at: i64,
    pub(super) row: RowView<'a>,
    pub(super) op: Op,
    /// Its place among the facts of the entity.
    place: u32,
}

/// The live facts of a stream.
#[derive(Debug, Default)]
pub(super) struct Live<'a> {
    /// In the order `(at, seq, id)`.
    pub(super) facts: Vec<LiveFact<'a>>,
    /// Whether every fact was known by its instant, and no two have one id: what was known at an
    /// instant is then what happened up to it.
    pub(super) is_plain: bool,
}

impl<'a> Live<'a> {
    /// The live facts among all those of a stream.
    pub(super) fn of<B: AsRef<[u8]>>(entity: &EntityFacts<'a, B>, stream: usize) -> Self {
        let mut facts: Vec<LiveFact<'a>> = Vec::with_capacity(entity.facts.len());
        let mut ids: Vec<&'a [u8]> = Vec::with_capacity(entity.facts.len());
        let (mut is_plain, mut retracts) = (true, false);
        for (place, found) in entity.facts.iter().enumerate() {
            if usize::from(found.stream) != stream {
                continue;
            }
            let fact = entity.fact(found);
            is_plain &= found.in_time;
            retracts |= fact.op == Op::Retract;
            ids.push(fact.id);
            let place = place as u32;
            facts.push(LiveFact { at: fact.at.0, row: fact.row, op: fact.op, place });
        }
        let same = same_ids(&ids);
        if retracts || !same.is_empty() {
            is_plain = false;
            facts = live_facts(entity, stream, facts, same);
        }
        let mut live = Self { facts, is_plain };
        live.sort(entity);
        live
    }

    /// Facts mostly come in order, and few share an instant: only those are decoded once more.
    fn sort<B: AsRef<[u8]>>(&mut self, entity: &EntityFacts<'a, B>) {
        if !self.facts.is_sorted_by_key(|fact| fact.at) {
            self.facts.sort_by_key(|fact| fact.at);
        }
        for at_once in self.facts.chunk_by_mut(|a, b| a.at == b.at).filter(|same| same.len() > 1) {
            at_once.sort_by(|a, b| {
                let key = |fact: &LiveFact<'a>| fact.view(entity).order_key();
                key(a).cmp(&key(b))
            });
        }
    }

    /// The index of the first fact with `at` not before this one.
    pub(super) fn place_at(&self, at: i64) -> usize {
        self.facts.partition_point(|f| f.at < at)
    }
}

impl<'a> LiveFact<'a> {
    /// The whole fact.
    pub(super) fn view<B: AsRef<[u8]>>(&self, entity: &EntityFacts<'a, B>) -> FactView<'a> {
        entity.fact(&entity.facts[self.place as usize])
    }
}

/// The ids that several facts have: for each the indexes of its facts.
fn same_ids(ids: &[&[u8]]) -> Vec<Vec<u32>> {
    let mut groups: Vec<Vec<u32>> = Vec::new();
    if ids.len() <= COMPARE_MAX {
        for (next, id) in ids.iter().enumerate() {
            let Some(first) = ids[..next].iter().position(|before| before == id) else { continue };
            match groups.iter_mut().find(|group| group[0] as usize == first) {
                Some(group) => group.push(next as u32),
                None => groups.push(vec![first as u32, next as u32]),
            }
        }
        return groups;
    }
    // By the first fact of each id, and the place of its group once there is one.
    let mut table: HashTable<(u32, u32)> = HashTable::with_capacity(ids.len());
    for (next, id) in ids.iter().enumerate() {
        let hash = id_hash(id);
        match table.find_mut(hash, |(first, _)| ids[*first as usize] == *id) {
            Some((first, place)) => {
                if *place == u32::MAX {
                    *place = groups.len() as u32;
                    groups.push(vec![*first]);
                }
                groups[*place as usize].push(next as u32);
            }
            None => {
                let entry = (next as u32, u32::MAX);
                table.insert_unique(hash, entry, |(n, _)| id_hash(ids[*n as usize]));
            }
        }
    }
    groups
}

/// The live facts, given those that share their id with others.
fn live_facts<'a, B: AsRef<[u8]>>(
    entity: &EntityFacts<'a, B>,
    stream: usize,
    facts: Vec<LiveFact<'a>>,
    same: Vec<Vec<u32>>,
) -> Vec<LiveFact<'a>> {
    let mut keep: Vec<bool> = facts.iter().map(|f| f.op != Op::Retract).collect();
    let stream = entity.plan().streams[stream].id;
    for group in same {
        let fact = |n: &u32| facts[*n as usize].view(entity);
        let chunk = |n: &u32| entity.facts[facts[*n as usize].place as usize].chunk;
        let with_chunks: Vec<_> = group.iter().map(|n| (chunk(n), fact(n))).collect();
        // What a base chunk forgot says nothing of facts of the same id that came after it.
        let left = entity.cuts().left(stream, &with_chunks);
        let live = live_among(left.iter().map(|index| with_chunks[*index].1));
        let live = live.map(|index| left[index]);
        for (index, place) in group.into_iter().enumerate() {
            keep[place as usize] = Some(index) == live;
        }
    }
    facts.into_iter().zip(keep).filter_map(|(fact, keep)| keep.then_some(fact)).collect()
}
