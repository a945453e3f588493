//! Values of fields and of features, and their statuses.

use bytes::Bytes;
use millrace_types::value::canonical_double;
use millrace_types::{FeatureValue, Status, Value, ValueRef};

use super::error::{ConvertError, Rule};
use super::time::{from_timestamp, to_timestamp};
use crate::v1::{self, feature_value, value};

impl From<ValueRef<'_>> for v1::Value {
    fn from(from: ValueRef<'_>) -> Self {
        let kind = match from {
            ValueRef::Null => None,
            ValueRef::Bool(v) => Some(value::Kind::Bool(v)),
            ValueRef::Int64(v) => Some(value::Kind::Int64(v)),
            ValueRef::Double(v) => Some(value::Kind::Double(v)),
            ValueRef::String(v) => Some(value::Kind::String(v.to_owned())),
            ValueRef::Bytes(v) => Some(value::Kind::Bytes(Bytes::copy_from_slice(v))),
            ValueRef::Timestamp(v) => Some(value::Kind::Timestamp(to_timestamp(v))),
        };
        Self { kind }
    }
}

impl From<Value> for v1::Value {
    fn from(from: Value) -> Self {
        let kind = match from {
            Value::Null => None,
            Value::Bool(v) => Some(value::Kind::Bool(v)),
            Value::Int64(v) => Some(value::Kind::Int64(v)),
            Value::Double(v) => Some(value::Kind::Double(v)),
            Value::String(v) => Some(value::Kind::String(v.into_string())),
            Value::Bytes(v) => Some(value::Kind::Bytes(v.into_vec().into())),
            Value::Timestamp(v) => Some(value::Kind::Timestamp(to_timestamp(v))),
        };
        Self { kind }
    }
}

/// Borrows the text and bytes of the message. −0.0 becomes 0.0.
///
/// # Errors
/// NaN and infinities, and timestamps that are none.
impl<'a> TryFrom<&'a v1::Value> for ValueRef<'a> {
    type Error = ConvertError;

    fn try_from(from: &'a v1::Value) -> Result<Self, ConvertError> {
        Ok(match &from.kind {
            None => Self::Null,
            Some(value::Kind::Bool(v)) => Self::Bool(*v),
            Some(value::Kind::Int64(v)) => Self::Int64(*v),
            Some(value::Kind::Double(v)) => Self::Double(finite(*v)?),
            Some(value::Kind::String(v)) => Self::String(v),
            Some(value::Kind::Bytes(v)) => Self::Bytes(v),
            Some(value::Kind::Timestamp(v)) => Self::Timestamp(from_timestamp(v)?),
        })
    }
}

/// # Errors
/// As for the borrowed form.
impl TryFrom<&v1::Value> for Value {
    type Error = ConvertError;

    fn try_from(from: &v1::Value) -> Result<Self, ConvertError> {
        ValueRef::try_from(from).map(ValueRef::to_value)
    }
}

impl From<FeatureValue> for v1::FeatureValue {
    fn from(from: FeatureValue) -> Self {
        use feature_value::Kind;
        let kind = match from {
            FeatureValue::Scalar(Value::Null) => None,
            FeatureValue::Scalar(Value::Bool(v)) => Some(Kind::Bool(v)),
            FeatureValue::Scalar(Value::Int64(v)) => Some(Kind::Int64(v)),
            FeatureValue::Scalar(Value::Double(v)) => Some(Kind::Double(v)),
            FeatureValue::Scalar(Value::String(v)) => Some(Kind::String(v.into_string())),
            FeatureValue::Scalar(Value::Bytes(v)) => Some(Kind::Bytes(v.into_vec().into())),
            FeatureValue::Scalar(Value::Timestamp(v)) => Some(Kind::Timestamp(to_timestamp(v))),
            FeatureValue::List(values) => {
                let values = values.into_iter().map(Into::into).collect();
                Some(Kind::List(v1::ValueList { values }))
            }
            FeatureValue::Counted(values) => {
                let counted = |(value, count): (Value, u64)| v1::CountedValue {
                    value: Some(value.into()),
                    count,
                };
                Some(Kind::Counted(v1::CountedValueList {
                    values: values.into_iter().map(counted).collect(),
                }))
            }
        };
        Self { kind }
    }
}

/// # Errors
/// As for [`Value`]; a counted value without a value.
impl TryFrom<&v1::FeatureValue> for FeatureValue {
    type Error = ConvertError;

