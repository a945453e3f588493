//! Lists of training sets as Arrow columns.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, ListArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, FieldRef};
use millrace_kernel::training::Cell;
use millrace_types::{FieldType, ValueRef};

use super::columns::field_type;

/// The values of lists.
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
    fn new(ty: FieldType) -> Self {
        match ty {
            FieldType::Bool => Self::Bool(BooleanBuilder::new()),
            FieldType::Int64 => Self::Int64(Int64Builder::new()),
            FieldType::Double => Self::Double(Float64Builder::new()),
            FieldType::String => Self::Utf8(StringBuilder::new()),
            FieldType::Bytes => Self::Binary(BinaryBuilder::new()),
            FieldType::Timestamp => {
                Self::Instant(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
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

/// A column of lists that grows.
#[derive(Debug)]
pub(super) struct ListColumn {
    item: FieldRef,
    values: Scalars,
    /// Where each list ends, and whether it is there.
    ends: Vec<i32>,
    valid: Vec<bool>,
    /// Of counted values: their counts.
    counts: Int64Builder,
}

impl ListColumn {
    /// A column of lists of such items: values, or values with their counts.
    pub(super) fn new(item: FieldRef) -> Self {
        let ty = if let DataType::Struct(fields) = item.data_type() {
            field_type(fields[0].data_type())
        } else {
            field_type(item.data_type())
        };
        let (values, counts) = (Scalars::new(ty), Int64Builder::new());
        Self { item, values, ends: Vec::new(), valid: Vec::new(), counts }
    }

    /// Appends a list, and gives its size in bytes, about.
    pub(super) fn push(&mut self, cell: Cell<'_>) -> usize {
        match cell {
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

    /// The lists; it goes on empty.
    pub(super) fn finish(&mut self) -> ArrayRef {
        let values = self.values.finish();
        let items: ArrayRef = if let DataType::Struct(fields) = self.item.data_type() {
            let counts = Arc::new(self.counts.finish());
            Arc::new(StructArray::new(fields.clone(), vec![values, counts], None))
        } else {
            values
        };
        let ends = std::mem::take(&mut self.ends);
        let offsets = OffsetBuffer::new(std::iter::once(0).chain(ends).collect());
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        Arc::new(ListArray::new(Arc::clone(&self.item), offsets, items, Some(nulls)))
    }
}
