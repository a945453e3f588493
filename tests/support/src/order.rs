//! The order of values and rows (semantics §1), and equality to the last bit.

use std::cmp::Ordering;

use millrace_types::{FeatureValue, Value};

/// NULL least; false < true; numbers and instants by size; strings and bytes bytewise.
///
/// # Panics
/// When the values have different types: values of one field never do.
#[must_use]
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int64(a), Value::Int64(b)) => a.cmp(b),
        (Value::Double(a), Value::Double(b)) => {
            a.partial_cmp(b).expect("a stored double is never NaN")
        }
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.0.cmp(&b.0),
        (a, b) => panic!("values of two types are compared: {a:?} and {b:?}"),
    }
}

/// Compares field by field, NULL least; a field that a row does not have yet is NULL.
#[must_use]
pub fn compare_rows(a: &[Value], b: &[Value]) -> Ordering {
    (0..a.len().max(b.len()))
        .map(|i| compare(a.get(i).unwrap_or(&Value::Null), b.get(i).unwrap_or(&Value::Null)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// True when two scalars are the same to the last bit (`==` takes 0.0 and −0.0 for equal).
#[must_use]
pub fn identical(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

/// True when two feature values are the same to the last bit.
#[must_use]
pub fn identical_features(a: &FeatureValue, b: &FeatureValue) -> bool {
    match (a, b) {
        (FeatureValue::Scalar(a), FeatureValue::Scalar(b)) => identical(a, b),
        (FeatureValue::List(a), FeatureValue::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| identical(a, b))
        }
        (FeatureValue::Counted(a), FeatureValue::Counted(b)) => {
            let same = |((a, n), (b, m)): (&(Value, u64), &(Value, u64))| identical(a, b) && n == m;
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        (
            FeatureValue::Scalar(_) | FeatureValue::List(_) | FeatureValue::Counted(_),
            FeatureValue::Scalar(_) | FeatureValue::List(_) | FeatureValue::Counted(_),
        ) => false,
    }
}
