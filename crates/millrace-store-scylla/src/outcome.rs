//! What became of a statement that did not answer as it should: done is not among it.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the driver's enums are open: what is not known to be harmless is unknown"
)]

use millrace_store::StoreError;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};

use crate::limit::Signal;

/// How a statement is run, and what a failure of it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A read of a quorum.
    QuorumRead,
    /// A read that sees the last conditional write, and finishes one that is half done.
    SerialRead,
    /// A write of a quorum, with its timestamp stated.
    Write,
    /// A conditional write: by the protocol of the database, which may go on after an error.
    Conditional,
}

/// What an error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It never reached a node.
    NotSent,
    /// The coordinator did not begin it.
    NotBegun,
    /// It is not to be done at all: no repetition helps.
    Refused,
    /// It may have been done, or may still be.
    Unknown,
}

fn said(error: &ExecutionError) -> Said {
    match error {
        ExecutionError::BadQuery(_) => Said::Refused,
        ExecutionError::EmptyPlan
        | ExecutionError::ConnectionPoolError(_)
        | ExecutionError::PrepareError(_)
        | ExecutionError::UseKeyspaceError(_) => Said::NotSent,
        ExecutionError::LastAttemptError(attempt) => attempt_said(attempt),
        // A time-out of ours, among others.
        _ => Said::Unknown,
    }
}

fn attempt_said(error: &RequestAttemptError) -> Said {
    match error {
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_) => Said::Refused,
        RequestAttemptError::UnableToAllocStreamId => Said::NotSent,
        RequestAttemptError::DbError(error, _) => match error {
            DbError::SyntaxError
            | DbError::Invalid
            | DbError::AuthenticationError
            | DbError::Unauthorized
            | DbError::ConfigError
            | DbError::ProtocolError => Said::Refused,
            DbError::Unavailable { .. } | DbError::IsBootstrapping | DbError::Unprepared { .. } => {
                Said::NotBegun
            }
            // Also Overloaded and RateLimitReached: a part of the replicas may have taken it.
            _ => Said::Unknown,
        },
        // A connection that broke, an answer that made no sense.
        _ => Said::Unknown,
    }
}

/// The error as the ports know it.
pub(crate) fn store_error(operation: &'static str, way: Way, error: &ExecutionError) -> StoreError {
    let reason = error.to_string();
    let unavailable = |reason| StoreError::Unavailable { operation, reason };
    match (said(error), way) {
        (Said::Refused, _) => StoreError::Failed { reason },
        (_, Way::QuorumRead | Way::SerialRead) => unavailable(reason),
        (Said::NotSent, _) | (Said::NotBegun, Way::Write) => unavailable(reason),
        // "Unavailable" may come of the last round of the protocol, when the write is decided.
        (Said::NotBegun, Way::Conditional) | (Said::Unknown, _) => {
            StoreError::Unknown { operation, reason }
        }
    }
}

/// What the error says of the load of the database.
pub(crate) fn signal(error: &ExecutionError) -> Signal {
    let overload = match error {
        ExecutionError::RequestTimeout(_) => true,
        ExecutionError::LastAttemptError(attempt) => match attempt {
            RequestAttemptError::UnableToAllocStreamId => true,
            RequestAttemptError::DbError(error, _) => matches!(
                error,
                DbError::Overloaded
                    | DbError::RateLimitReached { .. }
                    | DbError::ReadTimeout { .. }
                    | DbError::WriteTimeout { .. }
            ),
            _ => false,
        },
        _ => false,
    };
    if overload { Signal::Overload } else { Signal::Other }
}

