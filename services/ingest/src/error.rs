//! Why a batch is not acknowledged.

use std::time::Duration;

use millrace_client::port::JoinError;
use millrace_grpc::{Coded, ErrorCode, Fault};
use millrace_proto::convert::ConvertError;
use thiserror::Error;

use crate::arrow::PayloadError;
use crate::batch::SequencesError;
use crate::verdicts::Mismatch;

/// How long a client that was refused waits at least before it tries again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Why a batch is not acknowledged. Nothing of it is lost by that: the producer sends it again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IngestError {
    /// A field of the request breaks a rule.
    #[error("{field}: {rule}")]
    Field {
        /// The field.
        field: &'static str,
        /// The rule.
        rule: String,
    },
    /// The stated watermark is no instant.
    #[error(transparent)]
    Watermark(ConvertError),
    /// The numbers of the facts are not in order.
    #[error(transparent)]
    Sequences(#[from] SequencesError),
    /// The payload cannot be read.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// As many facts are in flight as may be.
    #[error("as many facts are in flight as fit in memory; try again")]
    Full,
    /// The join service does not take it.
    #[error("join service: {0}")]
    Join(JoinError),
    /// The join service went away before it answered.
    #[error("the join service stopped before it answered")]
    JoinGone,
    /// The join service answered something else than it was asked.
    #[error("join service: {0}")]
    Mismatch(#[from] Mismatch),
}

impl IngestError {
    /// A field of the request that breaks a rule.
    pub(crate) fn field(field: &'static str, rule: impl Into<String>) -> Self {
        Self::Field { field, rule: rule.into() }
    }
}

impl Coded for IngestError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Field { .. } | Self::Watermark(_) => ErrorCode::InvalidArgument,
            Self::Sequences(_) | Self::Payload(_) => ErrorCode::BatchInvalid,
            Self::Full => ErrorCode::Overloaded,
            Self::JoinGone => ErrorCode::NotServing,
            Self::Join(error) => error.code(),
            Self::Mismatch(_) => ErrorCode::Internal,
        }
    }

    fn describe(&self, fault: Fault) -> Fault {
        match self {
            Self::Field { field, rule } => fault.violation(*field, rule.as_str()),
            Self::Watermark(error) => error.describe(fault),
            Self::Sequences(error) => fault.violation(error.field(), error.to_string()),
            Self::Payload(error) => fault.violation(error.field(), error.to_string()),
            Self::Full => fault.retry_after(RETRY_AFTER),
            Self::Join(_) | Self::JoinGone | Self::Mismatch(_) => fault,
        }
    }
}
