//! Each service in a process of its own: what it is made of, and how it goes down.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_client::port::{CatalogPort, PeerPort, StorePort};
use millrace_client::remote::{Persistence, RemoteJoins, RemotePeer, RemoteStore};
use millrace_feature_serving::parity::{Parity, ParityConfig};
use millrace_feature_serving::{
    Admin, FeatureServing, HeadPath, Reader, ReaderConfig, ReaderPorts, StoredHeads, StoredLimits,
};
use millrace_grpc::{Drain, GrpcServer, ServerLimits, services};
use millrace_ingest::{
    CatalogApi, CatalogHandle, Clock, Ingest, IngestApi, IngestConfig, IngestPorts, SystemClock,
    punctuate,
};
use millrace_join::{BackfillLimits, Beside, JoinConfig, JoinGrpc, JoinService, Stop};
use millrace_placement::Slots;
use millrace_store::{CatalogStore, Incarnation, NodeId, ProducerWindows, Store};
use millrace_store_fjall::{FjallStore, Options};
use millrace_store_redis::RedisWindows;
use millrace_store_scylla::CqlStore;
use millrace_store_writer::{StoreGrpc, StoreWriter};
use millrace_telemetry::Measure;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::ServeError;
use super::keys::Told;
use crate::dev::{DevError, incarnation};
use crate::redis::RedisArgsError;

/// How often catalog versions of other processes are looked for.
const CATALOG_EVERY: Duration = Duration::from_millis(250);
/// How long a read waits for a store-writer that does not answer.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// Other processes read stored heads: what is acknowledged is in them soon.
const HEAD_DELAY: Duration = Duration::from_millis(300);
/// A head under continuous change is put so often, and is as old as that at most (design §6).
const HEAD_INTERVAL: Duration = Duration::from_secs(1);
/// Heads a worker puts a second, with two bytes more for each byte of its log.
const HEAD_BYTES_PER_SECOND: u64 = 4 << 20;
/// Beyond this budget of heads, under a load that takes all there is, they are as old as that at most.
const HEAD_OVERDUE_AFTER: Duration = Duration::from_secs(4);
/// How long a drain waits for the last marks of windows: what is not marked is only asked again.
const WINDOWS_WITHIN: Duration = Duration::from_secs(1);
/// A join node that is not heard of for so long is taken for dead, and others take its slots.
const LEASE: Duration = Duration::from_secs(4);
/// And marks follow.
const MARK_INTERVAL: Duration = Duration::from_millis(200);

/// A service of this process.
#[async_trait]
pub(super) trait Service: Send + Sync {
    /// The gRPC server of it.
    fn server(&self, limits: ServerLimits, drain: Drain) -> GrpcServer;

    /// What it depends on.
    fn needs(&self) -> &[Arc<dyn PeerPort>];

    /// What is measured when metrics are asked for.
    fn measure(&self) -> Option<Arc<dyn Measure>> {
        None
    }

    /// Resolves when it cannot go on.
    async fn failed(&self) -> Stop {
        pending().await
    }

    /// Finishes what is under way, once the server has ended its calls.
    async fn drain(&self);
}

async fn catalog(
    store: Arc<dyn CatalogStore>,
) -> Result<(Arc<CatalogHandle>, AbortOnDropHandle<()>), ServeError> {
    let catalog = CatalogHandle::load(store).await.map_err(DevError::StoredCatalog)?;
    let follows = AbortOnDropHandle::new(tokio::spawn(catalog.clone().follow(CATALOG_EVERY)));
    Ok((catalog, follows))
}

/// The store of a service whose calls have callers with deadlines. Waits, as long as it takes, until
/// the store-writer answers.
async fn store(told: &Told) -> Result<Arc<RemoteStore>, ServeError> {
    let patient = RemoteStore::new(&told.store, &told.security, Persistence::UntilKnown)?;
    patient.catalogs_after(u32::MAX).await.map_err(DevError::Stopped)?;
    Ok(Arc::new(bounded_store(told)?))
}

/// The same, not connected yet.
fn bounded_store(told: &Told) -> Result<RemoteStore, ServeError> {
    let within = Persistence::Within(STORE_PATIENCE);
    let store = RemoteStore::new(&told.store, &told.security, within)?;
    Ok(match told.settings.hedge_after {
        Some(after) => store.hedged(after),
        None => store,
    })
}

