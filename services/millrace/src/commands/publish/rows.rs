//! Reading and encoding a file on a blocking thread, a few batches ahead.

use millrace_client::Payload;
use millrace_client::arrow::ArrowEncoder;
use tokio::sync::mpsc;

use crate::commands::Failure;
use crate::files::{RejectedRow, RowBatch, RowReader, arrow_schema};

use super::plan::Job;

/// Batches that wait between the thread and the task that sends them.
const BATCHES_AHEAD: usize = 4;

/// Rows that follow each other in a file, ready to be sent.
#[derive(Debug)]
pub(in crate::commands) struct EncodedRows {
    /// The rows that parsed; [`Payload::None`] when all were rejected.
    pub(in crate::commands) payload: Payload,
    /// The sequence of each of them; empty where there are no holes.
    pub(in crate::commands) sequences: Vec<u64>,
    /// The line of each of them.
    pub(in crate::commands) lines: Vec<u64>,
    /// The rows that did not parse.
    pub(in crate::commands) rejected: Vec<RejectedRow>,
    /// The first sequence covered.
    pub(in crate::commands) first: u64,
    /// The one after the last.
    pub(in crate::commands) next: u64,
    /// Bytes of the file that were read by then.
    pub(in crate::commands) read_bytes: u64,
}

/// Starts reading; the receiver ends with the file, or with why it could not be read on.
pub(in crate::commands) fn start(job: Job) -> mpsc::Receiver<Result<EncodedRows, Failure>> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let read = || -> Result<(), Failure> {
            let mut encoder = ArrowEncoder::try_new(&arrow_schema(&job.stream))?;
            let mut reader: RowReader = job.reader;
            while let Some(batch) = reader.next_batch()? {
                let read_bytes = job.progress.bytes();
                // Nobody receives any more after a failure elsewhere: that one is reported.
                if sender.blocking_send(Ok(encode(batch, read_bytes, &mut encoder)?)).is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(failure) = read() {
            let _ = sender.blocking_send(Err(failure));
        }
    });
    receiver
}

fn encode(
    batch: RowBatch,
    read_bytes: u64,
    encoder: &mut ArrowEncoder,
) -> Result<EncodedRows, Failure> {
    let RowBatch { records, sequences, lines, rejected, first, next } = batch;
    Ok(EncodedRows {
        payload: if lines.is_empty() { Payload::None } else { encoder.encode(&records)? },
        sequences: if rejected.is_empty() { Vec::new() } else { sequences },
        lines,
        rejected,
        first,
        next,
        read_bytes,
    })
}
