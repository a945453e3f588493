//! The deadline of a read goes with it, from the client through feature-serving to store-writer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use millrace_e2e_tests::ApartOptions;
use millrace_proto::v1;
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};

use crate::apart::Place;
use crate::fixture::{CLICKS, pair};

/// Longer than a read takes and shorter than any patience of the services with each other.
const DEADLINE: Duration = Duration::from_millis(2_500);

/// The calls that reads make, and how long each of them may take at most.
type Calls = Arc<Mutex<Vec<(String, Option<Duration>)>>>;

/// Stands before store-writer, hands every call on and writes down how long it may take.
#[derive(Clone)]
struct Recorder {
    store: Channel,
    calls: Calls,
}

impl NamedService for Recorder {
    const NAME: &'static str = "millrace.v1.StoreService";
}

impl Service<http::Request<Body>> for Recorder {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let within = request.headers().get("grpc-timeout").and_then(|t| within(t.to_str().ok()?));
        let path = request.uri().path().to_owned();
        self.calls.lock().expect("no panic").push((path, within));
        let mut store = self.store.clone();
        Box::pin(async move {
            let is_ready = std::future::poll_fn(|cx| store.poll_ready(cx)).await;
            let answer = match is_ready {
                Ok(()) => store.call(request).await,
                Err(error) => Err(error),
            };
            Ok(answer
                .unwrap_or_else(|error| tonic::Status::unavailable(error.to_string()).into_http()))
        })
    }
}

/// The same before the store-writer's health, on which feature-serving waits.
#[derive(Clone)]
struct OfHealth(Recorder);

impl NamedService for OfHealth {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl Service<http::Request<Body>> for OfHealth {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <Recorder as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

/// The value of a `grpc-timeout` header: digits and a unit.
fn within(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    let n = digits.parse().ok()?;
    Some(match unit {
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => Duration::from_secs(n.checked_mul(60)?),
    })
}

impl Recorder {
    #[expect(
        clippy::disallowed_methods,
        reason = "it stands for nothing that is to withstand anything"
    )]
    async fn before(store: &str) -> (String, Calls) {
        let store = Channel::from_shared(store.to_owned()).expect("an endpoint").connect_lazy();
        let recorder = Self { store, calls: Calls::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let calls = Arc::clone(&recorder.calls);
        let server =
            Server::builder().add_service(OfHealth(recorder.clone())).add_service(recorder);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (endpoint, calls)
    }
}

fn within_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

fn key() -> v1::EntityKey {
    v1::EntityKey { parts: vec![v1::KeyPart { kind: Some(v1::key_part::Kind::Int64(1)) }] }
}

fn read(instant: v1::get_features_request::Instant) -> v1::GetFeaturesRequest {
    v1::GetFeaturesRequest {
        view: "user_activity".to_owned(),
        entities: vec![key()],
        instant: Some(instant),
        ..v1::GetFeaturesRequest::default()
    }
}

/// Services with one click in their store, of which feature-serving reaches the store through a
/// [`Recorder`].
struct Recorded {
    place: Place,
    runtime: Runtime,
    calls: Calls,
}

impl Recorded {
    fn made(change: impl FnOnce(&mut ApartOptions)) -> Self {
        let mut place = Place::made(change);
        let clicks = place
            .write("clicks.csv", &format!("{CLICKS}\ne1,1,2026-03-01T12:00:00Z,1,,5,2.5,food"));
        let report = place.cli().publish([pair("clicks", &clicks)]).expect("it is published");
        assert_eq!(report.accepted, 1, "{report:?}");
        place.services.settle();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let store = place.services.endpoint("store-writer");
        let (before, calls) = runtime.block_on(Recorder::before(&store));
        place.services.start_again_on("feature-serving", &before).expect("it starts");
        Self { place, runtime, calls }
    }

    async fn client(&self) -> FeatureServiceClient<Channel> {
        let serving = self.place.services.endpoint("feature-serving");
        let channel = Channel::from_shared(serving).expect("an endpoint").connect().await;
        FeatureServiceClient::new(channel.expect("a connection"))
    }

