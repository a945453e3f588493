//! The bounded memory that facts in flight may take, shared fairly between producers: first between the
//! addresses they call from, then between the calls of each. Who calls a hundred times has no more for it, and
//! whom a batch says it is from does not count: anybody may say anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_grpc::{PeerNetwork, Turn, Turns};
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
            // More would only wait longer: this is half a second of typed rows, and seconds of Arrow.
            bytes: 32 << 20,
            call_facts: 1 << 18,
            call_bytes: 16 << 20,
            waiting_bytes: 32 << 20,
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
    facts: Turns<PeerNetwork>,
    bytes: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    peers: Mutex<HashMap<PeerNetwork, Peer>>,
}

/// What an address has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Peer {
    calls: u32,
    facts: u32,
}

/// What a batch holds of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    peer: PeerNetwork,
    cost: Cost,
    _facts: Turn<PeerNetwork>,
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
    peer: PeerNetwork,
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
            facts: Turns::new(limits.facts, u32::MAX),
            bytes: Arc::new(Semaphore::new(limits.bytes as usize)),
            waiting: Arc::new(Semaphore::new(limits.waiting_bytes as usize)),
            peers: Mutex::default(),
        })
    }

    /// Opens a call, which then has its address's share of the budget with the other calls from there.
    #[must_use]
    pub fn open_call(self: &Arc<Self>, peer: PeerNetwork) -> CallShare {
        self.lock().entry(peer).or_default().calls += 1;
        CallShare { budget: Arc::clone(self), peer }
    }

    /// Waits until a batch fits: addresses take turns, and the calls of each in the order of asking, since a
    /// call waits for one batch at a time. A batch larger than the whole budget gets all of it.
    ///
    /// # Panics
    /// Never: the semaphores are never closed.
    pub async fn acquire(self: &Arc<Self>, peer: PeerNetwork, cost: Cost) -> Permit {
        let cost = self.capped(cost);
        // Everybody asks for facts first and holds no bytes while waiting for them: no deadlock.
        let facts = self.facts.turn(peer, cost.facts).await;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(cost.bytes).await;
        self.permit(peer, cost, facts, bytes.expect(NEVER_CLOSED))
    }

    /// Takes room for a batch if there is some now and nobody waits for it; once half of the budget is taken,
    /// no more than its address's equal share of it.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>, peer: PeerNetwork, cost: Cost) -> Option<Permit> {
        let cost = self.capped(cost);
        let own = self.lock().get(&peer).map_or(0, |peer| peer.facts);
        let all = self.facts.under_way().saturating_add(cost.facts);
        if own > 0 && all > self.limits.facts / 2 && own + cost.facts > self.of_address(peer).facts
        {
            return None;
        }
        let facts = self.facts.try_turn(cost.facts)?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(cost.bytes).ok()?;
        Some(self.permit(peer, cost, facts, bytes))
    }

    fn permit(
        self: &Arc<Self>,
        peer: PeerNetwork,
        cost: Cost,
        facts: Turn<PeerNetwork>,
        bytes: OwnedSemaphorePermit,
    ) -> Permit {
        self.lock().entry(peer).or_default().facts += cost.facts;
        Permit { budget: Arc::clone(self), peer, cost, _facts: facts, _bytes: bytes }
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
        let bytes = self.limits.bytes.saturating_sub(self.bytes.available_permits() as u32);
        Cost { facts: self.facts.under_way(), bytes }
    }

    /// What may be in flight.
    #[must_use]
    pub fn limits(&self) -> BudgetLimits {
        self.limits
    }

    /// Calls that have a share.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.lock().values().map(|peer| peer.calls as usize).sum()
    }

    /// What each call of an address may have in flight now: its equal share of the address's, at most the limit
    /// of one call, never nothing.
    #[must_use]
    pub fn share(&self, peer: PeerNetwork) -> Cost {
        let of_address = self.of_address(peer);
        let calls = self.lock().get(&peer).map_or(1, |peer| peer.calls.max(1));
        let limits = &self.limits;
        Cost {
            facts: (of_address.facts / calls).clamp(1, limits.call_facts.max(1)),
            bytes: (of_address.bytes / calls).clamp(1, limits.call_bytes.max(1)),
        }
    }

    /// What a call may have in flight now that has the least.
    #[must_use]
    pub fn least_share(&self) -> Cost {
        let busiest = self.lock().iter().max_by_key(|(_, has)| has.calls).map(|(peer, _)| *peer);
        self.share(busiest.unwrap_or_default())
    }

    /// An equal share of the budget for each address that has a call or something in flight, and this one.
    fn of_address(&self, peer: PeerNetwork) -> Cost {
        let peers = self.lock();
        let count = peers.len() + usize::from(!peers.contains_key(&peer));
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Cost { facts: self.limits.facts / count, bytes: self.limits.bytes / count }
    }

    fn capped(&self, cost: Cost) -> Cost {
        Cost { facts: cost.facts.min(self.limits.facts), bytes: cost.bytes.min(self.limits.bytes) }
    }

    /// Takes something off what an address has, and forgets one that has nothing.
    fn give_back(&self, peer: PeerNetwork, take: impl FnOnce(&mut Peer)) {
        let mut peers = self.lock();
        if let Some(has) = peers.get_mut(&peer) {
            take(has);
            if *has == Peer::default() {
                peers.remove(&peer);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerNetwork, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallShare {
    /// Whose call it is.
    pub(crate) fn peer(&self) -> PeerNetwork {
        self.peer
    }

    /// What the call may have in flight now.
    #[must_use]
    pub fn now(&self) -> Cost {
        self.budget.share(self.peer)
    }
}

impl Drop for CallShare {
    fn drop(&mut self) {
        self.budget.give_back(self.peer, |peer| peer.calls -= 1);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.give_back(self.peer, |peer| peer.facts -= self.cost.facts);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn peer(n: u8) -> PeerNetwork {
        PeerNetwork::of(Some([10, 0, 0, n].into()))
    }

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
        let one = budget.open_call(peer(1));
        assert_eq!(one.now(), Cost { facts: 6, bytes: 60 });
        let two = budget.open_call(peer(1));
        assert_eq!((one.now(), two.now()), (Cost { facts: 5, bytes: 50 }, one.now()));
        drop(two);
        assert_eq!(one.now(), Cost { facts: 6, bytes: 60 });
        let many: Vec<_> = (0..500).map(|_| budget.open_call(peer(1))).collect();
        assert_eq!(many[0].now(), Cost { facts: 1, bytes: 1 }, "never nothing");
    }

    /// Another address has as much as all the calls of the first one together.
    #[test]
    fn addresses_share_evenly_however_often_they_call() {
        let budget = small();
        let many: Vec<_> = (0..5).map(|_| budget.open_call(peer(1))).collect();
        assert_eq!(many[0].now(), Cost { facts: 2, bytes: 20 });
        let one = budget.open_call(peer(2));
        assert_eq!(one.now(), Cost { facts: 5, bytes: 50 });
        assert_eq!(many[0].now(), Cost { facts: 1, bytes: 10 });
        drop(many);
        assert_eq!(one.now(), Cost { facts: 6, bytes: 60 });
        // Single batches, which are taken or refused at once.
        let fact = Cost { facts: 1, bytes: 1 };
        let flood = || budget.try_acquire(peer(3), fact);
        let taken: Vec<_> = std::iter::from_fn(flood).take(100).collect();
        assert_eq!(taken.len(), 5);
        let others = [2, 4, 5].map(|n| budget.try_acquire(peer(n), fact).unwrap());
        drop((taken, others, one));
        assert!(budget.lock().is_empty() && budget.in_flight() == Cost::default());
    }

    #[test]
    fn addresses_take_turns_and_calls_of_each_in_their_order() {
        let budget = small();
        let all = Cost { facts: 10, bytes: 1 };
        let first = budget.try_acquire(peer(1), all).unwrap();
        let waits = |n| Box::pin(budget.acquire(peer(n), all));
        let mut flood: Vec<_> = (0..100).map(|_| waits(1)).collect();
        assert!(flood.iter_mut().all(|batch| batch.as_mut().now_or_never().is_none()));
        let mut other = waits(2);
        assert!(other.as_mut().now_or_never().is_none());
        drop(first);
        let next = flood.remove(0).now_or_never().expect("who waited longest is first");
        assert!(flood[0].as_mut().now_or_never().is_none());
        drop(next);
        drop(other.now_or_never().expect("then the other address"));
        assert!(flood[0].as_mut().now_or_never().is_some());
    }

    #[test]
    fn what_does_not_fit_waits_or_is_refused() {
        let budget = small();
        let first = budget.try_acquire(peer(1), Cost { facts: 3, bytes: 90 }).unwrap();
        assert!(budget.try_acquire(peer(1), Cost { facts: 3, bytes: 11 }).is_none());
        assert_eq!(budget.in_flight(), Cost { facts: 3, bytes: 90 });
        let mut waits = Box::pin(budget.acquire(peer(1), Cost { facts: 3, bytes: 11 }));
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
        assert!(budget.try_acquire(peer(1), Cost { facts: 70_000, bytes: 1 << 30 }).is_some());
    }
}
