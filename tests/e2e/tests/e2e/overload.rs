//! Ten times the load that the services take, from clients that keep to no rule: memory stays within
//! its bounds, refusals are typed, everybody else is served, and nothing that was acknowledged is
//! missing or counted twice.

mod attackers;
mod producers;
mod rates;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millrace_e2e_tests::{Apart, ApartOptions, SERVICES, Scrape};
use millrace_proto::v1;
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::fixture::{CLICKS, Site, catalog};
use rates::Done;

/// How long the overload lasts unless `MILLRACE_OVERLOAD_SECONDS` says otherwise.
const LASTS: Duration = Duration::from_secs(15);
/// How long the loads before and after it last unless `MILLRACE_OVERLOAD_BESIDE_SECONDS` says otherwise: their
/// rates are the peak. Entities grow meanwhile and cost more, so that the two differ.
const BESIDE: Duration = Duration::from_secs(6);
/// Producers that are served as fast as they go; the overload has ten times as many.
const PRODUCERS: usize = 4;
/// Users that are active at a time, and facts of each before another takes its place: what a fact costs
/// grows with its entity, and users who never left would make the overload, which comes later, look worse.
const ACTIVE: u64 = 5_000;
const FACTS_OF_USER: u64 = 200;
/// Users of one read of all.
const USERS_OF_READ: usize = 500;
/// What every process may take at most beside facts at hand: tables beside them, and what is under way.
const PEAK_BYTES: u64 = 3 << 29;
/// After the overload everything is as before within this time; a machine that builds beside the
/// tests is slow.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);

/// Where the services are, and when the load ends.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) ingest: String,
    pub(crate) join: String,
    pub(crate) serving: String,
    stop: Arc<AtomicBool>,
    /// Facts that happened so far: all producers live in the same time.
    happened: Arc<AtomicU64>,
    /// Facts acknowledged to producers whose answers are read.
    pub(crate) acknowledged: Arc<AtomicU64>,
    /// Calls refused, with the reason and the time to wait that they must have.
    pub(crate) refused: Arc<AtomicU64>,
}

impl Scene {
    fn of(services: &Apart) -> Self {
        Self {
            ingest: services.endpoint("ingest"),
            join: services.endpoint("join"),
            serving: services.endpoint("feature-serving"),
            stop: Arc::default(),
            happened: Arc::default(),
            acknowledged: Arc::default(),
            refused: Arc::default(),
        }
    }

