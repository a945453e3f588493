//! What a server counts: calls by method and outcome, connections, and how full it is.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use millrace_proto::FILE_DESCRIPTOR_SET;
use millrace_telemetry::Metric;
use millrace_telemetry::metrics::LATENCY;
use millrace_telemetry::metrics::names::{OTHER, UNKNOWN};
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, Value};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{Drain, ErrorCode, ServerLimits};

/// How long calls took.
pub const CALL_SECONDS: Metric = Metric::histogram(
    "millrace_call_seconds",
    LATENCY,
    &["method", "code"],
    "Calls by method and gRPC status, CANCELLED when their client gave them up: from their \
     headers to the last byte of their answer",
);
/// Calls that failed.
pub const CALL_ERRORS: Metric = Metric::counter(
    "millrace_call_errors_total",
    &["method", "reason"],
    "Calls that failed, by the reason of the table of errors",
);
/// Calls that are open.
pub const CALLS: Metric = Metric::gauge("millrace_calls", &[], "Calls that are open, streams too");
/// The bound of calls that wait for their response.
pub const CALLS_LIMIT: Metric = Metric::gauge(
    "millrace_calls_limit",
    &[],
    "Calls that may wait for the begin of their response at once; beyond it OVERLOADED",
);
/// Connections that are open.
pub const CONNECTIONS: Metric = Metric::gauge("millrace_connections", &[], "Open connections");
/// The bound of connections.
pub const CONNECTIONS_LIMIT: Metric =
    Metric::gauge("millrace_connections_limit", &[], "Connections that may be open at once");
/// Connections that were refused.
pub const CONNECTIONS_REFUSED: Metric = Metric::counter(
    "millrace_connections_refused_total",
    &["full"],
    "Connections closed at once because the server or their address has as many as it may",
);
/// Connections that were closed.
pub const CONNECTIONS_CLOSED: Metric = Metric::counter(
    "millrace_connections_closed_total",
    &["reason"],
    "Connections the server closed: no_call, aged, not_taken, flood or drained",
);

/// All of them.
pub const ALL: [Metric; 8] = [
    CALL_SECONDS,
    CALL_ERRORS,
    CALLS,
    CALLS_LIMIT,
    CONNECTIONS,
    CONNECTIONS_LIMIT,
    CONNECTIONS_REFUSED,
    CONNECTIONS_CLOSED,
];

/// The instruments around calls.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    /// By path; what is not here is no method of ours.
    methods: HashMap<String, Value>,
    seconds: Histogram<f64>,
    errors: Counter<u64>,
}

impl CallMetrics {
    pub(crate) fn new(limits: &ServerLimits, drain: &Drain) -> Arc<Self> {
        let open = drain.clone();
        CALLS.set_to(move || Some(open.calls_open() as f64));
        let most = limits.calls_max as f64;
        CALLS_LIMIT.set_to(move || Some(most));
        Arc::new(Self {
            methods: methods(),
            seconds: CALL_SECONDS.record(),
            errors: CALL_ERRORS.count(),
        })
    }

    /// A call begins.
    pub(crate) fn begin(self: &Arc<Self>, path: &str) -> Measured {
        let method = self.methods.get(path).cloned().unwrap_or_else(|| UNKNOWN.into());
        Measured { metrics: self.clone(), method, begun: Instant::now(), ended: false }
    }
}

/// Every method of the protocol and of the services that every server has, by its path. Whoever
/// makes up paths makes no labels.
fn methods() -> HashMap<String, Value> {
    let sets = [FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let files = sets.iter().filter_map(|set| FileDescriptorSet::decode(*set).ok());
    let mut methods = HashMap::new();
    for file in files.flat_map(|set| set.file) {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                methods.insert(format!("/{name}"), Value::from(name));
            }
        }
    }
    methods
}

/// A call until it ends. Dropped before, it was given up by its client.
pub(crate) struct Measured {
    metrics: Arc<CallMetrics>,
    method: Value,
    begun: Instant,
    ended: bool,
}

impl Measured {
    /// It ends with this status.
    pub(crate) fn end(&mut self, status: &Status) {
        if status.code() == Code::Ok {
            return self.count(Code::Ok, None);
        }
        let info = status.get_details_error_info();
        let ours = info.and_then(|info| ErrorCode::from_reason(&info.reason));
        let reason = Some(ours.map_or(OTHER, ErrorCode::reason));
        self.count(status.code(), reason);
    }

    /// It ends with these trailers.
    pub(crate) fn end_with(&mut self, trailers: &HeaderMap) {
        if trailers.get(Status::GRPC_STATUS).is_some_and(|code| code.as_bytes() == b"0") {
            return self.count(Code::Ok, None);
        }
        if let Some(status) = Status::from_header_map(trailers) {
            self.end(&status);
        }
    }

    fn count(&mut self, code: Code, reason: Option<&'static str>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let method = KeyValue::new("method", self.method.clone());
        if let Some(reason) = reason {
            self.metrics.errors.add(1, &[method.clone(), KeyValue::new("reason", reason)]);
        }
        let code = KeyValue::new("code", name(code));
        self.metrics.seconds.record(self.begun.elapsed().as_secs_f64(), &[method, code]);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // No failure: clients give up calls that they need no more, streams above all.
        self.count(Code::Cancelled, None);
    }
}

/// The instruments around connections.
#[derive(Debug)]
pub(crate) struct ConnectionMetrics {
    refused: Counter<u64>,
    closed: Counter<u64>,
}

impl ConnectionMetrics {
    pub(crate) fn new(limits: &ServerLimits, drain: &Drain) -> Self {
        let open = drain.clone();
        CONNECTIONS.set_to(move || Some(open.connections_open() as f64));
        let most = limits.connections_max as f64;
        CONNECTIONS_LIMIT.set_to(move || Some(most));
        Self { refused: CONNECTIONS_REFUSED.count(), closed: CONNECTIONS_CLOSED.count() }
    }

    pub(crate) fn refused(&self, full: &'static str) {
        self.refused.add(1, &[KeyValue::new("full", full)]);
    }

    pub(crate) fn closed(&self, reason: &'static str) {
        self.closed.add(1, &[KeyValue::new("reason", reason)]);
    }
}

/// A status code as the protocol writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_those_of_the_protocol_and_no_others() {
        let methods = methods();
        let label = |path: &str| methods.get(path).map(ToString::to_string);
        let get = "millrace.v1.FeatureService/GetFeatures";
        assert_eq!(label(&format!("/{get}")).as_deref(), Some(get));
        assert_eq!(
            label("/grpc.health.v1.Health/Check").as_deref(),
            Some("grpc.health.v1.Health/Check")
        );
        assert_eq!(label("/millrace.v1.JoinService/Anything"), None);
        assert_eq!(label(""), None);
    }
}
