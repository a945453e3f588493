//! Sending the files of one producer and counting the answers.

use std::sync::Arc;

use millrace_client::{
    Batch, Client, ClientError, Outcomes, Payload, Published, Publisher, PublisherOptions,
};
use millrace_proto::v1;
use millrace_types::{RejectReason, VerdictCounts};
use tokio::sync::mpsc;

use super::pace::Pace;
use super::plan::{Job, Producer};
use super::progress::PublishProgress;
use super::rows::{self, EncodedRows};
use super::summary::{ExceptionLine, Summary};
use crate::commands::Failure;
use crate::files::{Progress, RejectedRow};

/// The field of a request that says since when facts were known.
const KNOWN_AT: &str = "known_at_us";

/// What a producer is sent with.
pub(super) struct Sending {
    pub(super) client: Client,
    pub(super) pace: Option<Arc<Pace>>,
    pub(super) progress: PublishProgress,
    /// Bytes of batches that may be unanswered.
    pub(super) bytes_max: usize,
}

/// What is known of a batch while its answer is awaited.
#[derive(Debug, Default)]
pub(in crate::commands) struct Sent {
    /// The line of each row sent.
    pub(in crate::commands) lines: Vec<u64>,
    /// The rows that did not parse.
    pub(in crate::commands) rejected: Vec<RejectedRow>,
    /// Bytes of the file that were read by then.
    pub(in crate::commands) read_bytes: u64,
}

/// A file, for messages and for the progress bar.
#[derive(Debug)]
pub(in crate::commands) struct Names {
    /// Its stream.
    pub(in crate::commands) stream: String,
    /// The file.
    pub(in crate::commands) file: String,
    /// In an import, the field that says since when its rows were known.
    pub(in crate::commands) known_at: Option<String>,
    /// How much of it had been read for the facts that were answered.
    pub(in crate::commands) answered: Progress,
}

impl Sending {
    /// Sends the files of a producer one after the other and counts what became of their facts in
    /// `summary`, also when it fails in the middle.
    pub(super) async fn producer(
        &self,
        producer: Producer,
        summary: &mut Summary,
    ) -> Result<(), Failure> {
        for job in producer.jobs {
            self.file(&producer.id, job, summary).await?;
        }
        Ok(())
    }

    async fn file(&self, producer: &str, job: Job, summary: &mut Summary) -> Result<(), Failure> {
        let names = Names {
            stream: job.stream.name.clone(),
            file: job.input.to_string(),
            known_at: None,
            answered: job.answered.clone(),
        };
        let options = PublisherOptions { bytes_max: self.bytes_max, ..PublisherOptions::default() };
        let (publisher, outcomes) = self.client.publisher(options);
        // Every batch in the publisher's window, the one it takes next, and one ahead.
        let (sent, answers) = mpsc::channel(options.batches_max + 2);
        let rows = rows::start(job);
        let (read, ()) = tokio::try_join!(
            self.send_rows(producer, &names.stream, rows, publisher, sent),
            self.take_answers(&names, answers, outcomes, summary),
        )?;
        // A file that could not be read on: what was sent of it is answered and counted by now.
        read
    }

    /// Hands batches over until the file ends; the inner error is one of reading it.
    async fn send_rows(
        &self,
        producer: &str,
        stream: &str,
        mut rows: mpsc::Receiver<Result<EncodedRows, Failure>>,
        publisher: Publisher,
        sent: mpsc::Sender<Sent>,
    ) -> Result<Result<(), Failure>, Failure> {
        let (mut end, mut end_bytes) = (0, 0);
        while let Some(batch) = rows.recv().await {
            let rows = match batch {
                Ok(rows) => rows,
                Err(failure) => return Ok(Err(failure)),
            };
            let EncodedRows { payload, sequences, lines, rejected, first, next, read_bytes } = rows;
            if let Some(pace) = &self.pace {
                pace.admit(next - first).await;
            }
            (end, end_bytes) = (next, read_bytes);
            // Rejected rows are holes, and what the batch settles includes them.
            let mut batch = Batch::new(producer, stream, first, payload);
            batch.sequences = sequences;
            batch.next_sequence = Some(next);
            hand_over(&publisher, batch, &sent, Sent { lines, rejected, read_bytes }).await?;
        }
        let mut farewell = Batch::new(producer, stream, end, Payload::None);
        farewell.idle = true;
        let known = Sent { read_bytes: end_bytes, ..Sent::default() };
        hand_over(&publisher, farewell, &sent, known).await?;
        Ok(Ok(()))
    }

