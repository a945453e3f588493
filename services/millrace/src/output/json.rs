//! Values, keys and maps in the JSON of the command line.

use std::io::{self, Write};

use base64::Engine;
use millrace_types::{EntityKey, FeatureValue, KeyPart, Micros, Value, ValueRef};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

use crate::files::BASE64;

/// Writes a document on one line.
///
/// # Errors
/// Those of `out`.
pub fn write_line(out: &mut dyn Write, document: &(impl Serialize + ?Sized)) -> io::Result<()> {
    serde_json::to_writer(&mut *out, document)?;
    writeln!(out)
}

/// A value of a field.
#[derive(Debug, Clone, Copy)]
pub struct JsonValue<'a>(pub ValueRef<'a>);

impl Serialize for JsonValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            ValueRef::Null => serializer.serialize_unit(),
            ValueRef::Bool(value) => serializer.serialize_bool(value),
            ValueRef::Int64(value) => serializer.serialize_i64(value),
            ValueRef::Double(value) => serializer.serialize_f64(value),
            ValueRef::String(value) => serializer.serialize_str(value),
            ValueRef::Bytes(value) => serializer.serialize_str(&BASE64.encode(value)),
            ValueRef::Timestamp(value) => serializer.collect_str(&value),
        }
    }
}

/// A value that a report owns.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedValue(pub Value);

impl Serialize for OwnedValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        JsonValue(self.0.as_ref()).serialize(serializer)
    }
}

/// The value of a feature.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonFeature(pub FeatureValue);

impl Serialize for JsonFeature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            FeatureValue::Scalar(value) => JsonValue(value.as_ref()).serialize(serializer),
            FeatureValue::List(values) => {
                serializer.collect_seq(values.iter().map(|v| JsonValue(v.as_ref())))
            }
            FeatureValue::Counted(values) => {
                serializer.collect_seq(values.iter().map(|(value, count)| Counted { value, count }))
            }
        }
    }
}

struct Counted<'a> {
    value: &'a Value,
    count: &'a u64,
}

impl Serialize for Counted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Counted", 2)?;
        fields.serialize_field("value", &JsonValue(self.value.as_ref()))?;
        fields.serialize_field("count", self.count)?;
        fields.end()
    }
}

/// An entity's key: its part alone, or an array of the parts of a composite key.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonKey(pub EntityKey);

impl Serialize for JsonKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts: Vec<_> = self.0.parts().map(part_value).collect();
        match parts.as_slice() {
            [part] => JsonValue(*part).serialize(serializer),
            parts => {
                let mut array = serializer.serialize_seq(Some(parts.len()))?;
                for part in parts {
                    array.serialize_element(&JsonValue(*part))?;
                }
                array.end()
            }
        }
    }
}

fn part_value(part: KeyPart<'_>) -> ValueRef<'_> {
    match part {
        KeyPart::Int64(value) => ValueRef::Int64(value),
        KeyPart::String(value) => ValueRef::String(value),
    }
}

/// An instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonInstant(pub Micros);

impl Serialize for JsonInstant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A JSON object whose fields keep this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries<V>(pub Vec<(String, V)>);

impl<V: Serialize> Serialize for Entries<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: ValueRef<'_>) -> String {
        serde_json::to_string(&JsonValue(value)).unwrap()
    }

    #[test]
    fn values_are_written_exactly() {
        assert_eq!(json(ValueRef::Null), "null");
        assert_eq!(json(ValueRef::Int64(i64::MIN)), "-9223372036854775808");
        assert_eq!(json(ValueRef::Double(0.1)), "0.1");
        assert_eq!(json(ValueRef::Double(3.0)), "3.0");
        for double in [5e-324, 1e23, f64::MAX, 0.3, 123_456_789.123_456_78] {
            let back: f64 = serde_json::from_str(&json(ValueRef::Double(double))).unwrap();
            assert_eq!(back.to_bits(), double.to_bits());
        }
        assert_eq!(json(ValueRef::String("é\"\n")), "\"é\\\"\\n\"");
        assert_eq!(json(ValueRef::Bytes(&[0, 255])), "\"AP8=\"");
        assert_eq!(json(ValueRef::Timestamp(Micros(1_500_000))), "\"1970-01-01T00:00:01.5Z\"");
    }

    #[test]
    fn keys_are_plain_or_arrays_and_lists_keep_their_order() {
        let key = |parts: &[KeyPart<'_>]| {
            serde_json::to_string(&JsonKey(EntityKey::try_new(parts).unwrap())).unwrap()
        };
        assert_eq!(key(&[KeyPart::Int64(42)]), "42");
        assert_eq!(key(&[KeyPart::String("42")]), "\"42\"");
        assert_eq!(key(&[KeyPart::Int64(-1), KeyPart::String("b")]), "[-1,\"b\"]");
        let counted = FeatureValue::Counted(vec![(Value::String("b".into()), 3)]);
        assert_eq!(
            serde_json::to_string(&JsonFeature(counted)).unwrap(),
            "[{\"value\":\"b\",\"count\":3}]"
        );
        let list = FeatureValue::List(vec![Value::Int64(2), Value::Null]);
        assert_eq!(serde_json::to_string(&JsonFeature(list)).unwrap(), "[2,null]");
        let entries = Entries(vec![("b".to_owned(), 1), ("a".to_owned(), 2)]);
        assert_eq!(serde_json::to_string(&entries).unwrap(), "{\"b\":1,\"a\":2}");
    }
}
