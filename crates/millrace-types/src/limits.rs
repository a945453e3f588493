//! Every size limit of the protocol and the log, in one place, with its unit.

/// Greatest canonical size of an entity key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Greatest size of a fact's id, in bytes.
pub const ID_BYTES_MAX: usize = 1024;
/// Greatest size of one encoded fact (key, id and row together), in bytes: a fact must fit a page.
pub const FACT_BYTES_MAX: usize = 48 * 1024;
/// Greatest size of a chunk of the slot log, header included, in bytes.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Greatest size of a fact page, in bytes.
pub const PAGE_BYTES_MAX: usize = 64 * 1024;
/// Greatest size of a snapshot head, in bytes.
pub const HEAD_BYTES_MAX: usize = 1024 * 1024;
/// Greatest number of facts in one batch of a producer.
pub const BATCH_FACTS_MAX: usize = 65_536;
/// Greatest number of joined rows one fact may repair at once; beyond it its entity is rebuilt.
pub const REPAIR_ROWS_MAX: u64 = 10_000;
