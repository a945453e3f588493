//! The one place where a `tonic::Status` is made.

mod completed;

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use millrace_proto::convert::ConvertError;
use millrace_store::StoreError;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

pub(crate) use completed::completed;

use crate::ErrorCode;

/// The domain of every `google.rpc.ErrorInfo` of Millrace.
pub const ERROR_DOMAIN: &str = "millrace.dev";

/// Details travel in trailers, base64, and clients bound their headers (8 KiB in grpc-core): a
/// status stays below that whatever a request holds.
const MESSAGE_BYTES_MAX: usize = 1024;
const VIOLATION_BYTES_MAX: usize = 3 * 1024;
const METADATA_BYTES_MAX: usize = 512;

/// Clients that are told to try again, but not when, wait this long at least.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// An error on its way to a client: a code, a message for people and details for programs.
#[derive(Debug, Clone)]
pub struct Fault {
    code: ErrorCode,
    message: String,
    metadata: HashMap<String, String>,
    violations: Vec<(String, String)>,
    retry_after: Option<Duration>,
    resource: Option<(&'static str, String)>,
}

impl Fault {
    /// An error with a message that clients see as it is.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            metadata: HashMap::new(),
            violations: Vec::new(),
            retry_after: None,
            resource: None,
        }
    }

    /// Adds a value that the message speaks of, for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Adds a field of the request and the rule it breaks.
    #[must_use]
    pub fn violation(mut self, field: impl Into<String>, rule: impl Into<String>) -> Self {
        self.violations.push((field.into(), rule.into()));
        self
    }

    /// Says when to try again. Retryable codes say 100 ms without this.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Names what is missing or in the way: its kind, such as `view`, and its name.
    #[must_use]
    pub fn resource(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.resource = Some((kind, name.into()));
        self
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Its message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Its metadata.
    #[must_use]
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// The status, with `ErrorInfo` always and `BadRequest`, `RetryInfo` and `ResourceInfo` where
    /// they apply. Long texts are cut, and violations left out beyond a bound; then the metadata
    /// `violations` says how many there were.
    #[must_use]
    pub fn into_status(mut self) -> Status {
        let message = cut(&self.message, MESSAGE_BYTES_MAX).to_owned();
        let mut details = ErrorDetails::new();
        let mut room = VIOLATION_BYTES_MAX;
        let mut listed = 0;
        for (field, rule) in &self.violations {
            let rule = cut(rule, 512);
            let field = cut(field, 256);
            let Some(left) = room.checked_sub(field.len() + rule.len()) else { break };
            room = left;
            listed += 1;
            details.add_bad_request_violation(field, rule);
        }
        if listed < self.violations.len() {
            self.metadata.insert("violations".to_owned(), self.violations.len().to_string());
        }
        for value in self.metadata.values_mut() {
            value.truncate(cut(value, METADATA_BYTES_MAX).len());
        }
        details.set_error_info(self.code.reason(), ERROR_DOMAIN, self.metadata);
        if self.code.is_retryable() || self.retry_after.is_some() {
            details.set_retry_info(Some(self.retry_after.unwrap_or(RETRY_DELAY)));
        }
        if let Some((kind, name)) = self.resource {
            details.set_resource_info(kind, cut(&name, 256), "", "");
        }
        Status::with_error_details(self.code.grpc_code(), message, details)
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        fault.into_status()
    }
}

/// An error of a service that knows what it is to a client.
pub trait Coded: Error + 'static {
    /// Its code. Classifying neither logs nor counts.
    fn code(&self) -> ErrorCode;

    /// Adds what the client needs to act: violations, metadata, a delay. Nothing by default.
    fn describe(&self, fault: Fault) -> Fault {
        fault
    }
}

/// The fault that an error is to a client. An error whose text speaks of internals is logged here,
/// once, with its causes, and the client gets the code's public message instead.
#[must_use]
pub fn fault(error: &impl Coded) -> Fault {
    let code = error.code();
    let message = match code.public_message() {
        // What is wrong between two services stands in the cause.
        None if code == ErrorCode::HopNotTrusted => chain(error),
        None => error.to_string(),
        Some(public) => {
            tracing::error!(reason = code.reason(), error = %chain(error), "call failed");
            public.to_owned()
        }
    };
    error.describe(Fault::new(code, message))
}

/// The status that an error is to a client; see [`fault`].
#[must_use]
pub fn status(error: &impl Coded) -> Status {
    fault(error).into_status()
}

impl Coded for ConvertError {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidArgument
    }

    fn describe(&self, fault: Fault) -> Fault {
        fault.violation(self.field(), self.rule().to_string())
    }
}

impl Coded for StoreError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. }
            | Self::Unavailable { .. }
            | Self::RetriesSpent { .. }
            | Self::ClockSkew { .. } => ErrorCode::StoreUnavailable,
            Self::NotTrusted { .. } => ErrorCode::HopNotTrusted,
            Self::Failed { .. } => ErrorCode::StoreFailed,
            Self::Damaged { .. } => ErrorCode::StoreDamaged,
        }
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// The start of `text` that fits `max` bytes and ends between characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use millrace_proto::convert::Rule;
    use tonic::Code;

    use super::*;

    #[test]
    fn a_status_carries_every_detail() {
        let status = Fault::new(ErrorCode::ViewNotFound, "no view is called \"x\"")
            .with("view", "x")
            .violation("view", "must be a view of the catalog")
            .retry_after(Duration::from_secs(2))
            .resource("view", "x")
            .into_status();
        assert_eq!(status.code(), Code::NotFound);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("VIEW_NOT_FOUND", ERROR_DOMAIN));
        assert_eq!(info.metadata["view"], "x");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "view");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(2)));
        assert_eq!(details.resource_info().unwrap().resource_name, "x");
    }

    #[test]
    fn a_status_stays_small_whatever_it_is_told() {
        let mut fault = Fault::new(ErrorCode::CatalogInvalid, "é".repeat(5_000));
        for i in 0..1_000 {
            fault = fault.violation(format!("line {i}"), "ü".repeat(1_000));
        }
        let status = fault.with("path", "x".repeat(10_000)).into_status();
        assert!(status.details().len() < 5_000, "{} bytes", status.details().len());
        assert!(status.message().len() <= MESSAGE_BYTES_MAX);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["violations"], "1000");
    }

    #[test]
    fn internals_stay_inside() {
        let secret = "/var/lib/x: No space left on device";
        let error = StoreError::Failed { reason: secret.to_owned() };
        let status = status(&error);
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains(secret));
        assert!(!String::from_utf8_lossy(status.details()).contains(secret));
    }

    #[test]
    fn a_bad_field_is_named() {
        let error = ConvertError::new(Rule::Required).within("entities[3]");
        let status = status(&error);
        assert_eq!(status.message(), "entities[3]: must be set");
        let violation = &status.get_details_bad_request().unwrap().field_violations[0];
        assert_eq!(
            (violation.field.as_str(), violation.description.as_str()),
            ("entities[3]", "must be set")
        );
    }

    #[test]
    fn retryable_codes_say_when() {
        for code in ErrorCode::ALL {
            let status = Fault::new(code, "x").into_status();
            assert_eq!(status.get_details_retry_info().is_some(), code.is_retryable(), "{code:?}");
        }
    }
}
