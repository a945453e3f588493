//! What semantics §3 says of one row of the stream `all`, word by word.

use millrace_catalog::Stream;
use millrace_types::limits::{FACT_BYTES_MAX, ID_BYTES_MAX};
use millrace_types::value::canonical_double;
use millrace_types::{
    Entity, EntityKey, Fact, FactBody, KeyPart, KindId, KnownAt, Micros, Op, RejectReason, Row,
    StreamId, Value,
};

use super::LATEST;
use super::generate::Cell;
use crate::testing::NOON;

/// Why a row is refused, and the field that is to blame.
pub(super) type Refused = (RejectReason, String);

fn bad(field: &str) -> Refused {
    (RejectReason::BadRow, field.to_owned())
}

fn logical(cell: &Cell, field: &str) -> Result<Value, Refused> {
    Ok(match cell {
        Cell::Null => Value::Null,
        Cell::Bool(v) => Value::Bool(*v),
        Cell::Int(v) => Value::Int64(*v),
        Cell::Double(v) => canonical_double(*v).map(Value::Double).ok_or_else(|| bad(field))?,
        Cell::Text(v) => Value::String(v.as_str().into()),
        Cell::Bytes(v) => Value::Bytes(v.as_slice().into()),
        Cell::Instant(count, nanos) => {
            let micros = (i128::from(*count) * i128::from(*nanos)).div_euclid(1_000);
            let micros = i64::try_from(micros).map_err(|_| bad(field))?;
            Value::Timestamp(Micros(micros))
        }
    })
}

/// The values of the row, as far as the size of a fact goes.
fn values(stream: &Stream, cells: &[&Cell]) -> Result<Vec<Value>, Refused> {
    let mut row = Vec::new();
    for (cell, field) in cells.iter().zip(&stream.fields) {
        row.push(logical(cell, &field.name)?);
        if row.last() != Some(&Value::Null)
            && Row::from_values(&row).as_bytes().len() > FACT_BYTES_MAX
        {
            return Err((RejectReason::TooLarge, field.name.clone()));
        }
    }
    Ok(row)
}

fn text(value: &Value) -> Option<String> {
    let Value::String(text) = value else { return None };
    (!text.is_empty()).then(|| text.to_string())
}

fn natural(value: &Value, field: &str) -> Result<u64, Refused> {
    let Value::Int64(value) = value else { return Ok(0) };
    u64::try_from(*value).map_err(|_| bad(field))
}

/// The facts of a row, one for each entity, or why it is refused.
pub(super) fn facts(
    stream: &Stream,
    cells: &[&Cell],
    producer: &str,
    sequence: u64,
    known_at: Option<KnownAt>,
) -> Result<Vec<Fact>, Refused> {
    let row = values(stream, cells)?;
    let undoes = text(&row[7]);
    let op = match (&undoes, text(&row[6]).as_deref()) {
        (Some(_), _) | (None, Some("undo")) => Op::Retract,
        (None, Some("delete")) => Op::End,
        (None, _) => Op::Assert,
    };
    let at = match (&row[2], op) {
        (Value::Timestamp(at), _) => *at,
        (_, Op::Retract) => Micros(0),
        (_, Op::Assert | Op::End) => return Err(bad("ts")),
    };
    let seq = natural(&row[5], "seq")?;
    let stated = natural(&row[4], "rev")?;
    let revision = if undoes.is_some() { u64::MAX } else { stated };
    let id_field = if undoes.is_some() { "undoes" } else { "id" };
    let id = match (undoes, &row[3]) {
        (Some(id), _) => id,
        (None, Value::String(id)) => id.to_string(),
        (None, _) => format!("{producer}/{sequence:020}"),
    };
    if known_at.is_some_and(|known_at| known_at.0 > NOON) {
        return Err(bad("known_at_us"));
    }
    let Value::Int64(user) = row[0] else {
        return Err((RejectReason::MissingKey, "user".to_owned()));
    };
    let item = text(&row[1]);
    if op != Op::Retract && at > LATEST {
        return Err((RejectReason::AtOutOfBounds, "ts".to_owned()));
    }
    let too_large = |field: &str| (RejectReason::TooLarge, field.to_owned());
    if id.len() > ID_BYTES_MAX {
        return Err(too_large(id_field));
    }
    let mut keys = vec![(0, vec![KeyPart::Int64(user)])];
    if let Some(item) = &item {
        keys.push((1, vec![KeyPart::String(item)]));
        keys.push((2, vec![KeyPart::Int64(user), KeyPart::String(item)]));
    }
    let row = Row::from_values(&row);
    let fact = |(kind, parts): (u16, Vec<KeyPart<'_>>)| {
        let key = EntityKey::try_new(&parts).map_err(|_| too_large("item"))?;
        if key.as_bytes().len() + id.len() + row.as_bytes().len() > FACT_BYTES_MAX {
            return Err(too_large(""));
        }
        let (row, id) = (row.clone(), id.as_bytes().into());
        Ok(Fact {
            stream: StreamId(0),
            entity: Entity { kind: KindId(kind), key },
            body: FactBody { id, revision, at, seq, op, row, known_at },
        })
    };
    keys.into_iter().map(fact).collect()
}
