//! Typed access to the columns of a record batch, resolved once a batch.
//!
//! Nothing is converted from one type to another. What a field accepts is its own type, and the
//! narrower types whose every value is exactly one of the field's:
//!
//! | field | Arrow |
//! |---|---|
//! | bool | Boolean |
//! | int64 | Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32 |
//! | double | Float32, Float64 |
//! | string | Utf8, LargeUtf8, Utf8View |
//! | bytes | Binary, LargeBinary, BinaryView |
//! | timestamp | Timestamp of any unit, in UTC or without a zone; any of the integers, in the field's unit |
//!
//! A column of type Null is a column of NULLs for every field.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type,
};
use arrow_array::{
    Array, BinaryArray, BinaryViewArray, BooleanArray, LargeBinaryArray, LargeStringArray,
    RecordBatch, StringArray, StringViewArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit as ArrowUnit};
use millrace_catalog::{Field, Stream, TimeUnit};
use millrace_types::codec::{put_bytes, put_tagged_signed};
use millrace_types::limits::FACT_BYTES_MAX;
use millrace_types::value::canonical_double;
use millrace_types::{FieldType, Micros, ValueRef};

use crate::reject::{Rule, unit_name};
use crate::rows::RowSource;

/// The columns of a record batch in the order of the stream's fields.
pub(crate) struct Columns<'a> {
    columns: Vec<Column<'a>>,
    rows: usize,
}

struct Column<'a> {
    nulls: Option<&'a NullBuffer>,
    data: Data<'a>,
}

enum Data<'a> {
    Null,
    Bool(&'a BooleanArray),
    Int(Ints<'a>),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    Instant { counts: &'a [i64], unit: ArrowUnit },
    CountedInstant { counts: Ints<'a>, unit: TimeUnit },
}

enum Ints<'a> {
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
/// True when a column of this Arrow type holds values of the field.
pub(crate) fn accepts(field: &Field, found: &DataType) -> bool {
    let integer = matches!(
        found,
        DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
    );
    let own = match field.ty {
        FieldType::Bool => matches!(found, DataType::Boolean),
        FieldType::Int64 => integer,
        FieldType::Double => matches!(found, DataType::Float32 | DataType::Float64),
        FieldType::String => {
            matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        }
        FieldType::Bytes => {
            matches!(found, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
        }
        FieldType::Timestamp => match found {
            DataType::Timestamp(_, None) => true,
            DataType::Timestamp(_, Some(zone)) => is_utc(zone),
            _ => integer,
        },
    };
    own || matches!(found, DataType::Null)
}

/// The names of UTC that writers use. Another zone is refused although Arrow stores UTC all the
/// same, because such a column usually went through local time.
fn is_utc(zone: &str) -> bool {
    ["UTC", "Etc/UTC", "Z", "+00:00", "+0000", "-00:00", "GMT"]
        .iter()
        .any(|name| zone.eq_ignore_ascii_case(name))
}

impl<'a> Columns<'a> {
    /// Resolves the columns of a batch that [`ArrowPayload::columns`](crate::ArrowPayload::columns)
    /// gave for this stream: one a field, in order, each of a type the field accepts.
    pub(crate) fn new(stream: &Stream, batch: &'a RecordBatch) -> Self {
        let columns = stream
            .fields
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| Column::new(field, array.as_ref()))
            .collect();
        Self { columns, rows: batch.num_rows() }
    }
}

impl<'a> Column<'a> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
    fn new(field: &Field, array: &'a dyn Array) -> Self {
        let ints = |ints| match field.ty {
            FieldType::Timestamp => Data::CountedInstant { counts: ints, unit: field.unit },
            _ => Data::Int(ints),
        };
        let data = match array.data_type() {
            DataType::Boolean => Data::Bool(array.as_boolean()),
            DataType::Int8 => ints(Ints::I8(array.as_primitive::<Int8Type>().values())),
            DataType::Int16 => ints(Ints::I16(array.as_primitive::<Int16Type>().values())),
            DataType::Int32 => ints(Ints::I32(array.as_primitive::<Int32Type>().values())),
            DataType::Int64 => ints(Ints::I64(array.as_primitive::<Int64Type>().values())),
            DataType::UInt8 => ints(Ints::U8(array.as_primitive::<UInt8Type>().values())),
            DataType::UInt16 => ints(Ints::U16(array.as_primitive::<UInt16Type>().values())),
            DataType::UInt32 => ints(Ints::U32(array.as_primitive::<UInt32Type>().values())),
            DataType::Float32 => Data::Float32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Data::Float64(array.as_primitive::<Float64Type>().values()),
            DataType::Utf8 => Data::Utf8(array.as_string()),
            DataType::LargeUtf8 => Data::LargeUtf8(array.as_string()),
            DataType::Utf8View => Data::Utf8View(array.as_string_view()),
            DataType::Binary => Data::Binary(array.as_binary()),
            DataType::LargeBinary => Data::LargeBinary(array.as_binary()),
            DataType::BinaryView => Data::BinaryView(array.as_binary_view()),
            DataType::Timestamp(unit, _) => {
                let counts: &[i64] = match unit {
                    ArrowUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
                    ArrowUnit::Millisecond => {
                        array.as_primitive::<TimestampMillisecondType>().values()
                    }
                    ArrowUnit::Microsecond => {
                        array.as_primitive::<TimestampMicrosecondType>().values()
                    }
                    ArrowUnit::Nanosecond => {
                        array.as_primitive::<TimestampNanosecondType>().values()
                    }
                };
                Data::Instant { counts, unit: *unit }
            }
            // A Null column; any other type was refused by `accepts`.
            _ => Data::Null,
        };
        Self { nulls: array.nulls(), data }
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }
}

