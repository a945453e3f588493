//! A running service, and what clients send it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use millrace_catalog::Catalog;
use millrace_client::port::CatalogPort;
use millrace_grpc::{Drain, GrpcServer, ServerLimits, services};
use millrace_ingest::ingest::IngestCounters;
use millrace_ingest::{
    CatalogApi, CatalogHandle, Clock, Ingest, IngestApi, IngestConfig, IngestPorts,
};
use millrace_placement::Slots;
use millrace_proto::v1::catalog_service_client::CatalogServiceClient;
use millrace_proto::v1::ingest_service_client::IngestServiceClient;
use millrace_proto::v1::{self, TypedRow, Value, value::Kind};
use millrace_store::memory::{FaultPlan, MemoryStore};
use millrace_types::Micros;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::join::FakeJoin;

/// 2026-03-01T12:00:00Z, when the tests take place.
pub(crate) const NOON: i64 = 1_772_366_400_000_000;

pub(crate) const CATALOG: &str = "\
entities: {user: int64, item: string}
streams:
  clicks:
    kind: event
    keys: {user: user_id, item: item_id}
    at: ts
    id: event_id
    out_of_orderness: 5s
    fields: {event_id: string, user_id: int64, item_id: string, ts: timestamp, price: double}
  visits:
    kind: event
    keys: {user: user_id}
    at: ts
    fields: {user_id: int64, ts: timestamp}
";

/// What a test waits for happens soon, or the test fails.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("it happens within 20 s")
}

#[derive(Default)]
pub(crate) struct FakeClock {
    pub(crate) millis: AtomicU64,
    pub(crate) now: AtomicI64,
}

impl Clock for FakeClock {
    fn now(&self) -> Micros {
        Micros(NOON + self.now.load(Ordering::Relaxed))
    }

    fn monotonic_ms(&self) -> u64 {
        self.millis.load(Ordering::Relaxed)
    }
}

