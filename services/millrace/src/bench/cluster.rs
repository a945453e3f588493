//! `millrace bench cluster`: the standard workload on two of each service, on a CQL database and a
//! Redis that are there.
//!
//! The services are child processes on free ports of the loopback address. What they asked the databases
//! for is what they count themselves (their metrics), and CPU is what the system says of each process:
//! the databases' own is in neither. The keyspace is made by the first of them, and left.

mod counted;
mod moves;
mod report;
mod scrape;
mod services;

use std::time::{Duration, Instant};

use millrace_client::{Client, PublisherOptions};
use millrace_proto::v1::ApplyCatalogRequest;
use tokio::time::sleep;

pub use report::ClusterReport;

use super::reads::{self, Load};
use super::workload::{self, Users, Workload};
use super::{BenchError, publish, say};
use crate::cli::{BenchClusterArgs, ServiceName};
use crate::dev::Signals;
use counted::Work;
use report::{PublishNumbers, ReadNumbers};
use services::Services;

/// How often the services are asked how far they are: seldom, since an answer costs them something.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the services may take to know the catalog, and to store what was acknowledged.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);
/// Batches of a call that are not answered yet: enough for full load, and few enough that the time until one
/// is acknowledged says something.
const IN_FLIGHT: usize = 32;
/// Users of the reads of hot heads.
const HOT_USERS: usize = 10;

/// Runs the workload on services of its own, which end with it, also where a signal ends it.
///
/// # Errors
/// [`BenchError`].
pub(super) async fn run(args: &BenchClusterArgs) -> Result<ClusterReport, BenchError> {
    let mut signals = Signals::listen().map_err(|e| BenchError::Task(e.to_string()))?;
    tokio::select! {
        report = measure(args) => report,
        () = signals.next() => Err(BenchError::Interrupted),
    }
}

async fn measure(args: &BenchClusterArgs) -> Result<ClusterReport, BenchError> {
    say("preparing the workload");
    let workload = Workload::generate(args.load.events, args.load.keys)?;
    say("starting the services");
    let mut services = Services::start(args).await?;
    moves::shared(&services.store()?, services.number(ServiceName::Join)).await?;
    let source = workload::CATALOG.to_owned();
    let request = ApplyCatalogRequest { source, ..Default::default() };
    let version = services.client()?.apply_catalog(request).await?.version;
    know_catalog(&services, version).await?;
    say("publishing");
    let publish = publishing(&services, &workload).await?;
    say("reading");
    let connections = args.load.clients.max(1);
    let load = Load { connections, in_flight: args.load.in_flight.max(1) };
    let read_1 = reading(&services, &workload, &workload.users(), load).await?;
    let read_hot = reading(&services, &workload, &Users::few(HOT_USERS), load).await?;
    say("adding a join node");
    let new_join_node = moves::run(&mut services).await?;
    let keyspace = services.keyspace().to_owned();
    let peak_rss_bytes = services.peak_rss_bytes()?;
    let processes = services.count();
    Ok(ClusterReport {
        keyspace,
        processes,
        publish,
        read_1,
        read_hot,
        new_join_node,
        peak_rss_bytes,
    })
}

/// Waits until all that take facts in know the catalog.
async fn know_catalog(services: &Services, version: u32) -> Result<(), BenchError> {
    let started = Instant::now();
    for client in services.clients(ServiceName::Ingest, services.number(ServiceName::Ingest))? {
        while client.get_catalog(None).await?.version < version {
            if started.elapsed() > SETTLED_WITHIN {
                return Err(BenchError::NotSettled(SETTLED_WITHIN));
            }
            // A process takes a version up in its own time, and tells nobody.
            sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// Publishes, with a call to each ingest process. Heads and marks are stored behind the acknowledgements:
/// their cost counts too.
async fn publishing(
    services: &Services,
    workload: &Workload,
) -> Result<PublishNumbers, BenchError> {
    let clients = services.clients(ServiceName::Ingest, services.number(ServiceName::Ingest))?;
    let before = Work::of(services).await?;
    let started = Instant::now();
    let options = PublisherOptions { batches_max: IN_FLIGHT, ..PublisherOptions::default() };
    let published = publish::run(&clients, workload, options).await?;
    say("waiting until stored heads have all of it");
    settle(&services.client()?).await?;
    let settled_seconds = started.elapsed().as_secs_f64();
    let work = Work::of(services).await?.since(&before);
    Ok(PublishNumbers::new(&published, settled_seconds, &work))
}

async fn reading(
    services: &Services,
    workload: &Workload,
    users: &Users,
    load: Load,
) -> Result<ReadNumbers, BenchError> {
    let clients = services.clients(ServiceName::FeatureServing, load.connections)?;
    let before = Work::of(services).await?;
    let reads = reads::run(&clients, users, workload.read_at_us(), load, 1).await?;
    let work = Work::of(services).await?.since(&before);
    Ok(ReadNumbers::new(reads, &work))
}

/// Waits until every slot has an owner, and stored heads have everything that was acknowledged.
async fn settle(client: &Client) -> Result<(), BenchError> {
    let started = Instant::now();
    loop {
        let status = client.status(false).await?;
        let waits = status.queued_facts + status.unmarked_chunks + status.rebuild_queue;
        if waits == 0 && status.unowned_slots == 0 {
            return Ok(());
        }
        if started.elapsed() > SETTLED_WITHIN {
            return Err(BenchError::NotSettled(SETTLED_WITHIN));
        }
        // Only asking tells how far stored heads are.
        sleep(LOOK_EVERY).await;
    }
}
