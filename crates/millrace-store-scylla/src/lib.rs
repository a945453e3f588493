//! The slot log, snapshots, marks and catalog in ScyllaDB or Apache Cassandra, behind the ports of
//! `millrace-store`.
//!
//! Two kinds of tables (`ddl`): those that are written by conditional statements alone and decided by
//! SERIAL reads (leases, epochs, the catalog), and registers of one value where the greatest write
//! timestamp wins, which is the version that Millrace stamped (log, snapshots, marks). No statement
//! writes one kind like the other.
//!
//! Nothing is retried here: whoever called repeats a call whose outcome is unknown, unchanged, and is
//! the only layer that does; of a repeated append what landed is not written again (`landed`). Every
//! write says which it is (`outcome`). What is in flight towards a shard is bounded and adapts, and
//! what nobody waits for is bounded more narrowly (`gate`).
//!
//! TLS towards the database is not supported yet.

mod answered;
mod audit;
mod catalog;
mod checks;
pub mod config;
mod connect;
mod ddl;
#[doc(hidden)]
pub mod decoders;
mod epochs;
mod erasures;
mod gate;
pub mod inspect;
mod keys;
mod landed;
mod leases;
mod limit;
mod log;
mod outcome;
mod registers;
mod statements;
mod store;
mod windows;

pub use checks::CheckError;
pub use config::{CqlConfig, Replication};
pub use connect::OpenError;
pub use ddl::Dialect;
pub use inspect::Inspection;
pub use store::CqlStore;
