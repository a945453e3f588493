//! Typed rows: values by the names of their fields.

use millrace_catalog::{Field, Stream};
use millrace_proto::convert::{self, from_timestamp};
use millrace_proto::v1::{TypedRow, value};
use millrace_types::{FieldType, Micros, ValueRef};

use crate::columns::{counted_instant, finite};
use crate::reject::Rule;
use crate::rows::RowSource;

/// The typed rows of a batch, read by the fields of a stream. Nothing is converted, but that an
/// int64 stands for a timestamp, in the field's unit, or for a double where it is exactly one.
pub(crate) struct TypedRows<'a> {
    stream: &'a Stream,
    rows: &'a [TypedRow],
}

impl<'a> TypedRows<'a> {
    pub(crate) fn new(stream: &'a Stream, rows: &'a [TypedRow]) -> Self {
        Self { stream, rows }
    }
}

impl RowSource for TypedRows<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn get(&self, field: usize, row: usize) -> Result<ValueRef<'_>, Rule> {
        let field = &self.stream.fields[field];
        let value = self.rows[row].values.get(&field.name);
        match value.and_then(|value| value.kind.as_ref()) {
            None => Ok(ValueRef::Null),
            Some(kind) => read(field, kind),
        }
    }
}

fn read<'a>(field: &Field, kind: &'a value::Kind) -> Result<ValueRef<'a>, Rule> {
    use value::Kind;
    let found = match (kind, field.ty) {
        (Kind::Bool(v), FieldType::Bool) => return Ok(ValueRef::Bool(*v)),
        (Kind::Int64(v), FieldType::Int64) => return Ok(ValueRef::Int64(*v)),
        (Kind::Int64(v), FieldType::Double) => return exact(*v).map(ValueRef::Double),
        (Kind::Int64(v), FieldType::Timestamp) => {
            return counted_instant(*v, field.unit).map(ValueRef::Timestamp);
        }
        (Kind::Double(v), FieldType::Double) => return finite(*v).map(ValueRef::Double),
        (Kind::String(v), FieldType::String) => return Ok(ValueRef::String(v)),
        (Kind::Bytes(v), FieldType::Bytes) => return Ok(ValueRef::Bytes(v)),
        (Kind::Timestamp(v), FieldType::Timestamp) => {
            return instant(v).map(ValueRef::Timestamp);
        }
        (Kind::Bool(_), _) => FieldType::Bool,
        (Kind::Int64(_), _) => FieldType::Int64,
        (Kind::Double(_), _) => FieldType::Double,
        (Kind::String(_), _) => FieldType::String,
        (Kind::Bytes(_), _) => FieldType::Bytes,
        (Kind::Timestamp(_), _) => FieldType::Timestamp,
    };
    Err(Rule::WrongType { wants: field.ty, found })
}

/// The double that is exactly this integer.
fn exact(value: i64) -> Result<f64, Rule> {
    let double = value as f64;
    // i64::MAX as a double is 2^63, which i64 does not hold: compare in a wider type.
    match double as i128 == i128::from(value) {
        true => Ok(double),
        false => Err(Rule::NotExact(value)),
    }
}

fn instant(timestamp: &prost_types::Timestamp) -> Result<Micros, Rule> {
    from_timestamp(timestamp).map_err(|error| match error.rule() {
        convert::Rule::Nanos(nanos) => Rule::Nanos(*nanos),
        convert::Rule::InstantRange
        | convert::Rule::Required
        | convert::Rule::NotFinite
        | convert::Rule::UnknownEnum(_)
        | convert::Rule::Key(_) => Rule::InstantRange { count: timestamp.seconds, unit: "s" },
    })
}
