//! Records, reads and values on the wire, written from the protos and not from the product's own
//! conversions.

use millrace_proto::v1;
use millrace_test_support::RawRecord;
use millrace_test_support::generate::Read;
use millrace_types::{Entity, FeatureValue, KeyPart, KnownAt, Micros, Status, Value};
use prost_types::Timestamp;

/// Years 1 to 9999, which is what a Timestamp of protobuf may hold, in microseconds.
const TIMESTAMPS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// A batch; in an import `known_at` has an instant for each fact.
pub(crate) fn publish_request(records: &[RawRecord], known_at: &[i64]) -> v1::PublishBatchRequest {
    let first = &records[0];
    v1::PublishBatchRequest {
        producer_id: first.producer.to_string(),
        stream: first.stream.to_string(),
        first_sequence: first.sequence.0,
        rows: records.iter().map(row).collect(),
        known_at_us: known_at.to_vec(),
        ..v1::PublishBatchRequest::default()
    }
}

fn row(record: &RawRecord) -> v1::TypedRow {
    let values = record.names.iter().zip(&record.values);
    v1::TypedRow { values: values.map(|(name, value)| (name.clone(), to_wire(value))).collect() }
}

fn to_wire(value: &Value) -> v1::Value {
    use v1::value::Kind;
    let kind = match value {
        Value::Null => None,
        Value::Bool(value) => Some(Kind::Bool(*value)),
        Value::Int64(value) => Some(Kind::Int64(*value)),
        Value::Double(value) => Some(Kind::Double(*value)),
        Value::String(value) => Some(Kind::String(value.to_string())),
        Value::Bytes(value) => Some(Kind::Bytes(value.to_vec().into())),
        Value::Timestamp(value) => Some(Kind::Timestamp(timestamp(*value))),
    };
    v1::Value { kind }
}

/// `None` where the instant has no form on the wire.
pub(crate) fn read_request(read: &Read) -> Option<v1::GetFeaturesRequest> {
    if !TIMESTAMPS.contains(&read.at.0) {
        return None;
    }
    let known_at = (read.known_at != KnownAt::MAX).then(|| timestamp(Micros(read.known_at.0)));
    Some(v1::GetFeaturesRequest {
        view: read.view.clone(),
        entities: vec![entity_key(&read.entity)],
        features: Vec::new(),
        instant: Some(v1::get_features_request::Instant::At(timestamp(read.at))),
        known_at,
    })
}

fn entity_key(entity: &Entity) -> v1::EntityKey {
    use v1::key_part::Kind;
    let part = |part: KeyPart<'_>| v1::KeyPart {
        kind: Some(match part {
            KeyPart::Int64(value) => Kind::Int64(value),
            KeyPart::String(value) => Kind::String(value.to_owned()),
        }),
    };
    v1::EntityKey { parts: entity.key.parts().map(part).collect() }
}

fn timestamp(instant: Micros) -> Timestamp {
    Timestamp {
        seconds: instant.0.div_euclid(1_000_000),
        nanos: (instant.0.rem_euclid(1_000_000) * 1_000) as i32,
    }
}

fn instant(timestamp: &Timestamp) -> Micros {
    Micros(timestamp.seconds * 1_000_000 + i64::from(timestamp.nanos) / 1_000)
}

pub(crate) fn feature_value(value: &v1::FeatureValue) -> FeatureValue {
    use v1::feature_value::Kind;
    FeatureValue::Scalar(match &value.kind {
        None => Value::Null,
        Some(Kind::Bool(value)) => Value::Bool(*value),
        Some(Kind::Int64(value)) => Value::Int64(*value),
        Some(Kind::Double(value)) => Value::Double(*value),
        Some(Kind::String(value)) => Value::String(value.as_str().into()),
        Some(Kind::Bytes(value)) => Value::Bytes(value.to_vec().into()),
        Some(Kind::Timestamp(value)) => Value::Timestamp(instant(value)),
        Some(Kind::List(list)) => {
            return FeatureValue::List(list.values.iter().map(from_wire).collect());
        }
        Some(Kind::Counted(list)) => {
            let pair = |counted: &v1::CountedValue| {
                (counted.value.as_ref().map_or(Value::Null, from_wire), counted.count)
            };
            return FeatureValue::Counted(list.values.iter().map(pair).collect());
        }
    })
}

fn from_wire(value: &v1::Value) -> Value {
    use v1::value::Kind;
    match &value.kind {
        None => Value::Null,
        Some(Kind::Bool(value)) => Value::Bool(*value),
        Some(Kind::Int64(value)) => Value::Int64(*value),
        Some(Kind::Double(value)) => Value::Double(*value),
        Some(Kind::String(value)) => Value::String(value.as_str().into()),
        Some(Kind::Bytes(value)) => Value::Bytes(value.to_vec().into()),
        Some(Kind::Timestamp(value)) => Value::Timestamp(instant(value)),
    }
}

pub(crate) fn status(status: Status) -> i32 {
    match status {
        Status::Present => v1::ValueStatus::Present as i32,
        Status::Null => v1::ValueStatus::Null as i32,
        Status::MissingEntity => v1::ValueStatus::MissingEntity as i32,
        Status::Overflow => v1::ValueStatus::Overflow as i32,
        Status::Truncated => v1::ValueStatus::Truncated as i32,
        Status::Backfilling => v1::ValueStatus::Backfilling as i32,
    }
}
