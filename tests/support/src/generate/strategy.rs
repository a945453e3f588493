//! Cases as a proptest strategy.

use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::{Arrival, Case, Options};

/// Random cases; they shrink by dropping records.
pub fn cases(options: Options) -> impl Strategy<Value = Case> {
    Cases(options)
}

#[derive(Debug)]
struct Cases(Options);

impl Strategy for Cases {
    type Tree = CaseTree;
    type Value = Case;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let seed = proptest::prelude::any::<u64>().new_tree(runner)?.current();
        let case = Case::generate(seed, &self.0);
        let run = case.arrivals.len().div_ceil(2);
        Ok(CaseTree { case, run, start: 0, dropped: Vec::new() })
    }
}

/// A case, and which run of its records was tried to be dropped last.
#[derive(Debug)]
pub struct CaseTree {
    case: Case,
    /// The length of the runs tried now.
    run: usize,
    /// Where the next run starts.
    start: usize,
    /// What was dropped last.
    dropped: Vec<Arrival>,
}

impl ValueTree for CaseTree {
    type Value = Case;

    fn current(&self) -> Case {
        self.case.clone()
    }

    fn simplify(&mut self) -> bool {
        while self.run > 0 {
            if self.start < self.case.arrivals.len() {
                let end = (self.start + self.run).min(self.case.arrivals.len());
                self.dropped = self.case.arrivals.drain(self.start..end).collect();
                return true;
            }
            self.start = 0;
            self.run /= 2;
        }
        false
    }

    /// Puts the run back that was not to blame, and goes on behind it.
    fn complicate(&mut self) -> bool {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped.is_empty() {
            return false;
        }
        let count = dropped.len();
        self.case.arrivals.splice(self.start..self.start, dropped);
        self.start += count;
        true
    }
}
