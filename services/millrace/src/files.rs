//! Rows read from files: CSV, NDJSON and Parquet to Arrow record batches in a stream's schema.
//!
//! Everything here is synchronous and bounded: a reader holds one record and one batch at a time
//! (at most [`BATCH_ROWS_MAX`] rows or about [`BATCH_BYTES`] bytes of values), so it belongs on a
//! blocking thread behind a bounded channel. Each row keeps the line it came from (a CSV record's
//! first physical line, an NDJSON line, a Parquet row, all from 1), and a row that does not parse
//! becomes a [`RejectedRow`] with its field and rule while the rest goes on.
//!
//! Rules of text and JSON values (semantics §3): nothing is coerced from one type to another.
//!
//! | type | CSV cell | JSON value | Parquet column |
//! |---|---|---|---|
//! | bool | `true`, `false` in any case | `true`, `false` | boolean |
//! | int64 | digits with an optional sign | integer | any integer |
//! | double | decimal text, to the nearest double | number | float, double |
//! | string | the text | string | string |
//! | bytes | base64 | base64 in a string | binary |
//! | timestamp | RFC 3339 with an offset or `Z`, or an integer in the field's unit | the same, as string or integer | timestamp (without a zone: UTC), string, integer |

mod arrow;
mod batch;
mod columns;
mod csv;
mod error;
mod format;
mod guard;
mod json;
mod ndjson;
mod parquet;
mod source;
mod text;

pub(crate) use arrow::ArrowFile;
pub use batch::{BATCH_BYTES, BATCH_ROWS, BATCH_ROWS_MAX, RejectedRow, RowBatch, arrow_schema};
pub use error::{CellError, ReadError, RowError};
pub use format::Format;
pub(crate) use json::names as json_names;
pub(crate) use parquet::{ParquetFile, guarded, widened};
pub(crate) use source::open_text;
pub use source::{ContentHash, Input, Progress, hash_content};
pub(crate) use text::BASE64;

use millrace_catalog::Stream;

/// Greatest size of one CSV record or NDJSON line, ignored columns included, in bytes.
const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A reader of one file for one stream. Iterates over batches; ends after the first error.
pub struct RowReader(Box<dyn RowSource + Send>);

/// What the readers of the three formats have in common.
trait RowSource {
    /// The next batch, or `None` at the end.
    fn next_batch(&mut self) -> Result<Option<RowBatch>, ReadError>;
}

impl RowReader {
    /// Opens `input` and checks, before any row is read, that it has a column for every field of
    /// the stream. Batches have at most `rows_max` rows, and at most [`BATCH_ROWS_MAX`]; `progress`
    /// counts what has been read.
    ///
    /// # Errors
    /// [`ReadError`] when the input cannot be opened, is not of this format, lacks a column or has
    /// a column of a type that does not fit.
    pub fn open(
        input: &Input,
        format: Format,
        stream: &Stream,
        rows_max: u64,
        progress: &Progress,
    ) -> Result<Self, ReadError> {
        Ok(Self(match format {
            Format::Csv => Box::new(csv::CsvReader::open(input, stream, rows_max, progress)?),
            Format::Ndjson => {
                Box::new(ndjson::NdjsonReader::open(input, stream, rows_max, progress)?)
            }
            Format::Parquet => {
                Box::new(parquet::ParquetReader::open(input, stream, rows_max, progress)?)
            }
        }))
    }

    /// Opens an NDJSON file whose lines have these fields and no others. Those named in `any` are strings
    /// that hold any JSON value: the text of a string, and the JSON of all else.
    ///
    /// # Errors
    /// [`ReadError`] when the input cannot be opened.
    pub(crate) fn open_ndjson(
        input: &Input,
        stream: &Stream,
        any: &[String],
        rows_max: u64,
        progress: &Progress,
    ) -> Result<Self, ReadError> {
        let reader = ndjson::NdjsonReader::open(input, stream, rows_max, progress)?;
        Ok(Self(Box::new(reader.of_a_spine(any))))
    }

    /// The next batch, or `None` at the end. A batch covers the sequence numbers that follow the
    /// batch before it.
    ///
    /// # Errors
    /// [`ReadError`] when the input cannot be read on; nothing comes after it.
    pub fn next_batch(&mut self) -> Result<Option<RowBatch>, ReadError> {
        self.0.next_batch()
    }
}

impl std::fmt::Debug for RowReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowReader")
    }
}

#[cfg(test)]
mod tests;
