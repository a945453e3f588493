//! Facts that subscriptions hold in memory, bounded over all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millrace_client::port::JoinError;

/// The bound, and what is held of it.
#[derive(Debug, Clone)]
pub(crate) struct HeldFacts {
    all: Arc<AtomicU64>,
    max: u64,
}

/// What one subscription holds, until it ends.
#[derive(Debug)]
pub(super) struct Share {
    of: HeldFacts,
    held: u64,
}

impl HeldFacts {
    pub(crate) fn new(max: u64) -> Self {
        Self { all: Arc::default(), max }
    }

    pub(super) fn share(&self) -> Share {
        Share { of: self.clone(), held: 0 }
    }
}

impl Share {
    /// The subscription holds so many facts now.
    ///
    /// # Errors
    /// [`JoinError::BudgetSpent`] when that is more than there is for all.
    pub(super) fn hold(&mut self, facts: u64) -> Result<(), JoinError> {
        let more = facts.saturating_sub(self.held);
        let all = self.of.all.fetch_add(more, Ordering::AcqRel) + more;
        self.held += more;
        if all <= self.of.max {
            return Ok(());
        }
        let reason = format!("subscriptions may hold {} facts together", self.of.max);
        Err(JoinError::BudgetSpent { facts, reason })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.all.fetch_sub(self.held, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_share_a_bound_and_give_back_what_they_held() {
        let facts = HeldFacts::new(10);
        let (mut one, mut two) = (facts.share(), facts.share());
        assert_eq!((one.hold(4), two.hold(6)), (Ok(()), Ok(())));
        assert!(matches!(two.hold(7), Err(JoinError::BudgetSpent { facts: 7, .. })));
        drop(two);
        assert_eq!(one.hold(10), Ok(()));
        drop(one);
        assert_eq!(facts.all.load(Ordering::Relaxed), 0);
    }
}
