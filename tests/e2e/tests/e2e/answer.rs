//! The oracle's values against those in a JSON answer (semantics §4).

use millrace_types::{FeatureValue, Status, Value};
use serde_json::Value as Json;

/// Whether a feature of an answer has this value, to the last bit, and this status.
pub(crate) fn is_feature(answer: &Json, value: &FeatureValue, status: Status) -> bool {
    answer["status"] == status.name() && is_feature_value(&answer["value"], value)
}

/// Whether a feature of an answer has this value, to the last bit.
pub(crate) fn is_feature_value(answer: &Json, value: &FeatureValue) -> bool {
    match value {
        FeatureValue::Scalar(value) => is_value(answer, value),
        FeatureValue::List(values) => is_list(answer, values, is_value),
        FeatureValue::Counted(values) => is_list(answer, values, |answer, (value, count)| {
            is_value(&answer["value"], value) && answer["count"].as_u64() == Some(*count)
        }),
    }
}

fn is_list<T>(answer: &Json, values: &[T], is_same: impl Fn(&Json, &T) -> bool) -> bool {
    answer.as_array().is_some_and(|answers| {
        answers.len() == values.len()
            && answers.iter().zip(values).all(|(answer, value)| is_same(answer, value))
    })
}

/// Whether a JSON value is this value of a field.
pub(crate) fn is_value(answer: &Json, value: &Value) -> bool {
    match value {
        Value::Null => answer.is_null(),
        Value::Bool(value) => answer.as_bool() == Some(*value),
        Value::Int64(value) => answer.as_i64() == Some(*value),
        Value::Double(value) => answer.as_f64().map(f64::to_bits) == Some(value.to_bits()),
        Value::String(value) => answer.as_str() == Some(value),
        Value::Bytes(value) => answer.as_str() == Some(&base64(value)),
        Value::Timestamp(value) => answer.as_str() == Some(&value.to_rfc3339()),
    }
}

/// Base64 with padding, straight from RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = word >> (18 - 6 * digit) & 63;
            let is_padding = digit > group.len();
            text.push(if is_padding { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    text
}

#[test]
fn base64_is_that_of_the_rfc() {
    for (bytes, text) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
    {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
    assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
}
