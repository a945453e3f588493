//! Another catalog version comes among the facts: what it adds is backfilled.

use std::collections::VecDeque;
use std::sync::Arc;

use millrace_catalog::Catalog;
use millrace_kernel::Plan;
use millrace_test_support::Oracle;
use millrace_test_support::generate::{Case, Rng};
use millrace_types::FeatureValue;

use super::{Check, Failure};

/// A catalog that follows.
pub(super) struct Next {
    catalog: Arc<Catalog>,
    /// The case as of this catalog.
    case: Case,
    /// Batches before it.
    after: usize,
}

/// The catalog a case begins with, the case as of it, and those that follow: the last is the case's.
pub(super) fn versions(
    case: &Case,
    variant: u64,
    whole: Arc<Catalog>,
) -> (Arc<Catalog>, Case, VecDeque<Next>) {
    let mut rng = Rng::new(variant ^ 0x5eed);
    let mut cases = vec![case.clone()];
    for _ in 0..rng.below(3) {
        let catalog = cases[0].catalog.earlier(&mut rng);
        cases.insert(0, Case { catalog, ..case.clone() });
    }
    let mut catalogs: Vec<Arc<Catalog>> = Vec::new();
    for one in &cases {
        let before = catalogs.last().map(Arc::as_ref);
        // What is refused is no case.
        let Ok(catalog) = Catalog::compile(&one.catalog.to_yaml(), before) else {
            return (whole, case.clone(), VecDeque::new());
        };
        catalogs.push(Arc::new(catalog));
    }
    let mut after: Vec<usize> =
        catalogs.iter().map(|_| rng.below(case.batches().len() + 1)).collect();
    after.sort_unstable();
    let all = catalogs.into_iter().zip(cases).zip(after);
    let mut next: VecDeque<Next> =
        all.map(|((catalog, case), after)| Next { catalog, case, after }).collect();
    match next.pop_front() {
        Some(first) => (first.catalog, first.case, next),
        None => (whole, case.clone(), next),
    }
}

impl Check<'_> {
    /// The next versions come once this many batches were published.
    pub(super) fn evolve(&mut self, batches: usize) -> Result<(), Failure> {
        while let Some(next) = self.next.pop_front_if(|next| next.after <= batches) {
            self.oracle = next.case.oracle(&next.catalog);
            for (known_at, fact) in &self.in_effect {
                self.oracle.insert(*known_at, fact.clone());
            }
            for (known_at, base) in &self.bases {
                base.iter().for_each(|(stream, at)| self.oracle.forget(*known_at, stream, at));
            }
            self.now = next.case;
            self.sim.set_plan(Arc::new(Plan::with_pages(next.catalog, self.pages)));
            // A read moves its entity to the new plan; others leave that to what follows.
            if self.rng.percent(50) {
                self.compare_reads(2)?;
            }
        }
        Ok(())
    }

    /// An oracle without facts for this catalog, the one in force.
    pub(super) fn empty_oracle(&self, catalog: &Catalog) -> Oracle {
        self.now.oracle(catalog)
    }

    /// A value is told to be filled in, while that may be so.
    pub(super) fn may_lack(&self, value: &FeatureValue) -> bool {
        *value == FeatureValue::NULL
            && self.sim.core.filled().version < self.sim.plan.catalog.version
    }
}
