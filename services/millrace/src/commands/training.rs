//! `millrace training`: a training set, from a spine or the view's own events, into a file.

mod columns_out;
mod out;
mod report;
pub(crate) mod spine;
mod write;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use millrace_catalog::{Catalog, View};
use millrace_client::{Client, ClientError, TrainingSet, TrainingSpine};
use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_types::Micros;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use report::TrainingReport;

use super::{Failure, session};
use crate::cli::{Global, TrainingArgs, TrainingKnownAt};
use crate::exit::Exit;
use crate::output::Printer;
use out::{OutFile, OutFormat};
use spine::SpineReader;

/// Batches that wait between reading, the server and writing.
const BATCHES_AHEAD: usize = 4;

/// Reads a training set into a file and says what it was made of.
///
/// # Errors
/// [`Failure::Usage`], [`Failure::UnknownView`], [`Failure::Spine`], [`Failure::OutFile`],
/// [`Failure::Client`]. No file is left half written.
pub async fn run(args: &TrainingArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    // Mistakes that need no server.
    OutFormat::of(&args.out)?;
    check(args)?;
    let client = session::client(global)?;
    let report = make(&client, args).await?;
    printer.print(&report)?;
    hint(args, &report)?;
    Ok(Exit::Done)
}

/// Reads a training set into a file.
///
/// # Errors
/// As [`run`].
pub(crate) async fn make(client: &Client, args: &TrainingArgs) -> Result<TrainingReport, Failure> {
    let begun = Instant::now();
    let format = OutFormat::of(&args.out)?;
    let catalog = catalog(client, args).await?;
    let views = views(args, &catalog)?;
    let spine = match &args.spine {
        Some(file) => Some(spine::open(file, &catalog.key_columns(&views))?),
        None => None,
    };
    let columns = spine.as_ref().map(SpineReader::schema);
    // Fails on a folder that cannot be written to before anything is read.
    let file = OutFile::create(&args.out)?;
    let (reading, spine) = spine.map(begin_to_read).unzip();
    let mut set = client.training_set(start(args), spine);
    let (to, from) = mpsc::channel(BATCHES_AHEAD);
    let writing = tokio::task::spawn_blocking(move || write::write(file, format, columns, from));
    let pumped = pump(args, &mut set, &to).await;
    let failed = pumped.as_ref().err().cloned();
    let taken = pumped.unwrap_or(0);
    let whole = failed.is_none() && set.summary().is_some();
    let report = TrainingReport::new(args, &set, taken, begun.elapsed());
    // Nobody takes rows any more, so the reader ends wherever it is.
    drop(set);
    let read = match reading {
        Some(reading) => join(reading).await?,
        None => Ok(()),
    };
    // A spine that broke off looks to the server like one that ended: its file must not appear.
    if whole && read.is_ok() {
        let _ = to.send(write::Told::End).await;
    }
    drop(to);
    let written = join(writing).await?;
    read?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    written?;
    Ok(report)
}

/// The catalog that the set is made under: that of the version asked for, or the one in force.
async fn catalog(client: &Client, args: &TrainingArgs) -> Result<Catalog, Failure> {
    if args.set_version.is_none() {
        return session::catalog(client).await;
    }
    // The server alone can tell, and tells before it wants rows.
    let (_to, rows) = mpsc::channel(1);
    let spine = args.spine.as_ref().map(|_| TrainingSpine { rows, named_by: Vec::new() });
    let header = client.training_set(start(args), spine).begun().await?;
    session::catalog_of(client, Some(header.catalog_version)).await
}

/// Begins to read a spine on a thread of its own.
fn begin_to_read(reader: SpineReader) -> (JoinHandle<Result<(), Failure>>, TrainingSpine) {
    let (to, rows) = mpsc::channel(BATCHES_AHEAD);
    let named_by = reader.named_by();
    (tokio::task::spawn_blocking(move || reader.send(&to)), TrainingSpine { rows, named_by })
}

