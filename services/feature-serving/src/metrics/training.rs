//! What is counted of training sets.

use millrace_telemetry::Metric;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;

/// Sets under way.
pub const SETS: Metric =
    Metric::gauge("millrace_training_sets", &[], "Training sets that are being made");
/// Their bound.
pub const SETS_LIMIT: Metric = Metric::gauge(
    "millrace_training_sets_limit",
    &[],
    "Training sets that may be made at once; more wait",
);
/// Rows answered.
pub const ROWS: Metric =
    Metric::counter("millrace_training_rows_total", &[], "Rows of training sets that were sent");
/// Sections of spines.
pub const SECTIONS: Metric = Metric::counter(
    "millrace_training_sections_total",
    &["outcome"],
    "Rows of spines that were asked of the log together, by outcome: answered, or halved because the \
     answer takes more memory than there is for it",
);
/// Reads of the logs of slots.
pub const SLOT_READS: Metric = Metric::counter(
    "millrace_training_slot_reads_total",
    &["outcome"],
    "Reads of the log of a slot for training sets, by outcome: whole, or divided because its facts \
     take more memory than there is for them, so that its entities take turns",
);
/// Facts looked at.
pub const FACTS: Metric = Metric::counter(
    "millrace_training_facts_total",
    &[],
    "Facts that training sets looked at in the log, once for each time that they read it",
);

/// What training sets add to.
#[derive(Debug, Clone)]
pub(crate) struct TrainingInstruments {
    rows: Counter<u64>,
    sections: Counter<u64>,
    slot_reads: Counter<u64>,
    facts: Counter<u64>,
}

impl TrainingInstruments {
    pub(crate) fn new() -> Self {
        Self {
            rows: ROWS.count(),
            sections: SECTIONS.count(),
            slot_reads: SLOT_READS.count(),
            facts: FACTS.count(),
        }
    }

    /// Rows go out.
    pub(crate) fn rows(&self, rows: usize) {
        self.rows.add(rows as u64, &[]);
    }

    /// Rows of a spine were asked of the log together.
    pub(crate) fn section(&self, is_answered: bool) {
        let outcome = if is_answered { "answered" } else { "halved" };
        self.sections.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    /// The log of a slot was read, and facts in it looked at.
    pub(crate) fn slot_read(&self, is_whole: bool, facts: u64) {
        let outcome = if is_whole { "whole" } else { "divided" };
        self.slot_reads.add(1, &[KeyValue::new("outcome", outcome)]);
        self.facts.add(facts, &[]);
    }
}
