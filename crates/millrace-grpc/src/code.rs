//! The closed set of errors a client can meet.

use tonic::Code;

/// An error as clients see it. The reason names are part of the interface: scripts, retry policies
/// and alerts hold on to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A field of the request breaks a rule; the violations name it.
    InvalidArgument,
    /// The bytes of a request are no message of the protocol.
    MessageMalformed,
    /// A message is larger than the server takes.
    MessageTooLarge,
    /// A batch is not well formed as a whole: its payload, sequences or size.
    BatchInvalid,
    /// A catalog has problems; the violations name the first of them.
    CatalogInvalid,
    /// Another catalog version than the expected one is in force.
    CatalogChanged,
    /// The caller shows no credential that the server knows.
    Unauthenticated,
    /// The caller lacks a role.
    PermissionDenied,
    /// There is no such catalog version.
    CatalogVersionNotFound,
    /// The catalog has no such view.
    ViewNotFound,
    /// The view has no such feature.
    FeatureNotFound,
    /// A cursor does not fit this server.
    CursorInvalid,
    /// `known_at` lies ahead of the service's clock.
    KnownAtAhead,
    /// A read needs facts that their stream's retention let go.
    BeforeRetention,
    /// The server, connection or slot has as much work as it takes.
    Overloaded,
    /// A read from the log went past its budget of facts or time.
    ReadBudgetSpent,
    /// What the call needs is not served here now: starting, moving or stopped.
    NotServing,
    /// The server is going down.
    ServerDraining,
    /// A stream is as old as streams get; another one goes on where it was.
    StreamAged,
    /// The store does not answer.
    StoreUnavailable,
    /// A service that the call needs is not trusted, or does not trust this one.
    HopNotTrusted,
    /// The store cannot write any more.
    StoreFailed,
    /// Stored bytes are damaged or of another version.
    StoreDamaged,
    /// The call's deadline passed.
    DeadlineExceeded,
    /// The server has no such method.
    MethodNotFound,
    /// The server has no such service.
    ServiceNotFound,
    /// A defect of the server.
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 27] = [
        Self::InvalidArgument,
        Self::MessageMalformed,
        Self::MessageTooLarge,
        Self::BatchInvalid,
        Self::CatalogInvalid,
        Self::CatalogChanged,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::CatalogVersionNotFound,
        Self::ViewNotFound,
        Self::FeatureNotFound,
        Self::CursorInvalid,
        Self::KnownAtAhead,
        Self::BeforeRetention,
        Self::Overloaded,
        Self::ReadBudgetSpent,
        Self::NotServing,
        Self::ServerDraining,
        Self::StreamAged,
        Self::StoreUnavailable,
        Self::HopNotTrusted,
        Self::StoreFailed,
        Self::StoreDamaged,
        Self::DeadlineExceeded,
        Self::MethodNotFound,
        Self::ServiceNotFound,
        Self::Internal,
    ];

    /// The stable name, as in `google.rpc.ErrorInfo.reason`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::MessageMalformed => "MESSAGE_MALFORMED",
            Self::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Self::BatchInvalid => "BATCH_INVALID",
            Self::CatalogInvalid => "CATALOG_INVALID",
            Self::CatalogChanged => "CATALOG_CHANGED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::CatalogVersionNotFound => "CATALOG_VERSION_NOT_FOUND",
            Self::ViewNotFound => "VIEW_NOT_FOUND",
            Self::FeatureNotFound => "FEATURE_NOT_FOUND",
            Self::CursorInvalid => "CURSOR_INVALID",
            Self::KnownAtAhead => "KNOWN_AT_AHEAD",
            Self::BeforeRetention => "BEFORE_RETENTION",
            Self::Overloaded => "OVERLOADED",
            Self::ReadBudgetSpent => "READ_BUDGET_SPENT",
            Self::NotServing => "NOT_SERVING",
            Self::ServerDraining => "SERVER_DRAINING",
            Self::StreamAged => "STREAM_AGED",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::HopNotTrusted => "HOP_NOT_TRUSTED",
            Self::StoreFailed => "STORE_FAILED",
            Self::StoreDamaged => "STORE_DAMAGED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::MethodNotFound => "METHOD_NOT_FOUND",
            Self::ServiceNotFound => "SERVICE_NOT_FOUND",
            Self::Internal => "INTERNAL",
        }
    }

    /// The code with this reason, if it is one of ours.
    #[must_use]
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.reason() == reason)
    }

    /// The gRPC status code it travels under.
    #[must_use]
    pub const fn grpc_code(self) -> Code {
        match self {
            Self::InvalidArgument
            | Self::MessageMalformed
            | Self::BatchInvalid
            | Self::CatalogInvalid
            | Self::CursorInvalid => Code::InvalidArgument,
            Self::MessageTooLarge | Self::KnownAtAhead | Self::BeforeRetention => Code::OutOfRange,
            Self::CatalogChanged => Code::Aborted,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::CatalogVersionNotFound
            | Self::ViewNotFound
            | Self::FeatureNotFound
            | Self::ServiceNotFound => Code::NotFound,
            Self::Overloaded | Self::ReadBudgetSpent => Code::ResourceExhausted,
            Self::NotServing
            | Self::ServerDraining
            | Self::StreamAged
            | Self::StoreUnavailable
            | Self::HopNotTrusted => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::MethodNotFound => Code::Unimplemented,
            Self::StoreFailed | Self::Internal => Code::Internal,
            Self::StoreDamaged => Code::DataLoss,
        }
    }

    /// True when the same call, sent again unchanged after a while, may succeed. Every call of the
    /// protocol may be repeated: facts carry sequences and ids, an apply states what it applies.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::Overloaded
            | Self::NotServing
            | Self::ServerDraining
            | Self::StreamAged
            | Self::StoreUnavailable => true,
            Self::InvalidArgument
            | Self::MessageMalformed
            | Self::MessageTooLarge
            | Self::BatchInvalid
            | Self::CatalogInvalid
            | Self::CatalogChanged
            | Self::Unauthenticated
            | Self::PermissionDenied
            | Self::CatalogVersionNotFound
            | Self::ViewNotFound
            | Self::FeatureNotFound
            | Self::CursorInvalid
            | Self::KnownAtAhead
            | Self::BeforeRetention
            | Self::ReadBudgetSpent
            | Self::HopNotTrusted
            | Self::StoreFailed
            | Self::StoreDamaged
            | Self::DeadlineExceeded
            | Self::MethodNotFound
            | Self::ServiceNotFound
            | Self::Internal => false,
        }
    }

    /// What clients are told instead of the error's own text, which speaks of internals: paths,
    /// drivers, keys. Such errors are logged where they become a status.
    #[must_use]
    pub const fn public_message(self) -> Option<&'static str> {
        match self {
            Self::StoreUnavailable => Some("the store does not answer at the moment"),
            Self::StoreFailed => Some(
                "the store cannot write: nothing is acknowledged until its disk is fixed and the \
                 server is restarted; see the server's log",
            ),
            Self::StoreDamaged => Some(
                "stored bytes are damaged or of another version; see the server's log for which",
            ),
            Self::Internal => Some("an internal error; see the server's log"),
            Self::InvalidArgument
            | Self::MessageMalformed
            | Self::MessageTooLarge
            | Self::BatchInvalid
            | Self::CatalogInvalid
            | Self::CatalogChanged
            | Self::Unauthenticated
            | Self::PermissionDenied
            | Self::CatalogVersionNotFound
            | Self::ViewNotFound
            | Self::FeatureNotFound
            | Self::CursorInvalid
            | Self::KnownAtAhead
            | Self::BeforeRetention
            | Self::Overloaded
            | Self::ReadBudgetSpent
            | Self::NotServing
            | Self::ServerDraining
            | Self::StreamAged
            | Self::HopNotTrusted
            | Self::DeadlineExceeded
            | Self::MethodNotFound
            | Self::ServiceNotFound => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The table is the interface: a line changes only with a major version.
    #[test]
    fn reasons_and_codes_are_stable() {
        let table: Vec<String> = ErrorCode::ALL
            .into_iter()
            .map(|code| {
                let retry = if code.is_retryable() { "retry" } else { "-" };
                format!("{} {:?} {retry}", code.reason(), code.grpc_code())
            })
            .collect();
        assert_eq!(
            table,
            [
                "INVALID_ARGUMENT InvalidArgument -",
                "MESSAGE_MALFORMED InvalidArgument -",
                "MESSAGE_TOO_LARGE OutOfRange -",
                "BATCH_INVALID InvalidArgument -",
                "CATALOG_INVALID InvalidArgument -",
                "CATALOG_CHANGED Aborted -",
                "UNAUTHENTICATED Unauthenticated -",
                "PERMISSION_DENIED PermissionDenied -",
                "CATALOG_VERSION_NOT_FOUND NotFound -",
                "VIEW_NOT_FOUND NotFound -",
                "FEATURE_NOT_FOUND NotFound -",
                "CURSOR_INVALID InvalidArgument -",
                "KNOWN_AT_AHEAD OutOfRange -",
                "BEFORE_RETENTION OutOfRange -",
                "OVERLOADED ResourceExhausted retry",
                "READ_BUDGET_SPENT ResourceExhausted -",
                "NOT_SERVING Unavailable retry",
                "SERVER_DRAINING Unavailable retry",
                "STREAM_AGED Unavailable retry",
                "STORE_UNAVAILABLE Unavailable retry",
                "HOP_NOT_TRUSTED Unavailable -",
                "STORE_FAILED Internal -",
                "STORE_DAMAGED DataLoss -",
                "DEADLINE_EXCEEDED DeadlineExceeded -",
                "METHOD_NOT_FOUND Unimplemented -",
                "SERVICE_NOT_FOUND NotFound -",
                "INTERNAL Internal -",
            ]
        );
    }

    #[test]
    fn reasons_are_unique_and_read_back() {
        let reasons: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.reason()).collect();
        assert_eq!(reasons.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_reason(code.reason()), Some(code));
            let fits = code.reason().len() <= 63;
            assert!(fits, "google.rpc.ErrorInfo allows 63 characters");
        }
        assert_eq!(ErrorCode::from_reason("SOMETHING_ELSE"), None);
    }
}
