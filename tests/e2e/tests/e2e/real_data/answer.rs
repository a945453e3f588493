//! The oracle's values against those in a JSON answer (semantics §4).

use millrace_types::{FeatureValue, Status, Value};
use serde_json::Value as Json;

/// Whether a feature of an answer has this value, to the last bit, and this status.
pub(crate) fn is_same(answer: &Json, value: &FeatureValue, status: Status) -> bool {
    answer["status"] == status.name() && is_value(&answer["value"], value)
}

fn is_value(answer: &Json, value: &FeatureValue) -> bool {
    match value {
        FeatureValue::Scalar(value) => is_scalar(answer, value),
        FeatureValue::List(values) => is_list(answer, values, is_scalar),
        FeatureValue::Counted(values) => is_list(answer, values, |answer, (value, count)| {
            is_scalar(&answer["value"], value) && answer["count"].as_u64() == Some(*count)
        }),
    }
}

fn is_list<T>(answer: &Json, values: &[T], is_same: impl Fn(&Json, &T) -> bool) -> bool {
    answer.as_array().is_some_and(|answers| {
        answers.len() == values.len()
            && answers.iter().zip(values).all(|(answer, value)| is_same(answer, value))
    })
}

fn is_scalar(answer: &Json, value: &Value) -> bool {
    match value {
        Value::Null => answer.is_null(),
        Value::Bool(value) => answer.as_bool() == Some(*value),
        Value::Int64(value) => answer.as_i64() == Some(*value),
        Value::Double(value) => answer.as_f64().map(f64::to_bits) == Some(value.to_bits()),
        Value::String(value) => answer.as_str() == Some(value),
        Value::Bytes(_) => unreachable!("no field of the data sets holds bytes"),
        Value::Timestamp(value) => answer.as_str() == Some(value.to_rfc3339().as_str()),
    }
}
