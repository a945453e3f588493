//! The trace that a call belongs to.

use millrace_telemetry::TraceContext;
use tonic::Request;

/// What the headers of a call say of its trace: W3C `traceparent` and `tracestate`.
#[must_use]
pub fn trace_of<T>(request: &Request<T>) -> TraceContext {
    let header = |name: &str| {
        request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    TraceContext::read(header("traceparent"), header("tracestate"))
}
