//! `millrace bench training`: the standard workload imported from Parquet files, then its clicks as a
//! spine, once or several times over, from a Parquet file to a Parquet file, by the commands themselves.

use std::path::Path;
use std::time::Instant;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use millrace_client::Client;
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use super::child::Child;
use super::workload::{self, Workload};
use super::{BenchError, usage};
use crate::cli::{
    BenchTrainingArgs, ImportArgs, KnownAtField, Source, TrainingArgs, TrainingKnownAt,
};
use crate::commands::import::import_all;
use crate::commands::training;
use crate::files::Input;
use crate::output::{Report, Table};

/// The features of the workload's training set: the profile as of the click, counts and sums over two
/// windows, and the last item.
const FEATURES: [&str; 8] =
    ["clicks_1h", "dwell_1h", "clicks_24h", "dwell_24h", "last_item", "country", "tier", "age"];

/// How often the set is read; the median counts.
const RUNS: usize = 3;

/// What `bench training` measured.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingNumbers {
    rows_per_second: f64,
    cpu_seconds_per_million: f64,
    /// Of the server, since the reading began.
    peak_rss_bytes: u64,
    /// Of this process, which made the workload.
    client_peak_rss_bytes: u64,
    /// The slowest first.
    runs: Vec<TrainingRun>,
    /// The same rows as known at their own instants, the slowest first.
    at_event: Vec<TrainingRun>,
    import: ImportNumbers,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct ImportNumbers {
    facts_per_second: f64,
    cpu_seconds_per_million: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct TrainingRun {
    rows: u64,
    seconds: f64,
    rows_per_second: f64,
    cpu_seconds_per_million: f64,
}

/// Imports the workload into a server of its own and reads its clicks as a training set.
pub(super) async fn run(options: &BenchTrainingArgs) -> Result<TrainingNumbers, BenchError> {
    super::say("preparing the workload");
    let workload = Workload::generate(options.events, options.keys)?;
    let child = Child::start().await?;
    let client = child.client()?;
    let source = workload::CATALOG.to_owned();
    let request = millrace_proto::v1::ApplyCatalogRequest { source, ..Default::default() };
    client.apply_catalog(request).await?;
    let temporary = tempfile::tempdir().map_err(|e| BenchError::Server(e.to_string()))?;
    let folder = options.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder).map_err(|e| not_written(folder, e.to_string()))?;
    let (spine, out) = (folder.join("spine.parquet"), folder.join("set.parquet"));
    write_spine(&workload, options.spine_times, &spine)?;
    for (stream, at) in STREAMS {
        write_stream(&workload, stream, at, &folder.join(format!("{stream}.parquet")))?;
    }
    let facts = workload.facts;
    drop(workload);
    super::say("importing");
    let import = import(&client, &child, folder, facts).await?;
    let mut args = TrainingArgs {
        views: vec!["user_activity".to_owned()],
        spine: Some(spine),
        events: false,
        from: None,
        to: None,
        known_at: TrainingKnownAt::Latest,
        out,
        features: FEATURES.iter().map(|name| (*name).to_owned()).collect(),
        include_late: false,
        set_version: None,
    };
    super::say("waiting until the server has saved its snapshots");
    child.idle().await?;
    let child = child.restart().await?;
    let client = child.client()?;
    child.idle().await?;
    super::say("reading the training set");
    let runs = read(&client, &child, &args).await?;
    super::say("reading it as known at each click");
    args.known_at = TrainingKnownAt::AtEvent;
    // What is kept for other programs is the set of what is known latest.
    args.out = folder.join("set-at-event.parquet");
    let at_event = read(&client, &child, &args).await?;
    let median = runs[RUNS / 2];
    Ok(TrainingNumbers {
        rows_per_second: median.rows_per_second,
        cpu_seconds_per_million: median.cpu_seconds_per_million,
        peak_rss_bytes: child.peak_rss_bytes()?,
        client_peak_rss_bytes: usage::peak_rss_bytes(std::process::id())?,
        runs,
        at_event,
        import,
    })
}

/// Reads the set a few times; the slowest first.
async fn read(
    client: &Client,
    child: &Child,
    args: &TrainingArgs,
) -> Result<Vec<TrainingRun>, BenchError> {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let cpu = child.cpu_seconds()?;
        let begun = Instant::now();
        let report = training::make(client, args).await;
        let report = report.map_err(|failure| BenchError::Task(failure.to_string()))?;
        let seconds = begun.elapsed().as_secs_f64();
        let millions = report.rows as f64 / 1e6;
        runs.push(TrainingRun {
            rows: report.rows,
            seconds: (seconds * 1e3).round() / 1e3,
            rows_per_second: (report.rows as f64 / seconds).round(),
            cpu_seconds_per_million: ((child.cpu_seconds()? - cpu) / millions * 100.0).round()
                / 100.0,
        });
    }
    runs.sort_by(|a, b| a.rows_per_second.total_cmp(&b.rows_per_second));
    Ok(runs)
}

