//! Bounds and patience.

use std::time::Duration;

/// How much a store-writer holds, and how patient it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Flushes that may wait to be appended.
    pub queue_flushes: usize,
    /// Bytes of chunks that may wait or be appended, at most 4 GiB. A flush greater than that waits
    /// until it is alone.
    pub queue_bytes: usize,
    /// Bytes of chunks after which a group takes no further flush.
    pub group_bytes: usize,
    /// The first pause before a call is tried again; it doubles, with jitter.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// How often a put, load, read, renewal or mark is tried again.
    pub retries: usize,
    /// How often the steps of a take-over or a release are tried again, in all.
    pub ownership_retries: usize,
    /// Retries allowed for each call made, in percent, beyond `retries_per_second`.
    pub retry_percent: u8,
    /// Retries always allowed in a second.
    pub retries_per_second: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_flushes: 1_024,
            queue_bytes: 64 << 20,
            group_bytes: 8 << 20,
            pause_min: Duration::from_millis(5),
            pause_max: Duration::from_secs(1),
            retries: 8,
            ownership_retries: 64,
            retry_percent: 20,
            retries_per_second: 10,
        }
    }
}
