//! What the command line understands. Scripts rely on every name here.

mod examples;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use millrace_types::Micros;

use crate::cql::CqlArgs;
use crate::files::Format;
use crate::redis::RedisArgs;
use crate::security::{ClientArgs, SecurityArgs};
use crate::serve::ServeKeys;
pub(crate) use values::duration;
pub use values::{
    KnownAtField, KnownAtFieldError, ReadInstant, Source, SourceError, TailFrom, TrainingKnownAt,
};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "millrace",
    version,
    about = "Turns event streams and changelogs into machine-learning features that are right, \
             online and offline",
    after_help = examples::TOP,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that stand before or after any command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// How to print: table on a terminal, json elsewhere, unless stated
    #[arg(short, long, global = true, value_enum, value_name = "HOW")]
    pub output: Option<OutputFormat>,

    /// Where Millrace listens
    #[arg(
        long,
        global = true,
        env = "MILLRACE_ENDPOINT",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7400",
        value_name = "URL"
    )]
    pub endpoint: String,

    /// Where ingest listens, if apart; several separated by commas
    #[arg(
        long,
        global = true,
        env = "MILLRACE_INGEST_ENDPOINT",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub ingest_endpoint: Vec<String>,

    /// Where join listens, if apart; several separated by commas
    #[arg(
        long,
        global = true,
        env = "MILLRACE_JOIN_ENDPOINT",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub join_endpoint: Vec<String>,

    /// Where feature-serving listens, if apart; several separated by commas
    #[arg(
        long,
        global = true,
        env = "MILLRACE_SERVING_ENDPOINT",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub serving_endpoint: Vec<String>,

    /// The time limit of a call, such as 500ms, 60s or 5m
    #[arg(
        long,
        global = true,
        default_value = "60s",
        value_parser = values::duration,
        value_name = "TIME"
    )]
    pub timeout: Duration,

    /// How to know servers, and who to be.
    #[command(flatten)]
    pub security: ClientArgs,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Table,
    /// One JSON document
    Json,
    /// A JSON document a line
    Ndjson,
    /// RFC 4180 with a header row
    Csv,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all of Millrace in one process
    #[command(after_help = examples::DEV)]
    Dev(DevArgs),
    /// Run one service of Millrace in a process of its own
    #[command(after_help = examples::SERVE)]
    Serve(Box<ServeArgs>),
    /// See it work in a minute: late, repeated, corrected and retracted facts, checked
    #[command(after_help = examples::DEMO)]
    Demo(DemoArgs),
    /// Check a catalog without a server
    #[command(after_help = examples::VALIDATE)]
    Validate(ValidateArgs),
    /// Show what a catalog changes, and apply it
    #[command(after_help = examples::APPLY)]
    Apply(ApplyArgs),
    /// Send files of facts and count what became of them
    #[command(after_help = examples::PUBLISH)]
    Publish(PublishArgs),
    /// Send files of history that say since when their facts were known
    #[command(after_help = examples::IMPORT)]
    Import(ImportArgs),
    /// Read the features of entities
    #[command(after_help = examples::GET)]
    Get(GetArgs),
    /// Show the facts behind a value, and those left out with the reason
    #[command(after_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// Write the features of many rows to a file, to train a model on
    #[command(after_help = examples::TRAINING)]
    Training(TrainingArgs),
    /// Compare what is served with what the log says, bit for bit
    #[command(after_help = examples::PARITY)]
    Parity(ParityArgs),
    /// Follow the joined rows of a view
    #[command(after_help = examples::TAIL)]
    Tail(TailArgs),
    /// List or replay facts that came too late
    #[command(subcommand, after_help = examples::LATE)]
    Late(LateCommand),
    /// Erase an entity for good, and show what was scrubbed
    #[command(after_help = examples::ERASE)]
    Erase(EraseArgs),
    /// Show whether Millrace serves, and how far it is
    #[command(after_help = examples::STATUS)]
    Status(StatusArgs),
    /// Look for damage in a data folder, or at a database and a Redis
    #[command(after_help = examples::DOCTOR)]
    Doctor(Box<DoctorArgs>),
    /// Measure a standard workload
    #[command(subcommand, after_help = examples::BENCH)]
    Bench(BenchCommand),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
}

