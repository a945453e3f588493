//! The live facts of one stream of one entity, in order.

use hashbrown::HashTable;
use millrace_types::{FactView, Op};

use super::gather::{EntityFacts, FactRef};
use crate::facts::live_among;
use crate::page::id_hash;

/// Up to this many facts ids are compared with each other; beyond it by a table.
const COMPARE_MAX: usize = 16;

/// The live facts of a stream.
#[derive(Debug, Default)]
pub(super) struct Live<'a> {
    /// In the order `(at, seq, id)`.
    pub(super) facts: Vec<FactView<'a>>,
    /// Whether every fact was known by its instant, and no two have one id: what was known at an
    /// instant is then what happened up to it.
    pub(super) is_plain: bool,
}

impl<'a> Live<'a> {
    /// The live facts among all those of a stream.
    pub(super) fn of<B: AsRef<[u8]>>(entity: &EntityFacts<'a, B>, stream: usize) -> Self {
        let of_stream = || entity.facts.iter().filter(|f| usize::from(f.stream) == stream);
        let mut is_plain = of_stream().all(|f| f.in_time);
        let mut facts: Vec<FactView<'a>> = of_stream().map(|f: &FactRef| entity.fact(f)).collect();
        let same = same_ids(&facts);
        let retracts = facts.iter().any(|f| f.op == Op::Retract);
        if retracts || !same.is_empty() {
            is_plain = false;
            facts = live_facts(facts, same);
        }
        if !facts.is_sorted_by(|a, b| a.order_key() <= b.order_key()) {
            facts.sort_by(|a, b| a.order_key().cmp(&b.order_key()));
        }
        Self { facts, is_plain }
    }

    /// The index of the first fact with `at` not before this one.
    pub(super) fn place_at(&self, at: i64) -> usize {
        self.facts.partition_point(|f| f.at.0 < at)
    }
}

/// The ids that several facts have: for each the indexes of its facts.
fn same_ids(facts: &[FactView<'_>]) -> Vec<Vec<u32>> {
    let mut groups: Vec<Vec<u32>> = Vec::new();
    let mut group = |first: u32, next: u32| match groups.iter_mut().find(|g| g[0] == first) {
        Some(group) => group.push(next),
        None => groups.push(vec![first, next]),
    };
    if facts.len() <= COMPARE_MAX {
        for (next, fact) in facts.iter().enumerate() {
            if let Some(first) = facts[..next].iter().position(|f| f.id == fact.id) {
                group(first as u32, next as u32);
            }
        }
        return groups;
    }
    // By the first fact of each id, and the place of its group once there is one.
    let mut table: HashTable<(u32, u32)> = HashTable::with_capacity(facts.len());
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for (next, fact) in facts.iter().enumerate() {
        let hash = id_hash(fact.id);
        match table.find_mut(hash, |(first, _)| facts[*first as usize].id == fact.id) {
            Some((first, place)) => {
                if *place == u32::MAX {
                    *place = groups.len() as u32;
                    groups.push(vec![*first]);
                }
                groups[*place as usize].push(next as u32);
            }
            None => {
                let entry = (next as u32, u32::MAX);
                table.insert_unique(hash, entry, |(n, _)| id_hash(facts[*n as usize].id));
            }
        }
    }
    groups
}

/// The live facts, given those that share their id with others.
fn live_facts<'a>(facts: Vec<FactView<'a>>, same: Vec<Vec<u32>>) -> Vec<FactView<'a>> {
    let mut keep: Vec<bool> = facts.iter().map(|f| f.op != Op::Retract).collect();
    for group in same {
        let live = live_among(group.iter().map(|n| facts[*n as usize]));
        for (index, place) in group.into_iter().enumerate() {
            keep[place as usize] = Some(index) == live;
        }
    }
    facts.into_iter().zip(keep).filter_map(|(fact, keep)| keep.then_some(fact)).collect()
}
