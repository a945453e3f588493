//! What a join node does about slots, from what all nodes tell of themselves: whom it takes for dead,
//! what it takes, what it gives away.
//!
//! Every node watches by itself and comes to the same plan from the same members. Where their views
//! differ for a moment, the store decides who owns a slot (`slot-log.md`); nothing here has to be right
//! for the log to be.

use std::collections::BTreeMap;

use millrace_types::SlotId;

use crate::nodes::{Node, Ring, SlotNow, WEIGHT_MAX};
use crate::slots::Slots;

/// Between two looks at most so much counts as time in which a member was silent: who did not look
/// cannot say that nobody was there.
const GAP_MAX_MS: u64 = 1_000;

/// A plan is carried out when it is made so many times in a row: no node acts on what it saw in passing.
const LOOKS: u32 = 2;
/// The same where a slot moves only because of what slots cost, to a node that has at least half of its
/// number of slots. Loads that begin, end or are told late look uneven for a while, and each move costs
/// producers a pause.
const LOOKS_FOR_LOAD: u32 = 8;

/// A slot that a member owns, or has released for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The slot.
    pub slot: SlotId,
    /// The epoch it owns it in, or owned it in last.
    pub epoch: u64,
    /// What the slot costs.
    pub load: u64,
    /// Released, for this node to take.
    pub offered_to: Option<&'a str>,
}

/// What a node told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its run.
    pub run: u64,
    /// Its share.
    pub weight: u32,
    /// Grows while it is alive.
    pub beat: u64,
    /// It goes down.
    pub leaving: bool,
    /// Its slots.
    pub claims: Vec<Claim<'a>>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// Slots to take over, with what each cost its last owner.
    pub take: Vec<(SlotId, u64)>,
    /// Slots to release, and for whom.
    pub give: Vec<(SlotId, String)>,
    /// Runs that are taken for dead: they may be fenced.
    pub dead: Vec<u64>,
}

/// One node's watch over all.
#[derive(Debug)]
pub struct Watch {
    me: String,
    slots: Slots,
    lease_ms: u64,
    looked_ms: Option<u64>,
    standing: BTreeMap<String, Standing>,
    /// What the last plan would give away to whom, and how many in a row would.
    planned: BTreeMap<SlotId, (String, u32)>,
}

#[derive(Debug)]
struct Standing {
    run: u64,
    beat: u64,
    still_ms: u64,
}

impl Watch {
    /// Watches as the node of this name. Who is silent for the lease time is dead.
    #[must_use]
    pub fn new(me: impl Into<String>, slots: Slots, lease_ms: u64) -> Self {
        Self {
            me: me.into(),
            slots,
            lease_ms,
            looked_ms: None,
            standing: BTreeMap::new(),
            planned: BTreeMap::new(),
        }
    }