    /// The calls of reads since it was asked last.
    fn reads(&self) -> Vec<(String, Option<Duration>)> {
        of_reads(std::mem::take(&mut *self.calls.lock().expect("no panic")))
    }
}

fn now() -> v1::GetFeaturesRequest {
    read(v1::get_features_request::Instant::Moment(v1::Moment::Now as i32))
}

/// The same as of 2026-03-01, before the click was known: the log answers.
fn past() -> v1::GetFeaturesRequest {
    let known_at = Some(prost_types::Timestamp { seconds: 1_772_323_200, nanos: 0 });
    v1::GetFeaturesRequest { known_at, ..now() }
}

/// There are calls of this name among them, and none may take longer than the deadline.
#[track_caller]
fn assert_within_deadline(reads: &[(String, Option<Duration>)], name: &str) {
    let mut of_name = reads.iter().filter(|(path, _)| path.ends_with(name)).peekable();
    assert!(of_name.peek().is_some(), "{name}: {reads:?}");
    assert!(of_name.all(|(_, within)| within.is_some_and(|w| w <= DEADLINE)), "{name}: {reads:?}");
}

#[test]
fn a_read_takes_its_deadline_to_the_store() {
    let recorded = Recorded::made(|_| ());
    recorded.runtime.block_on(async {
        let mut client = recorded.client().await;
        recorded.reads();
        client.get_features(within_deadline(now())).await.expect("an answer");
        let reads = recorded.reads();
        assert!(!reads.is_empty());
        assert!(reads.iter().all(|(_, within)| within.is_some_and(|w| w <= DEADLINE)), "{reads:?}");
        client.get_features(within_deadline(past())).await.expect("an answer");
        let reads = recorded.reads();
        assert!(reads.iter().any(|(path, _)| path.ends_with("/ReadLog")), "{reads:?}");
        assert!(reads.iter().all(|(_, within)| within.is_some_and(|w| w <= DEADLINE)), "{reads:?}");
        // Without a deadline of its own a read has that of the services.
        client.get_features(now()).await.expect("an answer");
        let reads = recorded.reads();
        assert!(reads.iter().all(|(_, within)| within.is_some_and(|w| w > DEADLINE)), "{reads:?}");
    });
}

/// Reads of a stream, explanations and training sets run in tasks of their own, or over many slots: these
/// have the deadline of the call too.
#[test]
fn every_other_kind_of_read_takes_its_deadline_to_the_store() {
    // A training set reads the log of each.
    let recorded = Recorded::made(|options| options.slots = Some(4));
    recorded.runtime.block_on(async {
        let mut client = recorded.client().await;
        recorded.reads();
        stream(&mut client).await;
        let reads = recorded.reads();
        assert_within_deadline(&reads, "/Load");
        assert_within_deadline(&reads, "/ReadLog");
        let request = v1::ExplainRequest {
            view: "user_activity".to_owned(),
            entity: Some(key()),
            feature: "clicks".to_owned(),
            ..v1::ExplainRequest::default()
        };
        let explained = client.explain(within_deadline(request)).await.expect("an explanation");
        assert_eq!(explained.into_inner().used_total, 1);
        assert_within_deadline(&recorded.reads(), "/ReadLog");
        training_set(&mut client).await;
        assert_within_deadline(&recorded.reads(), "/ReadLog");
    });
}

/// Two reads on one call, one of what is known now and one of what was: both are answered.
async fn stream(client: &mut FeatureServiceClient<Channel>) {
    let request = |read| v1::StreamFeaturesRequest { read: Some(read), tag: 0 };
    let requests = tokio_stream::iter([request(now()), request(past())]);
    let answers = client.stream_features(within_deadline(requests)).await.expect("a call");
    let mut answers = answers.into_inner();
    for _ in 0..2 {
        let answer = answers.message().await.expect("it goes on").expect("an answer");
        let outcome = answer.outcome;
        let is_answered =
            matches!(outcome, Some(v1::stream_features_response::Outcome::Features(_)));
        assert!(is_answered, "{outcome:?}");
    }
}

/// The events of the view as a training set: it is whole, with one row.
async fn training_set(client: &mut FeatureServiceClient<Channel>) {
    use v1::get_training_set_request::Part as Asked;
    use v1::get_training_set_response::Part;
    use v1::training_set_start::{KnownAt, Rows};

    let view = v1::TrainingView { view: "user_activity".to_owned(), features: Vec::new() };
    let start = v1::TrainingSetStart {
        views: vec![view],
        rows: Some(Rows::Events(v1::EventRows::default())),
        known_at: Some(KnownAt::Latest(v1::AsKnownLatest {})),
        ..v1::TrainingSetStart::default()
    };
    let request = v1::GetTrainingSetRequest { part: Some(Asked::Start(start)) };
    let parts = client.get_training_set(within_deadline(tokio_stream::iter([request]))).await;
    let mut parts = parts.expect("a call").into_inner();
    loop {
        let part = parts.message().await.expect("it goes on").expect("a summary ends it").part;
        if let Some(Part::Summary(summary)) = part {
            assert_eq!(summary.rows, 1);
            return;
        }
    }
}

/// Other calls are of the process, not of a read.
fn of_reads(calls: Vec<(String, Option<Duration>)>) -> Vec<(String, Option<Duration>)> {
    let is_read = |path: &str| path.ends_with("/Load") || path.ends_with("/ReadLog");
    calls.into_iter().filter(|(path, _)| is_read(path)).collect()
}
