//! A sample: what was asked of one entity, what was answered, and from where. Values are kept as bytes, which
//! are compared as they stand: equal to the last bit, or not equal.
//!
//! Layout (version 1, kept in the store until it is looked at): version u8, varint slot, varint catalog version,
//! length-prefixed view, varint kind, length-prefixed key, signed at, varint epoch and sequence of the position,
//! signed known_at, varint number of features, each a varint index and length-prefixed [`said`] bytes.

use millrace_types::codec::{Reader, put_bytes, put_signed, put_varint};
use millrace_types::row::put_value;
use millrace_types::{
    DecodeError, Entity, EntityKey, FeatureValue, KindId, KnownAt, Micros, Position, SlotId,
    Status, Value,
};

const VERSION: u8 = 1;

/// A sampled answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(super) slot: SlotId,
    pub(super) catalog_version: u32,
    pub(super) view: String,
    pub(super) entity: Entity,
    pub(super) at: Micros,
    /// Exactly the facts up to here were in effect.
    pub(super) position: Position,
    /// As known at.
    pub(super) known_at: KnownAt,
    /// By index in the view: what was said of each feature.
    pub(super) features: Vec<(usize, Box<[u8]>)>,
}

/// A value with its status, as bytes: different ones have different bytes.
pub(super) fn said(status: Status, value: &FeatureValue) -> Box<[u8]> {
    let status = match status {
        Status::Present => 0,
        Status::Null => 1,
        Status::MissingEntity => 2,
        Status::Overflow => 3,
        Status::Truncated => 4,
        Status::Backfilling => 5,
    };
    let mut out = vec![status];
    match value {
        FeatureValue::Scalar(value) => {
            out.push(0);
            put_value(&mut out, value.as_ref());
        }
        FeatureValue::List(values) => {
            out.push(1);
            put_varint(&mut out, values.len() as u64);
            values.iter().for_each(|value| put_value(&mut out, value.as_ref()));
        }
        FeatureValue::Counted(values) => {
            out.push(2);
            put_varint(&mut out, values.len() as u64);
            for (value, count) in values {
                put_value(&mut out, value.as_ref());
                put_varint(&mut out, *count);
            }
        }
    }
    out.into()
}

impl Sample {
    /// One of an entity, for tests and seeds of fuzz targets.
    pub(crate) fn example(entity: Entity) -> Self {
        let tenth = FeatureValue::Scalar(Value::Double(0.1));
        Self {
            slot: SlotId(3),
            catalog_version: 2,
            view: "activity".to_owned(),
            entity,
            at: Micros(-5),
            position: Position { epoch: 7, sequence: 1 << 40 },
            known_at: KnownAt(1 << 50),
            features: vec![
                (4, said(Status::Present, &tenth)),
                (0, said(Status::Null, &FeatureValue::NULL)),
            ],
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, u64::from(self.slot.0));
        put_varint(&mut out, u64::from(self.catalog_version));
        put_bytes(&mut out, self.view.as_bytes());
        put_varint(&mut out, u64::from(self.entity.kind.0));
        put_bytes(&mut out, self.entity.key.as_bytes());
        put_signed(&mut out, self.at.0);
        put_varint(&mut out, self.position.epoch);
        put_varint(&mut out, self.position.sequence);
        put_signed(&mut out, self.known_at.0);
        put_varint(&mut out, self.features.len() as u64);
        for (feature, said) in &self.features {
            put_varint(&mut out, *feature as u64);
            put_bytes(&mut out, said);
        }
        out
    }

    /// Reads what [`Sample::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("version of a sample")? {
            VERSION => {}
            other => {
                let what = "version of a sample";
                return Err(DecodeError::Invalid { what, found: u64::from(other) });
            }
        }
        let slot = SlotId(reader.u32("slot")?);
        let catalog_version = reader.u32("catalog version")?;
        let view = std::str::from_utf8(reader.bytes("view")?);
        let view = view.map_err(|_| DecodeError::NotUtf8("view"))?.to_owned();
        let kind = KindId(reader.u16("kind")?);
        let entity = Entity { kind, key: EntityKey::from_bytes(reader.bytes("key")?)? };
        let at = Micros(reader.signed("at")?);
        let (epoch, sequence) = (reader.varint("epoch")?, reader.varint("sequence")?);
        let known_at = KnownAt(reader.signed("known_at")?);
        let mut features = Vec::new();
        for _ in 0..reader.count("features")? {
            features.push((reader.u32("feature")? as usize, reader.bytes("value")?.into()));
        }
        if !reader.is_empty() {
            let found = reader.rest().len() as u64;
            return Err(DecodeError::Invalid { what: "bytes after a sample", found });
        }
        let position = Position { epoch, sequence };
        Ok(Self { slot, catalog_version, view, entity, at, position, known_at, features })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use millrace_types::KeyPart;

    use super::*;

    pub(in crate::parity) fn sample() -> Sample {
        let key = EntityKey::try_new(&[KeyPart::String("é"), KeyPart::Int64(-4)]).unwrap();
        Sample::example(Entity { kind: KindId(1), key })
    }

    #[test]
    fn a_sample_reads_back_and_nothing_else_does() {
        let sample = sample();
        let bytes = sample.encode();
        assert_eq!(Sample::decode(&bytes), Ok(sample));
        for end in 0..bytes.len() {
            assert!(Sample::decode(&bytes[..end]).is_err(), "{end} bytes");
        }
        assert!(Sample::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        let other = [&[VERSION + 1], &bytes[1..]].concat();
        assert!(Sample::decode(&other).is_err());
    }

    #[test]
    fn what_differs_in_a_bit_a_form_or_a_status_has_other_bytes() {
        let scalar = |value| FeatureValue::Scalar(value);
        let one = || Value::Int64(1);
        let values = [
            scalar(Value::Double(0.1)),
            scalar(Value::Double(f64::from_bits(0.1f64.to_bits() + 1))),
            scalar(Value::Double(1.0)),
            scalar(one()),
            scalar(Value::Timestamp(Micros(1))),
            scalar(Value::String("1".into())),
            scalar(Value::Bytes(Box::from(&b"1"[..]))),
            scalar(Value::Bool(true)),
            FeatureValue::NULL,
            FeatureValue::List(Vec::new()),
            FeatureValue::List(vec![one()]),
            FeatureValue::List(vec![one(), one()]),
            FeatureValue::Counted(Vec::new()),
            FeatureValue::Counted(vec![(one(), 1)]),
            FeatureValue::Counted(vec![(one(), 2)]),
        ];
        let statuses = [
            Status::Present,
            Status::Null,
            Status::MissingEntity,
            Status::Overflow,
            Status::Truncated,
        ];
        let mut all = HashSet::new();
        for status in statuses {
            for value in &values {
                assert!(all.insert(said(status, value)), "{status:?} {value:?}");
                assert!(!all.insert(said(status, value)), "the same is the same");
            }
        }
    }
}
