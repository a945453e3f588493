//! What a `millrace publish` is going to send, checked before anything is sent.

use std::collections::BTreeMap;

use millrace_catalog::{Catalog, Stream};

use crate::cli::{PublishArgs, Source};
use crate::commands::Failure;
use crate::files::{BATCH_ROWS, Format, Input, Progress, RowReader, hash_content};

/// How many batches a second a paced publish is cut into, so that facts flow and do not gush.
const PACED_BATCHES_PER_SECOND: u64 = 10;

/// A file, opened and checked.
#[derive(Debug)]
pub(super) struct Job {
    /// Its stream.
    pub(super) stream: Stream,
    /// The file.
    pub(super) input: Input,
    /// Its reader, at the first row.
    pub(super) reader: RowReader,
    /// How much of it has been read.
    pub(super) progress: Progress,
    /// How much of it had been read for the facts that were answered.
    pub(super) answered: Progress,
    /// Its size; `None` for standard input.
    pub(super) bytes: Option<u64>,
}

/// Files of one producer: one, unless files are equal. They are sent one after the other.
#[derive(Debug)]
pub(super) struct Producer {
    /// The producer id.
    pub(super) id: String,
    /// The files.
    pub(super) jobs: Vec<Job>,
}

/// Checks the arguments for what clap cannot.
///
/// # Errors
/// [`Failure::Usage`].
pub(super) fn check(args: &PublishArgs) -> Result<(), Failure> {
    if args.producer.is_some() && args.sources.len() > 1 {
        return Err(Failure::Usage {
            message: "--producer names one numbering of facts, and each file is a producer of its \
                      own"
            .to_owned(),
            next: "publish the files one by one with an id each, or leave --producer out"
                .to_owned(),
        });
    }
    let stdin = args.sources.iter().any(|source| source.input == Input::Stdin);
    if stdin && args.producer.is_none() {
        return Err(nameless_stdin());
    }
    for source in &args.sources {
        format_of(source, args.format)?;
    }
    Ok(())
}

/// Opens every file and checks it against its stream. Reads files through once for their hash, so
/// it belongs on a blocking thread.
///
/// # Errors
/// [`Failure::UnknownStream`], or [`Failure::Read`] when a file cannot be opened or lacks columns.
pub(super) fn prepare(args: &PublishArgs, catalog: &Catalog) -> Result<Vec<Producer>, Failure> {
    let rows_max = args.rate.map_or(BATCH_ROWS, |rate| rate / PACED_BATCHES_PER_SECOND);
    let mut producers: BTreeMap<String, Vec<Job>> = BTreeMap::new();
    let mut order = Vec::new();
    for source in &args.sources {
        let format = format_of(source, args.format)?;
        let stream = catalog.stream(&source.stream).ok_or_else(|| unknown(source, catalog))?;
        let progress = Progress::default();
        let reader = RowReader::open(&source.input, format, stream, rows_max, &progress)?;
        let (id, bytes) = match (&args.producer, &source.input) {
            (Some(id), Input::Stdin) => (id.clone(), None),
            (Some(id), Input::File(path)) => (id.clone(), path.metadata().ok().map(|m| m.len())),
            (None, Input::File(path)) => {
                let hash = hash_content(path)?;
                (default_id(&source.stream, format, &hash.hex), Some(hash.bytes))
            }
            (None, Input::Stdin) => return Err(nameless_stdin()),
        };
        let job = Job {
            stream: stream.clone(),
            input: source.input.clone(),
            reader,
            progress,
            answered: Progress::default(),
            bytes,
        };
        let jobs = producers.entry(id.clone()).or_default();
        if jobs.is_empty() {
            order.push(id);
        }
        jobs.push(job);
    }
    let take = |id: String| {
        let jobs = producers.remove(&id).unwrap_or_default();
        Producer { id, jobs }
    };
    Ok(order.into_iter().map(take).collect())
}

/// The producer id of a file's content. Stream and format are part of it, since they decide what
/// fact a number stands for.
fn default_id(stream: &str, format: Format, hash: &str) -> String {
    format!("file/{stream}/{format}/{hash}")
}

fn nameless_stdin() -> Failure {
    Failure::Usage {
        message: "standard input needs --producer: its content cannot be hashed before it is read"
            .to_owned(),
        next: "give an id used for this content only, such as --producer export-2026-03-01"
            .to_owned(),
    }
}

fn format_of(source: &Source, stated: Option<Format>) -> Result<Format, Failure> {
    let of_name = || source.input.path().and_then(Format::of_name);
    stated.or_else(of_name).ok_or_else(|| Failure::Usage {
        message: format!("the name of {} does not tell its format", source.input),
        next: "give it with --format csv, ndjson or parquet".to_owned(),
    })
}

fn unknown(source: &Source, catalog: &Catalog) -> Failure {
    Failure::UnknownStream {
        stream: source.stream.clone(),
        known: catalog.streams.iter().map(|s| s.name.clone()).collect(),
    }
}
