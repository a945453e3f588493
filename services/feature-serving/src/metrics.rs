//! What feature-serving counts: reads by the way they were answered, and training sets.

mod training;

use std::time::Duration;

use millrace_telemetry::Metric;
use millrace_telemetry::metrics::LATENCY;
use millrace_telemetry::metrics::names::Names;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};

pub(crate) use training::TrainingInstruments;
pub use training::{FACTS, ROWS, SECTIONS, SETS, SETS_LIMIT, SLOT_READS};

use crate::read::{Answer, HeadPath};

/// How long reads took.
pub const READ_SECONDS: Metric = Metric::histogram(
    "millrace_read_seconds",
    LATENCY,
    &["path"],
    "Reads of features by their path: head (live heads), stored (stored heads) or log (an entity \
     at least was folded from the log)",
);
/// Entities read.
pub const ENTITIES: Metric = Metric::counter(
    "millrace_read_entities_total",
    &["view", "path"],
    "Entities read, by the path each was answered on",
);
/// Facts looked at in the log.
pub const LOG_FACTS: Metric = Metric::counter(
    "millrace_read_log_facts_total",
    &[],
    "Facts that reads from the log looked at",
);
/// Reads from the log.
pub const LOG_READS: Metric =
    Metric::gauge("millrace_read_log_reads", &[], "Reads from the log under way");
/// Their bound.
pub const LOG_READS_LIMIT: Metric = Metric::gauge(
    "millrace_read_log_reads_limit",
    &[],
    "Reads from the log that may be under way at once; more wait",
);

/// Entities whose heads are read.
pub const HEAD_READS: Metric =
    Metric::gauge("millrace_read_heads", &[], "Entities whose heads are being read");
/// Their bound.
pub const HEAD_READS_LIMIT: Metric = Metric::gauge(
    "millrace_read_heads_limit",
    &[],
    "Entities whose heads may be read at once; more wait",
);

/// Heads that reads of stored heads needed.
pub const HEADS: Metric = Metric::counter(
    "millrace_read_heads_total",
    &["from"],
    "Heads that reads of stored heads needed, by where they were: cache or store",
);
/// What kept heads take.
pub const HOT_HEAD_BYTES: Metric = Metric::gauge(
    "millrace_read_hot_head_bytes",
    &[],
    "Bytes of heads kept for further reads of stored heads",
);
/// Their bound.
pub const HOT_HEAD_BYTES_LIMIT: Metric = Metric::gauge(
    "millrace_read_hot_head_bytes_limit",
    &[],
    "Bytes of heads that may be kept; those read least leave",
);

/// Pages that reads of stored heads needed.
pub const PAGES: Metric = Metric::counter(
    "millrace_read_pages_total",
    &["from"],
    "Pages that reads of stored heads needed beside the head, by where they were: cache or store",
);
/// What kept pages take.
pub const PAGE_BYTES: Metric = Metric::gauge(
    "millrace_read_page_cache_bytes",
    &[],
    "Bytes of pages kept for further reads of stored heads",
);
/// Their bound.
pub const PAGE_BYTES_LIMIT: Metric = Metric::gauge(
    "millrace_read_page_cache_bytes_limit",
    &[],
    "Bytes of pages that may be kept; those read least leave",
);

/// Samples by what became of them.
pub const PARITY_SAMPLES: Metric = Metric::counter(
    "millrace_parity_samples_total",
    &["outcome"],
    "Sampled answers that were made again from the log, by outcome: equal, mismatch or skipped",
);
/// Samples that were not compared.
pub const PARITY_SKIPPED: Metric = Metric::counter(
    "millrace_parity_skipped_samples_total",
    &["reason"],
    "Sampled answers that were not compared, by reason: rate, size, overwritten, catalog, budget, \
     store, damaged, erased or forgotten",
);
/// The SLI.
pub const PARITY_MISMATCH_RATIO: Metric = Metric::gauge(
    "millrace_parity_mismatch_ratio",
    &[],
    "Of the sampled answers that were compared with the log the share that differs, since the \
     process was started: it is 0",
);
/// Entities handed over to be rebuilt.
pub const PARITY_REBUILDS: Metric = Metric::counter(
    "millrace_parity_rebuilds_total",
    &[],
    "Entities that were handed over to be rebuilt from the log, because an answer about them differs",
);

/// All of them.
pub const ALL: [Metric; 23] = [
    READ_SECONDS,
    ENTITIES,
    LOG_FACTS,
    LOG_READS,
    LOG_READS_LIMIT,
    HEAD_READS,
    HEAD_READS_LIMIT,
    HEADS,
    HOT_HEAD_BYTES,
    HOT_HEAD_BYTES_LIMIT,
    PAGES,
    PAGE_BYTES,
    PAGE_BYTES_LIMIT,
    PARITY_SAMPLES,
    PARITY_SKIPPED,
    PARITY_MISMATCH_RATIO,
    PARITY_REBUILDS,
    SETS,
    SETS_LIMIT,
    ROWS,
    SECTIONS,
    SLOT_READS,
    FACTS,
];

/// The path of what is folded from the log.
const LOG: &str = "log";

/// What a reader adds to, once a read.
pub(crate) struct Instruments {
    views: Names,
    seconds: Histogram<f64>,
    entities: Counter<u64>,
}

impl Instruments {
    pub(crate) fn new() -> Self {
        Self { views: Names::default(), seconds: READ_SECONDS.record(), entities: ENTITIES.count() }
    }

    /// A read is answered.
    pub(crate) fn read(&self, answer: &Answer, heads: HeadPath, time: Duration) {
        let heads_path = heads.name();
        let path = if answer.from_log > 0 { LOG } else { heads_path };
        self.seconds.record(time.as_secs_f64(), &[KeyValue::new("path", path)]);
        let Some(view) = answer.catalog.views.get(answer.view) else { return };
        let view = KeyValue::new("view", self.views.label(&view.name));
        let from_log = answer.from_log as u64;
        let from_heads = (answer.entities.len() as u64).saturating_sub(from_log);
        for (path, count) in [(heads_path, from_heads), (LOG, from_log)] {
            if count > 0 {
                self.entities.add(count, &[view.clone(), KeyValue::new("path", path)]);
            }
        }
    }
}
