//! Producer windows in Redis (design §8): which numbers of a producer are in the log already.
//!
//! They save work and decide nothing. Redis gone, frozen, emptied, rolled back to an older state or
//! out of memory means that facts are sent on which the log has, and there they are found to be
//! repeats; so every failure is an answer at once, or after [`RedisConfig::patience`], and never a
//! reason to wait. What this crate keeps to is that nothing is marked which the log does not have:
//!
//! - a mark is only told after its batch is confirmed, and is written behind the caller's back, so
//!   that no acknowledgement waits for Redis. What is waiting when the process dies is forgotten;
//! - windows in Redis change by one script on one key, which may run twice (`script`);
//! - keys carry the name of the cluster. **Two clusters, or a cluster whose store was emptied or
//!   restored from an older copy, must not share a name**: the marks of a log that is gone would
//!   make facts of the new one repeats.
//!
//! Modules: [`config`] (what an operator says), `link` (one connection, watched over), `script`,
//! `pending` (marks on their way), `cache` (windows this process knows), [`windows`] (the port).

mod cache;
pub mod config;
mod link;
mod pending;
mod script;
pub mod windows;

pub use config::{RedisConfig, RedisConfigError, Secret};
pub use windows::RedisWindows;
