//! The bounded memory that facts in flight may take, shared fairly between calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much may be in flight: received and not answered yet. Bytes are those of encoded requests, with
/// what typed rows take once they are decoded; in memory the encoded facts add one to three times a
/// request's bytes for each entity kind of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Facts of all calls together; at most 2^31.
    pub facts: u32,
    /// Bytes of all calls together; at most 2^31.
    pub bytes: u32,
    /// Facts of one call.
    pub call_facts: u32,
    /// Bytes of one call.
    pub call_bytes: u32,
    /// Bytes of batches that are decoded and wait for room, over all calls; at most 2^31. A call whose
    /// batch finds no place among them ends with OVERLOADED.
    pub waiting_bytes: u32,
    /// A batch that takes no more waits beside them: a call waits with one batch, calls are bounded, and
    /// nobody is turned away for the large batches of others.
    pub waiting_small_bytes: u32,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self {
            facts: 1 << 20,
            bytes: 64 << 20,
            call_facts: 1 << 18,
            call_bytes: 16 << 20,
            waiting_bytes: 64 << 20,
            // As much as an equal share of the budget where there are as many calls as may be.
            waiting_small_bytes: 128 << 10,
        }
    }
}

/// What one batch takes of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Facts.
    pub facts: u32,
    /// Bytes.
    pub bytes: u32,
}

/// The budget of a process.
#[derive(Debug)]
pub struct Budget {
    limits: BudgetLimits,
    facts: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    calls: AtomicUsize,
}

/// What a batch holds of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    _facts: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// A batch's place among those that wait; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    _bytes: Option<OwnedSemaphorePermit>,
}

/// A call that has a share of the budget; dropping it gives the share to the others.
#[derive(Debug)]
pub struct CallShare {
    budget: Arc<Budget>,
}

const NEVER_CLOSED: &str = "the budget's semaphores are never closed";

impl Budget {
    /// A budget with nothing in flight.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Arc<Self> {
        // A budget of nothing would never let anything through.
        let limits = BudgetLimits {
            facts: limits.facts.clamp(1, 1 << 31),
            bytes: limits.bytes.clamp(1, 1 << 31),
            waiting_bytes: limits.waiting_bytes.clamp(1, 1 << 31),
            ..limits
        };
        Arc::new(Self {
            limits,
            facts: Arc::new(Semaphore::new(limits.facts as usize)),
            bytes: Arc::new(Semaphore::new(limits.bytes as usize)),
            waiting: Arc::new(Semaphore::new(limits.waiting_bytes as usize)),
            calls: AtomicUsize::new(0),
        })
    }

    /// Opens a call, which then has an equal share of the budget.
    #[must_use]
    pub fn open_call(self: &Arc<Self>) -> CallShare {
        self.calls.fetch_add(1, Ordering::Relaxed);
        CallShare { budget: Arc::clone(self) }
    }

    /// Waits until a batch fits, in the order of asking: each call waits for one batch at a time,
    /// so calls take turns. A batch larger than the whole budget gets all of it.
    ///
    /// # Panics
    /// Never: the semaphores are never closed.
    pub async fn acquire(&self, cost: Cost) -> Permit {
        let cost = self.capped(cost);
        // Everybody asks for facts first and holds no bytes while waiting for them: no deadlock.
        let facts = Arc::clone(&self.facts).acquire_many_owned(cost.facts).await;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(cost.bytes).await;
        Permit { _facts: facts.expect(NEVER_CLOSED), _bytes: bytes.expect(NEVER_CLOSED) }
    }

    /// Takes room for a batch if there is some now and nobody waits for it.
    #[must_use]
    pub fn try_acquire(&self, cost: Cost) -> Option<Permit> {
        let cost = self.capped(cost);
        let facts = Arc::clone(&self.facts).try_acquire_many_owned(cost.facts).ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(cost.bytes).ok()?;
        Some(Permit { _facts: facts, _bytes: bytes })
    }

    /// Takes a place for a batch that has to wait for room, if there is one. What waits is in memory
    /// already, and those who send it need not mind their credits.
    #[must_use]
    pub fn try_wait(&self, cost: Cost) -> Option<Place> {
        if cost.bytes <= self.limits.waiting_small_bytes {
            return Some(Place { _bytes: None });
        }
        let bytes = cost.bytes.min(self.limits.waiting_bytes);
        let taken = Arc::clone(&self.waiting).try_acquire_many_owned(bytes).ok()?;
        Some(Place { _bytes: Some(taken) })
    }

    /// Bytes of batches that wait now, small ones left out.
    #[must_use]
    pub fn waiting_bytes(&self) -> u32 {
        self.limits.waiting_bytes.saturating_sub(self.waiting.available_permits() as u32)
    }

    /// What is in flight now.
    #[must_use]
    pub fn in_flight(&self) -> Cost {
        let taken = |limit: u32, left: usize| limit.saturating_sub(left as u32);
        Cost {
            facts: taken(self.limits.facts, self.facts.available_permits()),
            bytes: taken(self.limits.bytes, self.bytes.available_permits()),
        }
    }

    /// What may be in flight.
    #[must_use]
    pub fn limits(&self) -> BudgetLimits {
        self.limits
    }

    /// Calls that have a share.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// What each call may have in flight now: an equal share, at most the limit of one call, never
    /// nothing.
    #[must_use]
    pub fn share(&self) -> Cost {
        let limits = &self.limits;
        let calls = u32::try_from(self.calls()).unwrap_or(u32::MAX).max(1);
        Cost {
            facts: (limits.facts / calls).clamp(1, limits.call_facts.max(1)),
            bytes: (limits.bytes / calls).clamp(1, limits.call_bytes.max(1)),
        }
    }

    fn capped(&self, cost: Cost) -> Cost {
        Cost { facts: cost.facts.min(self.limits.facts), bytes: cost.bytes.min(self.limits.bytes) }
    }
}

