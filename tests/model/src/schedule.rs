//! Who goes on: every call to the store waits at a gate until a seed lets it through.
//!
//! The runtime has one thread and a paused clock. Between two calls everything else runs until it
//! waits for the store or for a pause of the store-writer, so what a seed decides is repeatable
//! although those pauses are jittered: calls are told apart by what they ask, not by when they came.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Longer than every pause of a store-writer in the model. Time is paused: it passes only once every
/// task waits, so this sleep is how the runtime tells that they do, and takes no time.
const SETTLE: Duration = Duration::from_millis(10);

/// A waiting call: the process that makes it, and what it asks.
type Key = (u64, String);

/// The calls that wait.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    waiting: Arc<Mutex<BTreeMap<Key, Vec<oneshot::Sender<()>>>>>,
}

impl Schedule {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<oneshot::Sender<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the call of a process may go on.
    pub async fn pass(&self, process: u64, call: String) {
        let (go, gone) = oneshot::channel();
        self.waiting().entry((process, call)).or_default().push(go);
        // A schedule that is gone keeps nobody.
        let _ = gone.await;
    }

    /// Lets everything run until it waits.
    pub async fn settle(&self) {
        tokio::time::sleep(SETTLE).await;
        // The callers of a process that was killed are gone.
        self.waiting().retain(|_, calls| {
            calls.retain(|call| !call.is_closed());
            !calls.is_empty()
        });
    }

    /// How many calls of each process wait, ascending.
    #[must_use]
    pub fn processes(&self) -> Vec<(u64, u64)> {
        let mut processes: BTreeMap<u64, u64> = BTreeMap::new();
        for ((process, _), calls) in &*self.waiting() {
            *processes.entry(*process).or_default() += calls.len() as u64;
        }
        processes.into_iter().collect()
    }

    /// Lets the nth waiting call of a process go on.
    pub fn let_go(&self, process: u64, nth: u64) {
        let mut waiting = self.waiting();
        let mut left = nth;
        for ((owner, _), calls) in waiting.iter_mut() {
            if *owner != process {
                continue;
            }
            if left < calls.len() as u64 {
                // A caller that was killed in between hears nothing.
                let _ = calls.swap_remove(left as usize).send(());
                return;
            }
            left -= calls.len() as u64;
        }
    }
}