/// The outcome of several writes that were made side by side: unless none of them was begun, some
/// may have been done.
pub(crate) fn of_all(
    operation: &'static str,
    outcomes: Vec<Result<(), StoreError>>,
) -> Result<(), StoreError> {
    let total = outcomes.len();
    let errors: Vec<StoreError> = outcomes.into_iter().filter_map(Result::err).collect();
    let none_done = errors.len() == total;
    let all_unavailable =
        errors.iter().all(|error| matches!(error, StoreError::Unavailable { .. }));
    let mut worst = None;
    for error in errors {
        match &error {
            StoreError::Failed { .. }
            | StoreError::Damaged { .. }
            | StoreError::ClockSkew { .. }
            | StoreError::NotTrusted { .. } => return Err(error),
            StoreError::Unknown { .. }
            | StoreError::Unavailable { .. }
            | StoreError::RetriesSpent { .. } => {
                worst = worst.or(Some(error));
            }
        }
    }
    match worst {
        None => Ok(()),
        Some(error) if none_done && all_unavailable => Err(error),
        Some(error) => Err(StoreError::Unknown { operation, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scylla::errors::WriteType;
    use scylla::statement::Consistency;

    use super::*;

    fn db(error: DbError) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, "said so".into()))
    }

    fn timeout() -> ExecutionError {
        db(DbError::WriteTimeout {
            consistency: Consistency::LocalQuorum,
            received: 1,
            required: 2,
            write_type: WriteType::Simple,
        })
    }

    fn unavailable() -> ExecutionError {
        db(DbError::Unavailable { consistency: Consistency::LocalQuorum, required: 2, alive: 1 })
    }

    /// `D` definitely not done, `U` unknown, `F` failed for good.
    fn kinds(error: &ExecutionError) -> String {
        let ways = [Way::QuorumRead, Way::SerialRead, Way::Write, Way::Conditional];
        let kind = |way| match store_error("append", way, error) {
            StoreError::Unknown { .. } => 'U',
            StoreError::Unavailable { .. } => 'D',
            StoreError::Failed { .. } => 'F',
            StoreError::Damaged { .. }
            | StoreError::NotTrusted { .. }
            | StoreError::RetriesSpent { .. }
            | StoreError::ClockSkew { .. } => '!',
        };
        ways.map(kind).iter().collect()
    }

    #[test]
    fn only_what_cannot_have_happened_is_said_not_to_have() {
        for (error, expected, signal_expected) in [
            (timeout(), "DDUU", Signal::Overload),
            (unavailable(), "DDDU", Signal::Other),
            (db(DbError::Overloaded), "DDUU", Signal::Overload),
            (db(DbError::IsBootstrapping), "DDDU", Signal::Other),
            (db(DbError::ServerError), "DDUU", Signal::Other),
            (db(DbError::Invalid), "FFFF", Signal::Other),
            (db(DbError::Unauthorized), "FFFF", Signal::Other),
            (db(DbError::Other(0x77)), "DDUU", Signal::Other),
            (ExecutionError::EmptyPlan, "DDDD", Signal::Other),
            (ExecutionError::RequestTimeout(Duration::from_secs(1)), "DDUU", Signal::Overload),
            (
                ExecutionError::LastAttemptError(RequestAttemptError::UnableToAllocStreamId),
                "DDDD",
                Signal::Overload,
            ),
        ] {
            assert_eq!(kinds(&error), expected, "{error}");
            assert_eq!(signal(&error), signal_expected, "{error}");
        }
    }

    #[test]
    fn of_several_writes_some_may_be_done_unless_none_was_begun() {
        let not = || Err(store_error("append", Way::Write, &unavailable()));
        let unknown = || Err(store_error("append", Way::Write, &timeout()));
        let refused = || Err(store_error("append", Way::Write, &db(DbError::Invalid)));
        let kind = |outcomes: Vec<Result<(), StoreError>>| match of_all("append", outcomes) {
            Ok(()) => "done",
            Err(StoreError::Unknown { .. }) => "unknown",
            Err(StoreError::Unavailable { .. }) => "not done",
            Err(
                StoreError::Failed { .. }
                | StoreError::Damaged { .. }
                | StoreError::NotTrusted { .. }
                | StoreError::RetriesSpent { .. }
                | StoreError::ClockSkew { .. },
            ) => "failed",
        };
        assert_eq!(kind(vec![]), "done");
        assert_eq!(kind(vec![Ok(()), Ok(())]), "done");
        assert_eq!(kind(vec![not(), not()]), "not done");
        assert_eq!(kind(vec![not(), Ok(())]), "unknown");
        assert_eq!(kind(vec![not(), unknown()]), "unknown");
        assert_eq!(kind(vec![Ok(()), unknown(), refused()]), "failed");
    }
}
