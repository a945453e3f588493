//! All services in this process, audited: what tests of the continuous audit share.
#![allow(clippy::missing_panics_doc, reason = "test code: a test fails by panicking")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use clap::Parser as _;
use millrace::cli::Cli;
use millrace::dev::{Dev, DevOptions};
use millrace::exit::Exit;
use millrace_catalog::Catalog;
use millrace_client::port::CatalogPort;
use millrace_client::{Client, ClientOptions, Endpoints};
use millrace_config::Share;
use millrace_e2e_tests::Scrape;
use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_types::{EntityKey, FeatureValue, KeyPart, Micros, Value};
use tokio::sync::watch;

/// A machine that builds beside the tests is slow.
pub const SOON: Duration = Duration::from_secs(60);

/// Clicks of users, counted and summed.
const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    fields: {event_id: string, user_id: int64, ts: timestamp, price: double}
views:
  activity:
    entity: user
    events: clicks
    features:
      clicks: {count: {}}
      spend: {sum: price}
";

/// Clicks of users without fields of their own, counted.
const COUNTED: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: id
    fields: {id: string, user_id: int64, ts: timestamp}
views:
  activity:
    entity: user
    events: clicks
    features: {clicks: {count: {}}}
";

/// A catalog that stays as it is.
pub struct OneCatalog {
    versions: watch::Receiver<Arc<Catalog>>,
    /// Who follows the versions must not take this for their end.
    _kept: watch::Sender<Arc<Catalog>>,
}

impl OneCatalog {
    /// Of clicks of users, counted.
    #[must_use]
    pub fn counting() -> Self {
        let catalog = Arc::new(Catalog::compile(COUNTED, None).expect("it is good"));
        let (_kept, versions) = watch::channel(catalog);
        Self { versions, _kept }
    }
}

#[async_trait]
impl CatalogPort for OneCatalog {
    fn current(&self) -> Arc<Catalog> {
        self.versions.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<Catalog>> {
        self.versions.clone()
    }
}

/// Starts all services on a folder, with every answer sampled.
pub async fn start(folder: &Path) -> Dev {
    let catalog = folder.join("catalog.yaml");
    fs::write(&catalog, CATALOG).expect("a file can be written");
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = DevOptions {
        data: folder.join("data"),
        listen: anywhere,
        slots: 4,
        at_hand_bytes: 64 << 20,
        backfill_bytes_per_second: 32 << 20,
        parity_sample: Share::of_millionths(1_000_000).expect("the whole is a share"),
        catalog: Some(catalog),
        security: millrace_grpc::Security::default(),
        admin: Some(anywhere),
    };
    Dev::start(&options).await.expect("the services start")
}

fn endpoint(dev: &Dev) -> String {
    format!("http://{}", dev.address())
}

/// Publishes clicks of user 1 with these numbers, one a second, until they are acknowledged.
pub async fn publish(dev: &Dev, folder: &Path, clicks: std::ops::Range<i64>) {
    let file = folder.join(format!("clicks-{}.csv", clicks.start));
    let rows: String = clicks.map(|n| format!("e{n},1,{},0.1\n", n * 1_000_000)).collect();
    fs::write(&file, format!("event_id,user_id,ts,price\n{rows}")).expect("a file can be written");
    let stream = format!("clicks={}", file.display());
    let args = ["millrace", "--endpoint", &endpoint(dev), "-o", "json", "publish", &stream];
    let cli = Cli::parse_from(args);
    // The command line has a runtime of its own.
    let published = tokio_thread(move || millrace::run(cli)).await;
    assert_eq!(published, Exit::Done);
}

async fn tokio_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    thread::spawn(move || sender.send(work()).ok());
    receiver.await.expect("it does not panic")
}

/// What is served of user 1: clicks, the bits of the sum, and whether the entity is rebuilt.
pub async fn read(dev: &Dev) -> (i64, u64, bool) {
    let endpoints = Endpoints::single(&endpoint(dev));
    let client = Client::new(&endpoints, ClientOptions::default()).expect("an address");
    let key = EntityKey::try_new(&[KeyPart::Int64(1)]).expect("a key");
    let answer = client.get_features(v1::GetFeaturesRequest {
        view: "activity".to_owned(),
        entities: vec![(&key).into()],
        features: Vec::new(),
        known_at: None,
        instant: Some(v1::get_features_request::Instant::At(to_timestamp(Micros(1 << 50)))),
    });
    let answer = answer.await.expect("an answer");
    let [entity] = answer.entities.as_slice() else { panic!("one entity: {answer:?}") };
    let value = |index: usize| FeatureValue::try_from(&entity.values[index]).expect("a value");
    let (FeatureValue::Scalar(Value::Int64(clicks)), FeatureValue::Scalar(Value::Double(spend))) =
        (value(0), value(1))
    else {
        panic!("a count and a sum: {entity:?}")
    };
    (clicks, spend.to_bits(), entity.rebuilding)
}

/// The metrics of the process.
#[must_use]
pub fn scrape(dev: &Dev) -> Scrape {
    Scrape::of(dev.admin().expect("it has an admin port")).expect("metrics")
}

/// How many samples have this outcome.
#[must_use]
pub fn samples(scrape: &Scrape, outcome: &str) -> u64 {
    scrape.one("millrace_parity_samples_total", &[("outcome", outcome)]) as u64
}
