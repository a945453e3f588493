//! `millrace publish`: files of facts, each a producer of its own, and what became of them.
//!
//! A file is read and encoded on a blocking thread (`rows`), sent by one task that also takes the
//! answers (`send`), and counted in a [`Summary`]. All of it is bounded: a few batches between the
//! thread and the task, and the publisher's window behind them.

mod pace;
pub(super) mod plan;
pub(super) mod progress;
pub(super) mod rows;
pub(super) mod send;
mod summary;

use std::sync::Arc;

use millrace_catalog::Stream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use summary::{EXCEPTIONS_MAX, ExceptionLine, Summary};

use super::{Failure, session};
use crate::cli::{Global, PublishArgs};
use crate::exit::Exit;
use crate::files::BATCH_ROWS;
use crate::output::Printer;
use pace::Pace;
use plan::{Files, Producer};
use progress::PublishProgress;

/// Producers that send at the same time; more files wait their turn.
const PRODUCERS_AT_ONCE: usize = 64;
/// How many batches a second a paced publish is cut into, so that facts flow and do not gush.
const PACED_BATCHES_PER_SECOND: u64 = 10;
/// Bytes of batches that all producers together hold unanswered.
pub(super) const UNANSWERED_BYTES: usize = 64 * 1024 * 1024;
/// Bytes that each may hold, however many there are.
const UNANSWERED_BYTES_MIN: usize = 2 * 1024 * 1024;

/// Sends the files and prints what became of their facts.
///
/// # Errors
/// [`Failure::Usage`], [`Failure::UnknownStream`] and most of [`Failure::Read`] before anything is
/// sent. After one that comes later, what was acknowledged until then was counted and printed.
pub async fn run(args: &PublishArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    let files = Files {
        sources: args.sources.clone(),
        producer: args.producer.clone(),
        format: args.format,
    };
    files.check()?;
    let client = session::client(global)?;
    let catalog = session::catalog(&client).await?;
    let rows_max = args.rate.map_or(BATCH_ROWS, |rate| rate / PACED_BATCHES_PER_SECOND);
    let as_read = |stream: &Stream| Ok(stream.clone());
    let open = move || files.open(&catalog, rows_max, as_read);
    let producers = on_blocking_thread(open).await??;
    let started = Instant::now();
    let (mut summary, failure) = send_all(producers, &client, args.rate).await;
    summary.seconds = started.elapsed().as_secs_f64();
    printer.print(&summary)?;
    match failure {
        Some(failure) => Err(failure),
        None if summary.refused_some() => Ok(Exit::Refused),
        None => Ok(Exit::Done),
    }
}

/// Runs the producers side by side. After a failure the others still come to their end.
async fn send_all(
    producers: Vec<Producer>,
    client: &millrace_client::Client,
    rate: Option<u64>,
) -> (Summary, Option<Failure>) {
    let progress = PublishProgress::start(&producers);
    let pace = rate.map(|rate| Arc::new(Pace::new(rate)));
    let places = Arc::new(Semaphore::new(PRODUCERS_AT_ONCE));
    let at_once = producers.len().clamp(1, PRODUCERS_AT_ONCE);
    let bytes_max = (UNANSWERED_BYTES / at_once).max(UNANSWERED_BYTES_MIN);
    let mut tasks = JoinSet::new();
    for (index, producer) in producers.into_iter().enumerate() {
        let sending = send::Sending {
            client: client.clone(),
            pace: pace.clone(),
            progress: progress.clone(),
            bytes_max,
        };
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            let _place = places.acquire().await.ok();
            let mut summary = Summary::empty();
            let result = sending.producer(producer, &mut summary).await;
            (index, summary, result)
        });
    }
    let mut ended = Vec::with_capacity(tasks.len());
    let mut failure = None;
    while let Some(task) = tasks.join_next().await {
        match task {
            Ok((index, summary, result)) => {
                failure = failure.or(result.err());
                ended.push((index, summary));
            }
            Err(error) => failure = failure.or(Some(Failure::Runtime(error.to_string()))),
        }
    }
    progress.finish();
    // In the order of the arguments, whoever ended first.
    ended.sort_by_key(|(index, _)| *index);
    let mut all = Summary::empty();
    ended.into_iter().for_each(|(_, summary)| all += summary);
    (all, failure)
}

/// Runs work that waits for files.
///
/// # Errors
/// [`Failure::Runtime`] when the thread died.
pub(super) async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Failure::Runtime(e.to_string()))
}
