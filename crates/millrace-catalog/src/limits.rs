//! Every size limit of a catalog, with its unit. They keep what a catalog makes the cluster hold
//! and do bounded; all of them are far above what a real catalog needs.

/// Greatest size of a catalog's text, in bytes.
pub const CATALOG_BYTES_MAX: usize = 1024 * 1024;
/// Greatest depth of nesting in the YAML. The deepest text the catalog needs is at 6.
pub const YAML_DEPTH_MAX: usize = 12;
/// Greatest number of errors reported for one text; a last one says that there are more.
pub const DIAGNOSTICS_MAX: usize = 1_000;
/// Greatest size of a name, in bytes. The entity hash has its fast path up to here.
pub const NAME_BYTES_MAX: usize = 64;
/// Greatest number of entity kinds.
pub const KINDS_MAX: usize = 64;
/// Greatest number of parts of a tuple key; the key as a whole takes at most 256 bytes.
pub const KEY_PARTS_MAX: usize = 8;
/// Greatest number of streams.
pub const STREAMS_MAX: usize = 256;
/// Greatest number of entity kinds one stream is routed to: each costs a copy of every fact.
pub const STREAM_KEYS_MAX: usize = 8;
/// Greatest number of fields of a stream.
pub const FIELDS_MAX: usize = 256;
/// Greatest number of values that `retract` or `end` lists.
pub const OP_VALUES_MAX: usize = 64;
/// Greatest number of views.
pub const VIEWS_MAX: usize = 256;
/// Greatest number of changelogs one view joins.
pub const JOINS_MAX: usize = 8;
/// Greatest number of features of a view.
pub const FEATURES_MAX: usize = 256;
/// Greatest duration, in microseconds: 36,525 days, a hundred years.
pub const DURATION_US_MAX: i64 = 36_525 * 86_400_000_000;
/// Greatest `n` of `first_n` and `last_n`.
pub const N_MAX: usize = 1_000;
/// Greatest `k` of `top_k`.
pub const K_MAX: usize = 1_000;
/// `limit` of `count_distinct` and `top_k` where none is given, in distinct values.
pub const DISTINCT_LIMIT_DEFAULT: usize = 1_000;
/// Greatest `limit` of `count_distinct` and `top_k`, in distinct values.
pub const DISTINCT_LIMIT_MAX: usize = 100_000;
/// Greatest size of a `where` expression, in bytes.
pub const WHERE_BYTES_MAX: usize = 4_096;
/// Greatest depth of a `where` expression's tree (`a && b && c …` counts as one level).
pub const WHERE_DEPTH_MAX: usize = 64;
/// Greatest size of one compiled `matches` pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Greatest number of `matches` patterns in a catalog; with [`PATTERN_BYTES_MAX`] it bounds their memory.
pub const PATTERNS_MAX: usize = 256;