/// `millrace dev`
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// A catalog to apply at the start
    #[arg(long, value_name = "FILE")]
    pub catalog: Option<PathBuf>,
    /// The folder that holds everything; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".millrace")]
    pub data: PathBuf,
    /// Where to take gRPC calls
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub listen: SocketAddr,
    /// Where to answer health checks and metrics over HTTP; nowhere unless stated
    #[arg(long, env = "MILLRACE_ADMIN", hide_env_values = true, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// The number of slots, a power of two; fixed when the folder is made
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = values::slots)]
    pub slots: u32,
    /// Bytes of facts a slot keeps at hand; older facts are read from the log
    #[arg(long, value_name = "N", default_value_t = 64 * 1024 * 1024)]
    pub at_hand_bytes: u64,
    /// The share of its answers that is compared with the log: 1 for all, 0 for none
    #[arg(long, env = "MILLRACE_PARITY_SAMPLE", hide_env_values = true, value_name = "SHARE",
          default_value_t = millrace_config::Settings::default().parity_sample)]
    pub parity_sample: millrace_config::Share,
    /// Bytes of the log read a second to fill in new features
    #[arg(long, value_name = "N", default_value_t = 32 * 1024 * 1024,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub backfill_bytes_per_second: u64,
    /// What protects it.
    #[command(flatten)]
    pub security: SecurityArgs,
}

/// `millrace serve`
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Which one
    #[arg(value_enum, value_name = "SERVICE")]
    pub service: ServiceName,
    /// A TOML file with any of the keys below, dashes written as underscores
    #[arg(long, env = "MILLRACE_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The keys.
    #[command(flatten)]
    pub keys: ServeKeys,
}

/// The services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServiceName {
    /// Takes facts in; keeps the catalog
    Ingest,
    /// Owns the slots
    Join,
    /// The way to the store; holds the embedded one
    StoreWriter,
    /// Answers reads
    FeatureServing,
}

impl ServiceName {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Join => "join",
            Self::StoreWriter => "store-writer",
            Self::FeatureServing => "feature-serving",
        }
    }
}

/// `millrace demo`
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {}

/// `millrace validate`
#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    /// The catalog, a YAML file; - is standard input
    #[arg(value_name = "CATALOG")]
    pub catalog: PathBuf,
}

/// `millrace apply`
#[derive(Debug, Clone, Args)]
pub struct ApplyArgs {
    /// The catalog, a YAML file; - is standard input
    #[arg(value_name = "CATALOG")]
    pub catalog: PathBuf,
    /// Only show the difference
    #[arg(long)]
    pub dry_run: bool,
}

/// `millrace publish`
#[derive(Debug, Clone, Args)]
pub struct PublishArgs {
    /// A stream and a file of its facts; - is standard input
    #[arg(required = true, value_name = "STREAM=FILE", value_parser = Source::parse)]
    pub sources: Vec<Source>,
    /// Send at most this many facts a second, all files together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// The name of this numbering of facts; by default a hash of the file's content
    #[arg(long, value_name = "ID", value_parser = values::producer)]
    pub producer: Option<String>,
    /// The format of the files; by default from their names
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// `millrace import`
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// A stream and a file of its facts; - is standard input
    #[arg(required = true, value_name = "STREAM=FILE", value_parser = Source::parse)]
    pub sources: Vec<Source>,
    /// The field or column that says since when the rows of a stream were known; by default its `at`
    #[arg(long, value_name = "STREAM=FIELD", value_parser = KnownAtField::parse)]
    pub known_at: Vec<KnownAtField>,
    /// The name of this numbering of facts, as they were published; by default a hash of the file's
    /// content
    #[arg(long, value_name = "ID", value_parser = values::producer)]
    pub producer: Option<String>,
    /// The format of the files; by default from their names
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// `millrace get`
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// Keys of entities; the parts of a composite key are joined by commas
    #[arg(required = true, value_name = "KEY", allow_negative_numbers = true)]
    pub keys: Vec<String>,
    /// The instant of the read: RFC 3339, integer microseconds, now or latest
    #[arg(long, value_name = "T", default_value = "now", allow_hyphen_values = true)]
    pub at: ReadInstant,
    /// Use only what was known at this instant; by default everything confirmed
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub known_at: Option<ReadInstant>,
    /// The features wanted, separated by commas; by default all
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub features: Vec<String>,
}