/// How much of the store feature-serving keeps, and for how long.
fn stored_limits(told: &Told) -> StoredLimits {
    let settings = &told.settings;
    let (page_cache_bytes, hot_heads_for) = (settings.page_cache_bytes, settings.hot_heads_for);
    StoredLimits { page_cache_bytes, hot_heads_for, ..StoredLimits::default() }
}

/// Where other services reach a join node.
fn advertised(told: &Told, address: SocketAddr) -> Result<String, ServeError> {
    if let Some(stated) = &told.advertise {
        return Ok(stated.clone());
    }
    if address.ip().is_unspecified() {
        return Err(ServeError::Advertise(address));
    }
    let scheme = if told.protection.tls.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{address}"))
}

fn slots(told: &Told) -> Result<Slots, ServeError> {
    Ok(Slots::try_new(told.settings.slots).map_err(DevError::Slots)?)
}

/// The store that store-writer depends on.
struct StorePeer {
    name: &'static str,
    store: Arc<dyn Store>,
}

#[async_trait]
impl PeerPort for StorePeer {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn serves(&self) -> Result<(), String> {
        self.store.ready().await.map_err(|error| error.to_string())
    }
}

/// store-writer, with the embedded store inside or a database behind it.
pub(super) struct StoreWriterPart {
    writer: Arc<StoreWriter>,
    store: Arc<dyn Store>,
    needs: Vec<Arc<dyn PeerPort>>,
}

impl StoreWriterPart {
    pub(super) async fn start(told: &Told) -> Result<Self, ServeError> {
        let (name, store): (_, Arc<dyn Store>) = match &told.cql {
            None => {
                let open = Options { slots: Some(told.settings.slots), ..Options::default() };
                let store = FjallStore::open(&told.settings.data, &open);
                ("data folder", Arc::new(store.map_err(DevError::Open)?))
            }
            Some(config) => {
                let clock = SystemClock::default();
                ("database", Arc::new(CqlStore::open(config, || clock.now()).await?))
            }
        };
        let writer = Arc::new(StoreWriter::spawn(store.clone(), Default::default()));
        let needs: Vec<Arc<dyn PeerPort>> =
            vec![Arc::new(StorePeer { name, store: store.clone() })];
        Ok(Self { writer, store, needs })
    }
}

#[async_trait]
impl Service for StoreWriterPart {
    fn server(&self, limits: ServerLimits, drain: Drain) -> GrpcServer {
        let port: Arc<dyn StorePort> = self.writer.clone();
        let service = StoreGrpc::new(port, self.store.clone(), drain.clone());
        GrpcServer::new(limits, drain).add_service(services::store(service, &limits))
    }

    fn needs(&self) -> &[Arc<dyn PeerPort>] {
        &self.needs
    }

    async fn drain(&self) {
        self.writer.shutdown().await;
    }
}

/// join.
pub(super) struct JoinPart {
    join: Arc<JoinService>,
    catalog: Arc<CatalogHandle>,
    needs: Vec<Arc<dyn PeerPort>>,
    _follows: AbortOnDropHandle<()>,
}

impl JoinPart {
    /// Waits for the store-writer as long as it takes.
    pub(super) async fn start(told: &Told, address: SocketAddr) -> Result<Self, ServeError> {
        let endpoint = advertised(told, address)?;
        let store =
            Arc::new(RemoteStore::new(&told.store, &told.security, Persistence::UntilKnown)?);
        let (catalog, follows) = catalog(store.clone()).await?;
        let needs: Vec<Arc<dyn PeerPort>> = vec![Arc::new(store.peer())];
        let settings = &told.settings;
        let config = JoinConfig {
            slots: settings.slots,
            at_hand_bytes: usize::try_from(settings.at_hand_bytes).unwrap_or(usize::MAX),
            resident_bytes: usize::try_from(settings.resident_bytes).unwrap_or(usize::MAX),
            subscribe_bytes: settings.subscribe_bytes,
            backfill: BackfillLimits {
                bytes_per_second: settings.backfill_bytes_per_second,
                ..BackfillLimits::default()
            },
            idle_after: settings.idle_after,
            head_delay: HEAD_DELAY,
            head_interval: HEAD_INTERVAL,
            head_bytes_per_second: HEAD_BYTES_PER_SECOND,
            head_overdue_after: HEAD_OVERDUE_AFTER,
            mark_interval: MARK_INTERVAL,
            ingest_inside: false,
            beside: Some(Beside { endpoint, weight: told.weight, lease: LEASE }),
            ..JoinConfig::default()
        };
        let (node, run) = (NodeId(told.node.clone()), Incarnation(incarnation()));
        let join = JoinService::start(config, node, run, store, catalog.clone());
        let join = Arc::new(join.await.map_err(DevError::Start)?);
        Ok(Self { join, catalog, needs, _follows: follows })
    }
}

