//! Sizes and settings of the two databases; the crate's documentation says what was measured.

use std::path::Path;

use fjall::config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Database, KeyspaceCreateOptions, KvSeparationOptions};

/// How to open a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The number of slots, a power of two up to 65,536. `None` takes what the folder has, or
    /// [`Options::DEFAULT_SLOTS`] when it is made.
    pub slots: Option<u32>,
    /// Bytes of blocks of the log kept in memory.
    pub log_cache_bytes: u64,
    /// Bytes of blocks of snapshots kept in memory.
    pub snapshot_cache_bytes: u64,
}

impl Options {
    /// The number of slots of a new folder.
    pub const DEFAULT_SLOTS: u32 = 64;
}

impl Default for Options {
    fn default() -> Self {
        Self { slots: None, log_cache_bytes: 16 << 20, snapshot_cache_bytes: 64 << 20 }
    }
}

/// Bytes of a memtable of the log before it is flushed.
const LOG_MEMTABLE_BYTES: u64 = 32 << 20;
/// And of one of the snapshots: heads of the same entities are put again and again, and a flush writes
/// the last of each alone.
const SNAPSHOT_MEMTABLE_BYTES: u64 = 64 << 20;

/// Bytes of a database's memtables, flushed or not, at which its writer waits for fjall.
pub(crate) const WRITE_BUFFER_BYTES_MAX: u64 = 192 << 20;

/// Values from this size on are kept apart from the keys: chunks and pages are written twice
/// (journal and blob file) instead of again with every compaction.
const LOG_SEPARATION_BYTES: u32 = 512;
pub(crate) const SNAPSHOT_SEPARATION_BYTES: u32 = 8 << 10;

pub(crate) fn database(path: &Path, cache_bytes: u64) -> fjall::Result<Database> {
    Database::builder(path)
        .cache_size(cache_bytes)
        // One thread flushes and compacts. With two, fjall's first one turns in circles while the
        // second compacts.
        .worker_threads(1)
        .manual_journal_persist(true)
        .journal_compression(CompressionType::None)
        .max_journaling_size(384 << 20)
        .open()
}

pub(crate) fn log_rows() -> KeyspaceCreateOptions {
    // Chunks are replaced by erasures alone, and then nothing of what was erased may stay: a file with
    // anything stale in it is written anew.
    let separation = separated(LOG_SEPARATION_BYTES);
    rows(separation.staleness_threshold(f32::MIN_POSITIVE).age_cutoff(1.0))
        .max_memtable_size(LOG_MEMTABLE_BYTES)
}

pub(crate) fn snapshot_rows() -> KeyspaceCreateOptions {
    rows(separated(SNAPSHOT_SEPARATION_BYTES)).max_memtable_size(SNAPSHOT_MEMTABLE_BYTES)
}

fn separated(bytes: u32) -> KvSeparationOptions {
    KvSeparationOptions::default().compression(CompressionType::None).separation_threshold(bytes)
}

fn rows(separation: KvSeparationOptions) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(
            BloomConstructionPolicy::BitsPerKey(10.0),
        )))
        .with_kv_separation(Some(separation))
}