    /// The same with a load of its own that can be ended.
    fn again(&self) -> Self {
        Self { stop: Arc::default(), ..self.clone() }
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// So many facts happen now; the number of the first of them.
    pub(crate) fn next_facts(&self, facts: u64) -> u64 {
        self.happened.fetch_add(facts, Ordering::AcqRel)
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// The first of the users that are active now.
    fn first_active(&self) -> i64 {
        user(self.happened.load(Ordering::Acquire) / ACTIVE * ACTIVE)
    }

    /// A user that no fact has been about yet.
    fn end_of_users(&self) -> i64 {
        self.first_active() + ACTIVE as i64
    }
}

/// Whom the `n`-th fact is about.
pub(crate) fn user(n: u64) -> i64 {
    (n / (ACTIVE * FACTS_OF_USER) * ACTIVE + n % ACTIVE) as i64
}

pub(crate) async fn connect(endpoint: &str) -> Channel {
    let endpoint = Channel::from_shared(endpoint.to_owned()).expect("an endpoint");
    endpoint.connect().await.expect("a connection")
}

fn read(users: impl IntoIterator<Item = i64>) -> v1::GetFeaturesRequest {
    let key = |user| v1::EntityKey {
        parts: vec![v1::KeyPart { kind: Some(v1::key_part::Kind::Int64(user)) }],
    };
    v1::GetFeaturesRequest {
        view: "load".to_owned(),
        entities: users.into_iter().map(key).collect(),
        features: vec!["hits".to_owned()],
        instant: Some(v1::get_features_request::Instant::Moment(v1::Moment::Now as i32)),
        known_at: None,
    }
}

/// The count of each entity.
fn counts(answer: &v1::GetFeaturesResponse) -> Vec<u64> {
    let count = |entity: &v1::EntityFeatures| {
        use v1::feature_value::Kind;

        match entity.values.first().and_then(|value| value.kind.as_ref()) {
            Some(Kind::Int64(count)) => *count as u64,
            Some(other) => panic!("a count is {other:?}"),
            None => 0,
        }
    };
    answer.entities.iter().map(count).collect()
}

fn start(data: &Path) -> Apart {
    let mut options = ApartOptions::on(data);
    options.admin = true;
    let services = Apart::start(&options).expect("the services start");
    let applied = services.cli().run(["apply".as_ref(), catalog("load.yaml").as_os_str()]);
    applied.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    services
}

async fn all_end(tasks: &mut JoinSet<()>) {
    while let Some(ended) = timeout(Duration::from_secs(120), tasks.join_next())
        .await
        .expect("the load ends once it is asked to")
    {
        ended.expect("no panic");
    }
}

/// The sum of the counts of every user, once it is what was acknowledged.
async fn everything_is_there(scene: &Scene) {
    let mut client = FeatureServiceClient::new(connect(&scene.serving).await);
    let wanted = scene.acknowledged();
    let until = Instant::now() + RECOVERED_WITHIN;
    loop {
        let mut sum = 0;
        for first in (0..scene.end_of_users()).step_by(USERS_OF_READ) {
            let read = client.get_features(read(first..first + USERS_OF_READ as i64));
            sum += counts(read.await.expect("an answer").get_ref()).iter().sum::<u64>();
        }
        assert!(sum <= wanted, "{sum} facts count, {wanted} were acknowledged");
        if sum == wanted {
            return;
        }
        assert!(Instant::now() < until, "{sum} facts count, {wanted} were acknowledged");
        // Stored heads follow what is acknowledged within a second.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn seconds(name: &str, usual: Duration) -> Duration {
    let given = std::env::var(name).ok().and_then(|s| s.parse().ok());
    given.map_or(usual, Duration::from_secs)
}

/// What is done under a few producers that keep to their credits, and so are served as fast as they go.
async fn under_a_few(services: &Apart, scene: &Scene, name: &str, lasts: Duration) -> Done {
    let load = scene.again();
    let reads = rates::read_aside(load.clone());
    let mut tasks = JoinSet::new();
    for number in 0..PRODUCERS {
        tasks.spawn(producers::fair(load.clone(), format!("{name}-{number}")));
    }
    let done = rates::measure(services, &load, lasts).await;
    load.end();
    all_end(&mut tasks).await;
    done.with(reads)
}

/// The same under ten times as many that keep to nothing, and clients that take no part; and when it ended.
async fn under_the_flood(services: &Apart, scene: &Scene, lasts: Duration) -> (Done, Instant) {
    let flood = scene.again();
    let reads = rates::read_aside(flood.clone());
    let mut tasks = JoinSet::new();
    for number in 0..10 * PRODUCERS {
        tasks.spawn(producers::heedless(flood.clone(), format!("heedless-{number}")));
        tasks.spawn(producers::impatient(flood.clone(), format!("impatient-{number}")));
    }
    attackers::begin(&flood, &mut tasks);
    let done = rates::measure(services, &flood, lasts).await;
    flood.end();
    let ended = Instant::now();
    all_end(&mut tasks).await;
    (done.with(reads), ended)
}

#[test]
#[expect(clippy::print_stderr, reason = "the rates are for people: a test judges no time")]
fn an_overload_of_ten_times_is_survived() {
    let lasts = seconds("MILLRACE_OVERLOAD_SECONDS", LASTS);
    let beside = seconds("MILLRACE_OVERLOAD_BESIDE_SECONDS", BESIDE);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let services = start(&folder.path().join("data"));
    rates::keep_to_the_first_cores(&services);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.on_thread_start(rates::keep_to_the_last_core).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let scene = Scene::of(&services);
        under_a_few(&services, &scene, "warm", beside / 2).await;
        let before = under_a_few(&services, &scene, "before", beside).await;
        let (under, ended) = under_the_flood(&services, &scene, lasts).await;
        assert!(!under.reads.is_empty(), "the reader never read");

        // All is as before: a producer is served, and what it sent is read.
        let one = scene.again();
        one.end();
        producers::fair(one, "one".to_owned()).await;
        let recovery = ended.elapsed();
        assert!(recovery < RECOVERED_WITHIN, "a batch was acknowledged after {recovery:?}");
        everything_is_there(&scene).await;
        let after = under_a_few(&services, &scene, "after", beside).await;
        let refused = scene.refused.load(Ordering::Acquire);
        eprintln!(
            "overload: before {before}\noverload: under ten times the load {under}\noverload: after \
             {after}\noverload: {:.0} % of the mean of before and after; {refused} calls refused; a batch was \
             acknowledged {recovery:?} after its end",
            200.0 * under.rate / (before.rate + after.rate),
        );
    });
    for service in SERVICES {
        let peak = services.peak_bytes(service).expect("it still runs");
        let metrics = Scrape::of(services.admin(service).expect("an admin port")).expect("metrics");
        let at_hand = metrics.sum("millrace_join_at_hand_bytes", &[]) as u64;
        let (taken, facts) = (peak >> 20, at_hand >> 20);
        eprintln!("overload: {service} took {taken} MiB at most, {facts} for facts at hand");
        assert!(peak <= PEAK_BYTES + at_hand, "{service} took {taken} MiB, {facts} for facts");
    }
}

/// A process that may open few files takes fewer connections: the store has what it needs, and who
/// comes from elsewhere is served.
#[test]
fn connections_leave_files_for_the_store() {
    let site = Site::with(|options| options.open_files = Some(128));
    let address = site.server().address().parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let held = runtime.block_on(attackers::hold(address, 400));
    assert_eq!(held.len(), 400, "they are accepted or closed, and not kept waiting");
    let report = site.publish("clicks", &[CLICKS, "e1,1,2026-03-01T12:00:00Z,1,,5,2.5,food"]);
    assert_eq!(report.accepted, 1, "{report:?}");
    let read = ["1", "--at", "2026-03-02T00:00:00Z", "--features", "clicks"];
    assert_eq!(site.features(&read)[0]["clicks"]["value"], 1);
    drop(held);
}
