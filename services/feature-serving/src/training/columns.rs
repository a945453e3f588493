//! Values of training sets as Arrow columns.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, ListArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use millrace_catalog::{Aggregate, Feature};
use millrace_kernel::training::{Cell, Sink};
use millrace_types::{FieldType, Status, ValueRef};

/// Bytes of values after which a part of a view's columns ends.
const PART_BYTES: usize = 4 << 20;

/// Rows that a part has room for from the beginning.
const PART_ROWS: usize = 64 * 1024;

/// The Arrow type of a feature's values.
pub(crate) fn feature_type(feature: &Feature) -> DataType {
    let argument = feature.argument.map_or(DataType::Int64, |a| value_type(a.ty));
    match feature.aggregate {
        Aggregate::Count | Aggregate::CountDistinct { .. } => DataType::Int64,
        Aggregate::Mean
        | Aggregate::Variance
        | Aggregate::Stddev
        | Aggregate::ApproxPercentile { .. } => DataType::Float64,
        Aggregate::Sum
        | Aggregate::Min
        | Aggregate::Max
        | Aggregate::First
        | Aggregate::Last
        | Aggregate::Latest => argument,
        Aggregate::FirstN { .. } | Aggregate::LastN { .. } => {
            DataType::List(Arc::new(Field::new_list_field(argument, true)))
        }
        Aggregate::TopK { .. } => {
            let counted = DataType::Struct(counted_fields(argument));
            DataType::List(Arc::new(Field::new_list_field(counted, false)))
        }
    }
}

/// The Arrow type of a field's values.
pub(crate) fn value_type(ty: FieldType) -> DataType {
    match ty {
        FieldType::Bool => DataType::Boolean,
        FieldType::Int64 => DataType::Int64,
        FieldType::Double => DataType::Float64,
        FieldType::String => DataType::Utf8,
        FieldType::Bytes => DataType::Binary,
        FieldType::Timestamp => instant_type(),
    }
}

/// Microseconds since the epoch, UTC.
pub(crate) fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn counted_fields(value: DataType) -> Fields {
    let value = Field::new("value", value, false);
    Fields::from(vec![value, Field::new("count", DataType::Int64, false)])
}

/// A column of scalars that grows.
#[derive(Debug)]
enum Scalars {
    Bool(BooleanBuilder),
    Int64(Int64Builder),
    Double(Float64Builder),
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
    Instant(TimestampMicrosecondBuilder),
}

impl Scalars {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
    fn new(ty: &DataType, rows: usize) -> Self {
        match ty {
            DataType::Boolean => Self::Bool(BooleanBuilder::with_capacity(rows)),
            DataType::Float64 => Self::Double(Float64Builder::with_capacity(rows)),
            DataType::Utf8 => Self::Utf8(StringBuilder::with_capacity(rows, 8 * rows)),
            DataType::Binary => Self::Binary(BinaryBuilder::with_capacity(rows, 8 * rows)),
            DataType::Timestamp(..) => {
                Self::Instant(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"))
            }
            _ => Self::Int64(Int64Builder::with_capacity(rows)),
        }
    }

    /// Appends a value, and gives its size beyond a fixed one. One of another type than the column's,
    /// which no kernel gives, is NULL.
    #[inline]
    fn push(&mut self, value: ValueRef<'_>) -> usize {
        match (self, value) {
            (Self::Bool(to), ValueRef::Bool(value)) => to.append_value(value),
            (Self::Int64(to), ValueRef::Int64(value)) => to.append_value(value),
            (Self::Double(to), ValueRef::Double(value)) => to.append_value(value),
            (Self::Instant(to), ValueRef::Timestamp(value)) => to.append_value(value.0),
            (Self::Utf8(to), ValueRef::String(value)) => {
                to.append_value(value);
                return value.len();
            }
            (Self::Binary(to), ValueRef::Bytes(value)) => {
                to.append_value(value);
                return value.len();
            }
            (to, other) => {
                debug_assert!(other.is_null(), "{other:?} is no value of {to:?}");
                to.push_null();
            }
        }
        0
    }

    fn push_null(&mut self) {
        match self {
            Self::Bool(to) => to.append_null(),
            Self::Int64(to) => to.append_null(),
            Self::Double(to) => to.append_null(),
            Self::Utf8(to) => to.append_null(),
            Self::Binary(to) => to.append_null(),
            Self::Instant(to) => to.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(from) => Arc::new(from.finish()),
            Self::Int64(from) => Arc::new(from.finish()),
            Self::Double(from) => Arc::new(from.finish()),
            Self::Utf8(from) => Arc::new(from.finish()),
            Self::Binary(from) => Arc::new(from.finish()),
            Self::Instant(from) => Arc::new(from.finish()),
        }
    }
}

/// A column of a feature that grows.
#[derive(Debug)]
struct Column {
    ty: DataType,
    values: Scalars,
    /// Of lists: where each ends, and whether it is there.
    ends: Vec<i32>,
    valid: Vec<bool>,
    /// Of counted values: their counts.
    counts: Int64Builder,
}

impl Column {
    fn new(ty: DataType, rows: usize) -> Self {
        let values = Scalars::new(scalar_of(&ty), rows);
        Self { ty, values, ends: Vec::new(), valid: Vec::new(), counts: Int64Builder::new() }
    }

