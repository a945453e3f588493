//! Steps that go wrong on purpose, for tests of what notices it. They do so only in a build with the feature
//! and with debug assertions, and only from when a test in the same process says so.

use std::sync::atomic::{AtomicBool, Ordering};

static LOSES_FACTS: AtomicBool = AtomicBool::new(false);

/// From now on, or no longer, heads do not take in what is judged ACCEPTED or REPAIRED, as if a defect lost
/// it: the log has it, and whoever folds the log sees it. In the whole process.
pub fn lose_facts(loses: bool) {
    LOSES_FACTS.store(loses, Ordering::SeqCst);
}

pub(crate) fn loses_facts() -> bool {
    LOSES_FACTS.load(Ordering::SeqCst)
}
