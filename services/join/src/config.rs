//! What the join service can be told.

use std::num::NonZeroUsize;
use std::time::Duration;

/// What a node that shares slots with others tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// Where it takes calls, `http://HOST:PORT`.
    pub endpoint: String,
    /// Its share of slots beside those of others, 1 to 1024.
    pub weight: u32,
    /// How long a node may not be heard of before its slots are taken over.
    pub lease: Duration,
}

/// What backfills of new features may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackfillLimits {
    /// Bytes of the log a worker reads a second for it, at least 1.
    pub bytes_per_second: u64,
    /// Entities folded in one scan of a slot's log.
    pub entities: usize,
    /// Memory of the facts folded in one scan, in bytes; one entity is folded whatever it takes.
    pub bytes: usize,
}

impl Default for BackfillLimits {
    fn default() -> Self {
        Self { bytes_per_second: 32 << 20, entities: 1_024, bytes: 64 << 20 }
    }
}

/// Settings of the join service.
#[derive(Debug, Clone)]
pub struct JoinConfig {
    /// Slots of the cluster, a power of two.
    pub slots: u32,
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// Bytes of facts at hand a slot may hold; beyond it the oldest leave.
    pub at_hand_bytes: usize,
    /// Memory for entities, over all slots, in bytes.
    pub resident_bytes: usize,
    /// Facts a slot may have queued; more is refused.
    pub queue_facts: u64,
    /// Bytes a worker may have queued; more is refused.
    pub queue_bytes: usize,
    /// The longest a fact waits for company when the load is high.
    pub linger: Duration,
    /// How often marks are written while something changes.
    pub mark_interval: Duration,
    /// Heads of a slot are written once its oldest unsaved fact is this old.
    pub head_delay: Duration,
    /// The head of an entity that changes all the time is written so often; ten times in it heads that
    /// rested are looked for.
    pub head_interval: Duration,
    /// Bytes of heads that a worker puts a second, with two for each byte of its log. Heads beyond it wait,
    /// those that lack facts longest first.
    pub head_bytes_per_second: u64,
    /// No fact is missing from stored heads for longer because of that.
    pub head_overdue_after: Duration,
    /// How long an ingest incarnation that is silent holds watermarks back after a takeover.
    pub idle_after: Duration,
    /// Ingest runs in the same process and leaves with it.
    pub ingest_inside: bool,
    /// Other nodes may share the slots; `None`: this is the only one, and takes all.
    pub beside: Option<Beside>,
    /// Entities a rebuild folds in one scan of a slot's log.
    pub rebuild_entities: usize,
    /// Backfills.
    pub backfill: BackfillLimits,
    /// Facts that all subscriptions together may hold.
    pub subscribe_facts: u64,
    /// Bytes that these facts and their entities may take.
    pub subscribe_bytes: u64,
}

impl Default for JoinConfig {
    fn default() -> Self {
        Self {
            slots: 64,
            workers: NonZeroUsize::MIN,
            at_hand_bytes: 64 << 20,
            resident_bytes: 4 << 30,
            queue_facts: 65_536,
            queue_bytes: 64 << 20,
            linger: Duration::from_millis(5),
            mark_interval: Duration::from_secs(1),
            head_delay: Duration::from_secs(20),
            head_interval: Duration::from_secs(20),
            head_bytes_per_second: 64 << 20,
            head_overdue_after: Duration::from_secs(60),
            idle_after: Duration::from_secs(30),
            ingest_inside: true,
            beside: None,
            rebuild_entities: 1_024,
            backfill: BackfillLimits::default(),
            subscribe_facts: 20_000_000,
            subscribe_bytes: 4 << 30,
        }
    }
}