#[async_trait]
impl Service for JoinPart {
    fn server(&self, limits: ServerLimits, drain: Drain) -> GrpcServer {
        let service = JoinGrpc::new(self.join.clone(), self.catalog.clone(), drain.clone());
        GrpcServer::new(limits, drain).add_service(services::join(service, &limits))
    }

    fn needs(&self) -> &[Arc<dyn PeerPort>] {
        &self.needs
    }

    fn measure(&self) -> Option<Arc<dyn Measure>> {
        Some(self.join.clone())
    }

    async fn failed(&self) -> Stop {
        self.join.failed().await
    }

    async fn drain(&self) {
        self.join.drain().await;
    }
}

/// ingest, with the catalog.
pub(super) struct IngestPart {
    ingest: Arc<Ingest>,
    catalog: Arc<CatalogHandle>,
    redis: Option<Arc<RedisWindows>>,
    needs: Vec<Arc<dyn PeerPort>>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl IngestPart {
    /// Waits for the store-writer as long as it takes.
    pub(super) async fn start(told: &Told) -> Result<Self, ServeError> {
        let store = store(told).await?;
        let (catalog, follows) = catalog(store.clone()).await?;
        let joins = RemoteJoins::new(store.clone(), slots(told)?, told.security.clone());
        let join = Arc::new(joins);
        let needs: Vec<Arc<dyn PeerPort>> = vec![Arc::new(store.peer()), join.clone()];
        let redis = match &told.redis {
            None => None,
            Some(config) => {
                // What Redis knows is about the log of one store.
                let identity = store.identity(format!("{:016x}", incarnation())).await;
                let identity = identity.map_err(DevError::Stopped)?;
                let windows = RedisWindows::start(config.clone(), identity).await;
                Some(Arc::new(windows.map_err(RedisArgsError::Setting)?))
            }
        };
        let windows: Arc<dyn ProducerWindows> = match &redis {
            None => store,
            Some(windows) => windows.clone(),
        };
        let ports = IngestPorts {
            catalog: catalog.clone(),
            join,
            windows,
            clock: Arc::new(SystemClock::default()),
        };
        let mut config = IngestConfig::new(slots(told)?, incarnation());
        config.max_future = told.settings.max_future;
        config.idle_after = told.settings.idle_after;
        if let Some(windows) = &redis {
            config.dedup_retention = windows.expiry();
        }
        let ingest = Ingest::new(config, ports);
        let punctuation = AbortOnDropHandle::new(tokio::spawn(punctuate(ingest.clone())));
        Ok(Self { ingest, catalog, redis, needs, _tasks: [follows, punctuation] })
    }
}

#[async_trait]
impl Service for IngestPart {
    fn server(&self, limits: ServerLimits, drain: Drain) -> GrpcServer {
        let ingest = IngestApi::new(self.ingest.clone(), drain.clone());
        let catalogs = CatalogApi::new(self.catalog.clone(), drain.clone());
        GrpcServer::new(limits, drain)
            .add_service(services::ingest(ingest, &limits))
            .add_service(services::catalog(catalogs, &limits))
    }

    fn needs(&self) -> &[Arc<dyn PeerPort>] {
        &self.needs
    }

