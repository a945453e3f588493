//! A server whose `Publish` calls are played by the test, and whose reads answer by the view.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use millrace_client::{Client, ClientOptions, Endpoints};
use millrace_grpc::{Drain, DrainLimits, ErrorCode, Fault, GrpcServer, ServerLimits, services};
use millrace_proto::v1;
use millrace_proto::v1::feature_service_server::FeatureService;
use millrace_proto::v1::ingest_service_server::IngestService;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// No test waits longer for anything.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long something that must not happen is given to happen.
pub(crate) const MOMENT: Duration = Duration::from_millis(150);

/// A call of `Publish`, seen from the server.
pub(crate) struct PublishCall {
    pub(crate) requests: Streaming<v1::PublishRequest>,
    answers: mpsc::Sender<Result<v1::PublishResponse, Status>>,
}

impl PublishCall {
    pub(crate) async fn request(&mut self) -> v1::PublishRequest {
        soon(self.requests.message()).await.unwrap().unwrap()
    }

    /// Fails when a request comes.
    pub(crate) async fn assert_quiet(&mut self) {
        let request = tokio::time::timeout(MOMENT, self.requests.message()).await;
        assert!(request.is_err(), "{request:?}");
    }

    pub(crate) async fn grant(&self, facts: u64, bytes: u64) {
        self.answer(Ok(credits(facts, bytes))).await;
    }

    pub(crate) async fn accept(&self, request: &v1::PublishRequest, facts: u64, bytes: u64) {
        let first = request.first_sequence;
        let counts =
            v1::VerdictCounts { accepted: request.next_sequence - first, ..Default::default() };
        let result = v1::PublishResult {
            first_sequence: first,
            next_sequence: request.next_sequence,
            durable_sequence: request.next_sequence,
            counts: Some(counts),
            ..Default::default()
        };
        let answer = v1::PublishResponse { result: Some(result), ..credits(facts, bytes) };
        self.answer(Ok(answer)).await;
    }

    pub(crate) async fn fail(self, status: Status) {
        self.answer(Err(status)).await;
    }

    async fn answer(&self, answer: Result<v1::PublishResponse, Status>) {
        self.answers.send(answer).await.unwrap();
    }
}

fn credits(facts: u64, bytes: u64) -> v1::PublishResponse {
    v1::PublishResponse { credits: Some(v1::Credits { facts, bytes }), ..Default::default() }
}

#[derive(Clone)]
struct Played(mpsc::Sender<PublishCall>);

#[tonic::async_trait]
impl IngestService for Played {
    type PublishStream = ReceiverStream<Result<v1::PublishResponse, Status>>;

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let (answers, stream) = mpsc::channel(16);
        self.0.send(PublishCall { requests: request.into_inner(), answers }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn publish_batch(
        &self,
        request: Request<v1::PublishBatchRequest>,
    ) -> Result<Response<v1::PublishBatchResponse>, Status> {
        let next_sequence = request.into_inner().next_sequence;
        let result = v1::PublishResult { next_sequence, ..Default::default() };
        Ok(Response::new(v1::PublishBatchResponse { result: Some(result), dedup_retention: None }))
    }
}

#[tonic::async_trait]
impl FeatureService for Played {
    type GetTrainingSetStream =
        futures::stream::Empty<Result<millrace_proto::v1::GetTrainingSetResponse, Status>>;

    async fn get_training_set(
        &self,
        _: Request<Streaming<millrace_proto::v1::GetTrainingSetRequest>>,
    ) -> Result<Response<Self::GetTrainingSetStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type StreamFeaturesStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamFeaturesResponse, Status>> + Send>>;

    async fn get_features(
        &self,
        request: Request<v1::GetFeaturesRequest>,
    ) -> Result<Response<v1::GetFeaturesResponse>, Status> {
        match request.into_inner().view.as_str() {
            "never" => std::future::pending().await,
            "missing" => Err(Fault::new(ErrorCode::ViewNotFound, "no view is called missing")
                .violation("view", "must be a view of the catalog")
                .into_status()),
            _ => Ok(Response::new(v1::GetFeaturesResponse {
                catalog_version: 7,
                ..Default::default()
            })),
        }
    }

    async fn stream_features(
        &self,
        request: Request<Streaming<v1::StreamFeaturesRequest>>,
    ) -> Result<Response<Self::StreamFeaturesStream>, Status> {
        let answers = futures::StreamExt::map(request.into_inner(), |request| {
            request.map(|r| v1::StreamFeaturesResponse { tag: r.tag, outcome: None })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

/// A server that runs until it is stopped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    calls: mpsc::Receiver<PublishCall>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, calls) = mpsc::channel(4);
        let drain =
            DrainLimits { streams: MOMENT, connections: SOON, bound: SOON, notice: Duration::ZERO };
        let limits = ServerLimits { drain, ..ServerLimits::default() };
        let server = GrpcServer::new(limits, Drain::new())
            .add_service(services::ingest(Played(sender.clone()), &limits))
            .add_service(services::features(Played(sender), &limits));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            server.serve(listener, stopped).await.unwrap();
        });
        Self { address, calls, stop, served }
    }

    pub(crate) async fn call(&mut self) -> PublishCall {
        soon(self.calls.recv()).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        soon(self.served).await.unwrap();
    }
}

pub(crate) fn client(address: SocketAddr, options: ClientOptions) -> Client {
    Client::new(&Endpoints::single(&format!("http://{address}")), options).unwrap()
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it takes too long")
}

/// An address of this machine where nobody listens.
pub(crate) async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
