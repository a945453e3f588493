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
//! - keys carry the name of the cluster and the identity of the store, drawn at random when it is first
//!   asked for. A store that was emptied is another one, and the marks of the log that is gone are not
//!   looked at. **A store restored from an older copy is still the same**: empty Redis with it, or the
//!   marks of what came after the copy would make facts repeats that the log does not have.
//!
//! Modules: [`config`] (what an operator says), `link` (one connection, watched over), `script`,
//! `pending` (marks on their way), `cache` (windows this process knows), [`windows`] (the port),
//! [`metrics`] (what is asked of Redis), [`inspect`] (a look at it, for people).

mod cache;
pub mod config;
#[doc(hidden)]
pub mod decoders;
pub mod inspect;
mod link;
pub mod metrics;
mod pending;
mod script;
pub mod windows;

pub use config::{RedisConfig, RedisConfigError};
pub use windows::RedisWindows;
