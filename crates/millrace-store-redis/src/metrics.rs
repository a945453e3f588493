//! What is asked of Redis.

use millrace_telemetry::Metric;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;

/// Calls.
pub const CALLS: Metric = Metric::counter(
    "millrace_redis_calls_total",
    &["call"],
    "Calls of Redis for the windows of producers, failed ones too: read, which a batch waits for, or mark, \
     which nobody waits for",
);

/// All of them.
pub const ALL: [Metric; 1] = [CALLS];

/// The instruments.
pub(crate) struct Instruments {
    calls: Counter<u64>,
}

impl Instruments {
    pub(crate) fn new() -> Self {
        Self { calls: CALLS.count() }
    }

    pub(crate) fn reads(&self) {
        self.calls.add(1, &[KeyValue::new("call", "read")]);
    }

    pub(crate) fn marks(&self) {
        self.calls.add(1, &[KeyValue::new("call", "mark")]);
    }
}
