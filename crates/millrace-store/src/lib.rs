//! Storage ports: what Millrace asks of a store, in the steps of the slot-log protocol, plus what
//! every adapter shares.
//!
//! - [`port`]: the traits. A store does what it is told, atomically per item.
//! - [`audit`]: samples of online answers, until they were compared with the log.
//! - [`rules`]: what a conditional write decides and which rows are the log, so that all adapters
//!   decide alike.
//! - [`ownership`]: taking a slot over, step by step, on any store.
//! - [`erasure`]: the list of erased entities, and what scrubs them.
//! - [`window`]: the window of numbers a producer has had logged.
//! - [`secret`]: passwords of databases.
//! - [`memory`]: the in-memory adapter, with injected faults.
//! - `conformance`: the suite every adapter passes (feature `conformance`).

pub mod audit;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod encoding;
pub mod erasure;
pub mod memory;
pub mod ownership;
pub mod port;
pub mod retry;
pub mod rules;
pub mod secret;
pub mod window;

pub use audit::{
    AUDIT_PLACES_MAX, AUDIT_SAMPLE_BYTES_MAX, AUDIT_SAMPLES_MAX, AuditSample, AuditStore,
};
pub use erasure::{Erasure, ErasureStore, Receipt};
pub use ownership::{Fencing, TakeOverError, take_over, take_over_from};
pub use port::*;
pub use retry::{Retry, until_known};
pub use secret::Secret;
