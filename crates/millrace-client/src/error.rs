//! What can go wrong for a client.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use millrace_grpc::{ERROR_DOMAIN, ErrorCode};
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::endpoints::Role;
use crate::trust::{NotTrusted, TrustProblem};

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// No server answered, however often it was tried.
    #[error("{service} at {address} cannot be reached after {}s of trying: {reason}", waited.as_secs())]
    NotReachable {
        /// Which service.
        service: &'static str,
        /// Where it was looked for.
        address: String,
        /// For how long.
        waited: Duration,
        /// What the last attempt met.
        reason: String,
    },
    /// The call took longer than it may. Whether it had its effect is not known.
    #[error("the call took longer than {after:?}")]
    DeadlineExceeded {
        /// The limit of the call.
        after: Duration,
    },
    /// The server refused the call, and said why.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The connection broke in the middle. Whether the call had its effect is not known.
    #[error("the connection to the server broke: {reason}")]
    Broken {
        /// What the transport said.
        reason: String,
    },
    /// A certificate is not what it should be, the server's or this client's.
    #[error(transparent)]
    NotTrusted(Box<NotTrusted>),
    /// The server answered something the protocol does not allow.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// A batch that was never sent, since it cannot be.
    #[error("{field}: {rule}")]
    InvalidBatch {
        /// The field of the request.
        field: &'static str,
        /// The rule it breaks.
        rule: String,
    },
    /// The publisher ended before; its outcomes say why.
    #[error("the publisher has ended")]
    PublisherEnded,
}

/// What a server said when it refused a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC status code.
    pub status: Code,
    /// The stable reason; empty where the server gave none.
    pub reason: String,
    /// The same, where this client knows it.
    pub code: Option<ErrorCode>,
    /// The server's message.
    pub message: String,
    /// The fields that break a rule.
    pub violations: Vec<FieldViolation>,
    /// When to try again, where it helps.
    pub retry_after: Option<Duration>,
    /// The values that the message speaks of.
    pub metadata: BTreeMap<String, String>,
}

/// A field of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field.
    pub field: String,
    /// The rule.
    pub rule: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.message.as_str(), self.reason.as_str()) {
            ("", "") => write!(f, "the server refused the call: {:?}", self.status),
            ("", reason) => f.write_str(reason),
            (message, _) => f.write_str(message),
        }
    }
}

impl Error for Refusal {}

impl Refusal {
    fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let reason = info.map(|info| info.reason.clone()).unwrap_or_default();
        Self {
            status: status.code(),
            code: ErrorCode::from_reason(&reason),
            reason,
            message: status.message().to_owned(),
            violations: details
                .bad_request()
                .map(|bad| {
                    let violations = bad.field_violations.iter();
                    violations
                        .map(|v| FieldViolation {
                            field: v.field.clone(),
                            rule: v.description.clone(),
                        })
                        .collect()
                })
                .unwrap_or_default(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            metadata: info
                .map(|info| info.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
                .unwrap_or_default(),
        }
    }
}

impl ClientError {
    /// Reads the status that a call of a service ended with. `limit` is what the call was given.
    pub(crate) fn of(status: &Status, role: &Role, limit: Duration) -> Self {
        if status.get_details_error_info().is_some_and(|info| info.domain == ERROR_DOMAIN) {
            return match ErrorCode::from_reason(&Refusal::of(status).reason) {
                Some(ErrorCode::DeadlineExceeded) => Self::DeadlineExceeded { after: limit },
                _ => Self::Refused(Box::new(Refusal::of(status))),
            };
        }
        // A status without our details was made on the way: by tonic's client, or a proxy.
        if status.code() == Code::DeadlineExceeded || timed_out(status) {
            return Self::DeadlineExceeded { after: limit };
        }
        if let Some(problem) = TrustProblem::of_tls(status) {
            return Self::NotTrusted(Box::new(role.not_trusted(problem)));
        }
        if status.source().is_some() || status.code() == Code::Unavailable {
            return Self::Broken { reason: innermost(status) };
        }
        Self::Refused(Box::new(Refusal::of(status)))
    }

    /// True when the same call may succeed on another connection or after a while, and nobody else
    /// needs to do anything for that: the server restarts, moves, or was not reached.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Broken { .. } => true,
            Self::Refused(refusal) => {
                let Some(code) = refusal.code else { return false };
                matches!(
                    code,
                    ErrorCode::NotServing | ErrorCode::ServerDraining | ErrorCode::StreamAged
                )
            }
            Self::NotReachable { .. }
            | Self::DeadlineExceeded { .. }
            | Self::NotTrusted(_)
            | Self::Protocol(_)
            | Self::InvalidBatch { .. }
            | Self::PublisherEnded => false,
        }
    }

    /// True when trying again later may help, as far as the server says.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.is_transient()
            || self.refusal().and_then(|r| r.code).is_some_and(ErrorCode::is_retryable)
    }

    /// What the server said, if it refused the call.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::NotReachable { .. }
            | Self::DeadlineExceeded { .. }
            | Self::Broken { .. }
            | Self::NotTrusted(_)
            | Self::Protocol(_)
            | Self::InvalidBatch { .. }
            | Self::PublisherEnded => None,
        }
    }
}

/// Whether tonic's client ended the call by its own timer.
fn timed_out(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<tonic::TimeoutExpired>())
}

/// The cause at the bottom, which names what happened; what lies above says "transport error".
pub(crate) fn innermost(status: &Status) -> String {
    causes(status).last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}

pub(crate) fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = status.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

#[cfg(test)]
mod tests {
    use millrace_grpc::Fault;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn of(status: &Status) -> ClientError {
        let endpoint = ["http://127.0.0.1:1".to_owned()];
        let role = Role::secure("ingest", &endpoint, &Default::default()).unwrap();
        ClientError::of(status, &role, LIMIT)
    }

    #[tokio::test]
    async fn a_refusal_carries_what_the_server_said() {
        let status = Fault::new(ErrorCode::Overloaded, "slot 3 is overloaded")
            .with("slot", 3)
            .violation("rows[2]", "must be set")
            .retry_after(Duration::from_millis(250))
            .into_status();
        let error = of(&status);
        assert_eq!(error.to_string(), "slot 3 is overloaded");
        assert!(error.is_retryable() && !error.is_transient());
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.code, Some(ErrorCode::Overloaded));
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(250)));
        assert_eq!(refusal.metadata["slot"], "3");
        assert_eq!(refusal.violations[0].field, "rows[2]");
    }

    #[tokio::test]
    async fn statuses_that_are_not_ours_are_told_apart() {
        let deadline = Fault::new(ErrorCode::DeadlineExceeded, "x").into_status();
        for status in [deadline, Status::deadline_exceeded("x")] {
            let error = of(&status);
            assert_eq!(error, ClientError::DeadlineExceeded { after: LIMIT });
        }
        let proxy = of(&Status::unavailable("no backend"));
        assert_eq!(proxy, ClientError::Broken { reason: "no backend".to_owned() });
        let other = of(&Status::permission_denied(""));
        assert_eq!(other.to_string(), "the server refused the call: PermissionDenied");
        assert!(!other.is_retryable());
    }
}
