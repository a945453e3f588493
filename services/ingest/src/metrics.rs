//! What ingest counts: facts by verdict, batches by outcome, how full its budget is, and how long
//! facts take until reads see them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use millrace_grpc::{Coded as _, ErrorCode};
use millrace_telemetry::Metric;
use millrace_telemetry::metrics::LATENCY;
use millrace_telemetry::metrics::names::{Names, UNKNOWN};
use millrace_types::{RejectReason, Verdict};
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, Value};

use crate::error::IngestError;
use crate::ingest::Ingest;
use crate::verdicts::Answer;

/// Facts answered.
pub const FACTS: Metric = Metric::counter(
    "millrace_ingest_facts_total",
    &["stream", "verdict"],
    "Facts answered, by their verdict: ACCEPTED, REPAIRED, DUPLICATE, LATE or REJECTED",
);
/// Facts whose entity is rebuilt first.
pub const QUEUED: Metric = Metric::counter(
    "millrace_ingest_queued_facts_total",
    &["stream"],
    "REPAIRED facts that take effect once their entity is rebuilt",
);
/// Rows that facts took back.
pub const ROWS_REPAIRED: Metric = Metric::counter(
    "millrace_ingest_rows_repaired_total",
    &["stream"],
    "Joined rows emitted before that REPAIRED facts took back",
);
/// REJECTED facts.
pub const REJECTED: Metric = Metric::counter(
    "millrace_ingest_rejected_facts_total",
    &["reason"],
    "REJECTED facts, by the reason of the closed set",
);
/// Batches.
pub const BATCHES: Metric = Metric::counter(
    "millrace_ingest_batches_total",
    &["code"],
    "Batches by what they were answered with: OK, or the reason of the table of errors",
);
/// Freshness.
pub const FRESHNESS: Metric = Metric::histogram(
    "millrace_freshness_seconds",
    LATENCY,
    &["stream"],
    "From taking a batch in until its facts are durable and reads of live heads see them",
);
/// Facts sent to join again.
pub const RESENDS: Metric = Metric::counter(
    "millrace_ingest_resends_total",
    &[],
    "Times facts were sent to join again because it did not take them or lost them",
);
/// Producer windows that did not answer.
pub const WINDOW_FAILURES: Metric = Metric::counter(
    "millrace_ingest_window_failures_total",
    &[],
    "Times a producer's window did not answer in time; its facts are sent on all the same",
);
/// Facts in flight.
pub const IN_FLIGHT_FACTS: Metric =
    Metric::gauge("millrace_ingest_in_flight_facts", &[], "Facts taken in and not answered yet");
/// Their bound.
pub const IN_FLIGHT_FACTS_LIMIT: Metric = Metric::gauge(
    "millrace_ingest_in_flight_facts_limit",
    &[],
    "Facts that may be in flight, of all calls together",
);
/// Bytes in flight.
pub const IN_FLIGHT_BYTES: Metric = Metric::gauge(
    "millrace_ingest_in_flight_bytes",
    &[],
    "Bytes of requests taken in and not answered yet",
);
/// Their bound.
pub const IN_FLIGHT_BYTES_LIMIT: Metric = Metric::gauge(
    "millrace_ingest_in_flight_bytes_limit",
    &[],
    "Bytes of requests that may be in flight, of all calls together",
);
/// Bytes that wait.
pub const WAITING_BYTES: Metric = Metric::gauge(
    "millrace_ingest_waiting_bytes",
    &[],
    "Bytes of batches that wait until they may be in flight, small ones left out",
);
/// Their bound.
pub const WAITING_BYTES_LIMIT: Metric = Metric::gauge(
    "millrace_ingest_waiting_bytes_limit",
    &[],
    "Bytes of batches that may wait, small ones left out",
);
/// Calls that publish.
pub const CALLS: Metric =
    Metric::gauge("millrace_ingest_calls", &[], "Open Publish calls, which share the budget");
/// Credits in facts.
pub const CREDIT_FACTS: Metric = Metric::gauge(
    "millrace_ingest_credit_facts",
    &[],
    "Credits at present of the call that has the fewest: facts it may have in flight",
);
/// Credits in bytes.
pub const CREDIT_BYTES: Metric =
    Metric::gauge("millrace_ingest_credit_bytes", &[], "The same in bytes");
/// Batches that wait for a slot.
pub const WAITING: Metric = Metric::gauge(
    "millrace_ingest_waiting_batches",
    &[],
    "Batches that wait for credits of a slot",
);
/// Credits of a slot in facts.
pub const SLOT_CREDIT_FACTS: Metric = Metric::gauge(
    "millrace_ingest_slot_credit_facts",
    &[],
    "Credits of each slot at present: facts that may be handed to join and not confirmed",
);
/// Credits of a slot in bytes.
pub const SLOT_CREDIT_BYTES: Metric =
    Metric::gauge("millrace_ingest_slot_credit_bytes", &[], "The same in bytes of encoded facts");

