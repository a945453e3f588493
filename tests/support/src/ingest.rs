//! Records to facts by the roles of semantics §3, one rule after the other.

use millrace_catalog::{Catalog, Stream};
use millrace_types::entity::KeyError;
use millrace_types::limits::{FACT_BYTES_MAX, ID_BYTES_MAX};
use millrace_types::{
    Entity, EntityKey, Fact, FactBody, FieldType, KeyPart, KindId, Micros, Op, RejectReason, Row,
    Value,
};

use crate::record::RawRecord;

#[cfg(test)]
mod tests;

/// The facts of a record, one for each entity kind it is routed to, in the order of the stream's
/// keys; or why it is REJECTED. `at_max` is the greatest event time that is not too far ahead.
///
/// Of several reasons the one with the least number is given.
///
/// # Errors
/// [`RejectReason`], as ingest has to give it for the record on its own.
pub fn facts(
    catalog: &Catalog,
    record: &RawRecord,
    at_max: Option<Micros>,
) -> Result<Vec<Fact>, RejectReason> {
    let stream = catalog.stream(&record.stream).ok_or(RejectReason::UnknownStream)?;
    let row = row(stream, record)?;
    let (op, id, revision) = identity(stream, record, &row)?;
    let seq = stream.seq.map_or(Ok(0), |field| natural(&row[field]))?;
    let at = match (&row[stream.at], op) {
        (Value::Timestamp(at), _) => *at,
        // A RETRACT's `at` never matters.
        (_, Op::Retract) => Micros(0),
        (_, Op::Assert | Op::End) => return Err(RejectReason::BadRow),
    };
    let routes = routes(stream, &row)?;
    if op != Op::Retract && at_max.is_some_and(|max| at > max) {
        return Err(RejectReason::AtOutOfBounds);
    }
    let encoded = Row::from_values(&row);
    let mut facts = Vec::new();
    for (kind, parts) in routes {
        let key = EntityKey::try_new(&parts).map_err(|error| match error {
            KeyError::Missing => RejectReason::MissingKey,
            KeyError::TooLong(_) => RejectReason::TooLarge,
        })?;
        let size = key.as_bytes().len() + id.len() + encoded.as_bytes().len();
        if id.len() > ID_BYTES_MAX || size > FACT_BYTES_MAX {
            return Err(RejectReason::TooLarge);
        }
        let (id, row) = (id.clone().into(), encoded.clone());
        let body = FactBody { id, revision, at, seq, op, row, known_at: None };
        facts.push(Fact { stream: stream.id, entity: Entity { kind, key }, body });
    }
    Ok(facts)
}

/// The kinds the record is routed to, with the parts of its keys.
fn routes<'a>(
    stream: &Stream,
    row: &'a [Value],
) -> Result<Vec<(KindId, Vec<KeyPart<'a>>)>, RejectReason> {
    let part = |field: &usize| match &row[*field] {
        Value::Int64(v) => Some(KeyPart::Int64(*v)),
        Value::String(v) if !v.is_empty() => Some(KeyPart::String(v)),
        Value::Null
        | Value::Bool(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Timestamp(_) => None,
    };
    let mut routes = Vec::new();
    for mapping in &stream.keys {
        match mapping.fields.iter().map(part).collect() {
            Some(parts) => routes.push((mapping.kind, parts)),
            None if mapping.optional => {}
            None => return Err(RejectReason::MissingKey),
        }
    }
    // Routed nowhere, it could have no effect.
    if routes.is_empty() { Err(RejectReason::MissingKey) } else { Ok(routes) }
}

/// The values in the order of the catalog's fields, each of its field's type.
fn row(stream: &Stream, record: &RawRecord) -> Result<Vec<Value>, RejectReason> {
    let value = |field: &millrace_catalog::Field| {
        let value = record.get(&field.name);
        match (value, field.ty) {
            (Value::Null, _) => Some(Value::Null),
            // One of the two integers that stand for another type: a count of the field's unit …
            (Value::Int64(count), FieldType::Timestamp) => {
                field.unit.instant(*count).map(Value::Timestamp)
            }
            // … and the other, where it is exact.
            (Value::Int64(v), FieldType::Double) => {
                (*v as f64 as i128 == i128::from(*v)).then_some(Value::Double(*v as f64))
            }
            (Value::Double(v), FieldType::Double) if !v.is_finite() => None,
            // Also where it is −0.0.
            (Value::Double(v), FieldType::Double) if *v == 0.0 => Some(Value::Double(0.0)),
            (value, ty) => (value.as_ref().field_type() == Some(ty)).then(|| value.clone()),
        }
    };
    stream.fields.iter().map(|field| value(field).ok_or(RejectReason::BadRow)).collect()
}

/// What the record does, to which id and at which revision.
fn identity(
    stream: &Stream,
    record: &RawRecord,
    row: &[Value],
) -> Result<(Op, Vec<u8>, u64), RejectReason> {
    let revision = stream.revision.map_or(Ok(0), |field| natural(&row[field]))?;
    let retracted = stream.retracts.map_or(Value::Null, |field| row[field].clone());
    if !is_empty(&retracted) {
        return Ok((Op::Retract, text(&retracted), u64::MAX));
    }
    let op = match &stream.op {
        Some(mapping) if mapping.retract.contains(&row[mapping.field]) => Op::Retract,
        Some(mapping) if mapping.end.contains(&row[mapping.field]) => Op::End,
        Some(_) | None => Op::Assert,
    };
    let id = match stream.id_field.map(|field| &row[field]) {
        Some(value) if *value != Value::Null => text(value),
        // Not given by the producer.
        Some(_) | None => format!("{}/{:020}", record.producer, record.sequence.0).into_bytes(),
    };
    Ok((op, id, revision))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Bool(_) | Value::Int64(_) | Value::Double(_) | Value::Timestamp(_) => false,
    }
}

/// The bytes of a text or of bytes, otherwise the decimal text.
fn text(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => Vec::new(),
        Value::Bool(v) => v.to_string().into_bytes(),
        Value::Int64(v) => v.to_string().into_bytes(),
        Value::Double(v) => v.to_string().into_bytes(),
        Value::String(v) => v.as_bytes().to_vec(),
        Value::Bytes(v) => v.to_vec(),
        Value::Timestamp(v) => v.0.to_string().into_bytes(),
    }
}

/// A revision or a seq: NULL is 0, a negative one is a bad row.
fn natural(value: &Value) -> Result<u64, RejectReason> {
    if *value == Value::Null {
        return Ok(0);
    }
    let Value::Int64(v) = value else {
        panic!("a checked catalog takes no {value:?} for a revision or a seq");
    };
    u64::try_from(*v).map_err(|_| RejectReason::BadRow)
}
