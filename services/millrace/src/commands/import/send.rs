//! Sending merged files on one call, which keeps their order, and counting the answers.

use millrace_client::{Batch, Client, ClientError, Outcomes, Publisher, PublisherOptions};
use tokio::sync::mpsc;

use super::merge::{self, History, Run, Runs};
use crate::commands::Failure;
use crate::commands::publish::progress::PublishProgress;
use crate::commands::publish::rows::EncodedRows;
use crate::commands::publish::send::{Names, Sent, hand_over};
use crate::commands::publish::{Summary, UNANSWERED_BYTES};

/// What is known of a batch while its answer is awaited: the index of its file, and the rest.
type SentOf = (usize, Sent);

/// Sends the files and counts what became of their facts, also when it fails in the middle.
pub(super) async fn send(
    client: &Client,
    histories: Vec<History>,
    progress: &PublishProgress,
) -> (Summary, Option<Failure>) {
    let options = PublisherOptions { bytes_max: UNANSWERED_BYTES, ..PublisherOptions::default() };
    let (publisher, outcomes) = client.publisher(options);
    // Every batch in the publisher's window, the one it takes next, and one ahead.
    let (sent, answers) = mpsc::channel(options.batches_max + 2);
    let (runs, files) = merge::start(histories);
    let mut summaries = vec![Summary::empty(); files.len()];
    let both = tokio::try_join!(
        send_runs(&files, runs, publisher, sent),
        take_answers(&files, answers, outcomes, progress, &mut summaries),
    );
    let mut all = Summary::empty();
    summaries.into_iter().for_each(|summary| all += summary);
    // A file that could not be read on: what was sent before is answered and counted by now.
    let failure = both.and_then(|(read, ())| read).err();
    (all, failure)
}

/// Hands batches over until the files end; the inner error is one of reading them.
async fn send_runs(
    files: &[(String, Names)],
    mut runs: Runs,
    publisher: Publisher,
    sent: mpsc::Sender<SentOf>,
) -> Result<Result<(), Failure>, Failure> {
    while let Some(run) = runs.recv().await {
        let Run { file, rows, known_at, is_last } = match run {
            Ok(run) => run,
            Err(failure) => return Ok(Err(failure)),
        };
        let EncodedRows { payload, sequences, lines, rejected, first, next, read_bytes } = rows;
        let (producer, names) = &files[file];
        // Rejected rows are holes. Where they are all, the batch covers nothing: without facts it is no
        // import, and what it covers is as good as published, which those rows are not.
        let first = if lines.is_empty() { next } else { first };
        let mut batch = Batch::new(producer, &names.stream, first, payload);
        batch.sequences = sequences;
        batch.next_sequence = Some(next);
        batch.known_at = known_at;
        batch.idle = is_last;
        let known = Sent { lines, rejected, read_bytes };
        hand_over(&publisher, batch, &sent, (file, known)).await?;
    }
    Ok(Ok(()))
}

/// Counts answers in the order of the batches.
async fn take_answers(
    files: &[(String, Names)],
    mut sent: mpsc::Receiver<SentOf>,
    mut outcomes: Outcomes,
    progress: &PublishProgress,
    summaries: &mut [Summary],
) -> Result<(), Failure> {
    while let Some((file, batch)) = sent.recv().await {
        let answer = outcomes.next().await.unwrap_or(Err(ClientError::PublisherEnded))?;
        progress.answered(files[file].1.count(batch, answer, &mut summaries[file]));
    }
    Ok(())
}
