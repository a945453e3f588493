//! Batches of rows in a stream's Arrow schema, with the line and sequence number of each row.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit as ArrowUnit};
use arrow_select::concat::concat;
use millrace_catalog::Stream;
use millrace_types::limits::FACT_BYTES_MAX;
use millrace_types::{FieldType, RejectReason, ValueRef};

use super::error::RowError;
use super::text::Cell;

/// The usual number of rows of a batch, rejected ones included.
pub const BATCH_ROWS: u64 = 4_096;
/// Greatest number of rows of a batch, rejected ones included.
pub const BATCH_ROWS_MAX: u64 = 16_384;
/// Bytes of values after which a batch ends: it holds at most this and one row more.
pub const BATCH_BYTES: usize = 1024 * 1024;

/// The time zone of every timestamp column.
pub(super) const UTC: &str = "UTC";

/// Rows that follow each other in a file.
#[derive(Debug)]
pub struct RowBatch {
    /// The rows that parsed, one column a field, in the order of the catalog.
    pub records: RecordBatch,
    /// The sequence number of each of them, ascending.
    pub sequences: Vec<u64>,
    /// The line of each of them.
    pub lines: Vec<u64>,
    /// The rows that did not parse.
    pub rejected: Vec<RejectedRow>,
    /// The first sequence number the batch covers.
    pub first: u64,
    /// The one after the last it covers; rejected rows have numbers too.
    pub next: u64,
}

/// A row that did not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Its sequence number.
    pub sequence: u64,
    /// Its line.
    pub line: u64,
    /// What its id field holds, where that can be read.
    pub id: Option<String>,
    /// What is wrong.
    pub error: RowError,
}

impl RejectedRow {
    /// The reason, one of the closed set that the server uses too.
    #[must_use]
    pub fn reason(&self) -> RejectReason {
        self.error.reason
    }
}

/// The Arrow schema of a stream: a nullable column for each field, in the order of the catalog.
#[must_use]
pub fn arrow_schema(stream: &Stream) -> SchemaRef {
    let columns = stream.fields.iter().map(|field| {
        let ty = match field.ty {
            FieldType::Bool => DataType::Boolean,
            FieldType::Int64 => DataType::Int64,
            FieldType::Double => DataType::Float64,
            FieldType::String => DataType::Utf8,
            FieldType::Bytes => DataType::Binary,
            FieldType::Timestamp => DataType::Timestamp(ArrowUnit::Microsecond, Some(UTC.into())),
        };
        ArrowField::new(&field.name, ty, true)
    });
    Arc::new(Schema::new(columns.collect::<Vec<_>>()))
}

/// Rows that all parse, none of them too large.
pub(super) struct WholeRows {
    /// A column a field, in the types of the stream's schema.
    pub(super) columns: Vec<ArrayRef>,
    /// What the values of each row take, in bytes.
    pub(super) sizes: Vec<usize>,
}

/// Collects rows into batches.
pub(crate) struct BatchBuilder {
    schema: SchemaRef,
    /// Columns of the rows of the batch, one part after the other.
    parts: Vec<Vec<ArrayRef>>,
    /// Rows behind them that came one by one.
    columns: Vec<Column>,
    /// How many.
    last_rows: usize,
    sequences: Vec<u64>,
    lines: Vec<u64>,
    rejected: Vec<RejectedRow>,
    first: u64,
    next: u64,
    bytes: usize,
    rows_max: u64,
}

impl BatchBuilder {
    /// Makes batches of at most `rows_max` rows, and at most [`BATCH_ROWS_MAX`].
    pub(crate) fn new(stream: &Stream, rows_max: u64) -> Self {
        Self {
            schema: arrow_schema(stream),
            parts: Vec::new(),
            columns: stream.fields.iter().map(|f| Column::new(f.ty)).collect(),
            last_rows: 0,
            sequences: Vec::new(),
            lines: Vec::new(),
            rejected: Vec::new(),
            first: 0,
            next: 0,
            bytes: 0,
            rows_max: rows_max.clamp(1, BATCH_ROWS_MAX),
        }
    }

    /// True when the batch should be taken before another row is added.
    pub(crate) fn is_full(&self) -> bool {
        self.next - self.first >= self.rows_max || self.bytes >= BATCH_BYTES
    }

