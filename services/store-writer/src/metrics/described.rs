//! The metrics of a store-writer, described.

use std::sync::{Arc, Weak};

use millrace_telemetry::Metric;
use millrace_telemetry::metrics::LATENCY;
use tokio::sync::{Semaphore, mpsc};

use super::{Counts, Metrics};
use crate::appender::Flush;
use crate::options::Options;

/// The operations that are timed.
pub const OPERATIONS: [&str; 16] = [
    "append",
    "commit",
    "confirm",
    "put",
    "load",
    "put_mark",
    "load_mark",
    "read_log",
    "renew_node",
    "ownership",
    "members",
    "samples",
    "erasures",
    "rewrite",
    "parts",
    "compact",
];

/// How long operations took.
pub const STORE_SECONDS: Metric = Metric::histogram(
    "millrace_store_seconds",
    LATENCY,
    &["operation"],
    "Operations of the store with their retries; append is a caller's, its wait in the queue \
     included, commit one group with its fdatasync",
);
/// Append calls.
pub const APPENDS: Metric =
    Metric::counter("millrace_store_appends_total", &[], "Append calls answered, however");
/// Group commits.
pub const COMMITS: Metric =
    Metric::counter("millrace_store_commits_total", &[], "Group commits made for append calls");
/// Chunks.
pub const CHUNKS: Metric = Metric::counter("millrace_store_chunks_total", &[], "Chunks appended");
/// Their bytes.
pub const CHUNK_BYTES: Metric =
    Metric::counter("millrace_store_chunk_bytes_total", &[], "Bytes of chunks appended");
/// Fenced callers.
pub const FENCED: Metric = Metric::counter(
    "millrace_store_fenced_total",
    &[],
    "Append calls of nodes that turned out to be fenced",
);
/// Retries.
pub const RETRIES: Metric =
    Metric::counter("millrace_store_retries_total", &[], "Calls of the store tried again");
/// Retries that the budget did not allow.
pub const RETRIES_SPENT: Metric = Metric::counter(
    "millrace_store_retries_spent_total",
    &[],
    "Calls of the store that failed while the budget of retries was used up: given up, or tried \
     again after the longest pause",
);
/// Snapshot parts put.
pub const PARTS: Metric =
    Metric::counter("millrace_store_parts_total", &[], "Parts of snapshots put");
/// Their bytes.
pub const PART_BYTES: Metric =
    Metric::counter("millrace_store_part_bytes_total", &[], "Bytes of the parts put");
/// Snapshot parts asked for.
pub const LOADS: Metric =
    Metric::counter("millrace_store_loads_total", &[], "Parts of snapshots asked for");
/// Flushes that wait.
pub const QUEUE_FLUSHES: Metric =
    Metric::gauge("millrace_store_queue_flushes", &[], "Flushes that wait to be appended");
/// Their bound.
pub const QUEUE_FLUSHES_LIMIT: Metric =
    Metric::gauge("millrace_store_queue_flushes_limit", &[], "Flushes that may wait");
/// Bytes that wait.
pub const QUEUE_BYTES: Metric = Metric::gauge(
    "millrace_store_queue_bytes",
    &[],
    "Bytes of flushes that wait or are being appended, in steps of 1,024",
);
/// Their bound.
pub const QUEUE_BYTES_LIMIT: Metric = Metric::gauge(
    "millrace_store_queue_bytes_limit",
    &[],
    "Bytes of flushes that may wait or be appended",
);

/// All of them.
pub const ALL: [Metric; 15] = [
    STORE_SECONDS,
    APPENDS,
    COMMITS,
    CHUNKS,
    CHUNK_BYTES,
    FENCED,
    RETRIES,
    RETRIES_SPENT,
    PARTS,
    PART_BYTES,
    LOADS,
    QUEUE_FLUSHES,
    QUEUE_FLUSHES_LIMIT,
    QUEUE_BYTES,
    QUEUE_BYTES_LIMIT,
];

/// Lets a scrape see the counters and the queue.
pub(crate) fn observe(
    metrics: &Arc<Metrics>,
    options: &Options,
    queue: &mpsc::Sender<Flush>,
    room: &Arc<Semaphore>,
    room_kib: usize,
) {
    let count = |read: fn(Counts) -> u64| {
        let metrics: Weak<Metrics> = Arc::downgrade(metrics);
        move || metrics.upgrade().map(|metrics| read(metrics.counts()))
    };
    APPENDS.count_of(count(|c| c.appends));
    COMMITS.count_of(count(|c| c.flushes));
    CHUNKS.count_of(count(|c| c.chunks));
    CHUNK_BYTES.count_of(count(|c| c.bytes));
    FENCED.count_of(count(|c| c.fenced));
    RETRIES.count_of(count(|c| c.retries));
    RETRIES_SPENT.count_of(count(|c| c.spent));
    PARTS.count_of(count(|c| c.parts));
    PART_BYTES.count_of(count(|c| c.part_bytes));
    LOADS.count_of(count(|c| c.loads));
    let (queue, most) = (queue.downgrade(), options.queue_flushes.max(1) as f64);
    QUEUE_FLUSHES.set_to(move || Some(most - queue.upgrade()?.capacity() as f64));
    QUEUE_FLUSHES_LIMIT.set_to(move || Some(most));
    let (room, most) = (Arc::downgrade(room), room_kib);
    QUEUE_BYTES.set_to(move || {
        Some(((most - room.upgrade()?.available_permits().min(most)) << 10) as f64)
    });
    QUEUE_BYTES_LIMIT.set_to(move || Some((most << 10) as f64));
}
