//! What a store-writer has done since it was started, and how long the store took.

mod described;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;

pub use described::*;

/// Counters, written without locks and read at any time.
#[derive(Debug)]
pub struct Metrics {
    seconds: Histogram<f64>,
    appends: AtomicU64,
    flushes: AtomicU64,
    chunks: AtomicU64,
    bytes: AtomicU64,
    fenced: AtomicU64,
    retries: AtomicU64,
    spent: AtomicU64,
    parts: AtomicU64,
    part_bytes: AtomicU64,
    loads: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Append calls answered, with whatever outcome.
    pub appends: u64,
    /// Group commits made for them.
    pub flushes: u64,
    /// Chunks appended.
    pub chunks: u64,
    /// Bytes of those chunks.
    pub bytes: u64,
    /// Append calls of nodes that turned out to be fenced.
    pub fenced: u64,
    /// Store calls tried again.
    pub retries: u64,
    /// Times a call found the budget of retries used up.
    pub spent: u64,
    /// Snapshot parts put.
    pub parts: u64,
    /// Bytes of those parts.
    pub part_bytes: u64,
    /// Snapshot parts asked for.
    pub loads: u64,
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            seconds: STORE_SECONDS.record(),
            appends: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            parts: AtomicU64::new(0),
            part_bytes: AtomicU64::new(0),
            loads: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// An operation, its retries included, took so long. The name is one of [`OPERATIONS`].
    pub(crate) fn took(&self, operation: &'static str, time: Duration) {
        debug_assert!(OPERATIONS.contains(&operation), "{operation} is not in the set");
        self.seconds.record(time.as_secs_f64(), &[KeyValue::new("operation", operation)]);
    }

    /// The counters now. They are read one by one: a call under way may be in some of them.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            appends: read(&self.appends),
            flushes: read(&self.flushes),
            chunks: read(&self.chunks),
            bytes: read(&self.bytes),
            fenced: read(&self.fenced),
            retries: read(&self.retries),
            spent: read(&self.spent),
            parts: read(&self.parts),
            part_bytes: read(&self.part_bytes),
            loads: read(&self.loads),
        }
    }

    pub(crate) fn appended(&self, flush: usize, chunks: usize, bytes: usize) {
        add(&self.flushes, 1);
        add(&self.appends, flush);
        add(&self.chunks, chunks);
        add(&self.bytes, bytes);
    }

    pub(crate) fn append_failed(&self, flush: usize) {
        add(&self.appends, flush);
    }

    pub(crate) fn fenced(&self) {
        add(&self.fenced, 1);
    }

    pub(crate) fn retried(&self) {
        add(&self.retries, 1);
    }

    pub(crate) fn budget_spent(&self) {
        add(&self.spent, 1);
    }

    pub(crate) fn put(&self, parts: usize, bytes: usize) {
        add(&self.parts, parts);
        add(&self.part_bytes, bytes);
    }

    pub(crate) fn loaded(&self, parts: usize) {
        add(&self.loads, parts);
    }
}