/// `millrace explain`
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The key of an entity; the parts of a composite key are joined by commas
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    pub entity: String,
    /// The feature
    #[arg(value_name = "FEATURE")]
    pub feature: String,
    /// The instant of the read: RFC 3339, integer microseconds, now or latest
    #[arg(long, value_name = "T", default_value = "now", allow_hyphen_values = true)]
    pub at: ReadInstant,
    /// Use only what was known at this instant; by default everything confirmed
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub known_at: Option<ReadInstant>,
    /// List at most this many facts, used and left out each
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1_000)
    )]
    pub limit: u32,
}

/// `millrace training`
#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("rows").required(true).args(["spine", "events"])))]
pub struct TrainingArgs {
    /// The view; several are joined to the same rows
    #[arg(required = true, value_name = "VIEW")]
    pub views: Vec<String>,
    /// A file of rows: a column for the key, and `at`; .parquet, .arrow, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    pub spine: Option<PathBuf>,
    /// Take the view's own events as rows
    #[arg(long)]
    pub events: bool,
    /// The first instant of events
    #[arg(long, value_name = "T", requires = "events", value_parser = values::instant)]
    pub from: Option<Micros>,
    /// The first instant of events not wanted any more
    #[arg(long, value_name = "T", requires = "events", value_parser = values::instant)]
    pub to: Option<Micros>,
    /// What counts as known: at-event, latest, or an instant
    #[arg(long, value_name = "WHEN")]
    pub known_at: TrainingKnownAt,
    /// Where to write: .parquet, .arrow, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The features wanted, separated by commas; by default all
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub features: Vec<String>,
    /// Count facts that came too late, too
    #[arg(long)]
    pub include_late: bool,
    /// Read exactly what a set of this version read
    #[arg(long, value_name = "VERSION")]
    pub set_version: Option<String>,
}

/// `millrace parity`
#[derive(Debug, Clone, Args)]
pub struct ParityArgs {
    /// The views; by default all
    #[arg(value_name = "VIEW")]
    pub views: Vec<String>,
    /// Entities of each view
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub sample: usize,
    /// The instant of the reads: RFC 3339, integer microseconds, now or latest
    #[arg(long, value_name = "T", default_value = "latest", allow_hyphen_values = true)]
    pub at: ReadInstant,
    /// Draws other entities
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// `millrace tail`
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// Where to begin: start, now, or the cursor of a record
    #[arg(long, value_name = "FROM", default_value = "start")]
    pub from: TailFrom,
    /// End once everything confirmed when it began has been shown
    #[arg(long)]
    pub until_idle: bool,
}

/// `millrace late …`
#[derive(Debug, Clone, Subcommand)]
pub enum LateCommand {
    /// List the LATE facts of a stream
    #[command(after_help = examples::LATE)]
    List(LateListArgs),
    /// Make the LATE facts of a stream take effect
    #[command(after_help = examples::LATE)]
    Replay(LateReplayArgs),
}

/// `millrace late list`
#[derive(Debug, Clone, Args)]
pub struct LateListArgs {
    /// The stream
    #[arg(value_name = "STREAM")]
    pub stream: String,
    /// List at most this many
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub limit: u32,
    /// Go on after an earlier list: its next_cursor
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    /// Leave those out that took effect since
    #[arg(long)]
    pub pending: bool,
}

