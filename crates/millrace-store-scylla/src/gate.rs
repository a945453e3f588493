//! Gates in front of shards: who finds one full waits its turn, in order.
//!
//! A gate belongs to the first replica of a token, since which of its replicas coordinates a request
//! is the driver's choice: requests for the same replicas share a gate. Where replicas are not known
//! (yet, with tablets) all share one.
//!
//! Heads are put by the thousand, and nobody waits for one: they pass through a narrower gate first, which
//! narrows sooner. So the log, leases and reads find at most that many of them ahead, and the database
//! answers them at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scylla::errors::ExecutionError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limit::{Bounds, Limit, Signal};
use crate::outcome::signal;

/// Gates begin with so many: a database of a few cores is busy with them.
const START: usize = 32;
const LEAST: usize = 4;
/// Of what nobody waits for at least so many go on, since each waits for a disk in company. Those who are in a
/// hurry find no more of them ahead, however slow the database is.
const LEAST_BEHIND: usize = 16;
/// An answer slower than this is a sign of a queue: a log write takes single milliseconds.
const SLOW: Duration = Duration::from_millis(250);
/// The same of what nobody waits for: it is not to make a queue that others stand in.
const SLOW_BEHIND: Duration = Duration::from_millis(40);

/// A shard of a node; `None` where it is not known.
pub(crate) type Shard = Option<(u128, u32)>;

/// Whether somebody waits for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// It is on the way of an acknowledgement, a lease or a read.
    AtOnce,
    /// It follows behind.
    Behind,
}

/// The gates of all shards.
#[derive(Debug)]
pub(crate) struct Gates {
    most: usize,
    gates: Mutex<HashMap<Shard, Arc<OfShard>>>,
}

/// The two gates of a shard.
#[derive(Debug)]
struct OfShard {
    all: Arc<Gate>,
    behind: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    /// Permits there are, in use or not.
    permits: usize,
}

/// A request that is under way. Dropped unfinished, it gives its places back and says nothing.
pub(crate) struct Entered {
    all: Place,
    behind: Option<Place>,
}

/// A place behind a gate.
struct Place {
    gate: Arc<Gate>,
    permit: Option<OwnedSemaphorePermit>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every step on what is locked is complete or not begun, also where a thread panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gates {
    /// Gates that let at most `most` through at once, each, and half as many of those that follow behind.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, gates: Mutex::default() }
    }

    /// Waits for a place.
    pub(crate) async fn enter(&self, shard: Shard, urgency: Urgency) -> Entered {
        let of_shard = {
            let mut gates = lock(&self.gates);
            Arc::clone(gates.entry(shard).or_insert_with(|| {
                let all = Bounds { start: START, least: LEAST, most: self.most };
                let most = (self.most / 2).max(1);
                let behind = Bounds { start: LEAST_BEHIND, least: LEAST_BEHIND, most };
                Arc::new(OfShard {
                    all: Arc::new(Gate::new(Limit::new(all, SLOW))),
                    behind: Arc::new(Gate::new(Limit::new(behind, SLOW_BEHIND))),
                })
            }))
        };
        let behind = match urgency {
            Urgency::AtOnce => None,
            Urgency::Behind => Some(of_shard.behind.enter().await),
        };
        Entered { all: of_shard.all.enter().await, behind }
    }
}

impl Gate {
    fn new(limit: Limit) -> Self {
        let permits = limit.now();
        Self {
            permits: Arc::new(Semaphore::new(permits)),
            state: Mutex::new(State { limit, permits }),
        }
    }

    async fn enter(self: &Arc<Self>) -> Place {
        // Never closed: without a permit it would only be unbounded.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        Place { gate: Arc::clone(self), permit }
    }
}

impl Entered {
    /// The request came back after this long.
    pub(crate) fn leave<T>(self, outcome: &Result<T, ExecutionError>, took: Duration) {
        let signal = match outcome {
            Ok(_) => Signal::Answered(took),
            Err(error) => signal(error),
        };
        self.all.leave(signal);
        if let Some(behind) = self.behind {
            behind.leave(signal);
        }
    }
}