    fn is_list(&self) -> bool {
        matches!(self.ty, DataType::List(_))
    }

    #[inline]
    fn push(&mut self, cell: Cell<'_>) -> usize {
        match cell {
            Cell::Scalar(value) if !self.is_list() => self.values.push(value),
            Cell::Scalar(_) => self.end_list(0, false, 0),
            Cell::List(values) => {
                let beyond = values.iter().map(|value| self.values.push(*value)).sum();
                self.end_list(values.len(), true, beyond)
            }
            Cell::Counted(values) => {
                let mut beyond = 0;
                for (value, rows) in &values {
                    beyond += self.values.push(*value);
                    self.counts.append_value(i64::try_from(*rows).unwrap_or(i64::MAX));
                }
                self.end_list(values.len(), true, beyond)
            }
        }
    }

    fn end_list(&mut self, len: usize, valid: bool, beyond: usize) -> usize {
        // A part ends long before its values could be too many to count.
        let end = self.ends.last().copied().unwrap_or(0).saturating_add(len as i32);
        self.ends.push(end);
        self.valid.push(valid);
        beyond + 16 * len
    }

    fn finish(&mut self) -> ArrayRef {
        let values = self.values.finish();
        let DataType::List(item) = &self.ty else { return values };
        let items: ArrayRef = if let DataType::Struct(fields) = item.data_type() {
            let counts = Arc::new(self.counts.finish());
            Arc::new(StructArray::new(fields.clone(), vec![values, counts], None))
        } else {
            values
        };
        let ends = std::mem::take(&mut self.ends);
        let offsets = OffsetBuffer::new(std::iter::once(0).chain(ends).collect());
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        Arc::new(ListArray::new(item.clone(), offsets, items, Some(nulls)))
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
fn scalar_of(ty: &DataType) -> &DataType {
    match ty {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields[0].data_type(),
            scalar => scalar,
        },
        scalar => scalar,
    }
}

/// Rows of a view, in parts of bounded size: each has the columns of its features and its number of
/// rows.
#[derive(Debug)]
pub(crate) struct ViewColumns {
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
    parts: Vec<Part>,
    /// Bytes of the parts that ended, about.
    ended: usize,
}

/// A part of a view's rows.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) rows: usize,
}

impl ViewColumns {
    /// Columns of these types, for so many rows.
    pub(crate) fn new(types: impl IntoIterator<Item = DataType>, rows: usize) -> Self {
        let rows = rows.min(PART_ROWS);
        let columns = types.into_iter().map(|ty| Column::new(ty, rows)).collect();
        Self { columns, rows: 0, bytes: 0, parts: Vec::new(), ended: 0 }
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.ended + self.bytes
    }

    fn end_part(&mut self) {
        if self.rows > 0 {
            let columns = self.columns.iter_mut().map(Column::finish).collect();
            self.parts.push(Part { columns, rows: self.rows });
            self.ended += self.bytes;
        }
        (self.rows, self.bytes) = (0, 0);
    }

    /// The parts.
    pub(crate) fn finish(mut self) -> Vec<Part> {
        self.end_part();
        self.parts
    }
}

impl Sink for ViewColumns {
    #[inline]
    fn cell(&mut self, feature: usize, cell: Cell<'_>, _status: Status) {
        self.bytes += 9 + self.columns[feature].push(cell);
        if feature + 1 == self.columns.len() {
            self.rows += 1;
            if self.bytes >= PART_BYTES {
                self.end_part();
            }
        }
    }
}
