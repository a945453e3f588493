//! The files that a command is going to send, checked before anything is sent.

use std::collections::BTreeMap;

use millrace_catalog::{Catalog, Stream};

use crate::cli::Source;
use crate::commands::Failure;
use crate::files::{Format, Input, Progress, RowReader, hash_content};

/// Files, and what they are sent as.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Files {
    /// Each with its stream.
    pub(in crate::commands) sources: Vec<Source>,
    /// The producer; by default a hash of the file's content.
    pub(in crate::commands) producer: Option<String>,
    /// The format of all; by default from their names.
    pub(in crate::commands) format: Option<Format>,
}

/// A file, opened and checked.
#[derive(Debug)]
pub(in crate::commands) struct Job {
    /// Its stream.
    pub(in crate::commands) stream: Stream,
    /// The file.
    pub(in crate::commands) input: Input,
    /// Its reader, at the first row.
    pub(in crate::commands) reader: RowReader,
    /// How much of it has been read.
    pub(in crate::commands) progress: Progress,
    /// How much of it had been read for the facts that were answered.
    pub(in crate::commands) answered: Progress,
    /// Its size; `None` for standard input.
    pub(in crate::commands) bytes: Option<u64>,
}

/// Files of one producer: one, unless files are equal. They are sent one after the other.
#[derive(Debug)]
pub(in crate::commands) struct Producer {
    /// The producer id.
    pub(in crate::commands) id: String,
    /// The files.
    pub(in crate::commands) jobs: Vec<Job>,
}

impl Files {
    /// Checks the arguments for what clap cannot.
    ///
    /// # Errors
    /// [`Failure::Usage`].
    pub(in crate::commands) fn check(&self) -> Result<(), Failure> {
        if self.producer.is_some() && self.sources.len() > 1 {
            return Err(Failure::Usage {
                message: "--producer names one numbering of facts, and each file is a producer of \
                          its own"
                    .to_owned(),
                next: "send the files one by one with an id each, or leave --producer out"
                    .to_owned(),
            });
        }
        let stdin = self.sources.iter().any(|source| source.input == Input::Stdin);
        if stdin && self.producer.is_none() {
            return Err(nameless_stdin());
        }
        for source in &self.sources {
            format_of(source, self.format)?;
        }
        Ok(())
    }

    /// Opens every file and checks it against its stream. Batches have at most `rows_max` rows;
    /// `as_read` gives the fields that are read of a stream. Reads files through once for their hash,
    /// so it belongs on a blocking thread.
    ///
    /// # Errors
    /// [`Failure::UnknownStream`], [`Failure::Read`] when a file cannot be opened or lacks columns, and
    /// what `as_read` gives.
    pub(in crate::commands) fn open(
        &self,
        catalog: &Catalog,
        rows_max: u64,
        as_read: impl Fn(&Stream) -> Result<Stream, Failure>,
    ) -> Result<Vec<Producer>, Failure> {
        let mut producers: BTreeMap<String, Vec<Job>> = BTreeMap::new();
        let mut order = Vec::new();
        for source in &self.sources {
            let format = format_of(source, self.format)?;
            let stream = catalog.stream(&source.stream).ok_or_else(|| unknown(source, catalog))?;
            let progress = Progress::default();
            let read = as_read(stream)?;
            let reader = RowReader::open(&source.input, format, &read, rows_max, &progress)?;
            let (id, bytes) = match (&self.producer, &source.input) {
                (Some(id), Input::Stdin) => (id.clone(), None),
                (Some(id), Input::File(path)) => {
                    (id.clone(), path.metadata().ok().map(|m| m.len()))
                }
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
