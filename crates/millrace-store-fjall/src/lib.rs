//! The embedded store: every storage port on two fjall databases in one folder.
//!
//! # Layout of the folder
//!
//! | entry | holds |
//! |---|---|
//! | `millrace.lock` | locked by the operating system while a process has the folder open; the number of that process |
//! | `millrace.format` | version of the layout and number of slots, as text; fixed when the folder is made |
//! | `log/` | slot log, epochs, leases, catalog versions, producer windows |
//! | `snapshots/` | snapshot parts and marks, in a database of their own so that large puts do not hold appends up |
//!
//! Each database has one keyspace; tables are told apart by the first byte of the key (`keys`). A
//! keyspace that is seldom written would pin journals until it is flushed; one keyspace cannot be
//! idle. Log keys are `(slot, epoch, sequence)`, which keeps the order of the log: this store needs
//! no hours and no `log_hours` table, which in a CQL store bound the size of partitions.
//!
//! # Writing
//!
//! Each database has one writer thread. It takes whatever is queued, makes one batch and one
//! `fdatasync` of it, and answers everybody: group commit. Conditional writes are decided on that
//! thread, one after the other, so they are linearizable. The queue is bounded in calls and bytes.
//! Appends, leases, epochs, catalog versions and marks are synced before they are answered; so are
//! rebuilt heads, because the log names them. Other parts and producer windows reach the operating
//! system's buffers before they are answered, and the disk with the next sync: a killed process
//! loses none of them, a power failure only some that the log makes again.
//!
//! fjall sums every journal batch, block and blob, and checks the sums when it reads them, and
//! chunks have a checksum of their own; so parts, marks and rows carry none.
//!
//! # Settings, by measurement
//!
//! See `settings`.
//!
//! # Failure
//!
//! An I/O error on the write path is final (fjall poisons the database): every later write ends in
//! `StoreError::Failed` with what the operating system said. Reads go on. After the cause is gone,
//! opening the folder again finds everything that was acknowledged.

mod failure;
mod folder;
mod keys;
mod log;
mod rows;
mod settings;
mod snapshots;
mod store;
mod writer;

pub use folder::{FORMAT_VERSION, OpenError};
pub use settings::Options;
pub use store::{DiskUse, FjallStore};
