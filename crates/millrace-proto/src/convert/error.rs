//! What is wrong with a message that came in.

use std::fmt;

use millrace_types::entity::KeyError;
use thiserror::Error;

/// A field of a message that breaks a rule. The path is as in the protos, e.g.
/// `entities[3].parts[0]`, and empty when the message itself is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertError {
    field: String,
    rule: Rule,
}

/// The rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rule {
    /// The field must be set.
    #[error("must be set")]
    Required,
    /// A timestamp whose nanos are not between 0 and 999,999,999.
    #[error("nanos must be between 0 and 999999999, not {0}")]
    Nanos(i32),
    /// A timestamp that 64-bit microseconds do not hold.
    #[error("lies outside the range of instants")]
    InstantRange,
    /// NaN or an infinity.
    #[error("must be a finite number")]
    NotFinite,
    /// A number that is not one of the enum.
    #[error("has no meaning {0}")]
    UnknownEnum(i32),
    /// An entity key that is none.
    #[error(transparent)]
    Key(KeyError),
}

impl ConvertError {
    /// A rule broken by the message itself.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self { field: String::new(), rule }
    }

    /// The same error seen from the message that holds this one as `field`.
    #[must_use]
    pub fn within(mut self, field: impl fmt::Display) -> Self {
        self.field = match self.field.as_str() {
            "" => field.to_string(),
            inner => format!("{field}.{inner}"),
        };
        self
    }

    /// The path of the field.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "{}", self.rule),
            field => write!(f, "{field}: {}", self.rule),
        }
    }
}

impl std::error::Error for ConvertError {}
