//! Values of Arrow columns in the JSON and CSV of the command line.

use std::io::{self, Write};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Float64Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use millrace_types::{FeatureValue, Micros, Value, ValueRef};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::json::JsonValue;
use crate::files::widened;

/// The value of a row of a column, in the forms of semantics §4.
pub struct ArrowCell<'a>(pub &'a dyn Array, pub usize);

impl Serialize for ArrowCell<'_> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(column, row) = *self;
        if column.is_null(row) {
            return serializer.serialize_unit();
        }
        match column.data_type() {
            DataType::List(_) => {
                let items = column.as_list::<i32>().value(row);
                let cells = (0..items.len()).map(|item| ArrowCell(items.as_ref(), item));
                serializer.collect_seq(cells)
            }
            DataType::Struct(fields) => {
                let of_struct = column.as_struct();
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (field, column) in fields.iter().zip(of_struct.columns()) {
                    map.serialize_entry(field.name(), &ArrowCell(column.as_ref(), row))?;
                }
                map.end()
            }
            _ => match scalar(column, row) {
                Some(value) => JsonValue(value).serialize(serializer),
                // Of a spine's other columns.
                None => other(column, row, serializer),
            },
        }
    }
}

/// Whether values of this type have a form in JSON and CSV.
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
pub fn has_text_form(ty: &DataType) -> bool {
    match ty {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::Timestamp(..) => true,
        DataType::List(item) => has_text_form(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| has_text_form(field.data_type())),
        _ => false,
    }
}

fn other<S: Serializer>(column: &dyn Array, row: usize, to: S) -> Result<S::Ok, S::Error> {
    let widened = widened(&column.slice(row, 1));
    match scalar(widened.as_ref(), 0) {
        Some(value) => JsonValue(value).serialize(to),
        // Files are refused such columns before they are begun.
        None => to.serialize_str(&format!("({})", column.data_type())),
    }
}

/// The value of a row of a feature's column.
#[must_use]
pub fn feature_value(column: &dyn Array, row: usize) -> FeatureValue {
    let one = |column: &dyn Array, row: usize| match column.is_null(row) {
        true => Value::Null,
        false => scalar(column, row).map_or(Value::Null, ValueRef::to_value),
    };
    if column.is_null(row) {
        return FeatureValue::NULL;
    }
    let Some(lists) = column.as_list_opt::<i32>() else {
        return FeatureValue::Scalar(one(column, row));
    };
    let items = lists.value(row);
    match items.as_struct_opt() {
        None => {
            FeatureValue::List((0..items.len()).map(|item| one(items.as_ref(), item)).collect())
        }
        Some(counted) => {
            let (values, counts) = (counted.column(0), counted.column(1));
            let count = |item| match one(counts.as_ref(), item) {
                Value::Int64(count) => u64::try_from(count).unwrap_or(0),
                Value::Null
                | Value::Bool(_)
                | Value::Double(_)
                | Value::String(_)
                | Value::Bytes(_)
                | Value::Timestamp(_) => 0,
            };
            let pairs = (0..items.len()).map(|item| (one(values.as_ref(), item), count(item)));
            FeatureValue::Counted(pairs.collect())
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
fn scalar(column: &dyn Array, row: usize) -> Option<ValueRef<'_>> {
    Some(match column.data_type() {
        DataType::Boolean => ValueRef::Bool(column.as_boolean().value(row)),
        DataType::Int64 => ValueRef::Int64(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => ValueRef::Double(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => ValueRef::String(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => ValueRef::String(column.as_string::<i64>().value(row)),
        DataType::Binary => ValueRef::Bytes(column.as_binary::<i32>().value(row)),
        DataType::Timestamp(unit, _) => ValueRef::Timestamp(Micros(match unit {
            TimeUnit::Second => {
                column.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1_000_000)
            }
            TimeUnit::Millisecond => {
                column.as_primitive::<TimestampMillisecondType>().value(row).saturating_mul(1_000)
            }
            TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().value(row),
            TimeUnit::Nanosecond => {
                column.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000)
            }
        })),
        _ => return None,
    })
}

/// Writes the value of a row of a column as a CSV cell: text as it is, lists as JSON, NULL as nothing.
///
/// # Errors
/// Those of `out`.
pub fn write_csv_cell(out: &mut dyn Write, column: &ArrayRef, row: usize) -> io::Result<()> {
    if column.is_null(row) {
        return Ok(());
    }
    let text = match scalar(column.as_ref(), row) {
        Some(ValueRef::String(text)) => text.to_owned(),
        _ => {
            let json = serde_json::to_string(&ArrowCell(column.as_ref(), row))?;
            // Bytes and instants are JSON strings without anything to escape.
            match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
                Some(inner) => inner.to_owned(),
                None => json,
            }
        }
    };
    if text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        write!(out, "\"{}\"", text.replace('"', "\"\""))
    } else {
        out.write_all(text.as_bytes())
    }
}
