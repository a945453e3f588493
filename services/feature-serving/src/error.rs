//! Why a read fails.

use std::time::Duration;

use millrace_client::port::JoinError;
use millrace_grpc::{Coded, ErrorCode, Fault};
use millrace_kernel::TooEarly;
use millrace_store::StoreError;
use millrace_types::Micros;
use thiserror::Error;

/// Why a read fails.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A field of the request breaks a rule.
    #[error("{field}: {rule}")]
    Invalid {
        /// The field.
        field: String,
        /// The rule it breaks.
        rule: String,
    },
    /// The catalog has no such view.
    #[error("no view is called {view:?}; the catalog has {known}")]
    ViewNotFound {
        /// What was asked for.
        view: String,
        /// The views there are.
        known: String,
    },
    /// The catalog has no such stream.
    #[error("no stream is called {stream:?}; the catalog has {known}")]
    StreamNotFound {
        /// What was asked for.
        stream: String,
        /// The streams there are.
        known: String,
    },
    /// A cursor that this server did not give for this request.
    #[error("cursor is not valid: {0}")]
    CursorInvalid(String),
    /// The view has no such feature.
    #[error("view {view:?} has no feature {feature:?}; it has {known}")]
    FeatureNotFound {
        /// The view.
        view: String,
        /// What was asked for.
        feature: String,
        /// The features there are.
        known: String,
    },
    /// `known_at` lies ahead of the service's clock.
    #[error("known_at {known_at} is ahead of now, {now}: what will be known is not known yet")]
    KnownAtAhead {
        /// What was asked for.
        known_at: Micros,
        /// The service's clock.
        now: Micros,
    },
    /// No event has been seen, so there is no latest instant.
    #[error("no fact of the view's streams has been seen yet, so there is no latest instant")]
    NothingSeen,
    /// The read from the log went past its budget.
    #[error(
        "the read from the log stopped at {limit}: ask for fewer entities or a later instant, or read a training set"
    )]
    BudgetSpent {
        /// The budget it met.
        limit: String,
    },
    /// The retention of a stream let go of what the read needs.
    #[error("{}{early}", row.map_or_else(String::new, |row| format!("row {row} of the spine: ")))]
    TooEarly {
        /// What it needs, and the earliest instant that will do.
        early: TooEarly,
        /// The row of a training set's spine, from 0.
        row: Option<u64>,
    },
    /// This process does not read the log.
    #[error("LATE facts are listed and replayed by feature-serving, which is not in this process")]
    NoLog,
    /// This process does not take erasures.
    #[error("entities are erased by feature-serving, which is not in this process")]
    NoErasures,
    /// Too many reads of one path are under way or waiting.
    #[error("{most} reads of {path} are under way or waiting, which is the most")]
    Busy {
        /// Which path.
        path: &'static str,
        /// The most.
        most: u32,
    },
    /// The client of a training set sends no more of its spine.
    #[error("no rows of the spine came for {after:?}, and others wait for their turn")]
    SpineStalled {
        /// For how long.
        after: Duration,
    },
    /// A defect of this service; its log says more.
    #[error("an internal error; see the server's log")]
    Failed,
    /// Nobody takes the answer any more.
    #[error("the caller is gone")]
    Gone,
    /// The call ended in the middle of its request.
    #[error("the call ended: {0}")]
    Call(tonic::Status),
    /// The join service refused.
    #[error("ask the join service")]
    Join(#[source] JoinError),
    /// The store refused.
    #[error("read the log")]
    Store(#[source] StoreError),
}

impl Coded for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid { .. } => ErrorCode::InvalidArgument,
            Self::ViewNotFound { .. } => ErrorCode::ViewNotFound,
            Self::StreamNotFound { .. } => ErrorCode::InvalidArgument,
            Self::CursorInvalid(_) => ErrorCode::CursorInvalid,
            Self::FeatureNotFound { .. } => ErrorCode::FeatureNotFound,
            Self::KnownAtAhead { .. } => ErrorCode::KnownAtAhead,
            Self::NothingSeen => ErrorCode::InvalidArgument,
            Self::TooEarly { .. } => ErrorCode::BeforeRetention,
            Self::NoLog | Self::NoErasures => ErrorCode::NotServing,
            Self::BudgetSpent { .. } => ErrorCode::ReadBudgetSpent,
            Self::Busy { .. } => ErrorCode::Overloaded,
            Self::SpineStalled { .. } => ErrorCode::ReadBudgetSpent,
            Self::Failed => ErrorCode::Internal,
            Self::Gone | Self::Call(_) => ErrorCode::NotServing,
            Self::Join(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }

    fn describe(&self, fault: Fault) -> Fault {
        match self {
            Self::Invalid { field, rule } => fault.violation(field, rule),
            Self::ViewNotFound { view, .. } => fault.with("view", view).resource("view", view),
            Self::StreamNotFound { stream, .. } => fault
                .violation("stream", "a stream of the catalog")
                .with("stream", stream)
                .resource("stream", stream),
            Self::CursorInvalid(why) => fault.violation("cursor", why),
            Self::FeatureNotFound { view, feature, .. } => fault
                .with("view", view)
                .with("feature", feature)
                .resource("feature", format!("{view}/{feature}")),
            Self::KnownAtAhead { known_at, now } => fault
                .with("known_at", known_at)
                .with("now", now)
                .violation("known_at", "not ahead of now"),
            Self::NothingSeen => fault.violation("moment", "a fact of the view has been seen"),
            Self::TooEarly { early, row } => {
                let TooEarly { feature, stream, at, boundary, earliest } = early;
                let mut fault = fault
                    .with("feature", feature)
                    .with("stream", stream)
                    .with("at", at)
                    .with("forgotten_before", boundary)
                    .violation("at", "not before what the stream's retention keeps");
                if let Some(earliest) = earliest {
                    fault = fault.with("earliest", earliest);
                }
                match row {
                    Some(row) => fault.with("row", row),
                    None => fault,
                }
            }
            Self::BudgetSpent { limit } => fault.with("limit", limit),
            Self::Busy { path, most } => fault.with("path", path).with("limit", most),
            Self::NoLog
            | Self::NoErasures
            | Self::SpineStalled { .. }
            | Self::Failed
            | Self::Gone
            | Self::Call(_)
            | Self::Join(_)
            | Self::Store(_) => fault,
        }
    }
}
