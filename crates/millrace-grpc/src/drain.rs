//! The signal to go down, as handlers, calls and connections see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::{ErrorCode, Fault};

/// A server's way down: first handlers are asked to end their streams, then open calls are ended,
/// then connections are closed. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The steps taken, for a check that costs one load.
    steps: AtomicU8,
    started: CancellationToken,
    calls_cut: CancellationToken,
    connections_cut: CancellationToken,
    tasks: TaskTracker,
    calls: AtomicU64,
    calls_begun: AtomicU64,
    connections: AtomicU64,
}

const STARTED: u8 = 1;
const CALLS_CUT: u8 = 2;
const CONNECTIONS_CUT: u8 = 3;

impl Drain {
    /// A server that is not going down.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Resolves when the server begins to go down. A handler of a stream then sends what it owes
    /// (the last acknowledgement, a cursor) and ends with [`Drain::status`].
    pub fn started(&self) -> WaitForCancellationFutureOwned {
        self.shared.started.clone().cancelled_owned()
    }

    /// Whether the server is going down.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.shared.steps.load(Ordering::Relaxed) >= STARTED
    }

    /// The tasks the server waits for before it is down. A handler's future is dropped in the
    /// middle when its client leaves or its deadline passes, so work that must reach its end is
    /// spawned here.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    /// How a stream ends when the server goes down.
    #[must_use]
    pub fn status() -> Status {
        Fault::new(ErrorCode::ServerDraining, "the server is going down; connect again")
            .into_status()
    }

    pub(crate) fn start(&self) {
        self.shared.steps.fetch_max(STARTED, Ordering::Relaxed);
        self.shared.started.cancel();
    }

    pub(crate) fn cut_calls(&self) {
        self.shared.steps.fetch_max(CALLS_CUT, Ordering::Relaxed);
        self.shared.calls_cut.cancel();
    }

    pub(crate) fn cut_connections(&self) {
        self.shared.steps.fetch_max(CONNECTIONS_CUT, Ordering::Relaxed);
        self.shared.connections_cut.cancel();
    }

    pub(crate) fn are_calls_cut(&self) -> bool {
        self.shared.steps.load(Ordering::Relaxed) >= CALLS_CUT
    }

    pub(crate) fn are_connections_cut(&self) -> bool {
        self.shared.steps.load(Ordering::Relaxed) >= CONNECTIONS_CUT
    }

    pub(crate) fn calls_cut(&self) -> WaitForCancellationFutureOwned {
        self.shared.calls_cut.clone().cancelled_owned()
    }

    pub(crate) fn connections_cut(&self) -> WaitForCancellationFutureOwned {
        self.shared.connections_cut.clone().cancelled_owned()
    }

    pub(crate) fn open_call(&self) -> OpenCall {
        self.shared.calls.fetch_add(1, Ordering::Relaxed);
        let number = self.shared.calls_begun.fetch_add(1, Ordering::Relaxed);
        OpenCall { drain: self.clone(), number }
    }

    pub(crate) fn open_connection(&self) -> OpenConnection {
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    pub(crate) fn calls_open(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn connections_open(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

/// Counts a call until its response is over.
#[derive(Debug)]
pub(crate) struct OpenCall {
    drain: Drain,
    number: u64,
}

impl OpenCall {
    /// How many calls began before it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.drain.shared.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a connection until it is closed.
#[derive(Debug)]
pub(crate) struct OpenConnection(Drain);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
