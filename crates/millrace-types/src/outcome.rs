//! What a read answers: feature values and their status.

use crate::value::Value;

/// The status of a feature's value. The names are used on the wire and in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// There is a value.
    Present,
    /// The value is NULL: nothing to aggregate, or the field is NULL.
    Null,
    /// The entity has no live fact in the view's streams with `at ≤ t`.
    MissingEntity,
    /// The result does not fit its type.
    Overflow,
    /// More distinct values than `limit`.
    Truncated,
    /// The feature came after facts had left, and is being filled in from the log: no value yet.
    Backfilling,
}

impl Status {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Present => "PRESENT",
            Self::Null => "NULL",
            Self::MissingEntity => "MISSING_ENTITY",
            Self::Overflow => "OVERFLOW",
            Self::Truncated => "TRUNCATED",
            Self::Backfilling => "BACKFILLING",
        }
    }
}

/// The value of a feature: a scalar (NULL included), a list, or values with their counts.
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureValue {
    /// A scalar; `Value::Null` where there is none.
    Scalar(Value),
    /// `first_n`, `last_n`.
    List(Vec<Value>),
    /// `top_k`: count descending, then value ascending.
    Counted(Vec<(Value, u64)>),
}

impl FeatureValue {
    /// NULL.
    pub const NULL: Self = Self::Scalar(Value::Null);
}