impl Place {
    fn leave(mut self, signal: Signal) {
        let used = self.gate.permits.available_permits() == 0;
        let mut state = lock(&self.gate.state);
        state.limit.take(signal, used);
        let wanted = state.limit.now();
        if wanted > state.permits {
            self.gate.permits.add_permits(wanted - state.permits);
            state.permits = wanted;
        } else if wanted < state.permits
            && let Some(permit) = self.permit.take()
        {
            // One at a time, as they come back.
            permit.forget();
            state.permits -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use scylla::errors::{DbError, RequestAttemptError};

    use super::*;

    #[allow(clippy::result_large_err, reason = "the driver's own error")]
    fn overloaded() -> Result<(), ExecutionError> {
        let error = RequestAttemptError::DbError(DbError::Overloaded, String::new());
        Err(ExecutionError::LastAttemptError(error))
    }

    fn permits(gates: &Gates) -> usize {
        lock(&lock(&gates.gates)[&None].all.state).permits
    }

    #[tokio::test]
    async fn a_gate_narrows_under_overload_and_widens_again() {
        let gates = Gates::new(64);
        let enter = || gates.enter(None, Urgency::AtOnce);
        for _ in 0..200 {
            enter().await.leave(&overloaded(), Duration::ZERO);
        }
        assert_eq!(permits(&gates), 4);
        for _ in 0..20 {
            let mut entered = Vec::new();
            for _ in 0..permits(&gates) {
                entered.push(enter().await);
            }
            for one in entered {
                one.leave(&Ok(()), Duration::from_millis(1));
            }
        }
        assert!(permits(&gates) > 4, "{}", permits(&gates));
        // What is dropped unfinished gives its place back.
        let before = permits(&gates);
        for _ in 0..3 * before {
            drop(enter().await);
        }
        assert_eq!(permits(&gates), before);
    }

    #[tokio::test]
    async fn shards_do_not_wait_for_each_other() {
        let gates = Gates::new(1);
        let enter = |shard| gates.enter(Some((1, shard)), Urgency::AtOnce);
        let first = enter(0).await;
        let second = enter(1).await;
        let waits = tokio::time::timeout(Duration::from_millis(20), enter(0));
        assert!(waits.await.is_err());
        drop((first, second));
        enter(0).await.leave(&Ok(()), Duration::ZERO);
    }

    /// However many heads wait, who is in a hurry passes; and they go on as places come back.
    #[tokio::test]
    async fn what_follows_behind_leaves_room_for_what_is_waited_for() {
        let gates = Gates::new(32);
        let mut behind = Vec::new();
        while let Some(one) = gates.enter(None, Urgency::Behind).now_or_never() {
            behind.push(one);
        }
        assert_eq!(behind.len(), 16, "half of them");
        let mut waiting: Vec<_> =
            (0..1_000).map(|_| Box::pin(gates.enter(None, Urgency::Behind))).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        let at_once: Vec<_> =
            (0..16).map_while(|_| gates.enter(None, Urgency::AtOnce).now_or_never()).collect();
        assert_eq!(at_once.len(), 16);
        drop(behind.pop());
        drop(at_once);
        let passed: Vec<_> = waiting.iter_mut().filter_map(|one| one.now_or_never()).collect();
        assert_eq!(passed.len(), 1);
    }

    /// Answers that are no trouble to who waits narrow what follows behind, to where it goes on.
    #[tokio::test]
    async fn what_follows_behind_steps_back_sooner() {
        let gates = Gates::new(256);
        let behind = || lock(&lock(&gates.gates)[&None].behind.state).permits;
        let rounds = async |rounds: usize, took: Duration| {
            for _ in 0..rounds {
                let mut entered = Vec::new();
                while let Some(one) = gates.enter(None, Urgency::Behind).now_or_never() {
                    entered.push(one);
                }
                entered.into_iter().for_each(|one| one.leave(&Ok(()), took));
                tokio::task::yield_now().await;
            }
        };
        rounds(10, Duration::from_millis(2)).await;
        assert!(behind() > 20, "{}", behind());
        rounds(20, Duration::from_millis(100)).await;
        assert_eq!((permits(&gates), behind()), (32, 16));
    }
}