impl CallShare {
    /// What the call may have in flight now.
    #[must_use]
    pub fn now(&self) -> Cost {
        self.budget.share()
    }
}

impl Drop for CallShare {
    fn drop(&mut self) {
        self.budget.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn small() -> Arc<Budget> {
        Budget::new(BudgetLimits {
            facts: 10,
            bytes: 100,
            call_facts: 6,
            call_bytes: 60,
            waiting_bytes: 50,
            waiting_small_bytes: 5,
        })
    }

    #[test]
    fn calls_share_evenly_and_give_back() {
        let budget = small();
        let one = budget.open_call();
        assert_eq!(one.now(), Cost { facts: 6, bytes: 60 });
        let two = budget.open_call();
        assert_eq!((one.now(), two.now()), (Cost { facts: 5, bytes: 50 }, one.now()));
        drop(two);
        assert_eq!(one.now(), Cost { facts: 6, bytes: 60 });
        let many: Vec<_> = (0..500).map(|_| budget.open_call()).collect();
        assert_eq!(many[0].now(), Cost { facts: 1, bytes: 1 }, "never nothing");
    }

    #[test]
    fn what_does_not_fit_waits_or_is_refused() {
        let budget = small();
        let first = budget.try_acquire(Cost { facts: 3, bytes: 90 }).unwrap();
        assert!(budget.try_acquire(Cost { facts: 3, bytes: 11 }).is_none());
        assert_eq!(budget.in_flight(), Cost { facts: 3, bytes: 90 });
        let mut waits = Box::pin(budget.acquire(Cost { facts: 3, bytes: 11 }));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waits.as_mut().now_or_never().is_some());
        assert_eq!(budget.in_flight(), Cost::default());
    }

    #[test]
    fn large_batches_wait_in_a_bounded_place_and_small_ones_beside_it() {
        let budget = small();
        let large = |bytes| budget.try_wait(Cost { facts: 1, bytes });
        let places = [large(6).unwrap(), large(44).unwrap()];
        assert_eq!(budget.waiting_bytes(), 50);
        assert!(large(6).is_none());
        assert!((0..100).all(|_| large(5).is_some()));
        drop(places);
        // Larger than all of it: it waits alone.
        let alone = large(1 << 30).unwrap();
        assert!(large(6).is_none());
        drop(alone);
        assert_eq!(budget.waiting_bytes(), 0);
    }

    #[test]
    fn more_than_there_is_gets_all_there_is() {
        let budget = small();
        assert!(budget.try_acquire(Cost { facts: 70_000, bytes: 1 << 30 }).is_some());
    }
}