/// All of them.
pub const ALL: [Metric; 20] = [
    FACTS,
    QUEUED,
    ROWS_REPAIRED,
    REJECTED,
    BATCHES,
    FRESHNESS,
    RESENDS,
    WINDOW_FAILURES,
    IN_FLIGHT_FACTS,
    IN_FLIGHT_FACTS_LIMIT,
    IN_FLIGHT_BYTES,
    IN_FLIGHT_BYTES_LIMIT,
    WAITING_BYTES,
    WAITING_BYTES_LIMIT,
    CALLS,
    CREDIT_FACTS,
    CREDIT_BYTES,
    WAITING,
    SLOT_CREDIT_FACTS,
    SLOT_CREDIT_BYTES,
];

/// The instruments. Each is added to once a batch.
pub(crate) struct Instruments {
    names: Names,
    facts: Counter<u64>,
    queued: Counter<u64>,
    rows: Counter<u64>,
    rejected: Counter<u64>,
    batches: Counter<u64>,
    freshness: Histogram<f64>,
}

impl Instruments {
    pub(crate) fn new() -> Self {
        Self {
            names: Names::default(),
            facts: FACTS.count(),
            queued: QUEUED.count(),
            rows: ROWS_REPAIRED.count(),
            rejected: REJECTED.count(),
            batches: BATCHES.count(),
            freshness: FRESHNESS.record(),
        }
    }

    /// A batch is answered. `stream` is the catalog's name; none for a stream it does not have.
    pub(crate) fn answered(&self, stream: Option<&str>, answer: &Answer, after: Duration) {
        self.batches.add(1, &[KeyValue::new("code", "OK")]);
        let counts = &answer.counts;
        if counts.total() == 0 {
            return; // a statement about a watermark
        }
        let label = stream.map_or(Value::from(UNKNOWN), |name| self.names.label(name));
        let stream = KeyValue::new("stream", label);
        let verdicts = [
            (Verdict::Accepted.name(), counts.accepted),
            (Verdict::Queued.name(), counts.repaired),
            (Verdict::Duplicate.name(), counts.duplicate),
            (Verdict::Late.name(), counts.late),
            ("REJECTED", counts.rejected),
        ];
        for (verdict, count) in verdicts.into_iter().filter(|(_, count)| *count > 0) {
            self.facts.add(count, &[stream.clone(), KeyValue::new("verdict", verdict)]);
        }
        for (reason, count) in RejectReason::ALL.into_iter().zip(answer.rejected) {
            if count > 0 {
                self.rejected.add(count, &[KeyValue::new("reason", reason.name())]);
            }
        }
        let stream = [stream];
        if counts.queued > 0 {
            self.queued.add(counts.queued, &stream);
        }
        if counts.rows_repaired > 0 {
            self.rows.add(counts.rows_repaired, &stream);
        }
        self.freshness.record(after.as_secs_f64(), &stream);
    }

    /// A batch is refused, or given up.
    pub(crate) fn failed(&self, error: &IngestError) {
        self.failed_with(error.code());
    }

    /// A batch ended with this code.
    pub(crate) fn failed_with(&self, code: ErrorCode) {
        self.batches.add(1, &[KeyValue::new("code", code.reason())]);
    }
}

/// Lets a scrape see what the service keeps anyway.
pub(crate) fn observe(ingest: &Arc<Ingest>) {
    let of = |read: fn(&Ingest) -> f64| {
        let ingest: Weak<Ingest> = Arc::downgrade(ingest);
        move || ingest.upgrade().map(|ingest| read(&ingest))
    };
    IN_FLIGHT_FACTS.set_to(of(|i| i.budget().in_flight().facts.into()));
    IN_FLIGHT_FACTS_LIMIT.set_to(of(|i| i.budget().limits().facts.into()));
    IN_FLIGHT_BYTES.set_to(of(|i| i.budget().in_flight().bytes.into()));
    IN_FLIGHT_BYTES_LIMIT.set_to(of(|i| i.budget().limits().bytes.into()));
    WAITING_BYTES.set_to(of(|i| i.budget().waiting_bytes().into()));
    WAITING_BYTES_LIMIT.set_to(of(|i| i.budget().limits().waiting_bytes.into()));
    CALLS.set_to(of(|i| i.budget().calls() as f64));
    CREDIT_FACTS.set_to(of(|i| i.budget().least_share().facts.into()));
    CREDIT_BYTES.set_to(of(|i| i.budget().least_share().bytes.into()));
    WAITING.set_to(of(|i| i.counters().waiting as f64));
    SLOT_CREDIT_FACTS.set_to(of(|i| i.ports.join.credits().facts as f64));
    SLOT_CREDIT_BYTES.set_to(of(|i| i.ports.join.credits().bytes as f64));
    let count = |read: fn(&Ingest) -> u64| {
        let ingest: Weak<Ingest> = Arc::downgrade(ingest);
        move || ingest.upgrade().map(|ingest| read(&ingest))
    };
    RESENDS.count_of(count(|i| i.counters().resends));
    WINDOW_FAILURES.count_of(count(|i| i.counters().window_failures));
}