    /// Counts answers in the order of the batches.
    async fn take_answers(
        &self,
        names: &Names,
        mut sent: mpsc::Receiver<Sent>,
        mut outcomes: Outcomes,
        summary: &mut Summary,
    ) -> Result<(), Failure> {
        while let Some(batch) = sent.recv().await {
            let answer = outcomes.next().await.unwrap_or(Err(ClientError::PublisherEnded))?;
            self.progress.answered(names.count(batch, answer, summary));
        }
        Ok(())
    }
}

/// Sends a batch, and passes what is known of it to whoever takes its answer.
///
/// # Errors
/// [`Failure::Client`] for a batch that cannot be sent.
pub(in crate::commands) async fn hand_over<T>(
    publisher: &Publisher,
    batch: Batch,
    sent: &mpsc::Sender<T>,
    known: T,
) -> Result<(), Failure> {
    // Before the batch, so that whoever takes its answer knows it. The receiver is gone only when
    // an answer failed, and that is what is reported.
    let _ = sent.send(known).await;
    match publisher.send(batch).await {
        // Why it ended comes as its last outcome, which is waited for at the same time.
        Ok(()) | Err(ClientError::PublisherEnded) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Names {
    /// Counts the facts of a batch and lists its exceptions by line; gives how many facts it had.
    pub(in crate::commands) fn count(
        &self,
        batch: Sent,
        answer: Published,
        summary: &mut Summary,
    ) -> u64 {
        self.answered.set(batch.read_bytes);
        let rejected = batch.rejected.len() as u64;
        let facts = batch.lines.len() as u64 + rejected;
        summary.count(VerdictCounts { rejected, ..VerdictCounts::default() });
        let mut lines: Vec<ExceptionLine> =
            batch.rejected.into_iter().map(|row| local_exception(self, row)).collect();
        let result = answer.result;
        summary.count(result.counts.map(VerdictCounts::from).unwrap_or_default());
        summary.exceptions_omitted += result.exceptions_omitted;
        lines.extend(result.exceptions.into_iter().map(|e| exception(self, &batch.lines, e)));
        lines.sort_by_key(|exception| exception.line);
        lines.into_iter().for_each(|exception| summary.list(exception));
        facts
    }
}

fn local_exception(names: &Names, row: RejectedRow) -> ExceptionLine {
    ExceptionLine {
        message: format!("{}:{}: {}", names.file, row.line, row.error),
        stream: names.stream.clone(),
        file: names.file.clone(),
        line: row.line,
        verdict: "REJECTED",
        reason: Some(row.reason().name()),
        id: row.id.unwrap_or_default(),
        field: row.error.field,
    }
}

fn exception(names: &Names, lines: &[u64], exception: v1::FactException) -> ExceptionLine {
    let line = lines.get(exception.index as usize).copied().unwrap_or_default();
    let verdict = match exception.verdict() {
        v1::Verdict::Rejected => "REJECTED",
        v1::Verdict::Late => "LATE",
        v1::Verdict::Unspecified
        | v1::Verdict::Accepted
        | v1::Verdict::Repaired
        | v1::Verdict::Duplicate => "CONFLICT",
    };
    let reason = RejectReason::try_from(exception.reason()).ok().map(RejectReason::name);
    let field = match (exception.field.as_str(), &names.known_at) {
        ("", _) => None,
        // The request's name of what the file has in a field of its own.
        (KNOWN_AT, Some(field)) => Some(field.clone()),
        (field, _) => Some(field.to_owned()),
    };
    let named = field.as_ref().filter(|field| !exception.message.contains(field.as_str()));
    let place = named.map(|field| format!("field {field}: ")).unwrap_or_default();
    ExceptionLine {
        message: format!("{}:{line}: {place}{}", names.file, exception.message),
        stream: names.stream.clone(),
        file: names.file.clone(),
        line,
        id: exception.id,
        verdict,
        reason,
        field,
    }
}
