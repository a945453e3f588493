//! Which join node should own a slot: consistent hashing with bounded loads.
//!
//! Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads" (arXiv 1608.01350): nodes
//! and slots lie on a ring; a slot belongs to the first node after it that has room, and no node takes
//! more than 1.25 times its share. Here a plan starts from the owners there are, so that what may stay
//! stays. A plan is a proposal: ownership itself is decided in the store (`slot-log.md`).

use std::collections::BTreeMap;

use millrace_types::SlotId;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::slots::Slots;

/// Points of a node of weight 1 on the ring. With so many, shares before bounding differ by about a
/// tenth.
const POINTS: u32 = 128;
/// Greatest weight of a node.
pub const WEIGHT_MAX: u32 = 1_024;
/// Greatest number of nodes of a plan.
pub const NODES_MAX: usize = 1_024;
/// A node takes at most this share of its fair one, in 64ths: 1.25.
const BOUND: u128 = 80;
/// A node that is over the bound gives away until it has this, so that the next small change of loads
/// does not move slots again: 1.125.
const SETTLED: u128 = 72;
const SCALE: u128 = 64;

/// Seeds of the two hashes of the ring. They are for good: other values move every slot.
const NODE_SEED: u64 = 0x6d69_6c6c_7261_6365;
const SLOT_SEED: u64 = 0x706c_6163_656d_656e;

/// A join node that can own slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique among the nodes.
    pub name: String,
    /// Its share beside those of the others, such as its cores: 1 to [`WEIGHT_MAX`].
    pub weight: u32,
}

/// Nodes that cannot share slots.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NodesError {
    /// Two of the same name.
    #[error("node {0:?} is there twice")]
    Repeated(String),
    /// A weight out of bounds.
    #[error("node {name:?} has weight {weight}; it is 1 to {WEIGHT_MAX}")]
    Weight {
        /// The node.
        name: String,
        /// Its weight.
        weight: u32,
    },
    /// Too many of them.
    #[error("{0} nodes; at most {NODES_MAX} are allowed")]
    TooMany(usize),
}

/// What a slot is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotNow<'a> {
    /// Who owns it; a node that is not there any more counts as none.
    pub owner: Option<&'a str>,
    /// What it costs its owner, in any unit, such as facts a second. A slot costs at least 1.
    pub load: u64,
}

/// A slot that should change hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The slot.
    pub slot: SlotId,
    /// Its node now, if that is there.
    pub from: Option<String>,
    /// Its node to be.
    pub to: String,
}

/// The nodes on their ring.
#[derive(Debug, Clone)]
pub struct Ring {
    nodes: Vec<Node>,
    /// By place on the ring: the index of a node.
    points: BTreeMap<u64, usize>,
}

/// A plan being made: who has what.
struct Plan<'a> {
    ring: &'a Ring,
    loads: Vec<u128>,
    owners: Vec<Option<usize>>,
    held: Vec<u128>,
    total: u128,
    /// Which nodes had nothing when the plan began.
    is_new: Vec<bool>,
}

impl Ring {
    /// Places nodes on the ring. Their order is of no consequence.
    ///
    /// # Errors
    /// [`NodesError`].
    pub fn try_new(mut nodes: Vec<Node>) -> Result<Self, NodesError> {
        if nodes.len() > NODES_MAX {
            return Err(NodesError::TooMany(nodes.len()));
        }
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = nodes.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(NodesError::Repeated(pair[0].name.clone()));
        }
        let mut points = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            if !(1..=WEIGHT_MAX).contains(&node.weight) {
                let (name, weight) = (node.name.clone(), node.weight);
                return Err(NodesError::Weight { name, weight });
            }
            let name = xxh3_64_with_seed(node.name.as_bytes(), NODE_SEED);
            for point in 0..POINTS * node.weight {
                // Of two nodes at one place the first by name has it; the other has many more.
                let place = xxh3_64_with_seed(&point.to_le_bytes(), name);
                points.entry(place).or_insert(index);
            }
        }
        Ok(Self { nodes, points })
    }

    /// The nodes, by name.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The slots that should change hands, ascending. `now` has one entry a slot; what is missing is
    /// unowned and costs 1. Nothing moves where there is no node.
    ///
    /// Afterwards every slot has an owner, and no node holds more than 1.25 times its share, a slot
    /// that costs more than this by itself apart. Where slots cost the same, a node that comes as one
    /// of n takes at most 1.25 / n of them, and nothing else moves; when one goes, its slots move and
    /// no others.
    #[must_use]
    pub fn plan(&self, slots: Slots, now: &[SlotNow<'_>]) -> Vec<Move> {
        if self.nodes.is_empty() {
            return Vec::new();
        }
        let mut plan = Plan::of_owners(self, slots, now);
        let before = plan.owners.clone();
        plan.fill_newcomers();
        plan.give_away();
        plan.place_unowned(&before);
        let name = |index: usize| self.nodes[index].name.clone();
        let changes = before.into_iter().zip(plan.owners).enumerate();
        changes
            .filter_map(|(slot, (from, to))| {
                let to = to.filter(|to| from != Some(*to))?;
                Some(Move { slot: SlotId(slot as u32), from: from.map(name), to: name(to) })
            })
            .collect()
    }

    /// The nodes as they follow a slot on the ring, each once.
    fn after(&self, slot: usize) -> impl Iterator<Item = usize> + '_ {
        let place = xxh3_64_with_seed(&(slot as u32).to_le_bytes(), SLOT_SEED);
        let mut seen = vec![false; self.nodes.len()];
        let around = self.points.range(place..).chain(self.points.range(..place));
        around.map(|(_, node)| *node).filter(move |node| !std::mem::replace(&mut seen[*node], true))
    }
}

