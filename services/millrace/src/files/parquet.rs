//! Parquet: the columns of a stream's fields, row group by row group.
//!
//! Columns are read by their Parquet types (an Arrow schema that the writer embedded is not looked
//! at), so dictionaries, views and large strings all arrive as plain columns.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit as ArrowUnit};
use millrace_catalog::{Field, Stream};
use millrace_types::value::canonical_double;
use millrace_types::{FieldType, Micros, ValueRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::errors::ParquetError;

use super::RowSource;
use super::batch::{BATCH_ROWS, BatchBuilder, RowBatch, WholeRows};
use super::columns::match_columns;
use super::error::{CellError, ReadError, RowError};
use super::guard;
use super::source::{Input, Progress, open_file};
use super::text::{self, Cell};
pub(crate) use pages::ParquetFile;

mod bounded;
mod pages;
mod whole;

pub(crate) struct ParquetReader {
    input: String,
    reader: ParquetRecordBatchReader,
    stream: Stream,
    /// The column of each field among those read.
    columns: Vec<usize>,
    batch: BatchBuilder,
    pending: Option<Pending>,
    row: u64,
    progress: Progress,
    rows: u64,
    bytes: u64,
}

/// Rows of the file that were read but not yet put in a batch.
struct Pending {
    /// By field.
    arrays: Vec<ArrayRef>,
    /// All of them, where each parses.
    whole: Option<WholeRows>,
    /// The first that is in no batch yet.
    start: usize,
    rows: usize,
}

impl ParquetReader {
    pub(crate) fn open(
        input: &Input,
        stream: &Stream,
        rows_max: u64,
        progress: &Progress,
    ) -> Result<Self, ReadError> {
        let path = input.path().ok_or(ReadError::ParquetStdin)?;
        let file = open_file(path)?;
        let bytes = file.metadata().map_or(0, |m| m.len());
        let input = input.to_string();
        let failed = |source| parquet_error(&input, 0, source);
        let opened = guarded(|| ParquetFile::open(file)).map_err(failed)?;
        let schema = opened.schema();
        let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        let columns = match_columns(&input, stream, &names)?;
        for (field, column) in stream.fields.iter().zip(&columns) {
            let found = schema.field(*column).data_type();
            if !fits(field.ty, found) {
                return Err(ReadError::ColumnType {
                    input: input.clone(),
                    stream: stream.name.clone(),
                    column: field.name.clone(),
                    found: found.to_string(),
                    wanted: field.ty,
                    advice: advice(field.ty),
                });
            }
        }
        let mask = ProjectionMask::roots(opened.parquet_schema(), columns.iter().copied());
        let rows = opened.rows();
        let reader = guarded(|| opened.read(mask, BATCH_ROWS as usize)).map_err(failed)?;
        // The columns read keep the order of the file.
        let mut read = columns.clone();
        read.sort_unstable();
        let place = |column: &usize| read.partition_point(|c| c < column);
        Ok(Self {
            columns: columns.iter().map(place).collect(),
            batch: BatchBuilder::new(stream, rows_max),
            stream: stream.clone(),
            pending: None,
            row: 0,
            progress: progress.clone(),
            input,
            reader,
            rows,
            bytes,
        })
    }

    /// Takes rows that were read.
    fn pend(&mut self, records: &RecordBatch) {
        let arrays: Vec<ArrayRef> =
            self.columns.iter().map(|column| widened(records.column(*column))).collect();
        let whole = whole::whole(&self.stream, &arrays);
        self.pending = Some(Pending { arrays, whole, start: 0, rows: records.num_rows() });
    }

    /// Puts pending rows in the batch until one of the two is exhausted.
    fn push_pending(&mut self) {
        let Some(mut pending) = self.pending.take() else { return };
        match &pending.whole {
            Some(rows) => {
                let taken = self.batch.push_whole(self.row + 1, rows, pending.start);
                pending.start += taken;
                self.row += taken as u64;
            }
            None => {
                while pending.start < pending.rows && !self.batch.is_full() {
                    self.push_row(&pending.arrays, pending.start);
                    pending.start += 1;
                }
            }
        }
        if pending.start < pending.rows {
            self.pending = Some(pending);
        }
        // Rows stand for bytes: columns are not read in the order of the file.
        self.progress.set((self.bytes as f64 * (self.row as f64 / self.rows.max(1) as f64)) as u64);
    }

    fn push_row(&mut self, arrays: &[ArrayRef], index: usize) {
        self.row += 1;
        let fields = &self.stream.fields;
        let cells: Result<Vec<_>, _> = fields
            .iter()
            .zip(arrays)
            .map(|(field, array)| {
                cell(field, array, index).map_err(|e| RowError::cell(&field.name, &e))
            })
            .collect();
        let id = || {
            let field = self.stream.id_field?;
            cell(&fields[field], &arrays[field], index)
                .ok()
                .and_then(|cell| id_text(cell.as_value()))
        };
        self.batch.push(self.row, cells.as_deref().map_err(Clone::clone), id);
    }
}

impl RowSource for ParquetReader {
    fn next_batch(&mut self) -> Result<Option<RowBatch>, ReadError> {
        while !self.batch.is_full() {
            if self.pending.is_none() {
                let read = guarded(|| Ok(self.reader.next().transpose()?));
                match read.map_err(|source| parquet_error(&self.input, self.row, source))? {
                    None => break,
                    Some(records) => self.pend(&records),
                }
            }
            self.push_pending();
        }
        Ok(self.batch.take())
    }
}

/// Calls the library that reads Parquet; what it panics on is an error of the file.
pub(crate) fn guarded<T>(
    read: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, ParquetError> {
    guard::guarded(read, ParquetError::General)
}

fn parquet_error(
    input: &str,
    row: u64,
    source: impl std::error::Error + Send + Sync + 'static,
) -> ReadError {
    ReadError::Parquet { input: input.to_owned(), row, source: Box::new(source) }
}

/// Whether a column of this type may hold values of a field of that type.
fn fits(wanted: FieldType, found: &DataType) -> bool {
    match wanted {
        FieldType::Bool => matches!(found, DataType::Boolean),
        FieldType::Int64 => found.is_integer(),
        FieldType::Double => matches!(found, DataType::Float32 | DataType::Float64),
        FieldType::String => matches!(found, DataType::Utf8),
        FieldType::Bytes => matches!(found, DataType::Binary | DataType::FixedSizeBinary(_)),
        FieldType::Timestamp => {
            found.is_integer() || matches!(found, DataType::Timestamp(_, _) | DataType::Utf8)
        }
    }
}

fn advice(wanted: FieldType) -> &'static str {
    match wanted {
        FieldType::Bool => "boolean",
        FieldType::Int64 => "an integer",
        FieldType::Double => "double",
        FieldType::String => "a string",
        FieldType::Bytes => "binary",
        FieldType::Timestamp => "a timestamp, an RFC 3339 string or an integer",
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
/// Integers but `UInt64` as `Int64`, floats as `Float64`; all else as it is.
pub(crate) fn widened(array: &ArrayRef) -> ArrayRef {
    fn to_int64<T: ArrowPrimitiveType>(array: &ArrayRef) -> ArrayRef
    where
        i64: From<T::Native>,
    {
        Arc::new(array.as_primitive::<T>().unary::<_, Int64Type>(i64::from))
    }
    match array.data_type() {
        DataType::Int8 => to_int64::<Int8Type>(array),
        DataType::Int16 => to_int64::<Int16Type>(array),
        DataType::Int32 => to_int64::<Int32Type>(array),
        DataType::UInt8 => to_int64::<UInt8Type>(array),
        DataType::UInt16 => to_int64::<UInt16Type>(array),
        DataType::UInt32 => to_int64::<UInt32Type>(array),
        DataType::Float32 => {
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float64Type>(f64::from))
        }
        _ => array.clone(),
    }
}

/// The value of a row of a column that [`fits`] and is [`widened`].
fn cell<'a>(field: &Field, array: &'a ArrayRef, row: usize) -> Result<Cell<'a>, CellError> {
    if array.is_null(row) {
        return Ok(Cell::NULL);
    }
    let value = match (field.ty, array.data_type()) {
        (FieldType::Bool, _) => ValueRef::Bool(array.as_boolean().value(row)),
        (FieldType::Int64, _) => ValueRef::Int64(integer(array, row)?),
        (FieldType::Double, _) => ValueRef::Double(double(array, row)?),
        (FieldType::String, _) => ValueRef::String(array.as_string::<i32>().value(row)),
        (FieldType::Bytes, DataType::FixedSizeBinary(_)) => {
            ValueRef::Bytes(array.as_fixed_size_binary().value(row))
        }
        (FieldType::Bytes, _) => ValueRef::Bytes(array.as_binary::<i32>().value(row)),
        (FieldType::Timestamp, DataType::Timestamp(unit, _)) => {
            ValueRef::Timestamp(instant(array, *unit, row)?)
        }
        (FieldType::Timestamp, DataType::Utf8) => {
            ValueRef::Timestamp(text::instant(array.as_string::<i32>().value(row), field.unit)?)
        }
        (FieldType::Timestamp, _) => {
            ValueRef::Timestamp(text::count(integer(array, row)?, field.unit)?)
        }
    };
    Ok(Cell::Borrowed(value))
}

