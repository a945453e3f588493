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
//! Producer windows do not expire here: one takes some 30 bytes while its batches come in order.
//!
//! Every value has a sum of its own, chunks inside their encoding, everything else before its bytes
//! (`rows`), beside those of fjall's journal batches, blocks and blobs.
//!
//! # Settings, by measurement
//!
//! One flush of 32 chunks of 8 KiB under way twice, 64 slots, 139 MB in 17,000 chunks, on 2 cores
//! and a disk that others used too (a bare `fdatasync` of 256 KiB took 4 to 5 ms there):
//!
//! | | CPU-s, flushing and compacting included | bytes written | peak memory |
//! |---|---|---|---|
//! | as it is set | **0.9 to 1.1** (0.3 of it not in the kernel) | 2.0 × | 96 MB |
//! | chunks among the keys, not apart | 1.05 to 1.1 | 2.5 ×, growing with the log | 200 MB |
//! | and two fjall threads | 1.5 to 1.7 | 2.6 × | 175 MB |
//! | memtables of 16 MiB / 64 MiB | the same within the noise | 2.02 × / 1.97 × | 67 / 146 MB |
//!
//! Reopening after a kill takes 0.2 to 0.8 s, longer with larger memtables. A head of 2.4 kB costs
//! 17 to 20 µs to put, a part 5 µs to load from memory, a confirmation 2 µs. Heads kept apart from
//! the keys cost 12 µs to put, but took three times the space on disk; so only pages are.
//! Compression gains nothing on chunks.
//!
//! Memtables of snapshots are twice as large: of a head that is put again and again a flush writes the
//! last. Under a load of 150,000 facts a second fjall's threads took 7.5 % of a core with 32 MiB, 5 to 6 % with 64
//! MiB and 4.2 % with 128 MiB.
//!
//! # Failure
//!
//! An I/O error on the write path is final (fjall poisons the database): every later write ends in
//! `StoreError::Failed` with what the operating system said. Reads go on. After the cause is gone,
//! opening the folder again finds everything that was acknowledged. The same holds after a killed
//! process and after a power failure (`journal`).
//!
//! # Damage
//!
//! Before fjall opens a database, its journals and manifests are summed, for fjall passes over damage
//! there or begins anew (`journal`, `manifest`): what is truncated, flipped or gone is an
//! [`OpenError::Damaged`] that names it, and nothing is changed. Damage that shows later is a
//! `StoreError::Damaged` that names the chunk, part or row. [`Inspection`] looks at a folder without
//! changing it.

mod audit;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod damage;
#[doc(hidden)]
pub mod decoders;
mod erasures;
mod failure;
mod folder;
mod inspect;
mod journal;
mod keys;
mod log;
mod manifest;
mod rows;
mod settings;
mod snapshots;
mod store;
mod writer;

pub use folder::{FORMAT_VERSION, OpenError};
pub use inspect::{FoundHead, Inspection, free_bytes};
pub use settings::Options;
pub use store::{DiskUse, FjallStore};