/// `millrace late replay`
#[derive(Debug, Clone, Args)]
pub struct LateReplayArgs {
    /// The stream
    #[arg(value_name = "STREAM")]
    pub stream: String,
}

/// `millrace erase`
#[derive(Debug, Clone, Args)]
pub struct EraseArgs {
    /// The kind of the entity, as the catalog names it
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// Its key: the parts joined by commas
    // Beside `--key`, the client's private one.
    #[arg(id = "entity_key", value_name = "KEY", allow_hyphen_values = true)]
    pub key: String,
    /// Do not wait until every slot is scrubbed
    #[arg(long)]
    pub no_wait: bool,
}

/// `millrace status`
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Also show every slot
    #[arg(long)]
    pub slots: bool,
}

/// `millrace doctor`
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// The data folder, .millrace unless stated; it is not changed
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// With a database: a file of `millrace serve`, for what it says of database, Redis, cluster and slots
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// With a database: the cluster that its keyspace is to be of; any if not stated
    #[arg(long, env = "MILLRACE_CLUSTER", hide_env_values = true, value_name = "NAME")]
    pub cluster: Option<String>,
    /// With a database: the number of slots that it is to have; any if not stated
    #[arg(long, env = "MILLRACE_SLOTS", hide_env_values = true, value_name = "N")]
    pub slots: Option<u32>,
    /// The database to look at in place of a folder. Nothing is made in it.
    #[command(flatten)]
    pub cql: CqlArgs,
    /// The Redis to look at beside it.
    #[command(flatten)]
    pub redis: RedisArgs,
}

/// `millrace bench …`
#[derive(Debug, Clone, Subcommand)]
pub enum BenchCommand {
    /// Clicks joined with profiles: publish, freshness and reads, on a server of its own
    #[command(after_help = examples::BENCH)]
    Clickprofile(ClickprofileArgs),
    /// The same clicks as the rows of a training set, to Parquet
    #[command(after_help = examples::BENCH)]
    Training(BenchTrainingArgs),
    /// The same clicks on two of each service, on databases that are there
    #[command(after_help = examples::BENCH_CLUSTER)]
    Cluster(Box<BenchClusterArgs>),
}

/// `millrace bench cluster`
#[derive(Debug, Clone, Args)]
pub struct BenchClusterArgs {
    /// The workload.
    #[command(flatten)]
    pub load: ClickprofileArgs,
    /// The database of the store-writers.
    #[command(flatten)]
    pub cql: CqlArgs,
    /// Where the windows of producers are kept.
    #[command(flatten)]
    pub redis: RedisArgs,
}

/// `millrace bench training`
#[derive(Debug, Clone, Args)]
pub struct BenchTrainingArgs {
    /// How many clicks; a tenth as many profile changes come on top
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub events: u64,
    /// How clicks spread over users
    #[arg(long, value_enum, value_name = "HOW", default_value_t = KeySpread::Zipf)]
    pub keys: KeySpread,
    /// How often the spine has all clicks, one after the other: 5 of 2 million are 10 million rows
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub spine_times: u32,
    /// Leave the workload and the set in this folder, for other programs to measure
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// `millrace bench clickprofile`
#[derive(Debug, Clone, Args)]
pub struct ClickprofileArgs {
    /// How many clicks; a tenth as many profile changes come on top
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub events: u64,
    /// How clicks spread over users
    #[arg(long, value_enum, value_name = "HOW", default_value_t = KeySpread::Zipf)]
    pub keys: KeySpread,
    /// Connections that read at the same time
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub clients: usize,
    /// Reads in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub in_flight: usize,
}

/// How the events of a benchmark spread over entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeySpread {
    /// Zipf with exponent 1: the hottest of 100,000 users has 8 % of the clicks
    Zipf,
    /// Every user alike
    Uniform,
}

/// `millrace completions`
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests;
