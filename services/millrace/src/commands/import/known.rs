//! Rows of a file with since when each was known.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;
use millrace_catalog::Stream;
use millrace_types::{KnownAt, Micros, RejectReason};

use crate::files::{Progress, ReadError, RejectedRow, RowBatch, RowError, RowReader};

/// Rows that follow each other in a file.
#[derive(Debug)]
pub(super) struct KnownRows {
    /// The rows, in the schema of their stream.
    pub(super) rows: RowBatch,
    /// Since when each was known, ascending.
    pub(super) known_at: Vec<KnownAt>,
    /// Bytes of the file that were read by then.
    pub(super) read_bytes: u64,
}

/// Reads a file of which a column says since when its rows were known. A row without that, or that is
/// not known yet, is rejected like any other bad row; one that was known before the row in front of it
/// ends the file.
#[derive(Debug)]
pub(super) struct KnownReader {
    reader: RowReader,
    input: String,
    progress: Progress,
    /// The fields of the stream; the column that says it may come after them.
    fields: usize,
    id_field: Option<usize>,
    column: usize,
    field: String,
    /// The last row that was taken: since when it was known, and its line.
    last: Option<(KnownAt, u64)>,
    /// Why no more rows come after those that were given.
    failed: Option<ReadError>,
    now: fn() -> Micros,
}

impl KnownReader {
    /// Reads rows of `stream`, and of its fields or behind them `field`, from `reader`.
    pub(super) fn new(
        reader: RowReader,
        stream: &Stream,
        field: String,
        input: String,
        progress: Progress,
        now: fn() -> Micros,
    ) -> Self {
        let fields = stream.fields.len();
        let column = stream.field(&field).unwrap_or(fields);
        let id_field = stream.id_field;
        let (last, failed) = (None, None);
        Self { reader, input, progress, fields, id_field, column, field, last, failed, now }
    }

    /// The next rows, or `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`] when the file cannot be read on, or its known_at goes back; nothing comes after it.
    pub(super) fn next(&mut self) -> Result<Option<KnownRows>, ReadError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Some(mut rows) = self.reader.next_batch()? else { return Ok(None) };
        let (known_at, keep) = self.judge(&mut rows);
        if let Some(end) = self.failed.as_ref().map(|_| keep.len()) {
            rows.next = rows.sequences[end];
            rows.rejected.retain(|row| row.sequence < rows.next);
        }
        rows.records = self.kept(&rows.records, &keep).map_err(|source| ReadError::Io {
            input: self.input.clone(),
            line: self.last.map_or(0, |(_, line)| line),
            source: std::io::Error::other(source),
        })?;
        retain(&mut rows.sequences, &keep);
        retain(&mut rows.lines, &keep);
        if rows.first == rows.next {
            return self.next();
        }
        Ok(Some(KnownRows { rows, known_at, read_bytes: self.progress.bytes() }))
    }

    /// Since when the rows were known that are taken, and whether each is, as far as the order holds.
    fn judge(&mut self, rows: &mut RowBatch) -> (Vec<KnownAt>, Vec<bool>) {
        let stated = rows.records.column(self.column).as_primitive::<TimestampMicrosecondType>();
        let now = (self.now)();
        let mut known_at = Vec::with_capacity(stated.len());
        let mut keep = Vec::with_capacity(stated.len());
        for (index, stated) in stated.iter().enumerate() {
            let line = rows.lines[index];
            let rule = match stated.map(Micros) {
                None => "is NULL: an import has to know since when a row was known".to_owned(),
                Some(stated) if stated > now => {
                    format!("the known_at {stated} lies ahead of now, {now}: nothing is known yet")
                }
                Some(stated) => {
                    if let Some(error) = self.back(stated, line) {
                        self.failed = Some(error);
                        break;
                    }
                    let stated = KnownAt(stated.0);
                    self.last = Some((stated, line));
                    known_at.push(stated);
                    keep.push(true);
                    continue;
                }
            };
            keep.push(false);
            let (field, reason) = (Some(self.field.clone()), RejectReason::BadRow);
            let error = RowError { field, reason, rule };
            let id = self.id_field.and_then(|field| id_text(&rows.records, field, index));
            let sequence = rows.sequences[index];
            rows.rejected.push(RejectedRow { sequence, line, id, error });
        }
        rows.rejected.sort_by_key(|row| row.sequence);
        (known_at, keep)
    }

    /// The error of a row that was known before the one in front of it.
    fn back(&self, known_at: Micros, line: u64) -> Option<ReadError> {
        let (before, before_line) = self.last?;
        (known_at.0 < before.0).then(|| ReadError::KnownAtBack {
            input: self.input.clone(),
            line,
            field: self.field.clone(),
            known_at,
            before: Micros(before.0),
            before_line,
        })
    }

    /// The rows that are taken, with the fields of the stream alone.
    fn kept(&self, records: &RecordBatch, keep: &[bool]) -> Result<RecordBatch, ArrowError> {
        let mut records = records.slice(0, keep.len());
        if records.num_columns() > self.fields {
            records = records.project(&(0..self.fields).collect::<Vec<_>>())?;
        }
        match keep.contains(&false) {
            true => filter_record_batch(&records, &BooleanArray::from(keep.to_vec())),
            false => Ok(records),
        }
    }
}

/// Keeps the items of the rows that are kept; what has no answer is not.
fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    items.retain(|_| keep.next() == Some(&true));
}

/// What the id field of a row holds.
fn id_text(records: &RecordBatch, field: usize, row: usize) -> Option<String> {
    let column = records.column(field);
    if column.is_null(row) {
        return None;
    }
    let text = column.as_string_opt::<i32>().map(|ids| ids.value(row).to_owned());
    text.or_else(|| Some(column.as_primitive_opt::<Int64Type>()?.value(row).to_string()))
}