impl Ints<'_> {
    #[inline(always)]
    fn get(&self, row: usize) -> i64 {
        match self {
            Self::I8(values) => i64::from(values[row]),
            Self::I16(values) => i64::from(values[row]),
            Self::I32(values) => i64::from(values[row]),
            Self::I64(values) => values[row],
            Self::U8(values) => i64::from(values[row]),
            Self::U16(values) => i64::from(values[row]),
            Self::U32(values) => i64::from(values[row]),
        }
    }
}

#[inline]
fn instant(count: i64, unit: ArrowUnit) -> Result<Micros, Rule> {
    let (micros, unit) = match unit {
        ArrowUnit::Second => (count.checked_mul(1_000_000), "s"),
        ArrowUnit::Millisecond => (count.checked_mul(1_000), "ms"),
        ArrowUnit::Microsecond => (Some(count), "us"),
        // Finer digits are cut off towards the past, also before the epoch.
        ArrowUnit::Nanosecond => (Some(count.div_euclid(1_000)), "ns"),
    };
    micros.map(Micros).ok_or(Rule::InstantRange { count, unit })
}

#[inline]
pub(crate) fn counted_instant(count: i64, unit: TimeUnit) -> Result<Micros, Rule> {
    unit.instant(count).ok_or(Rule::InstantRange { count, unit: unit_name(unit) })
}

#[inline]
pub(crate) fn finite(value: f64) -> Result<f64, Rule> {
    canonical_double(value).ok_or(Rule::NotFinite(value))
}

impl RowSource for Columns<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    #[inline]
    fn get(&self, field: usize, row: usize) -> Result<ValueRef<'_>, Rule> {
        let column = &self.columns[field];
        if column.is_null(row) {
            return Ok(ValueRef::Null);
        }
        Ok(match &column.data {
            Data::Null => ValueRef::Null,
            Data::Bool(values) => ValueRef::Bool(values.value(row)),
            Data::Int(values) => ValueRef::Int64(values.get(row)),
            Data::Float32(values) => ValueRef::Double(finite(f64::from(values[row]))?),
            Data::Float64(values) => ValueRef::Double(finite(values[row])?),
            Data::Utf8(values) => ValueRef::String(values.value(row)),
            Data::LargeUtf8(values) => ValueRef::String(values.value(row)),
            Data::Utf8View(values) => ValueRef::String(values.value(row)),
            Data::Binary(values) => ValueRef::Bytes(values.value(row)),
            Data::LargeBinary(values) => ValueRef::Bytes(values.value(row)),
            Data::BinaryView(values) => ValueRef::Bytes(values.value(row)),
            Data::Instant { counts, unit } => ValueRef::Timestamp(instant(counts[row], *unit)?),
            Data::CountedInstant { counts, unit } => {
                ValueRef::Timestamp(counted_instant(counts.get(row), *unit)?)
            }
        })
    }

    #[inline]
    fn put(&self, field: usize, row: usize, out: &mut Vec<u8>) -> Result<bool, Rule> {
        let column = &self.columns[field];
        if column.is_null(row) {
            out.push(0);
            return Ok(false);
        }
        match &column.data {
            Data::Null => {
                out.push(0);
                return Ok(false);
            }
            Data::Bool(values) => {
                out.extend_from_slice(&[FieldType::Bool as u8, u8::from(values.value(row))]);
            }
            Data::Int(values) => put_tagged_signed(out, FieldType::Int64 as u8, values.get(row)),
            Data::Float32(values) => put_double(out, f64::from(values[row]))?,
            Data::Float64(values) => put_double(out, values[row])?,
            Data::Utf8(values) => put_text(out, FieldType::String, values.value(row).as_bytes())?,
            Data::LargeUtf8(values) => {
                put_text(out, FieldType::String, values.value(row).as_bytes())?;
            }
            Data::Utf8View(values) => {
                put_text(out, FieldType::String, values.value(row).as_bytes())?;
            }
            Data::Binary(values) => put_text(out, FieldType::Bytes, values.value(row))?,
            Data::LargeBinary(values) => put_text(out, FieldType::Bytes, values.value(row))?,
            Data::BinaryView(values) => put_text(out, FieldType::Bytes, values.value(row))?,
            Data::Instant { counts, unit } => {
                put_instant(out, instant(counts[row], *unit)?);
            }
            Data::CountedInstant { counts, unit } => {
                put_instant(out, counted_instant(counts.get(row), *unit)?);
            }
        }
        Ok(true)
    }
}

#[inline]
fn put_instant(out: &mut Vec<u8>, instant: Micros) {
    put_tagged_signed(out, FieldType::Timestamp as u8, instant.0);
}

#[inline]
fn put_double(out: &mut Vec<u8>, value: f64) -> Result<(), Rule> {
    out.push(FieldType::Double as u8);
    out.extend_from_slice(&finite(value)?.to_bits().to_le_bytes());
    Ok(())
}

/// Writes a text, refusing one that no fact can hold before it is copied: views can name the same
/// megabytes for every row.
#[inline]
fn put_text(out: &mut Vec<u8>, ty: FieldType, text: &[u8]) -> Result<(), Rule> {
    if text.len() > FACT_BYTES_MAX {
        return Err(Rule::FactTooLarge(text.len()));
    }
    out.push(ty as u8);
    put_bytes(out, text);
    Ok(())
}
