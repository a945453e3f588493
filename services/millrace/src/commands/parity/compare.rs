//! Equality to the last bit.

use millrace_types::row::put_value;
use millrace_types::{FeatureValue, Value};

/// True when both are the same value, doubles bit for bit.
pub(super) fn same_bits(a: &FeatureValue, b: &FeatureValue) -> bool {
    bytes(a) == bytes(b)
}

fn bytes(value: &FeatureValue) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |value: &Value| put_value(&mut out, value.as_ref());
    match value {
        FeatureValue::Scalar(value) => put(value),
        FeatureValue::List(values) => values.iter().for_each(put),
        FeatureValue::Counted(values) => {
            for (value, rows) in values {
                put(value);
                put(&Value::Int64(i64::try_from(*rows).unwrap_or(i64::MAX)));
            }
        }
    }
    let form = match value {
        FeatureValue::Scalar(_) => 0,
        FeatureValue::List(_) => 1,
        FeatureValue::Counted(_) => 2,
    };
    out.push(form);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_differ_by_a_bit_and_forms_differ() {
        let double = |v: f64| FeatureValue::Scalar(Value::Double(v));
        assert!(same_bits(&double(0.1), &double(0.1)));
        assert!(!same_bits(&double(0.1), &double(f64::from_bits(0.1f64.to_bits() + 1))));
        assert!(!same_bits(&double(1.0), &FeatureValue::Scalar(Value::Int64(1))));
        assert!(!same_bits(&FeatureValue::NULL, &FeatureValue::List(Vec::new())));
        assert!(!same_bits(&FeatureValue::List(Vec::new()), &FeatureValue::Counted(Vec::new())));
    }
}
