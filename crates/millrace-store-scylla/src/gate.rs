//! Gates in front of shards: who finds one full waits its turn, in order.
//!
//! A gate belongs to the first replica of a token, since which of its replicas coordinates a request
//! is the driver's choice: requests for the same replicas share a gate. Where replicas are not known
//! (yet, with tablets) all share one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scylla::errors::ExecutionError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limit::{Limit, Signal};
use crate::outcome::signal;

/// A shard of a node; `None` where it is not known.
pub(crate) type Shard = Option<(u128, u32)>;

/// The gates of all shards.
#[derive(Debug)]
pub(crate) struct Gates {
    most: usize,
    gates: Mutex<HashMap<Shard, Arc<Gate>>>,
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

/// A request that is under way. Dropped unfinished, it gives its place back and says nothing.
pub(crate) struct Entered {
    gate: Arc<Gate>,
    permit: Option<OwnedSemaphorePermit>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every step on what is locked is complete or not begun, also where a thread panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gates {
    /// Gates that let at most `most` through at once, each.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, gates: Mutex::default() }
    }

    /// Waits for a place.
    pub(crate) async fn enter(&self, shard: Shard) -> Entered {
        let gate = {
            let mut gates = lock(&self.gates);
            Arc::clone(gates.entry(shard).or_insert_with(|| Arc::new(Gate::new(self.most))))
        };
        // Never closed: without a permit it would only be unbounded.
        let permit = Arc::clone(&gate.permits).acquire_owned().await.ok();
        Entered { gate, permit }
    }
}

impl Gate {
    fn new(most: usize) -> Self {
        let limit = Limit::new(most);
        let permits = limit.now();
        Self {
            permits: Arc::new(Semaphore::new(permits)),
            state: Mutex::new(State { limit, permits }),
        }
    }
}

impl Entered {
    /// The request came back after this long.
    pub(crate) fn leave<T>(mut self, outcome: &Result<T, ExecutionError>, took: Duration) {
        let signal = match outcome {
            Ok(_) => Signal::Answered(took),
            Err(error) => signal(error),
        };
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
    use scylla::errors::{DbError, RequestAttemptError};

    use super::*;

    #[allow(clippy::result_large_err, reason = "the driver's own error")]
    fn overloaded() -> Result<(), ExecutionError> {
        let error = RequestAttemptError::DbError(DbError::Overloaded, String::new());
        Err(ExecutionError::LastAttemptError(error))
    }

    #[tokio::test]
    async fn a_gate_narrows_under_overload_and_widens_again() {
        let gates = Gates::new(64);
        let permits = || lock(&lock(&gates.gates)[&None].state).permits;
        for _ in 0..200 {
            gates.enter(None).await.leave(&overloaded(), Duration::ZERO);
        }
        assert_eq!(permits(), 4);
        for _ in 0..20 {
            let mut entered = Vec::new();
            for _ in 0..permits() {
                entered.push(gates.enter(None).await);
            }
            for one in entered {
                one.leave(&Ok(()), Duration::from_millis(1));
            }
        }
        assert!(permits() > 4, "{}", permits());
        // What is dropped unfinished gives its place back.
        let before = permits();
        for _ in 0..3 * before {
            drop(gates.enter(None).await);
        }
        assert_eq!(permits(), before);
    }

    #[tokio::test]
    async fn shards_do_not_wait_for_each_other() {
        let gates = Gates::new(1);
        let first = gates.enter(Some((1, 0))).await;
        let second = gates.enter(Some((1, 1))).await;
        let waits = tokio::time::timeout(Duration::from_millis(20), gates.enter(Some((1, 0))));
        assert!(waits.await.is_err());
        drop((first, second));
        gates.enter(Some((1, 0))).await.leave(&Ok(()), Duration::ZERO);
    }
}
