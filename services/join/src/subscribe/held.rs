//! Facts that subscriptions hold in memory, bounded over all of them.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millrace_client::port::JoinError;

/// What a fact takes beside its bytes, about: its place by time, and that of its id.
const BESIDE_BYTES: u64 = 64;
/// What an entity takes beside its facts, about: 300,000 entities of a fact each took 450 MiB.
const ENTITY_BYTES: u64 = 1_536;

/// So many facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    pub(crate) facts: u64,
    pub(crate) bytes: u64,
}

impl Facts {
    /// A fact that takes so many bytes in the log.
    pub(super) fn one(bytes: usize) -> Self {
        Self { facts: 1, bytes: bytes as u64 + BESIDE_BYTES }
    }

    /// The first fact of an entity.
    pub(super) fn first(bytes: usize) -> Self {
        let one = Self::one(bytes);
        Self { bytes: one.bytes + ENTITY_BYTES, ..one }
    }
}

/// The entities that a subscription has met, by a hash that nobody outside can foresee: it is kept for
/// each, and an entity takes a hundred times as much.
#[derive(Debug, Default)]
pub(super) struct Entities {
    met: HashSet<u64>,
    hasher: RandomState,
}

impl Entities {
    /// True the first time.
    pub(super) fn meet(&mut self, key: &[u8]) -> bool {
        self.met.insert(self.hasher.hash_one(key))
    }
}

impl Add for Facts {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { facts: self.facts + more.facts, bytes: self.bytes + more.bytes }
    }
}

/// The bound, and what is held of it.
#[derive(Debug, Clone)]
pub(crate) struct HeldFacts {
    all: Arc<Counted>,
    max: Facts,
}

#[derive(Debug, Default)]
struct Counted {
    facts: AtomicU64,
    bytes: AtomicU64,
}

/// What one subscription holds, until it ends.
#[derive(Debug)]
pub(super) struct Share {
    of: HeldFacts,
    held: Facts,
}

impl HeldFacts {
    pub(crate) fn new(max: Facts) -> Self {
        Self { all: Arc::default(), max }
    }

    pub(super) fn share(&self) -> Share {
        Share { of: self.clone(), held: Facts::default() }
    }
}

impl Share {
    /// The subscription holds so much more.
    ///
    /// # Errors
    /// [`JoinError::BudgetSpent`] when that is more than there is for all.
    pub(super) fn hold(&mut self, more: Facts) -> Result<(), JoinError> {
        let (all, max) = (&self.of.all, self.of.max);
        let facts = all.facts.fetch_add(more.facts, Ordering::AcqRel) + more.facts;
        let bytes = all.bytes.fetch_add(more.bytes, Ordering::AcqRel) + more.bytes;
        self.held = self.held + more;
        let reason = if facts > max.facts {
            format!("subscriptions may hold {} facts together", max.facts)
        } else if bytes > max.bytes {
            format!(
                "subscriptions may hold {} bytes of facts together (--subscribe-bytes)",
                max.bytes
            )
        } else {
            return Ok(());
        };
        Err(JoinError::BudgetSpent { facts: self.held.facts, reason })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.all.facts.fetch_sub(self.held.facts, Ordering::AcqRel);
        self.of.all.bytes.fetch_sub(self.held.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(facts: u64, bytes: u64) -> Facts {
        Facts { facts, bytes }
    }

    #[test]
    fn subscriptions_share_a_bound_and_give_back_what_they_held() {
        let held = HeldFacts::new(facts(10, 1_000));
        let (mut one, mut two) = (held.share(), held.share());
        assert_eq!((one.hold(facts(4, 40)), two.hold(facts(6, 60))), (Ok(()), Ok(())));
        assert!(matches!(two.hold(facts(1, 1)), Err(JoinError::BudgetSpent { facts: 7, .. })));
        drop(two);
        assert_eq!(one.hold(facts(6, 60)), Ok(()));
        drop(one);
        assert_eq!(held.all.facts.load(Ordering::Relaxed), 0);
        assert_eq!(held.all.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn few_large_facts_are_bounded_too() {
        let held = HeldFacts::new(facts(u64::MAX, 2_000));
        let mut one = held.share();
        assert_eq!(one.hold(Facts::one(1_000)), Ok(()));
        let Err(JoinError::BudgetSpent { facts: 2, reason }) = one.hold(Facts::one(1_000)) else {
            panic!("two of them do not fit")
        };
        assert!(reason.contains("2000 bytes"), "{reason}");
    }

    #[test]
    fn an_entity_counts_once() {
        let mut entities = Entities::default();
        assert_eq!([b"a", b"b", b"a"].map(|key| entities.meet(key)), [true, true, false]);
        assert!(Facts::first(10).bytes > 10 * Facts::one(10).bytes);
    }
}
