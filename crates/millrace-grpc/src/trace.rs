//! The trace that a call belongs to.

use millrace_telemetry::TraceContext;
use tonic::Request;
use tonic::metadata::MetadataValue;

/// What the headers of a call say of its trace: W3C `traceparent` and `tracestate`.
#[must_use]
pub fn trace_of<T>(request: &Request<T>) -> TraceContext {
    let header = |name: &str| {
        request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    TraceContext::read(header("traceparent"), header("tracestate"))
}

/// Writes where the task is in its trace into the headers of a call it makes; nothing where it is in
/// none.
pub fn carry_trace<T>(request: &mut Request<T>) {
    let (traceparent, tracestate) = TraceContext::current().write();
    for (name, value) in [("traceparent", traceparent), ("tracestate", tracestate)] {
        if value.is_empty() {
            continue;
        }
        // What no header can hold is left out: no call is refused for it.
        if let Ok(value) = MetadataValue::try_from(value) {
            request.metadata_mut().insert(name, value);
        }
    }
}
