//! store-writer: the idempotent sink, and the only way to the store for join and serving.
//!
//! [`StoreWriter`] implements [`StorePort`](millrace_client::port::StorePort) over any store. Flushes
//! of several callers are appended together and confirmed with one read a node; a chunk is answered
//! only then. This is the one layer that tries again: an append until its outcome is known, unchanged,
//! however long that takes; everything else a few times, within a budget.
//!
//! It holds no state that matters: stopped anywhere, it is started again on the same store.

mod appender;
mod backoff;
mod grpc;
pub mod metrics;
mod options;
mod writer;

pub use grpc::{APPENDS, LOADS_AT_ONCE, LOG_READS_AT_ONCE, PUTS, StoreGrpc};
pub use metrics::{Counts, Metrics};
pub use options::Options;
pub use writer::StoreWriter;
