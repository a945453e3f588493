//! Typed values, owned and borrowed, and their total order.

use std::cmp::Ordering;
use std::fmt;

use crate::time::Micros;

/// The types a field of a stream may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FieldType {
    /// `bool`
    Bool = 1,
    /// `int64`
    Int64 = 2,
    /// `double`: finite, −0.0 is stored as 0.0
    Double = 3,
    /// `string`: UTF-8
    String = 4,
    /// `bytes`
    Bytes = 5,
    /// `timestamp`: microseconds since the epoch, UTC
    Timestamp = 6,
}

impl FieldType {
    /// The name in the catalog.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int64 => "int64",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value that owns its bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL
    Null,
    /// A truth value.
    Bool(bool),
    /// A 64-bit integer.
    Int64(i64),
    /// A finite double, never −0.0.
    Double(f64),
    /// Text.
    String(Box<str>),
    /// Bytes.
    Bytes(Box<[u8]>),
    /// An instant.
    Timestamp(Micros),
}

/// A value that borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// NULL
    Null,
    /// A truth value.
    Bool(bool),
    /// A 64-bit integer.
    Int64(i64),
    /// A finite double, never −0.0.
    Double(f64),
    /// Text.
    String(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// An instant.
    Timestamp(Micros),
}

impl Value {
    /// The same value, borrowed.
    #[inline]
    #[must_use]
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Bool(v) => ValueRef::Bool(*v),
            Self::Int64(v) => ValueRef::Int64(*v),
            Self::Double(v) => ValueRef::Double(*v),
            Self::String(v) => ValueRef::String(v),
            Self::Bytes(v) => ValueRef::Bytes(v),
            Self::Timestamp(v) => ValueRef::Timestamp(*v),
        }
    }
}

impl<'a> ValueRef<'a> {
    /// The same value, owned.
    #[inline]
    #[must_use]
    pub fn to_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(v) => Value::Bool(v),
            Self::Int64(v) => Value::Int64(v),
            Self::Double(v) => Value::Double(v),
            Self::String(v) => Value::String(v.into()),
            Self::Bytes(v) => Value::Bytes(v.into()),
            Self::Timestamp(v) => Value::Timestamp(v),
        }
    }

    /// True for NULL.
    #[inline]
    #[must_use]
    pub fn is_null(self) -> bool {
        matches!(self, Self::Null)
    }

    /// The type, or `None` for NULL.
    #[must_use]
    pub fn field_type(self) -> Option<FieldType> {
        match self {
            Self::Null => None,
            Self::Bool(_) => Some(FieldType::Bool),
            Self::Int64(_) => Some(FieldType::Int64),
            Self::Double(_) => Some(FieldType::Double),
            Self::String(_) => Some(FieldType::String),
            Self::Bytes(_) => Some(FieldType::Bytes),
            Self::Timestamp(_) => Some(FieldType::Timestamp),
        }
    }

    /// The total order of values: NULL least, then by type, false < true, numbers by size, strings
    /// and bytes bytewise. Values of one field have one type, so the order between types is only
    /// there to be total.
    #[inline]
    #[must_use]
    pub fn total_cmp(self, other: ValueRef<'_>) -> Ordering {
        match (self, other) {
            (Self::Bool(a), ValueRef::Bool(b)) => a.cmp(&b),
            (Self::Int64(a), ValueRef::Int64(b)) => a.cmp(&b),
            (Self::Double(a), ValueRef::Double(b)) => a.total_cmp(&b),
            (Self::String(a), ValueRef::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Bytes(a), ValueRef::Bytes(b)) => a.cmp(b),
            (Self::Timestamp(a), ValueRef::Timestamp(b)) => a.cmp(&b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }

    fn rank(self) -> u8 {
        self.field_type().map_or(0, |t| t as u8)
    }
}

/// Turns −0.0 into 0.0 and gives `None` for NaN and infinities, which no fact may hold.
#[inline]
#[must_use]
pub fn canonical_double(value: f64) -> Option<f64> {
    // Adding +0.0 maps −0.0 to +0.0 and leaves every other double as it is.
    value.is_finite().then_some(value + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_least_and_zero_has_one_sign() {
        assert_eq!(ValueRef::Null.total_cmp(ValueRef::Int64(i64::MIN)), Ordering::Less);
        assert_eq!(ValueRef::Bool(false).total_cmp(ValueRef::Bool(true)), Ordering::Less);
        assert_eq!(canonical_double(-0.0).map(f64::to_bits), Some(0));
        assert_eq!(canonical_double(f64::NAN), None);
        assert_eq!(canonical_double(f64::NEG_INFINITY), None);
    }
}