impl<'a> Plan<'a> {
    fn of_owners(ring: &'a Ring, slots: Slots, now: &[SlotNow<'_>]) -> Self {
        let count = slots.count() as usize;
        let index = |name: &str| ring.nodes.binary_search_by(|n| n.name.as_str().cmp(name)).ok();
        let at = |slot: usize| now.get(slot).copied().unwrap_or_default();
        let loads: Vec<u128> = (0..count).map(|slot| u128::from(at(slot).load.max(1))).collect();
        let owners: Vec<_> = (0..count).map(|slot| at(slot).owner.and_then(index)).collect();
        let mut held = vec![0; ring.nodes.len()];
        for (owner, load) in owners.iter().zip(&loads) {
            if let Some(owner) = owner {
                held[*owner] += load;
            }
        }
        let is_new = held.iter().map(|held| *held == 0).collect();
        let total = loads.iter().sum();
        Self { ring, loads, owners, held, total, is_new }
    }

    /// `of` 64ths of what a node would have if all had their exact share, rounded up.
    fn share(&self, node: usize, of: u128) -> u128 {
        let weights: u128 = self.ring.nodes.iter().map(|n| u128::from(n.weight)).sum();
        let weight = u128::from(self.ring.nodes[node].weight);
        (self.total * weight * of).div_ceil(weights * SCALE)
    }

    /// Whether a node can take a load; an idle one takes any.
    fn has_room(&self, node: usize, load: u128) -> bool {
        self.held[node] == 0 || self.held[node] + load <= self.share(node, BOUND)
    }

    fn set_owner(&mut self, slot: usize, owner: Option<usize>) {
        if let Some(old) = self.owners[slot] {
            self.held[old] -= self.loads[slot];
        }
        if let Some(new) = owner {
            self.held[new] += self.loads[slot];
        }
        self.owners[slot] = owner;
    }

    /// A node that had nothing takes the slots that the ring places on it, from whoever has them, up to
    /// its share.
    fn fill_newcomers(&mut self) {
        for slot in 0..self.owners.len() {
            let Some(first) = self.ring.after(slot).next() else { continue };
            let stays = !self.is_new[first] || self.owners[slot] == Some(first);
            if stays || self.held[first] + self.loads[slot] > self.share(first, SCALE) {
                continue;
            }
            self.set_owner(slot, Some(first));
        }
    }

    /// The nodes that are over the bound give slots away, those first that the ring places elsewhere.
    fn give_away(&mut self) {
        for node in 0..self.ring.nodes.len() {
            if self.held[node] <= self.share(node, BOUND) {
                continue;
            }
            let of_node = |slot: &usize| self.owners[*slot] == Some(node);
            let mut slots: Vec<usize> = (0..self.owners.len()).filter(of_node).collect();
            // One that is too much by itself is so for others too: rather all others make room for it.
            let bound = self.share(node, BOUND);
            let is_home = |slot: usize| self.ring.after(slot).next() == Some(node);
            slots.sort_by_cached_key(|slot| (self.loads[*slot] > bound, is_home(*slot)));
            for slot in slots {
                let left = self.held[node] - self.loads[slot];
                // The last one stays, however much it costs: elsewhere it would cost the same.
                if left == 0 || self.held[node] <= self.share(node, SETTLED) {
                    break;
                }
                self.set_owner(slot, None);
            }
        }
    }

    /// Every slot without an owner gets the first node after it that has room; those that cost most
    /// choose first, as they are hardest to place. What its owner gave away goes to a newcomer while
    /// one has room: then nobody else takes part in its coming.
    fn place_unowned(&mut self, before: &[Option<usize>]) {
        let mut slots: Vec<usize> =
            (0..self.owners.len()).filter(|slot| self.owners[*slot].is_none()).collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(self.loads[*slot]));
        for slot in slots {
            let load = self.loads[slot];
            let fitting = || self.ring.after(slot).filter(|node| self.has_room(*node, load));
            let given_away = before[slot].is_some();
            let newcomer = fitting().find(|node| given_away && self.is_new[*node]);
            // What fits nowhere goes where it does least harm.
            let owner = newcomer.or_else(|| fitting().next()).or_else(|| self.idlest());
            self.set_owner(slot, owner);
        }
    }

    /// The node with the least load for its weight.
    fn idlest(&self) -> Option<usize> {
        let weighed = |node: &usize| {
            self.held[*node] * u128::from(WEIGHT_MAX) / u128::from(self.ring.nodes[*node].weight)
        };
        (0..self.held.len()).min_by_key(weighed)
    }
}

#[cfg(test)]
mod tests;