    async fn drain(&self) {
        if let Err(error) = self.ingest.depart().await {
            // Its watermarks are then taken as lost after `idle_after`.
            tracing::debug!(%error, "depart");
        }
        if let Some(windows) = &self.redis {
            let _ = timeout(WINDOWS_WITHIN, windows.written()).await;
        }
    }
}

/// feature-serving, on stored heads.
pub(super) struct ServingPart {
    join: Arc<RemoteJoins>,
    reader: Arc<Reader>,
    heads: Arc<StoredHeads>,
    catalog: Arc<CatalogHandle>,
    store: Arc<dyn StorePort>,
    needs: Vec<Arc<dyn PeerPort>>,
    peers: Vec<Arc<dyn PeerPort>>,
    parity: Parity,
    _follows: AbortOnDropHandle<()>,
}

impl ServingPart {
    /// Waits for the store-writer as long as it takes.
    pub(super) async fn start(told: &Told) -> Result<Self, ServeError> {
        let store = store(told).await?;
        let (catalog, follows) = catalog(store.clone()).await?;
        let slots = slots(told)?;
        let join = Arc::new(RemoteJoins::new(store.clone(), slots, told.security.clone()));
        let limits = stored_limits(told);
        let ports = (store.clone(), join.clone(), catalog.clone());
        let heads = Arc::new(StoredHeads::new(ports.0, ports.1, ports.2, slots, limits));
        let config = ReaderConfig {
            log_facts: told.settings.read_facts,
            log_time: told.settings.read_time,
            heads: HeadPath::Stored,
            training_bytes: told.settings.training_bytes,
            ..ReaderConfig::default()
        };
        let ports = ReaderPorts {
            heads: heads.clone(),
            owner: heads.clone(),
            store: store.clone(),
            catalog: catalog.clone(),
        };
        let reader = Reader::new(&config, ports, slots);
        // Reads need the store alone; `status` tells of everything.
        let needs: Vec<Arc<dyn PeerPort>> = vec![Arc::new(store.peer())];
        let store_peer = RemotePeer::new("store-writer", &told.store, &told.security)?;
        let mut peers: Vec<Arc<dyn PeerPort>> = vec![join.clone(), Arc::new(store_peer)];
        if !told.ingest.is_empty() {
            peers.push(Arc::new(RemotePeer::new("ingest", &told.ingest, &told.security)?));
        }
        let reader = Arc::new(reader);
        let audit = ParityConfig {
            share: told.settings.parity_sample,
            ring: told.settings.parity_ring,
            ..ParityConfig::of(&told.node)
        };
        let parity = Parity::start(&reader, &audit);
        Ok(Self { join, reader, heads, catalog, store, needs, peers, parity, _follows: follows })
    }
}

#[async_trait]
impl Service for ServingPart {
    fn server(&self, limits: ServerLimits, drain: Drain) -> GrpcServer {
        let catalog: Arc<dyn CatalogPort> = self.catalog.clone();
        let features = FeatureServing::new(self.reader.clone(), drain.clone());
        let admin = Admin::new(self.heads.clone(), catalog, drain.clone())
            .with_peers(self.peers.clone())
            .with_nodes(self.store.clone())
            .with_late(self.reader.clone(), self.join.clone())
            .with_erasures(self.store.clone(), self.reader.slot_count());
        GrpcServer::new(limits, drain)
            .add_service(services::features(features, &limits))
            .add_service(services::admin(admin, &limits))
    }

    fn needs(&self) -> &[Arc<dyn PeerPort>] {
        &self.needs
    }

    async fn drain(&self) {
        self.parity.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::keys;
    use super::*;
    use crate::cli::{Cli, Command};

    /// What feature-serving is told by these flags.
    fn told(flags: &str) -> Told {
        let line = format!("millrace serve feature-serving {flags}");
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Serve(args) = cli.command else { panic!("{line}") };
        keys::told(&args, &cli.global).unwrap()
    }

    #[tokio::test]
    async fn what_feature_serving_is_told_of_reads_is_what_bounds_them() {
        let (usual, default) = (told(""), StoredLimits::default());
        assert_eq!(stored_limits(&usual), default);
        assert_eq!(bounded_store(&usual).unwrap().hedged_after(), None);
        let stated = told("--hot-heads-for 70ms --page-cache-bytes 5000000 --hedge-after 15ms");
        let expected = StoredLimits {
            hot_heads_for: Duration::from_millis(70),
            page_cache_bytes: 5_000_000,
            ..default
        };
        assert_eq!(stored_limits(&stated), expected);
        let after = bounded_store(&stated).unwrap().hedged_after();
        assert_eq!(after, Some(Duration::from_millis(15)));
    }
}