fn integer(array: &ArrayRef, row: usize) -> Result<i64, CellError> {
    match array.as_primitive_opt::<UInt64Type>() {
        None => Ok(array.as_primitive::<Int64Type>().value(row)),
        Some(unsigned) => {
            let value = unsigned.value(row);
            i64::try_from(value).map_err(|_| CellError::Int64Range(value.to_string()))
        }
    }
}

fn double(array: &ArrayRef, row: usize) -> Result<f64, CellError> {
    let value = array.as_primitive::<Float64Type>().value(row);
    canonical_double(value).ok_or_else(|| CellError::NotFinite(value.to_string()))
}

/// Instants in any unit; digits finer than a microsecond are cut off towards the past.
fn instant(array: &ArrayRef, unit: ArrowUnit, row: usize) -> Result<Micros, CellError> {
    let (count, name) = match unit {
        ArrowUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), "seconds"),
        ArrowUnit::Millisecond => {
            (array.as_primitive::<TimestampMillisecondType>().value(row), "milliseconds")
        }
        ArrowUnit::Microsecond => {
            (array.as_primitive::<TimestampMicrosecondType>().value(row), "microseconds")
        }
        ArrowUnit::Nanosecond => {
            (array.as_primitive::<TimestampNanosecondType>().value(row), "nanoseconds")
        }
    };
    micros(unit, count)
        .map(Micros)
        .ok_or_else(|| CellError::TimestampRange { text: count.to_string(), unit: name })
}

/// The microseconds of a count in a unit, where they fit.
fn micros(unit: ArrowUnit, count: i64) -> Option<i64> {
    match unit {
        ArrowUnit::Second => count.checked_mul(1_000_000),
        ArrowUnit::Millisecond => count.checked_mul(1_000),
        ArrowUnit::Microsecond => Some(count),
        ArrowUnit::Nanosecond => Some(count.div_euclid(1_000)),
    }
}

fn id_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::String(text) => Some(text.to_owned()),
        ValueRef::Int64(number) => Some(number.to_string()),
        ValueRef::Null
        | ValueRef::Bool(_)
        | ValueRef::Double(_)
        | ValueRef::Bytes(_)
        | ValueRef::Timestamp(_) => None,
    }
}