    fn try_from(from: &v1::FeatureValue) -> Result<Self, ConvertError> {
        use feature_value::Kind;
        let scalar = match &from.kind {
            None => Value::Null,
            Some(Kind::Bool(v)) => Value::Bool(*v),
            Some(Kind::Int64(v)) => Value::Int64(*v),
            Some(Kind::Double(v)) => Value::Double(finite(*v)?),
            Some(Kind::String(v)) => Value::String(v.as_str().into()),
            Some(Kind::Bytes(v)) => Value::Bytes(v.as_ref().into()),
            Some(Kind::Timestamp(v)) => Value::Timestamp(from_timestamp(v)?),
            Some(Kind::List(list)) => {
                let read = |(i, value): (usize, &v1::Value)| {
                    Value::try_from(value).map_err(|e| e.within(format_args!("list.values[{i}]")))
                };
                return list
                    .values
                    .iter()
                    .enumerate()
                    .map(read)
                    .collect::<Result<_, _>>()
                    .map(Self::List);
            }
            Some(Kind::Counted(list)) => {
                let read = |(i, counted): (usize, &v1::CountedValue)| {
                    let value = counted.value.as_ref().ok_or(ConvertError::new(Rule::Required));
                    value
                        .and_then(Value::try_from)
                        .map(|value| (value, counted.count))
                        .map_err(|e| e.within(format_args!("counted.values[{i}].value")))
                };
                return list
                    .values
                    .iter()
                    .enumerate()
                    .map(read)
                    .collect::<Result<_, _>>()
                    .map(Self::Counted);
            }
        };
        Ok(Self::Scalar(scalar))
    }
}

fn finite(value: f64) -> Result<f64, ConvertError> {
    canonical_double(value).ok_or(ConvertError::new(Rule::NotFinite))
}

impl From<Status> for v1::ValueStatus {
    fn from(from: Status) -> Self {
        match from {
            Status::Present => Self::Present,
            Status::Null => Self::Null,
            Status::MissingEntity => Self::MissingEntity,
            Status::Overflow => Self::Overflow,
            Status::Truncated => Self::Truncated,
            Status::Backfilling => Self::Backfilling,
        }
    }
}

/// # Errors
/// [`Rule::UnknownEnum`] for the unspecified status.
impl TryFrom<v1::ValueStatus> for Status {
    type Error = ConvertError;

    fn try_from(from: v1::ValueStatus) -> Result<Self, ConvertError> {
        Ok(match from {
            v1::ValueStatus::Unspecified => {
                return Err(ConvertError::new(Rule::UnknownEnum(from as i32)));
            }
            v1::ValueStatus::Present => Self::Present,
            v1::ValueStatus::Null => Self::Null,
            v1::ValueStatus::MissingEntity => Self::MissingEntity,
            v1::ValueStatus::Overflow => Self::Overflow,
            v1::ValueStatus::Truncated => Self::Truncated,
            v1::ValueStatus::Backfilling => Self::Backfilling,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use millrace_types::Micros;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    pub(in crate::convert) fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int64),
            any::<f64>().prop_filter_map("finite", canonical_double).prop_map(Value::Double),
            ".{0,8}".prop_map(|s| Value::String(s.into())),
            any::<Vec<u8>>().prop_map(|b| Value::Bytes(b.into())),
            any::<i64>().prop_map(|t| Value::Timestamp(Micros(t))),
        ]
    }

    fn any_feature() -> impl Strategy<Value = FeatureValue> {
        prop_oneof![
            any_value().prop_map(FeatureValue::Scalar),
            prop::collection::vec(any_value(), 0..4).prop_map(FeatureValue::List),
            prop::collection::vec((any_value(), any::<u64>()), 0..4)
                .prop_map(FeatureValue::Counted),
        ]
    }

    proptest! {
        #[test]
        fn values_come_back_over_the_wire(value in any_value()) {
            let message = v1::Value::from(value.clone());
            prop_assert_eq!(&message, &v1::Value::from(value.as_ref()));
            let read = v1::Value::decode(message.encode_to_vec().as_slice()).unwrap();
            prop_assert_eq!(Value::try_from(&read), Ok(value));
        }

        #[test]
        fn features_come_back_over_the_wire(value in any_feature()) {
            let bytes = v1::FeatureValue::from(value.clone()).encode_to_vec();
            let read = v1::FeatureValue::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(FeatureValue::try_from(&read), Ok(value));
        }
    }

    #[test]
    fn doubles_no_fact_may_hold_are_refused_where_they_stand() {
        let double = |v| v1::Value { kind: Some(value::Kind::Double(v)) };
        assert_eq!(ValueRef::try_from(&double(-0.0)), Ok(ValueRef::Double(0.0)));
        let list = v1::ValueList { values: vec![double(1.0), double(f64::NAN)] };
        let feature = v1::FeatureValue { kind: Some(feature_value::Kind::List(list)) };
        let error = FeatureValue::try_from(&feature).unwrap_err();
        assert_eq!(error.to_string(), "list.values[1]: must be a finite number");
    }

    #[test]
    fn statuses_have_the_names_of_the_types_crate() {
        for status in [
            Status::Present,
            Status::Null,
            Status::MissingEntity,
            Status::Overflow,
            Status::Truncated,
            Status::Backfilling,
        ] {
            let wire = v1::ValueStatus::from(status);
            assert_eq!(wire.as_str_name(), format!("VALUE_STATUS_{}", status.name()));
            assert_eq!(Status::try_from(wire), Ok(status));
        }
    }
}