/// The clicks as rows, all of them so many times. A batch is made when it is written, so that a long spine
/// takes no more memory here than a short one.
fn write_spine(workload: &Workload, times: u32, path: &Path) -> Result<(), BenchError> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("user_id", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
    ]));
    let batches = (0..times).flat_map(move |_| workload.batches.iter());
    let clicks = batches.filter(|(stream, _)| *stream == "clicks");
    let rows = clicks.map(|(_, batch)| {
        let column = |place: usize| batch.column(place).as_primitive::<Int64Type>().values();
        let users: ArrayRef = Arc::new(Int64Array::from(column(0).to_vec()));
        let ats = TimestampMillisecondArray::from(column(2).to_vec()).with_timezone("UTC");
        RecordBatch::try_new(Arc::clone(&schema), vec![users, Arc::new(ats)])
    });
    write(Arc::clone(&schema), rows, path)
}

/// The streams of the workload, each with the place of its instants, in milliseconds.
const STREAMS: [(&str, usize); 2] = [("clicks", 2), ("profiles", 1)];

/// The facts of a stream, in the order in which they came, with since when each was known: the greatest
/// instant of its stream until then.
fn write_stream(
    workload: &Workload,
    stream: &str,
    at: usize,
    path: &Path,
) -> Result<(), BenchError> {
    let batches = || workload.batches.iter().filter(|(name, _)| *name == stream);
    let Some((_, first)) = batches().next() else { return Ok(()) };
    let known_at = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let known_at = Arc::new(Field::new("known_at", known_at, false));
    let fields = first.schema_ref().fields().iter().cloned().chain([known_at]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut latest = i64::MIN;
    let rows = batches().map(|(_, batch)| {
        let ats = batch.column(at).as_primitive::<Int64Type>().values();
        let known = ats.iter().map(|at| {
            latest = latest.max(*at);
            latest
        });
        let known = TimestampMillisecondArray::from(known.collect::<Vec<_>>());
        let known: ArrayRef = Arc::new(known.with_timezone("UTC"));
        let columns = batch.columns().iter().cloned().chain([known]);
        RecordBatch::try_new(Arc::clone(&schema), columns.collect())
    });
    write(Arc::clone(&schema), rows, path)
}

/// Imports what [`write_stream`] wrote.
async fn import(
    client: &Client,
    child: &Child,
    folder: &Path,
    facts: u64,
) -> Result<ImportNumbers, BenchError> {
    let source = |stream: &str| Source {
        stream: stream.to_owned(),
        input: Input::File(folder.join(format!("{stream}.parquet"))),
    };
    let known =
        |stream: &str| KnownAtField { stream: stream.to_owned(), field: "known_at".to_owned() };
    let args = ImportArgs {
        sources: STREAMS.iter().map(|(stream, _)| source(stream)).collect(),
        known_at: STREAMS.iter().map(|(stream, _)| known(stream)).collect(),
        producer: None,
        format: None,
    };
    let cpu = child.cpu_seconds()?;
    let begun = Instant::now();
    let told = import_all(client, &args).await;
    let told = told.map_err(|failure| BenchError::Task(failure.to_string()))?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = child.cpu_seconds()? - cpu;
    let accepted = told.accepted + told.repaired;
    if accepted != facts {
        return Err(BenchError::NotAllAccepted { sent: facts, accepted });
    }
    Ok(ImportNumbers {
        facts_per_second: (facts as f64 / seconds).round(),
        cpu_seconds_per_million: (cpu / (facts as f64 / 1e6) * 100.0).round() / 100.0,
    })
}

fn not_written(path: &Path, reason: String) -> BenchError {
    BenchError::File { path: path.to_owned(), reason }
}

fn write(
    schema: SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    path: &Path,
) -> Result<(), BenchError> {
    let failed = |e: String| not_written(path, e);
    let file = File::create(path).map_err(|e| failed(e.to_string()))?;
    let writer = ArrowWriter::try_new(file, schema, None);
    let mut writer = writer.map_err(|e| failed(e.to_string()))?;
    for batch in batches {
        writer.write(&batch?).map_err(|e| failed(e.to_string()))?;
    }
    writer.close().map_err(|e| failed(e.to_string()))?;
    Ok(())
}

impl Report for TrainingNumbers {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        self.csv().write_framed(out, &[1])
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(&["what", "value", "unit"]);
        let mut row = |what: &str, value: String, unit: &str| {
            table.push(vec![what.to_owned(), value, unit.to_owned()]);
        };
        let mib = |bytes: u64| format!("{:.0}", bytes as f64 / 1_048_576.0);
        row("training set, Parquet to Parquet", format!("{:.0}", self.rows_per_second), "rows/s");
        let latest = self.runs[RUNS / 2];
        row("  rows", latest.rows.to_string(), "rows");
        row("  time", format!("{:.2}", latest.seconds), "s");
        row("  CPU, client included", format!("{:.2}", self.cpu_seconds_per_million), "s/million");
        let at_event = self.at_event[RUNS / 2];
        let rate = format!("{:.0}", at_event.rows_per_second);
        row("training set, as known at each click", rate, "rows/s");
        row("  time", format!("{:.2}", at_event.seconds), "s");
        let cpu = at_event.cpu_seconds_per_million;
        row("  CPU, client included", format!("{cpu:.2}"), "s/million");
        row("  server memory, peak", mib(self.peak_rss_bytes), "MiB");
        row("  client memory, peak, workload included", mib(self.client_peak_rss_bytes), "MiB");
        row("import", format!("{:.0}", self.import.facts_per_second), "facts/s");
        let cpu = self.import.cpu_seconds_per_million;
        row("  CPU, client included", format!("{cpu:.2}"), "s/million");
        table
    }
}
