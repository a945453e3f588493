//! `millrace import`: files of history, merged in the order in which it became known.
//!
//! One blocking thread reads all files, merges them (`merge`) and encodes batches; one task sends them on
//! one call, in that order, and takes the answers (`send`). Each row says since when it was known
//! (`known`). All of it is bounded: a batch of each file, a few encoded ones, and the publisher's window.

mod known;
mod merge;
mod send;

use std::collections::BTreeMap;

use millrace_catalog::{Field, Stream, StreamKind, TimeUnit};
use millrace_client::Client;
use millrace_types::FieldType;
use tokio::time::Instant;

use super::publish::plan::{Files, Job, Producer};
use super::publish::progress::PublishProgress;
use super::publish::send::Names;
use super::publish::{Summary, on_blocking_thread};
use super::{Failure, session};
use crate::cli::{Global, ImportArgs};
use crate::clock;
use crate::exit::Exit;
use crate::files::BATCH_ROWS_MAX;
use crate::output::Printer;
use known::KnownReader;
use merge::History;

/// Files merged at most: all are open at the same time.
const FILES_MAX: usize = 1_000;
/// Rows that all files together have at hand, about.
const ROWS_AT_HAND: u64 = 1 << 18;
/// Rows of a file at hand at least, however many files there are.
const ROWS_MIN: u64 = 256;

/// Imports the files and prints what became of their facts.
///
/// # Errors
/// [`Failure::Usage`], [`Failure::UnknownStream`] and most of [`Failure::Read`] before anything is
/// sent. After one that comes later, such as a file whose known_at goes back, what was acknowledged until
/// then was counted and printed, and nothing more is sent of any file.
pub async fn run(args: &ImportArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    let files = files(args);
    files.check()?;
    if files.sources.len() > FILES_MAX {
        return Err(Failure::Usage {
            message: format!("an import merges at most {FILES_MAX} files"),
            next: "import them in several runs, those that were known first before the others"
                .to_owned(),
        });
    }
    // A mistake in the arguments needs no server.
    KnownAtFields::new(args)?;
    let client = session::client(global)?;
    let (summary, failure) = make(&client, args, files).await?;
    printer.print(&summary)?;
    match failure {
        Some(failure) => Err(failure),
        None if summary.refused_some() => Ok(Exit::Refused),
        None => Ok(Exit::Done),
    }
}

/// Imports the files. Gives what became of their facts, and why it ended early, if it did.
///
/// # Errors
/// Those of [`run`] that come before anything is sent.
async fn make(
    client: &Client,
    args: &ImportArgs,
    files: Files,
) -> Result<(Summary, Option<Failure>), Failure> {
    let fields = KnownAtFields::new(args)?;
    let catalog = session::catalog(client).await?;
    let producers = {
        let fields = fields.clone();
        let open = move || files.open(&catalog, rows_max(&files), |stream| fields.as_read(stream));
        on_blocking_thread(open).await??
    };
    let started = Instant::now();
    let progress = PublishProgress::start(&producers);
    let histories = producers.into_iter().flat_map(|Producer { id, jobs }| {
        let of_producer = move |job| (id.clone(), job);
        jobs.into_iter().map(of_producer)
    });
    let histories: Result<Vec<History>, Failure> =
        histories.map(|(producer, job)| fields.history(producer, job)).collect();
    let (mut summary, failure) = send::send(client, histories?, &progress).await;
    progress.finish();
    summary.seconds = started.elapsed().as_secs_f64();
    Ok((summary, failure))
}

/// Imports files for a benchmark: all of them, or it failed.
///
/// # Errors
/// As [`run`].
pub(crate) async fn import_all(client: &Client, args: &ImportArgs) -> Result<Summary, Failure> {
    let (summary, failure) = make(client, args, files(args)).await?;
    failure.map_or(Ok(summary), Err)
}

fn files(args: &ImportArgs) -> Files {
    Files { sources: args.sources.clone(), producer: args.producer.clone(), format: args.format }
}

/// Rows of a file that are at hand.
fn rows_max(files: &Files) -> u64 {
    (ROWS_AT_HAND / files.sources.len().max(1) as u64).clamp(ROWS_MIN, BATCH_ROWS_MAX)
}

/// By stream, the field that says since when its rows were known, where that is not its `at`.
#[derive(Debug, Clone, Default)]
struct KnownAtFields(BTreeMap<String, String>);

impl KnownAtFields {
    /// Those of the arguments.
    ///
    /// # Errors
    /// [`Failure::Usage`] when a stream has two, or no file.
    fn new(args: &ImportArgs) -> Result<Self, Failure> {
        let mut fields = BTreeMap::new();
        for of in &args.known_at {
            if !args.sources.iter().any(|source| source.stream == of.stream) {
                return Err(Failure::Usage {
                    message: format!(
                        "--known-at names stream {}, of which no file is given",
                        of.stream
                    ),
                    next:
                        "name the stream of a file, as in clicks=clicks.csv --known-at clicks=FIELD"
                            .to_owned(),
                });
            }
            let before = fields.insert(of.stream.clone(), of.field.clone());
            if let Some(before) = before.filter(|before| *before != of.field) {
                return Err(Failure::Usage {
                    message: format!(
                        "--known-at names two fields of stream {}, {before} and {}",
                        of.stream, of.field
                    ),
                    next: "name one; files that have it in other fields are imported in runs of \
                           their own"
                        .to_owned(),
                });
            }
        }
        Ok(Self(fields))
    }

    /// The stream as its files are read: with one more timestamp where the field is none of the
    /// catalog's.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the field is no timestamp.
    fn as_read(&self, stream: &Stream) -> Result<Stream, Failure> {
        let mut read = stream.clone();
        let Some(name) = self.0.get(&stream.name) else { return Ok(read) };
        match stream.field(name).map(|index| stream.fields[index].ty) {
            Some(FieldType::Timestamp) => {}
            Some(ty) => {
                return Err(Failure::Usage {
                    message: format!(
                        "field {name} of stream {} is {ty}, and known_at is a timestamp",
                        stream.name
                    ),
                    next: "name a timestamp of the stream, or a column that the catalog does not \
                           name"
                        .to_owned(),
                });
            }
            None => {
                let (name, ty, unit) = (name.clone(), FieldType::Timestamp, TimeUnit::Micros);
                read.fields.push(Field { name, ty, unit });
            }
        }
        Ok(read)
    }

    /// A file that was opened, to be merged.
    ///
    /// # Errors
    /// [`Failure::Encode`] when the stream's schema cannot be sent.
    fn history(&self, producer: String, job: Job) -> Result<History, Failure> {
        let Job { stream, input, reader, progress, answered, bytes: _ } = job;
        let at = &stream.fields[stream.at].name;
        let field = self.0.get(&stream.name).unwrap_or(at).clone();
        let names = Names {
            stream: stream.name.clone(),
            file: input.to_string(),
            known_at: Some(field.clone()),
            answered,
        };
        let is_changelog = stream.kind == StreamKind::Changelog;
        let rows =
            KnownReader::new(reader, &stream, field, names.file.clone(), progress, clock::now);
        History::try_new(producer, names, is_changelog, &stream, rows)
    }
}
