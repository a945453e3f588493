//! Why a row is refused, before anything of it is sent on.

use std::fmt;

use millrace_catalog::{Stream, TimeUnit};
use millrace_types::limits::{FACT_BYTES_MAX, ID_BYTES_MAX, KEY_BYTES_MAX};
use millrace_types::{FieldType, Micros, RejectReason};

/// The field of a request that states since when its facts were known.
pub(crate) const KNOWN_AT: &str = "known_at_us";

/// The rule a row breaks, with what was found. Small and `Copy`, because a batch may hold one for
/// every row; the text is made when the answer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The catalog has no such stream.
    UnknownStream,
    /// A value is of another type than its field.
    WrongType {
        /// The field's type.
        wants: FieldType,
        /// The name of the type found.
        found: FieldType,
    },
    /// A double is NaN or infinite.
    NotFinite(f64),
    /// An integer that stands for a double has no exact double.
    NotExact(i64),
    /// An integer that counts units of time has no instant in 64-bit microseconds.
    InstantRange {
        /// The count.
        count: i64,
        /// What it counts.
        unit: &'static str,
    },
    /// The nanos of a timestamp are negative or a second and more.
    Nanos(i32),
    /// The event time or valid-from is NULL.
    NoAt,
    /// A revision or seq is negative.
    Negative(i64),
    /// A part of a key is NULL or empty.
    NoKey,
    /// The fact has none of its optional keys, so that no entity would hold it.
    NoKeyAtAll,
    /// The event time is too far ahead.
    AtAhead {
        /// The event time.
        at: Micros,
        /// The latest one allowed now.
        latest: Micros,
    },
    /// An import states that the fact was known later than now.
    KnownAtAhead {
        /// What is stated.
        known_at: Micros,
        /// Ingest's clock.
        now: Micros,
    },
    /// The id exceeds [`ID_BYTES_MAX`].
    IdTooLarge(usize),
    /// A key exceeds [`KEY_BYTES_MAX`].
    KeyTooLarge(usize),
    /// The fact exceeds [`FACT_BYTES_MAX`].
    FactTooLarge(usize),
}

impl Rule {
    /// The reason of the closed set.
    #[must_use]
    pub fn reason(self) -> RejectReason {
        match self {
            Self::UnknownStream => RejectReason::UnknownStream,
            Self::WrongType { .. }
            | Self::NotFinite(_)
            | Self::NotExact(_)
            | Self::InstantRange { .. }
            | Self::Nanos(_)
            | Self::NoAt
            | Self::Negative(_)
            | Self::KnownAtAhead { .. } => RejectReason::BadRow,
            Self::NoKey | Self::NoKeyAtAll => RejectReason::MissingKey,
            Self::AtAhead { .. } => RejectReason::AtOutOfBounds,
            Self::IdTooLarge(_) | Self::KeyTooLarge(_) | Self::FactTooLarge(_) => {
                RejectReason::TooLarge
            }
        }
    }
}

/// The rule and what was found, for a person. The field is named apart.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownStream => f.write_str("the catalog has no such stream"),
            Self::WrongType { wants, found } => {
                write!(f, "the field is {wants}, the value is {found}; nothing is converted")
            }
            Self::NotFinite(v) => write!(f, "a double must be finite, this one is {v}"),
            Self::NotExact(v) => write!(f, "the integer {v} has no exact double"),
            Self::InstantRange { count, unit } => {
                write!(f, "{count} {unit} after the epoch do not fit 64-bit microseconds")
            }
            Self::Nanos(n) => {
                write!(f, "the nanos of a timestamp lie between 0 and 999999999, these are {n}")
            }
            Self::NoAt => f.write_str("the event time is NULL"),
            Self::Negative(v) => write!(f, "must not be negative, is {v}"),
            Self::NoKey => f.write_str("a part of the key is NULL or empty"),
            Self::NoKeyAtAll => f.write_str("every key of the fact is NULL or empty"),
            Self::AtAhead { at, latest } => {
                write!(
                    f,
                    "the event time {at} lies too far ahead; at present {latest} is the latest"
                )
            }
            Self::KnownAtAhead { known_at, now } => {
                write!(f, "the known_at {known_at} lies ahead of now, {now}: nothing is known yet")
            }
            Self::IdTooLarge(n) => {
                write!(f, "the id takes {n} bytes; at most {ID_BYTES_MAX} are allowed")
            }
            Self::KeyTooLarge(n) => {
                write!(f, "the key takes {n} bytes; at most {KEY_BYTES_MAX} are allowed")
            }
            Self::FactTooLarge(n) => write!(
                f,
                "the fact takes at least {n} bytes with its key and id; at most {FACT_BYTES_MAX} are allowed"
            ),
        }
    }
}

/// A rule and the field that is to blame, as an index into the stream's fields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// The field, where one is to blame.
    pub field: Option<usize>,
}

impl Refusal {
    pub(crate) fn new(rule: Rule, field: usize) -> Self {
        Self { rule, field: Some(field) }
    }

    /// The name of the field that is to blame, of the row or of the request; empty where none is.
    #[must_use]
    pub fn field_name(self, stream: Option<&Stream>) -> &str {
        if matches!(self.rule, Rule::KnownAtAhead { .. }) {
            return KNOWN_AT;
        }
        let field = self.field.and_then(|index| stream?.fields.get(index));
        field.map_or("", |f| f.name.as_str())
    }
}

/// The name of a unit in messages.
pub(crate) fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Seconds => "s",
        TimeUnit::Millis => "ms",
        TimeUnit::Micros => "us",
    }
}
