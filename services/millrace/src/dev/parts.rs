//! The services, put together.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use millrace_client::port::{CatalogPort, StorePort};
use millrace_feature_serving::parity::{Parity, ParityConfig};
use millrace_feature_serving::{Admin, FeatureServing, Reader, ReaderConfig, ReaderPorts};
use millrace_grpc::{Drain, GrpcServer, services};
use millrace_ingest::{
    CatalogApi, CatalogHandle, Ingest, IngestApi, IngestConfig, IngestPorts, SystemClock, punctuate,
};
use millrace_join::{BackfillLimits, JoinConfig, JoinGrpc, JoinService};
use millrace_placement::Slots;
use millrace_store::{Incarnation, NodeId, Store};
use millrace_store_fjall::{FjallStore, Options};
use millrace_store_writer::StoreWriter;

use super::{DevError, DevOptions};
use crate::open_files::server_limits;

/// The services of one process.
pub(super) struct Parts {
    pub(super) catalog: Arc<CatalogHandle>,
    pub(super) join: Arc<JoinService>,
    ingest: Arc<Ingest>,
    reader: Arc<Reader>,
    writer: Arc<StoreWriter>,
    parity: Parity,
    punctuation: tokio::task::JoinHandle<()>,
}

/// A number that no other run has, drawn from the operating system through the standard hasher.
pub(crate) fn incarnation() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Parts {
    /// Opens the store and starts the services on it, each over its ports.
    pub(super) async fn start(options: &DevOptions) -> Result<Self, DevError> {
        let slots = Slots::try_new(options.slots)?;
        let open = Options { slots: Some(options.slots), ..Options::default() };
        let store: Arc<dyn Store> = Arc::new(FjallStore::open(&options.data, &open)?);
        let writer = Arc::new(StoreWriter::spawn(store.clone(), Default::default()));
        let catalog = CatalogHandle::load(store.clone()).await.map_err(DevError::StoredCatalog)?;
        let run = incarnation();
        let join_config = JoinConfig {
            slots: options.slots,
            at_hand_bytes: options.at_hand_bytes,
            backfill: BackfillLimits {
                bytes_per_second: options.backfill_bytes_per_second,
                ..BackfillLimits::default()
            },
            ..JoinConfig::default()
        };
        let catalog_port: Arc<dyn CatalogPort> = catalog.clone();
        let store_port: Arc<dyn StorePort> = writer.clone();
        let join = JoinService::start(
            join_config,
            NodeId("dev".to_owned()),
            Incarnation(run),
            store_port.clone(),
            catalog_port.clone(),
        );
        let join = Arc::new(join.await?);
        let ports = IngestPorts {
            catalog: catalog_port.clone(),
            join: join.clone(),
            windows: store,
            clock: Arc::new(SystemClock::default()),
        };
        let ingest = Ingest::new(IngestConfig::new(slots, run), ports);
        let punctuation = tokio::spawn(punctuate(ingest.clone()));
        let reader = Arc::new(Reader::new(
            &ReaderConfig::default(),
            ReaderPorts {
                heads: join.clone(),
                owner: join.clone(),
                store: store_port,
                catalog: catalog_port,
            },
            slots,
        ));
        let audit = ParityConfig { share: options.parity_sample, ..ParityConfig::of("dev") };
        let parity = Parity::start(&reader, &audit);
        Ok(Self { catalog, join, ingest, reader, writer, parity, punctuation })
    }

    /// The gRPC server of all services.
    pub(super) fn server(&self, drain: Drain) -> GrpcServer {
        let limits = server_limits();
        let catalog: Arc<dyn CatalogPort> = self.catalog.clone();
        let ingest = IngestApi::new(self.ingest.clone(), drain.clone());
        let catalogs = CatalogApi::new(self.catalog.clone(), drain.clone());
        let features = FeatureServing::new(self.reader.clone(), drain.clone());
        let subscribe = JoinGrpc::new(self.join.clone(), catalog.clone(), drain.clone());
        let admin = Admin::new(self.join.clone(), catalog, drain.clone())
            .with_late(self.reader.clone(), self.join.clone())
            .with_erasures(self.writer.clone(), self.reader.slot_count());
        GrpcServer::new(limits, drain)
            .add_service(services::ingest(ingest, &limits))
            .add_service(services::catalog(catalogs, &limits))
            .add_service(services::features(features, &limits))
            .add_service(services::join(subscribe, &limits))
            .add_service(services::admin(admin, &limits))
            .with_reflection(millrace_proto::FILE_DESCRIPTOR_SET)
    }

    /// Ends the services in the order of the facts' way: nothing is taken in, what is in flight
    /// lands, heads and marks are saved.
    pub(super) async fn drain(&self) {
        self.punctuation.abort();
        if let Err(error) = self.ingest.depart().await {
            // Its watermarks are then taken as lost after `idle_after`.
            tracing::debug!(%error, "depart");
        }
        self.parity.stop().await;
        self.join.drain().await;
        self.writer.shutdown().await;
    }
}
