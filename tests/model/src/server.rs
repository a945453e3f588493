//! A store-writer process: the real one, which can be killed and started again on the same store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_store::memory::{FaultPlan, MemoryStore};
use millrace_store_writer::{Options, StoreWriter};

use crate::port::Port;

/// Where nodes and readers reach a store-writer.
#[derive(Debug)]
pub struct Server {
    port: Arc<Port>,
    writer: Mutex<Arc<StoreWriter>>,
}

/// Pauses far below a step of the schedule, and a budget that never runs out: both depend on a
/// clock, and a seed has to repeat.
fn options() -> Options {
    Options {
        pause_min: Duration::from_millis(1),
        pause_max: Duration::from_millis(1),
        retries_per_second: 1_000_000,
        ..Options::default()
    }
}

impl Server {
    /// Starts one.
    #[must_use]
    pub fn start(port: Port) -> Arc<Self> {
        let port = Arc::new(port);
        let writer = Self::spawn(&port);
        Arc::new(Self { port, writer: Mutex::new(writer) })
    }

    fn spawn(port: &Arc<Port>) -> Arc<StoreWriter> {
        Arc::new(StoreWriter::spawn(Arc::clone(port) as _, options()))
    }

    /// The store-writer as it runs now.
    #[must_use]
    pub fn writer(&self) -> Arc<StoreWriter> {
        Arc::clone(&self.writer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A look at the tables as they are, without faults and without waiting.
    #[must_use]
    pub fn witness(&self) -> MemoryStore {
        self.port.store.handle(FaultPlan::none())
    }

    /// Kills it, whatever it was doing, and starts another one. Callers that wait for an append are
    /// told that its outcome is unknown.
    pub fn restart(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        *writer = Self::spawn(&self.port);
    }
}
