//! What the encoder asks of the rows of a batch, whatever form they came in.

use millrace_types::ValueRef;
use millrace_types::limits::FACT_BYTES_MAX;
use millrace_types::row::put_value;

use crate::reject::Rule;

/// Rows whose values are read by the index of the field in the stream. Every value has the type of
/// its field; doubles are finite and never −0.0.
pub(crate) trait RowSource {
    /// The number of rows.
    fn rows(&self) -> usize;

    /// A value; NULL where there is none.
    ///
    /// # Errors
    /// [`Rule`] when what stands there is no value of the field.
    fn get(&self, field: usize, row: usize) -> Result<ValueRef<'_>, Rule>;

    /// Appends a value as rows hold it; false when it is NULL.
    ///
    /// # Errors
    /// As [`RowSource::get`], and [`Rule::FactTooLarge`] for a text that no fact can hold; `out`
    /// then ends with part of the value.
    fn put(&self, field: usize, row: usize, out: &mut Vec<u8>) -> Result<bool, Rule> {
        let value = self.get(field, row)?;
        let bytes = match value {
            ValueRef::String(text) => text.len(),
            ValueRef::Bytes(bytes) => bytes.len(),
            ValueRef::Null
            | ValueRef::Bool(_)
            | ValueRef::Int64(_)
            | ValueRef::Double(_)
            | ValueRef::Timestamp(_) => 0,
        };
        if bytes > FACT_BYTES_MAX {
            return Err(Rule::FactTooLarge(bytes));
        }
        put_value(out, value);
        Ok(!value.is_null())
    }
}