pub(crate) struct Running {
    pub(crate) join: Arc<FakeJoin>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) catalog: Arc<CatalogHandle>,
    pub(crate) ingest: Arc<Ingest>,
    endpoint: Endpoint,
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Applies a catalog with one more field; gives its version.
    pub(crate) async fn apply_another(&self) -> u32 {
        let source = CATALOG.replace("price: double", "price: double, colour: string");
        self.catalog.apply(&source, false, None).await.unwrap();
        self.current().version
    }

    pub(crate) async fn with(change: impl FnOnce(&mut IngestConfig)) -> Self {
        let store = Arc::new(MemoryStore::new());
        let catalog = CatalogHandle::load(Arc::clone(&store) as _).await.unwrap();
        catalog.apply(CATALOG, false, None).await.unwrap();
        let (join, clock) = (FakeJoin::new(), Arc::new(FakeClock::default()));
        let mut config = IngestConfig::new(Slots::try_new(8).unwrap(), 77);
        config.resend_for = Duration::from_secs(10);
        change(&mut config);
        let ingest = Ingest::new(
            config,
            IngestPorts {
                catalog: Arc::clone(&catalog) as _,
                join: Arc::clone(&join) as _,
                windows: Arc::clone(&store) as _,
                clock: Arc::clone(&clock) as _,
            },
        );
        let (drain, limits) = (Drain::new(), ServerLimits::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = IngestApi::new(Arc::clone(&ingest), drain.clone());
        let catalogs = CatalogApi::new(Arc::clone(&catalog), drain.clone());
        let server = GrpcServer::new(limits, drain)
            .add_service(services::ingest(api, &limits))
            .add_service(services::catalog(catalogs, &limits));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let drained = server.serve(listener, async { drop(stopped.await) }).await.unwrap();
            assert!(drained.is_clean(), "{drained:?}");
        });
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let stop = Some(stop);
        Self { join, store, clock, catalog, ingest, endpoint, channel, stop, served }
    }

    pub(crate) fn client(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.channel.clone())
    }

    /// A client without timers of its own, so that it hears what the server says of a deadline.
    pub(crate) fn patient(&self) -> IngestServiceClient<Client<HttpConnector, Body>> {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        IngestServiceClient::with_origin(client, self.endpoint.uri().clone())
    }

    pub(crate) fn catalogs(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel.clone())
    }

    /// Waits until so many batches wait for credits of a slot.
    pub(crate) async fn waits(&self, batches: u64) {
        soon(async {
            while self.counters().waiting != batches {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub(crate) fn counters(&self) -> IngestCounters {
        self.ingest.counters()
    }

    pub(crate) fn faults(&self, plan: FaultPlan) {
        self.store.set_plan(plan);
    }

    pub(crate) fn current(&self) -> Arc<Catalog> {
        self.catalog.current()
    }

    pub(crate) async fn batch(
        &self,
        request: v1::PublishRequest,
    ) -> Result<v1::PublishResult, Status> {
        let mut client = self.client();
        let response = soon(client.publish_batch(v1::PublishBatchRequest::from(request))).await?;
        Ok(response.into_inner().result.unwrap())
    }

    /// Opens a call; its first message grants credits.
    pub(crate) async fn call(&self) -> Call {
        Self::open(self.client()).await
    }

    /// The same from another address.
    pub(crate) async fn call_from_elsewhere(&self) -> Call {
        let endpoint = self.endpoint.clone().local_address(Some([127, 0, 0, 2].into()));
        Self::open(IngestServiceClient::new(endpoint.connect().await.unwrap())).await
    }

    async fn open(mut client: IngestServiceClient<Channel>) -> Call {
        let (requests, receiver) = mpsc::channel(64);
        let answers = soon(client.publish(ReceiverStream::new(receiver))).await.unwrap();
        let mut call = Call { requests: Some(requests), answers: answers.into_inner() };
        let hello = call.next().await.unwrap().unwrap();
        assert!(hello.result.is_none());
        assert!(hello.credits.is_some_and(|credits| credits.facts > 0 && credits.bytes > 0));
        call
    }

    /// Goes down in order.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        soon(self.served).await.unwrap();
        self.ingest.depart().await.unwrap();
        let state = self.join.state();
        assert!(state.requests.last().unwrap().departs);
    }
}

pub(crate) struct Call {
    requests: Option<mpsc::Sender<v1::PublishRequest>>,
    answers: Streaming<v1::PublishResponse>,
}

impl Call {
    pub(crate) async fn send(&self, request: v1::PublishRequest) {
        soon(self.requests.as_ref().unwrap().send(request)).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Option<Result<v1::PublishResponse, Status>> {
        soon(self.answers.message()).await.transpose()
    }

    pub(crate) async fn result(&mut self) -> v1::PublishResult {
        self.next().await.unwrap().unwrap().result.unwrap()
    }

    /// Ends the requests, and sees the answers end.
    pub(crate) async fn finish(mut self) {
        self.requests = None;
        assert!(self.next().await.is_none());
    }
}

fn row(values: &[(&str, Kind)]) -> TypedRow {
    let value =
        |(name, kind): &(&str, Kind)| ((*name).to_owned(), Value { kind: Some(kind.clone()) });
    TypedRow { values: values.iter().map(value).collect() }
}

/// A click `at` seconds from noon.
pub(crate) fn click(id: &str, user: i64, at: i64) -> TypedRow {
    row(&[
        ("event_id", Kind::String(id.to_owned())),
        ("user_id", Kind::Int64(user)),
        ("item_id", Kind::String(format!("item-{user}"))),
        ("ts", Kind::Int64(NOON + at * 1_000_000)),
    ])
}

pub(crate) fn click_with(id: &str, user: i64, at: i64, more: &[(&str, Kind)]) -> TypedRow {
    let mut click = click(id, user, at);
    click.values.extend(row(more).values);
    click
}

pub(crate) fn visit(user: i64, at: i64) -> TypedRow {
    row(&[("user_id", Kind::Int64(user)), ("ts", Kind::Int64(NOON + at * 1_000_000))])
}

/// A batch of producer `p`.
pub(crate) fn batch(stream: &str, first: u64, rows: Vec<TypedRow>) -> v1::PublishRequest {
    v1::PublishRequest {
        producer_id: "p".to_owned(),
        stream: stream.to_owned(),
        first_sequence: first,
        rows,
        ..Default::default()
    }
}

pub(crate) fn clicks(first: u64, ids: &[&str]) -> v1::PublishRequest {
    let rows = ids.iter().zip(1..).map(|(id, user)| click(id, user, 0)).collect();
    batch("clicks", first, rows)
}

/// Accepted, repaired, duplicate, late, rejected.
pub(crate) fn counts(result: &v1::PublishResult) -> [u64; 5] {
    let c = result.counts.unwrap();
    [c.accepted, c.repaired, c.duplicate, c.late, c.rejected]
}