/// Takes rows of the set to the writer until either ends. Gives how many.
async fn pump(
    args: &TrainingArgs,
    set: &mut TrainingSet,
    to: &mpsc::Sender<write::Told>,
) -> Result<u64, ClientError> {
    let progress = progress();
    let mut begun = false;
    let mut taken = 0;
    loop {
        let rows = set.next().await;
        if !begun && rows.is_ok() {
            begun = true;
            let _ = to.send(write::Told::of(args, set)).await;
        }
        let Some(rows) = rows.inspect_err(|_| progress.finish_and_clear())? else { break };
        let count = rows.features.num_rows() as u64;
        taken += count;
        progress.inc(count);
        // A writer that ended says why.
        if to.send(write::Told::Rows(rows)).await.is_err() {
            break;
        }
    }
    progress.finish_and_clear();
    Ok(taken)
}

async fn join<T>(task: JoinHandle<T>) -> Result<T, Failure> {
    task.await.map_err(|error| Failure::Runtime(error.to_string()))
}

fn check(args: &TrainingArgs) -> Result<(), Failure> {
    if args.events && args.views.len() > 1 {
        return Err(Failure::Usage {
            message: "--events takes the events of one view as rows".to_owned(),
            next: "name one view, or give the rows with --spine".to_owned(),
        });
    }
    if !args.features.is_empty() && args.views.len() > 1 {
        return Err(Failure::Usage {
            message: "--features names features of one view".to_owned(),
            next: "leave it out to read all features of every view".to_owned(),
        });
    }
    Ok(())
}

fn views<'c>(args: &TrainingArgs, catalog: &'c Catalog) -> Result<Vec<&'c View>, Failure> {
    let find = |name: &String| {
        catalog.view(name).ok_or_else(|| Failure::UnknownView {
            view: name.clone(),
            known: catalog.views.iter().map(|v| v.name.clone()).collect(),
        })
    };
    args.views.iter().map(find).collect()
}

fn start(args: &TrainingArgs) -> v1::TrainingSetStart {
    use v1::training_set_start::{KnownAt, Rows};

    let view =
        |name: &String| v1::TrainingView { view: name.clone(), features: args.features.clone() };
    let instant = |at: Micros| to_timestamp(at);
    v1::TrainingSetStart {
        views: args.views.iter().map(view).collect(),
        rows: Some(match args.events {
            true => Rows::Events(v1::EventRows {
                from: args.from.map(instant),
                to: args.to.map(instant),
            }),
            false => Rows::Spine(v1::SpineRows::default()),
        }),
        known_at: Some(match args.known_at {
            TrainingKnownAt::AtEvent => KnownAt::AtEvent(v1::AsKnownAtEvent {}),
            TrainingKnownAt::Latest => KnownAt::Latest(v1::AsKnownLatest {}),
            TrainingKnownAt::At(at) => KnownAt::Instant(to_timestamp(at)),
        }),
        include_late: args.include_late,
        version: args.set_version.clone().unwrap_or_default(),
        cursor: String::new(),
    }
}

fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} rows, {per_sec}, {elapsed}");
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// What somebody who trains on it should know.
fn hint(args: &TrainingArgs, report: &TrainingReport) -> io::Result<()> {
    let mut err = io::stderr().lock();
    if let Some(share) = report.unknown_share(args.views.len()) {
        let of = match (report.resumed, args.views.len()) {
            (false, 1) => String::new(),
            (false, _) => ", counted once for each view,".to_owned(),
            (true, 1) => format!(" since a call broke, {} in all,", report.counted_rows),
            (true, _) => format!(
                " since a call broke, {} in all, counted once for each view,",
                report.counted_rows
            ),
        };
        writeln!(
            err,
            "warning: {share:.1} % of the rows{of} are empty, because nothing of their entity was \
             known by then: published history becomes known when it is published. `millrace import` \
             states when it was known; --known-at latest asks what is known now"
        )?;
    }
    Ok(())
}
