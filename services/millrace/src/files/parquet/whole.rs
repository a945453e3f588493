//! Rows that all parse, column by column: most files have nothing else. Where one value of some rows is none,
//! or is text that has to be read, these rows are read one by one.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow_array::{Array, ArrayRef, PrimitiveArray};
use arrow_schema::{DataType, TimeUnit as ArrowUnit};
use millrace_catalog::{Field, Stream};
use millrace_types::FieldType;
use millrace_types::limits::FACT_BYTES_MAX;
use millrace_types::value::canonical_double;

use super::micros;
use crate::files::batch::{UTC, WholeRows};
use crate::files::text;

/// A value that is none.
struct NoValue;

/// The rows of these columns, which fit the fields of a stream and are widened; `None` where one of them has
/// to be looked at by itself.
pub(super) fn whole(stream: &Stream, arrays: &[ArrayRef]) -> Option<WholeRows> {
    let columns: Option<Vec<ArrayRef>> =
        stream.fields.iter().zip(arrays).map(|(field, array)| column(field, array)).collect();
    let columns = columns?;
    let mut sizes = vec![0_usize; columns.first().map_or(0, Array::len)];
    for column in &columns {
        add_sizes(column, &mut sizes)?;
    }
    let fits = sizes.iter().all(|size| *size <= FACT_BYTES_MAX);
    fits.then_some(WholeRows { columns, sizes })
}

/// A column in the type that its field has in a batch.
fn column(field: &Field, array: &ArrayRef) -> Option<ArrayRef> {
    match (field.ty, array.data_type()) {
        (FieldType::Bool, DataType::Boolean)
        | (FieldType::String, DataType::Utf8)
        | (FieldType::Bytes, DataType::Binary) => Some(array.clone()),
        (FieldType::Int64, _) => integers(array),
        (FieldType::Double, _) => {
            let doubles = array.as_primitive_opt::<Float64Type>()?;
            let canonical = |value| canonical_double(value).ok_or(NoValue);
            Some(Arc::new(doubles.try_unary::<_, Float64Type, _>(canonical).ok()?))
        }
        (FieldType::Timestamp, DataType::Timestamp(unit, _)) => instants(array, *unit),
        (FieldType::Timestamp, DataType::Int64 | DataType::UInt64) => {
            let counts = integers(array)?;
            let instant = |count| text::count(count, field.unit).map(|at| at.0);
            let instants = counts.as_primitive::<Int64Type>().try_unary(instant).ok()?;
            Some(utc(instants))
        }
        // Text has to be read, and bytes of a fixed size are rare.
        (FieldType::Bool | FieldType::String | FieldType::Bytes | FieldType::Timestamp, _) => None,
    }
}

fn integers(array: &ArrayRef) -> Option<ArrayRef> {
    match array.as_primitive_opt::<UInt64Type>() {
        None => array.as_primitive_opt::<Int64Type>().map(|_| array.clone()),
        Some(unsigned) => {
            let signed = unsigned.try_unary::<_, Int64Type, _>(i64::try_from);
            Some(Arc::new(signed.ok()?))
        }
    }
}

fn instants(array: &ArrayRef, unit: ArrowUnit) -> Option<ArrayRef> {
    let at = |count| micros(unit, count).ok_or(NoValue);
    let instants = match unit {
        ArrowUnit::Second => array.as_primitive::<TimestampSecondType>().try_unary(at),
        ArrowUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().try_unary(at),
        ArrowUnit::Microsecond => Ok(array.as_primitive::<TimestampMicrosecondType>().clone()),
        ArrowUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().try_unary(at),
    };
    instants.ok().map(utc)
}

fn utc(instants: PrimitiveArray<TimestampMicrosecondType>) -> ArrayRef {
    Arc::new(instants.with_timezone(UTC))
}

/// Adds what the values of a column take to the size of each row, as rows that are read one by one count it.
fn add_sizes(column: &ArrayRef, sizes: &mut [usize]) -> Option<()> {
    let strings = column.as_string_opt::<i32>().map(|strings| strings.value_offsets());
    let lengths =
        strings.or_else(|| column.as_binary_opt::<i32>().map(|bytes| bytes.value_offsets()));
    let width = if *column.data_type() == DataType::Boolean { 1 } else { 8 };
    match lengths {
        Some(offsets) => {
            for (size, pair) in sizes.iter_mut().zip(offsets.windows(2)) {
                *size += usize::try_from(pair[1] - pair[0]).ok()?;
            }
        }
        None => sizes.iter_mut().for_each(|size| *size += width),
    }
    if let Some(nulls) = column.nulls() {
        for (row, size) in sizes.iter_mut().enumerate().filter(|(row, _)| nulls.is_null(*row)) {
            let counted = lengths.map_or(width, |at| (at[row + 1] - at[row]) as usize);
            *size = *size - counted + 1;
        }
    }
    Some(())
}
