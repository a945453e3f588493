//! Imports: facts that state since when they were known, and facts that are published and imported both.

use millrace_test_support::Oracle;
use millrace_types::{Fact, KnownAt};

use super::Check;

impl Check<'_> {
    /// Makes one batch in three part of an import: new facts, facts that came before, or both, each with
    /// an instant of its own, which never goes back within the batch. Another one repeats facts that
    /// came before, imported ones too, as published.
    pub(super) fn import_some(&mut self, facts: &mut Vec<Fact>) {
        let imports = self.rng.percent(30);
        if (imports && self.rng.percent(60)) || self.rng.percent(10) {
            for _ in 0..self.rng.between(1, 4).min(self.in_effect.len()) {
                let (_, again) = &self.in_effect[self.rng.below(self.in_effect.len())];
                facts.push(again.clone());
            }
        }
        facts.iter_mut().for_each(|fact| fact.body.known_at = None);
        if !imports {
            return;
        }
        let mut stated: Vec<i64> = facts.iter().map(|_| self.past_instant()).collect();
        stated.sort_unstable();
        for (fact, stated) in facts.iter_mut().zip(stated) {
            // Some facts of the slot's batch come from another producer, which publishes.
            if self.rng.percent(90) {
                fact.body.known_at = Some(KnownAt(stated));
                self.known_ats.push(KnownAt(stated));
            }
        }
        self.sim.reach("import");
    }

    /// Before everything, between two chunks, at a chunk, or ahead of the slot's clock, as the clock of
    /// another machine may be.
    fn past_instant(&mut self) -> i64 {
        let known = match self.known_ats.as_slice() {
            [] => 0,
            some => self.rng.pick(some).0,
        };
        let near = *self.rng.pick(&[-11, -1, 0, 0, 1, 5]);
        match self.rng.below(10) {
            0 => i64::MIN,
            1 => 0,
            2 => 1_000_000_000,
            _ => known.saturating_add(near),
        }
    }

    /// The oracle as of the last chunk with this known_at or less, whatever came later.
    pub(super) fn oracle_up_to(&self, chunk: KnownAt) -> Oracle {
        let mut oracle = self.empty_oracle(self.oracle.catalog());
        for (known_at, fact) in self.in_effect.iter().filter(|(known_at, _)| *known_at <= chunk) {
            oracle.insert(*known_at, fact.clone());
        }
        self.forget_in(&mut oracle, chunk);
        oracle
    }

    /// Since when a fact counts: the least known_at of its copies in effect.
    pub(super) fn least_known_at(&self, fact: &Fact) -> Option<KnownAt> {
        let copies = self.in_effect.iter().filter(|(_, copy)| {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let same = copy.body.view(&mut a).same_payload(&fact.body.view(&mut b));
            same && (copy.stream, &copy.entity, &copy.body.id)
                == (fact.stream, &fact.entity, &fact.body.id)
        });
        let known_at = copies.map(|(chunk, copy)| {
            let stated = copy.body.known_at.unwrap_or(*chunk);
            stated.min(*chunk)
        });
        known_at.min()
    }
}