    /// Adds the next row, or its rejection when it does not parse or is too large. `id` gives the
    /// text of the id field of a rejected row.
    pub(crate) fn push(
        &mut self,
        line: u64,
        row: Result<&[Cell<'_>], RowError>,
        id: impl FnOnce() -> Option<String>,
    ) {
        let sequence = self.next;
        self.next += 1;
        match row.and_then(|cells| checked_size(cells).map(|size| (cells, size))) {
            Err(error) => self.rejected.push(RejectedRow { sequence, line, id: id(), error }),
            Ok((cells, size)) => {
                self.bytes += size;
                self.last_rows += 1;
                self.sequences.push(sequence);
                self.lines.push(line);
                for (column, cell) in self.columns.iter_mut().zip(cells) {
                    column.push(cell.as_value());
                }
            }
        }
    }

    /// Adds the rows from this one on as long as the batch is not full; gives how many.
    pub(super) fn push_whole(&mut self, line: u64, rows: &WholeRows, from: usize) -> usize {
        let room = self.rows_max.saturating_sub(self.next - self.first) as usize;
        let mut taken = 0;
        for size in rows.sizes[from..].iter().take(room) {
            if self.bytes >= BATCH_BYTES {
                break;
            }
            self.bytes += size;
            taken += 1;
        }
        let count = taken as u64;
        self.sequences.extend(self.next..self.next + count);
        self.lines.extend(line..line + count);
        self.next += count;
        self.end_part();
        self.parts.push(rows.columns.iter().map(|column| column.slice(from, taken)).collect());
        taken
    }

    /// Rows that came one by one are a part of the batch now.
    fn end_part(&mut self) {
        if std::mem::take(&mut self.last_rows) > 0 {
            self.parts.push(self.columns.iter_mut().map(Column::finish).collect());
        }
    }

    /// The columns of all parts.
    fn finish(&mut self) -> Vec<ArrayRef> {
        self.end_part();
        let parts = std::mem::take(&mut self.parts);
        match parts.as_slice() {
            // No row of the batch parsed.
            [] => self.columns.iter_mut().map(Column::finish).collect(),
            [part] => part.clone(),
            parts => (0..self.columns.len()).map(|column| joined(parts, column)).collect(),
        }
    }

    /// Takes what was collected; `None` when that is nothing.
    pub(crate) fn take(&mut self) -> Option<RowBatch> {
        if self.first == self.next {
            return None;
        }
        let columns = self.finish();
        let options = RecordBatchOptions::new().with_row_count(Some(self.sequences.len()));
        let records = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .expect("columns are built by the schema's types and have one value a row");
        let first = std::mem::replace(&mut self.first, self.next);
        self.bytes = 0;
        Some(RowBatch {
            records,
            sequences: std::mem::take(&mut self.sequences),
            lines: std::mem::take(&mut self.lines),
            rejected: std::mem::take(&mut self.rejected),
            first,
            next: self.next,
        })
    }
}

/// One column of all parts.
fn joined(parts: &[Vec<ArrayRef>], column: usize) -> ArrayRef {
    let of_parts: Vec<&dyn Array> = parts.iter().map(|part| &*part[column]).collect();
    // Far below what its offsets can tell, and of one type.
    concat(&of_parts).expect("parts are built by the schema's types and hold a megabyte and a row")
}

/// The bytes of a row's values; the server would refuse a greater row anyhow.
fn checked_size(cells: &[Cell<'_>]) -> Result<usize, RowError> {
    let size = cells.iter().map(|cell| value_bytes(cell.as_value())).sum();
    if size <= FACT_BYTES_MAX {
        return Ok(size);
    }
    Err(RowError::too_large(format!(
        "the row's values take {size} bytes; a fact may have at most {FACT_BYTES_MAX}"
    )))
}

fn value_bytes(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null | ValueRef::Bool(_) => 1,
        ValueRef::Int64(_) | ValueRef::Double(_) | ValueRef::Timestamp(_) => 8,
        ValueRef::String(text) => text.len(),
        ValueRef::Bytes(bytes) => bytes.len(),
    }
}

enum Column {
    Bool(BooleanBuilder),
    Int64(Int64Builder),
    Double(Float64Builder),
    String(StringBuilder),
    Bytes(BinaryBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl Column {
    fn new(ty: FieldType) -> Self {
        match ty {
            FieldType::Bool => Self::Bool(BooleanBuilder::new()),
            FieldType::Int64 => Self::Int64(Int64Builder::new()),
            FieldType::Double => Self::Double(Float64Builder::new()),
            FieldType::String => Self::String(StringBuilder::new()),
            FieldType::Bytes => Self::Bytes(BinaryBuilder::new()),
            FieldType::Timestamp => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone(UTC))
            }
        }
    }

    /// Appends a value. A value of another type cannot come here: cells are made by the field's
    /// type; it would read as NULL.
    fn push(&mut self, value: ValueRef<'_>) {
        match (self, value) {
            (Self::Bool(column), ValueRef::Bool(v)) => column.append_value(v),
            (Self::Int64(column), ValueRef::Int64(v)) => column.append_value(v),
            (Self::Double(column), ValueRef::Double(v)) => column.append_value(v),
            (Self::String(column), ValueRef::String(v)) => column.append_value(v),
            (Self::Bytes(column), ValueRef::Bytes(v)) => column.append_value(v),
            (Self::Timestamp(column), ValueRef::Timestamp(v)) => column.append_value(v.0),
            (column, value) => {
                debug_assert!(value.is_null(), "a cell has its field's type");
                column.push_null();
            }
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Bool(column) => column.append_null(),
            Self::Int64(column) => column.append_null(),
            Self::Double(column) => column.append_null(),
            Self::String(column) => column.append_null(),
            Self::Bytes(column) => column.append_null(),
            Self::Timestamp(column) => column.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(column) => Arc::new(column.finish()),
            Self::Int64(column) => Arc::new(column.finish()),
            Self::Double(column) => Arc::new(column.finish()),
            Self::String(column) => Arc::new(column.finish()),
            Self::Bytes(column) => Arc::new(column.finish()),
            Self::Timestamp(column) => Arc::new(column.finish()),
        }
    }
}
