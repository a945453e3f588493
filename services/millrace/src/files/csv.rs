//! CSV: RFC 4180 with a header row. Quotes follow the RFC; blank lines are skipped; records end
//! with CRLF, LF or CR.

use std::io::{self, BufRead};

use csv_core::ReadRecordResult;
use millrace_catalog::Stream;

use super::batch::{BatchBuilder, RowBatch};
use super::columns::match_columns;
use super::error::{ReadError, RowError};
use super::source::{Input, Progress, fill, open_text};
use super::text;
use super::{RECORD_BYTES_MAX, RowSource};

/// Greatest number of cells of a record.
const CELLS_MAX: usize = 16_384;

pub(crate) struct CsvReader {
    input: String,
    records: Records,
    layout: Layout,
    batch: BatchBuilder,
}

/// Where the fields of the stream stand in a record.
struct Layout {
    stream: Stream,
    /// The column of each field.
    columns: Vec<usize>,
    /// Cells of the header.
    width: usize,
}

impl CsvReader {
    pub(crate) fn open(
        input: &Input,
        stream: &Stream,
        rows_max: u64,
        progress: &Progress,
    ) -> Result<Self, ReadError> {
        Self::new(input.to_string(), open_text(input, progress)?, stream, rows_max)
    }

    pub(crate) fn new(
        input: String,
        reader: Box<dyn BufRead + Send>,
        stream: &Stream,
        rows_max: u64,
    ) -> Result<Self, ReadError> {
        let mut records = Records::new(reader);
        let header = records
            .read()
            .map_err(|source| ReadError::Open { input: input.clone(), source })?
            .ok_or_else(|| ReadError::NoHeader { input: input.clone() })?;
        let names: Vec<String> = (0..header.cells)
            .map(|index| String::from_utf8_lossy(records.cell(index)).into_owned())
            .collect();
        let columns = match_columns(&input, stream, &names)?;
        let layout = Layout { stream: stream.clone(), columns, width: names.len() };
        Ok(Self { batch: BatchBuilder::new(stream, rows_max), layout, input, records })
    }
}

impl Layout {
    /// The cells of the fields, in field order.
    fn cells<'a>(
        &self,
        records: &'a Records,
        record: Record,
    ) -> Result<Vec<text::Cell<'a>>, RowError> {
        if record.too_long {
            return Err(RowError::too_large(format!(
                "the record takes more than {RECORD_BYTES_MAX} bytes or {CELLS_MAX} cells; is a \
                 quote left open?"
            )));
        }
        if record.unclosed {
            return Err(RowError::row("a quote is not closed before the end of the file"));
        }
        if record.cells != self.width {
            let (found, wanted) = (record.cells, self.width);
            return Err(RowError::row(format!(
                "it has {found} cells where the header has {wanted}"
            )));
        }
        let fields = self.stream.fields.iter().zip(&self.columns);
        fields
            .map(|(field, column)| {
                text::cell(field, records.cell(*column))
                    .map_err(|e| RowError::cell(&field.name, &e))
            })
            .collect()
    }

    /// What the id field holds, where that can be read.
    fn id(&self, records: &Records, record: Record) -> Option<String> {
        let column = self.columns[self.stream.id_field?];
        let cell = (column < record.cells).then(|| records.cell(column))?;
        let text = std::str::from_utf8(cell).ok()?;
        (!text.is_empty()).then(|| text.to_owned())
    }
}

impl RowSource for CsvReader {
    fn next_batch(&mut self) -> Result<Option<RowBatch>, ReadError> {
        while !self.batch.is_full() {
            let line = self.records.line();
            match self.records.read() {
                Ok(Some(record)) => {
                    let cells = self.layout.cells(&self.records, record);
                    let row = cells.as_deref().map_err(Clone::clone);
                    self.batch.push(record.line, row, || self.layout.id(&self.records, record));
                }
                Ok(None) => break,
                Err(source) => {
                    return Err(ReadError::Io { input: self.input.clone(), line, source });
                }
            }
        }
        Ok(self.batch.take())
    }
}

/// A record that stands in [`Records`].
#[derive(Debug, Clone, Copy)]
struct Record {
    /// The physical line on which it starts, from 1.
    line: u64,
    cells: usize,
    too_long: bool,
    unclosed: bool,
}

/// Splits bytes into records and cells, one record at a time.
struct Records {
    reader: Box<dyn BufRead + Send>,
    core: csv_core::Reader,
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    fn new(reader: Box<dyn BufRead + Send>) -> Self {
        let core = csv_core::Reader::new();
        Self { reader, core, data: vec![0; 4096], ends: vec![0; 64] }
    }

    /// The line after those read.
    fn line(&self) -> u64 {
        self.core.line()
    }

    /// The bytes of a cell of the last record, unquoted.
    fn cell(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.data[start..self.ends[index]]
    }

    fn read(&mut self) -> io::Result<Option<Record>> {
        self.skip_blank_lines()?;
        let mut record =
            Record { line: self.core.line(), cells: 0, too_long: false, unclosed: false };
        let (mut length, mut quotes) = (0, 0usize);
        loop {
            let input = fill(&mut self.reader)?;
            let at_end = input.is_empty();
            let (data, ends) = (&mut self.data[length..], &mut self.ends[record.cells..]);
            let (result, read, written, cells) = self.core.read_record(input, data, ends);
            quotes += input[..read].iter().filter(|b| **b == b'"').count();
            self.reader.consume(read);
            length += written;
            record.cells += cells;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.data.len() < RECORD_BYTES_MAX => {
                    self.data.resize(self.data.len() * 2, 0);
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() < CELLS_MAX => {
                    self.ends.resize(self.ends.len() * 2, 0);
                }
                // The rest of an oversized record is read over what came before.
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    record.too_long = true;
                    (length, record.cells) = (0, 0);
                }
                ReadRecordResult::Record => {
                    record.unclosed = at_end && quotes % 2 == 1;
                    if record.too_long {
                        record.cells = 0; // what is left of it means nothing
                    }
                    return Ok(Some(record));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Moves to the start of the next record, so that its line is known.
    fn skip_blank_lines(&mut self) -> io::Result<()> {
        loop {
            let input = fill(&mut self.reader)?;
            let blank = input.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            let lines = input[..blank].iter().filter(|b| **b == b'\n').count() as u64;
            let done = blank < input.len() || input.is_empty();
            self.reader.consume(blank);
            self.core.set_line(self.core.line() + lines);
            if done {
                return Ok(());
            }
        }
    }
}
