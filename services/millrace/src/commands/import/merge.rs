//! Merging files in the order in which their rows were known.
//!
//! A batch is of one file. So that batches are large, the order is kept window by window: a window
//! reaches up to the least instant at which the rows at hand of a file end, and all rows of a window go
//! before any row of the next one. Within a window the files go one after the other, changelogs first, so
//! that a version is there before the events that meet it. Rows of one file always keep their order, and
//! what a read sees depends on what each row states alone: the order saves repairs, and decides nothing.

use millrace_catalog::Stream;
use millrace_client::Payload;
use millrace_client::arrow::ArrowEncoder;
use millrace_types::KnownAt;
use tokio::sync::mpsc;

use super::known::{KnownReader, KnownRows};
use crate::commands::Failure;
use crate::commands::publish::rows::EncodedRows;
use crate::commands::publish::send::Names;
use crate::files::arrow_schema;

/// Batches that wait between the thread and the task that sends them.
const BATCHES_AHEAD: usize = 4;

/// A file of history.
pub(super) struct History {
    /// The producer id.
    pub(super) producer: String,
    /// The file and its stream.
    pub(super) names: Names,
    rows: Rows,
}

/// The rows of a file.
struct Rows {
    is_changelog: bool,
    reader: KnownReader,
    encoder: ArrowEncoder,
    /// Rows that were read, and how many of them were cut off and sent.
    head: Option<(KnownRows, usize)>,
    /// The first sequence that was not cut off.
    covered: u64,
    /// Bytes of the file behind what was cut off.
    read_bytes: u64,
    is_ended: bool,
}

/// A run of rows of one file that goes in one batch.
#[derive(Debug)]
pub(super) struct Run {
    /// The index of the file.
    pub(super) file: usize,
    /// The rows.
    pub(super) rows: EncodedRows,
    /// Since when each was known.
    pub(super) known_at: Vec<KnownAt>,
    /// The file ends with it.
    pub(super) is_last: bool,
}

/// Runs in the order in which they are to be sent, or why there are no more.
pub(super) type Runs = mpsc::Receiver<Result<Run, Failure>>;

impl History {
    /// A file at its first row.
    ///
    /// # Errors
    /// [`Failure::Encode`] when the stream's schema cannot be sent.
    pub(super) fn try_new(
        producer: String,
        names: Names,
        is_changelog: bool,
        stream: &Stream,
        reader: KnownReader,
    ) -> Result<Self, Failure> {
        let rows = Rows {
            is_changelog,
            reader,
            encoder: ArrowEncoder::try_new(&arrow_schema(stream))?,
            head: None,
            covered: 0,
            read_bytes: 0,
            is_ended: false,
        };
        Ok(Self { producer, names, rows })
    }
}

/// Starts merging; the receiver ends with the files, or with why one could not be read on. Gives the
/// producer and the names of each file by its index.
pub(super) fn start(histories: Vec<History>) -> (Runs, Vec<(String, Names)>) {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let mut files = Vec::with_capacity(histories.len());
    let mut merge = Merge(Vec::with_capacity(histories.len()));
    for (index, History { producer, names, rows }) in histories.into_iter().enumerate() {
        files.push((producer, names));
        merge.0.push((index, rows));
    }
    merge.0.sort_by_key(|(_, rows)| !rows.is_changelog);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut runs = Vec::new();
            let window = merge.window(&mut runs);
            let is_over = runs.is_empty() || window.is_err();
            for run in runs.into_iter().map(Ok).chain(window.err().map(Err)) {
                // Nobody receives any more after a failure elsewhere: that one is reported.
                if sender.blocking_send(run).is_err() {
                    return;
                }
            }
            if is_over {
                return;
            }
        }
    });
    (receiver, files)
}

/// Files by index, changelogs first.
struct Merge(Vec<(usize, Rows)>);

impl Merge {
    /// Adds the runs of the next window, and of files that end; none when all files have ended.
    ///
    /// # Errors
    /// [`Failure::Read`] when a file cannot be read on, or its known_at goes back. Then no row of the
    /// window is given but rejected ones, also not of other files.
    fn window(&mut self, runs: &mut Vec<Run>) -> Result<(), Failure> {
        for (file, rows) in &mut self.0 {
            rows.fill(*file, runs)?;
        }
        let ends = self.0.iter().filter_map(|(_, rows)| rows.last_known_at());
        let up_to = ends.min();
        for (file, rows) in &mut self.0 {
            runs.extend(rows.cut(*file, up_to)?);
        }
        Ok(())
    }
}

impl Rows {
    /// Reads on where no rows are at hand. Rejected rows alone go at once, since no instant is known of
    /// them, and so does the farewell of a file that ends.
    fn fill(&mut self, file: usize, runs: &mut Vec<Run>) -> Result<(), Failure> {
        while !self.is_ended && self.head.is_none() {
            match self.reader.next()? {
                Some(rows) if rows.known_at.is_empty() => {
                    self.head = Some((rows, 0));
                    runs.extend(self.cut(file, None)?);
                }
                Some(rows) => self.head = Some((rows, 0)),
                None => {
                    self.is_ended = true;
                    let rows = EncodedRows {
                        payload: Payload::None,
                        sequences: Vec::new(),
                        lines: Vec::new(),
                        rejected: Vec::new(),
                        first: self.covered,
                        next: self.covered,
                        read_bytes: self.read_bytes,
                    };
                    runs.push(Run { file, rows, known_at: Vec::new(), is_last: true });
                }
            }
        }
        Ok(())
    }

    /// Since when the last row at hand was known; `None` at the end.
    fn last_known_at(&self) -> Option<KnownAt> {
        self.head.as_ref()?.0.known_at.last().copied()
    }

    /// Cuts off the rows that were known at an instant, with the rejected ones among them.
    fn cut(&mut self, file: usize, up_to: Option<KnownAt>) -> Result<Option<Run>, Failure> {
        let Some((mut head, from)) = self.head.take() else { return Ok(None) };
        let known = |known_at: &KnownAt| up_to.is_some_and(|up_to| *known_at <= up_to);
        let to = from + head.known_at[from..].partition_point(known);
        let all = to == head.known_at.len();
        if to == from && !all {
            self.head = Some((head, from));
            return Ok(None);
        }
        let rows = &mut head.rows;
        let (first, next) = (self.covered, if all { rows.next } else { rows.sequences[to] });
        let later = rows.rejected.partition_point(|row| row.sequence < next);
        let rejected: Vec<_> = rows.rejected.drain(..later).collect();
        let has_holes = next - first != (to - from) as u64;
        let payload = match to - from {
            0 => Payload::None,
            rows_cut => self.encoder.encode(&rows.records.slice(from, rows_cut))?,
        };
        if all {
            self.read_bytes = head.read_bytes;
        }
        let encoded = EncodedRows {
            payload,
            sequences: if has_holes { rows.sequences[from..to].to_vec() } else { Vec::new() },
            lines: rows.lines[from..to].to_vec(),
            rejected,
            first,
            next,
            read_bytes: self.read_bytes,
        };
        let known_at = head.known_at[from..to].to_vec();
        self.covered = next;
        self.head = (!all).then_some((head, to));
        Ok(Some(Run { file, rows: encoded, known_at, is_last: false }))
    }
}

#[cfg(test)]
mod tests;
