//! `millrace bench clickprofile`: the standard workload on a server of its own, over real gRPC.
//!
//! The server is a child process in a temporary folder, so its memory can be told from the client's.
//! CPU is that of both processes. Nothing here judges: the numbers are printed.

mod child;
mod cluster;
mod freshness;
mod limits;
mod process;
mod publish;
mod reads;
mod report;
mod training;
mod usage;
mod workload;

use std::io;
use std::path::PathBuf;

use millrace_client::arrow::ArrowEncodeError;
use millrace_client::{ClientError, PublisherOptions};
use thiserror::Error;

pub use cluster::ClusterReport;
pub use report::BenchReport;
pub use training::TrainingNumbers;

use crate::cli::{BenchCommand, ClickprofileArgs};
use crate::commands::Failure;
use crate::exit::Exit;
use crate::output::Printer;
use child::Child;
use reads::Load;
use report::PublishCost;
use workload::Workload;

/// Why a benchmark did not end.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The server could not be started.
    #[error("cannot start the server of the benchmark: {0}")]
    Server(String),
    /// A call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A batch could not be encoded.
    #[error("encode a batch")]
    Encode(#[from] ArrowEncodeError),
    /// A column was built wrongly.
    #[error("build a batch")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// A file or folder of the workload could not be written.
    #[error("write {}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file of the operating system could not be read.
    #[error("read {what}")]
    Usage {
        /// Which file.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The store of the limits could not be opened or written.
    #[error("measure the store: {0}")]
    Store(String),
    /// Facts were lost or refused: the numbers would say nothing.
    #[error("of {sent} facts {accepted} were accepted: the numbers say nothing")]
    NotAllAccepted {
        /// Facts sent.
        sent: u64,
        /// Facts accepted or repaired.
        accepted: u64,
    },
    /// An acknowledged click does not show.
    #[error("a click did not show in a read within {0:?} of being sent")]
    NotFresh(std::time::Duration),
    /// A database is not named.
    #[error("the benchmark of a cluster runs on databases that are there: say {0}")]
    NoDatabase(&'static str),
    /// Work behind the acknowledgements did not end.
    #[error("the services are not settled after {0:?}")]
    NotSettled(std::time::Duration),
    /// A signal came.
    #[error("interrupted")]
    Interrupted,
    /// A task died.
    #[error("a task died: {0}")]
    Task(String),
}

/// Runs a benchmark and prints its numbers.
///
/// # Errors
/// [`Failure`].
pub async fn run(command: &BenchCommand, printer: Printer) -> Result<Exit, Failure> {
    match command {
        BenchCommand::Clickprofile(args) => printer.print(&clickprofile(args).await?)?,
        BenchCommand::Training(args) => {
            printer.print(&training::run(args).await?)?;
        }
        BenchCommand::Cluster(args) => printer.print(&cluster::run(args).await?)?,
    }
    Ok(Exit::Done)
}

async fn clickprofile(args: &ClickprofileArgs) -> Result<BenchReport, BenchError> {
    say("preparing the workload");
    let workload = Workload::generate(args.events, args.keys)?;
    let child = Child::start().await?;
    let client = child.client()?;
    let catalog = workload::CATALOG.to_owned();
    client
        .apply_catalog(millrace_proto::v1::ApplyCatalogRequest {
            source: catalog,
            ..Default::default()
        })
        .await?;
    say("publishing");
    let cpu = child.cpu_seconds()?;
    let (clients, options) = (std::slice::from_ref(&client), PublisherOptions::default());
    let published = publish::run(clients, &workload, options).await?;
    let facts = workload.facts as f64;
    let published = PublishCost {
        events_per_second: facts / published.seconds,
        cpu_seconds_per_million: (child.cpu_seconds()? - cpu) / (facts / 1e6),
        peak_rss_bytes: child.peak_rss_bytes()?,
        disk_bytes: child.disk_bytes(),
    };
    say("measuring freshness at half that rate");
    let fresh = freshness::run(&client, &workload, published.events_per_second / 2.0).await?;
    say("reading");
    let load = Load { connections: args.clients.max(1), in_flight: args.in_flight.max(1) };
    let (clients, users) = (child.clients(load.connections)?, workload.users());
    let read_1 = reads::run(&clients, &users, workload.read_at_us(), load, 1).await?;
    let read_100 = reads::run(&clients, &users, workload.read_at_us(), load, 100).await?;
    say("measuring the limits of the parts");
    let echo = limits::tonic_echo(&child, load).await?;
    let rows = limits::store_rows().await?;
    let peak_rss_bytes = child.peak_rss_bytes()?;
    Ok(BenchReport::new(published, fresh, read_1, read_100, echo, rows, peak_rss_bytes))
}

/// Progress, on standard error where a person watches.
fn say(what: &str) {
    use std::io::{IsTerminal, Write};

    let mut err = io::stderr();
    if err.is_terminal() {
        // Progress that cannot be shown is no failure.
        let _ = writeln!(err, "{what} …");
    }
}
