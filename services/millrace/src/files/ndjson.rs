//! NDJSON: one JSON object a line. Blank lines are skipped; a missing field is NULL.

use std::io::{self, BufRead};

use millrace_catalog::Stream;

use super::batch::{BatchBuilder, RowBatch};
use super::error::{ReadError, RowError};
use super::json::{self, FieldIndex};
use super::source::{Input, Progress, fill, open_text};
use super::{RECORD_BYTES_MAX, RowSource};

pub(crate) struct NdjsonReader {
    input: String,
    reader: Box<dyn BufRead + Send>,
    stream: Stream,
    fields: FieldIndex,
    /// By field: whether it takes any JSON value, as text.
    any: Vec<bool>,
    batch: BatchBuilder,
    buffer: Vec<u8>,
    line: u64,
}

impl NdjsonReader {
    pub(crate) fn open(
        input: &Input,
        stream: &Stream,
        rows_max: u64,
        progress: &Progress,
    ) -> Result<Self, ReadError> {
        Ok(Self::new(input.to_string(), open_text(input, progress)?, stream, rows_max))
    }

    pub(crate) fn new(
        input: String,
        reader: Box<dyn BufRead + Send>,
        stream: &Stream,
        rows_max: u64,
    ) -> Self {
        Self {
            input,
            reader,
            stream: stream.clone(),
            fields: FieldIndex::new(stream),
            any: vec![false; stream.fields.len()],
            batch: BatchBuilder::new(stream, rows_max),
            buffer: Vec::new(),
            line: 0,
        }
    }

    /// Lets these string fields hold any JSON value, as text, and lines have no field beside the stream's.
    pub(crate) fn of_a_spine(mut self, any: &[String]) -> Self {
        self.fields = self.fields.closed();
        self.any = self.stream.fields.iter().map(|field| any.contains(&field.name)).collect();
        self
    }

    fn push(&mut self, too_long: bool) {
        if too_long {
            let error =
                RowError::too_large(format!("the line takes more than {RECORD_BYTES_MAX} bytes"));
            return self.batch.push(self.line, Err(error), || None);
        }
        let text = match std::str::from_utf8(&self.buffer) {
            Ok(text) => text,
            Err(e) => {
                let error =
                    RowError::row(format!("is not valid UTF-8 (byte {})", e.valid_up_to() + 1));
                return self.batch.push(self.line, Err(error), || None);
            }
        };
        match json::object(text, &self.fields) {
            Err(rule) => self.batch.push(self.line, Err(RowError::row(rule)), || None),
            Ok(values) => {
                let fields = self.stream.fields.iter().zip(&self.any).zip(&values);
                let cells: Result<Vec<_>, _> = fields
                    .map(|((field, any), value)| {
                        let cell = if *any { json::any(*value) } else { json::cell(field, *value) };
                        cell.map_err(|e| RowError::cell(&field.name, &e))
                    })
                    .collect();
                let id = || json::text_of(values[self.stream.id_field?]?);
                self.batch.push(self.line, cells.as_deref().map_err(Clone::clone), id);
            }
        }
    }
}

impl RowSource for NdjsonReader {
    fn next_batch(&mut self) -> Result<Option<RowBatch>, ReadError> {
        while !self.batch.is_full() {
            match read_line(&mut self.reader, &mut self.buffer) {
                Ok(Line::End) => break,
                Ok(line) => {
                    self.line += 1;
                    let too_long = line == Line::TooLong;
                    if too_long || !self.buffer.trim_ascii().is_empty() {
                        self.push(too_long);
                    }
                }
                Err(source) => {
                    let (input, line) = (self.input.clone(), self.line);
                    return Err(ReadError::Io { input, line, source });
                }
            }
        }
        Ok(self.batch.take())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole,
    TooLong,
    End,
}

/// Reads one line without its LF into `buffer`; reads over the rest of a line that is too long.
fn read_line(reader: &mut Box<dyn BufRead + Send>, buffer: &mut Vec<u8>) -> io::Result<Line> {
    buffer.clear();
    let mut too_long = false;
    let mut started = false;
    loop {
        let input = fill(reader)?;
        let (piece, read, ended) = match input.iter().position(|b| *b == b'\n') {
            Some(at) => (&input[..at], at + 1, true),
            None => (input, input.len(), input.is_empty()),
        };
        started |= read > 0;
        too_long |= buffer.len() + piece.len() > RECORD_BYTES_MAX;
        if too_long {
            buffer.clear();
        } else {
            buffer.extend_from_slice(piece);
        }
        reader.consume(read);
        if ended {
            return Ok(match (started, too_long) {
                (false, _) => Line::End,
                (true, true) => Line::TooLong,
                (true, false) => Line::Whole,
            });
        }
    }
}