    /// Looks at what all nodes told last, this one among them, at an instant of a clock that never goes
    /// back.
    pub fn look(&mut self, now_ms: u64, members: &[Seen<'_>]) -> Step {
        let passed = self.looked_ms.map_or(0, |last| now_ms.saturating_sub(last)).min(GAP_MAX_MS);
        self.looked_ms = Some(now_ms);
        let dead = self.dead(passed, members);
        let alive: Vec<&Seen<'_>> = members.iter().filter(|m| !dead.contains(&m.run)).collect();
        let steady = |name: &str| alive.iter().any(|m| m.name == name && !m.leaving);
        if !steady(&self.me) {
            // It goes down, or is not told of yet: it takes nothing, and what it has goes otherwise.
            return Step { dead, ..Step::default() };
        }
        let mut claims: BTreeMap<SlotId, (Claim<'_>, &str)> = BTreeMap::new();
        for (member, claim) in alive.iter().flat_map(|m| m.claims.iter().map(|c| (m.name, *c))) {
            let stands =
                claims.get(&claim.slot).is_some_and(|(other, _)| other.epoch > claim.epoch);
            if !stands {
                claims.insert(claim.slot, (claim, member));
            }
        }
        // What is offered belongs to whom it is offered, if that is there to take it.
        let owner = |claim: &Claim<'_>, member| match claim.offered_to {
            None => Some(member),
            Some(to) => alive.iter().find(|m| m.name == to && !m.leaving).map(|m| m.name),
        };
        let mut take = Vec::new();
        let mut now = vec![SlotNow::default(); self.slots.count() as usize];
        for (slot, (claim, member)) in &claims {
            let Some(place) = now.get_mut(slot.0 as usize) else { continue };
            let owner = owner(claim, *member);
            *place = SlotNow { owner, load: claim.load };
            if claim.offered_to.is_some() && owner == Some(self.me.as_str()) {
                take.push((*slot, claim.load));
            }
        }
        let node = |m: &&&Seen<'_>| Node {
            name: m.name.to_owned(),
            weight: m.weight.clamp(1, WEIGHT_MAX),
        };
        // More nodes than a ring takes, or two of a name, which a store does not have: all stays.
        let ring = Ring::try_new(alive.iter().filter(|m| !m.leaving).map(|m| node(&m)).collect());
        let moves = ring.map(|ring| ring.plan(self.slots, &now)).unwrap_or_default();
        let mut planned = BTreeMap::new();
        for wanted in moves {
            // A node that goes down owns what it has until that is released.
            let free = now.get(wanted.slot.0 as usize).is_none_or(|slot| slot.owner.is_none());
            if free && wanted.to == self.me {
                let load = claims.get(&wanted.slot).map_or(0, |(claim, _)| claim.load);
                take.push((wanted.slot, load));
            } else if wanted.from.as_deref() == Some(self.me.as_str()) {
                let before = self.planned.get(&wanted.slot).filter(|(to, _)| *to == wanted.to);
                let times = before.map_or(1, |(_, times)| times.saturating_add(1));
                planned.insert(wanted.slot, (wanted.to, times));
            }
        }
        self.planned = planned;
        let weights: u64 = alive.iter().filter(|m| !m.leaving).map(|m| u64::from(m.weight)).sum();
        let has_few = |name: &str| {
            let has = now.iter().filter(|slot| slot.owner == Some(name)).count() as u64;
            let weight = alive.iter().find(|m| m.name == name).map_or(0, |m| u64::from(m.weight));
            2 * has * weights < u64::from(self.slots.count()) * weight
        };
        let is_due =
            |to: &str, times: u32| times >= if has_few(to) { LOOKS } else { LOOKS_FOR_LOAD };
        let mine = |slot: &SlotId| claims.get(slot).is_some_and(|(c, _)| c.offered_to.is_none());
        let due =
            self.planned.iter().filter(|(slot, (to, times))| is_due(to, *times) && mine(slot));
        let give = due.map(|(slot, (to, _))| (*slot, to.clone())).collect();
        take.sort_unstable();
        take.dedup();
        Step { take, give, dead }
    }

    /// How long after the last look a member is dead that goes on being silent, in milliseconds: the soonest
    /// of them. Who looks again by then misses nobody for longer than the lease.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        let others = self.standing.iter().filter(|(name, _)| **name != self.me);
        let left = others.map(|(_, standing)| self.lease_ms.saturating_sub(standing.still_ms));
        left.filter(|left| *left > 0).min()
    }

    /// Counts how long each was silent, and gives the runs that are dead. This one never is.
    fn dead(&mut self, passed: u64, members: &[Seen<'_>]) -> Vec<u64> {
        self.standing.retain(|name, _| members.iter().any(|m| m.name == *name));
        let mut dead = Vec::new();
        for member in members {
            let fresh = Standing { run: member.run, beat: member.beat, still_ms: 0 };
            match self.standing.get_mut(member.name) {
                Some(standing) if standing.run == member.run && standing.beat == member.beat => {
                    standing.still_ms += passed;
                    if standing.still_ms >= self.lease_ms && member.name != self.me {
                        dead.push(member.run);
                    }
                }
                Some(standing) => *standing = fresh,
                None => {
                    self.standing.insert(member.name.to_owned(), fresh);
                }
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests;
