//! A server with services whose handlers never finish by themselves, and clients for it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use millrace_grpc::{Drain, Drained, ErrorCode, Fault, GrpcServer, Health, ServerLimits, services};
use millrace_proto::FILE_DESCRIPTOR_SET;
use millrace_proto::v1;
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use millrace_proto::v1::feature_service_server::FeatureService;
use millrace_proto::v1::join_service_client::JoinServiceClient;
use millrace_proto::v1::join_service_server::JoinService;
use millrace_proto::v1::{
    Change, GetFeaturesRequest, GetFeaturesResponse, StreamFeaturesRequest, StreamFeaturesResponse,
    SubscribeRequest, SubscribeResponse,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// No test waits longer for anything.
pub(crate) const SOON: Duration = Duration::from_secs(20);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers by the name of the view asked for.
#[derive(Clone, Copy)]
pub(crate) struct Scripted;

#[tonic::async_trait]
impl FeatureService for Scripted {
    type GetTrainingSetStream =
        futures::stream::Empty<Result<millrace_proto::v1::GetTrainingSetResponse, Status>>;

    async fn get_training_set(
        &self,
        _: Request<Streaming<millrace_proto::v1::GetTrainingSetRequest>>,
    ) -> Result<Response<Self::GetTrainingSetStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type StreamFeaturesStream = Answers<StreamFeaturesResponse>;

    async fn get_features(
        &self,
        request: Request<GetFeaturesRequest>,
    ) -> Result<Response<GetFeaturesResponse>, Status> {
        match request.into_inner().view.as_str() {
            "never" => std::future::pending().await,
            "missing" => {
                Err(Fault::new(ErrorCode::ViewNotFound, "no view is called missing").into())
            }
            _ => Ok(Response::new(GetFeaturesResponse::default())),
        }
    }

    async fn stream_features(
        &self,
        request: Request<Streaming<StreamFeaturesRequest>>,
    ) -> Result<Response<Self::StreamFeaturesStream>, Status> {
        let requests = request.into_inner();
        Ok(Response::new(Box::pin(requests.map(|r| r.map(|_| StreamFeaturesResponse::default())))))
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

#[tonic::async_trait]
impl JoinService for Scripted {
    type SubscribeStream = Answers<SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let flood = SubscribeResponse {
            schema: None,
            changes: vec![Change { cursor: "c".repeat(64 * 1024), ..Change::default() }],
            ..SubscribeResponse::default()
        };
        Ok(Response::new(match request.into_inner().view.as_str() {
            "flood" => Box::pin(futures::stream::repeat(Ok(flood))),
            _ => Box::pin(futures::stream::pending()),
        }))
    }

    type ProcessStream = Answers<v1::ProcessResponse>;

    async fn process(
        &self,
        _: Request<Streaming<v1::ProcessRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn close_up_to(
        &self,
        _: Request<v1::CloseUpToRequest>,
    ) -> Result<Response<v1::CloseUpToResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn suspect_entities(
        &self,
        _: Request<v1::SuspectEntitiesRequest>,
    ) -> Result<Response<v1::SuspectEntitiesResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn get_slots(
        &self,
        _: Request<v1::GetSlotsRequest>,
    ) -> Result<Response<v1::GetSlotsResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

/// A server that runs until it is stopped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) health: Health,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Drained>,
}

impl Running {
    pub(crate) async fn start(limits: ServerLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = Drain::new();
        let server = GrpcServer::new(limits, drain.clone())
            .add_service(services::features(Scripted, &limits))
            .add_service(services::join(Scripted, &limits))
            .with_reflection(FILE_DESCRIPTOR_SET);
        let health = server.health();
        health.set_serving(true).await;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            server.serve(listener, stopped).await.unwrap()
        });
        Self { address, drain, health, stop, served }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn features(&self) -> FeatureServiceClient<Channel> {
        FeatureServiceClient::new(self.channel().await)
    }

    pub(crate) async fn join(&self) -> JoinServiceClient<Channel> {
        JoinServiceClient::new(self.channel().await)
    }

    /// A client without timers of its own, so that it hears what the server says of a deadline.
    pub(crate) fn patient(&self) -> FeatureServiceClient<Client<HttpConnector, Body>> {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let origin = format!("http://{}", self.address).parse().unwrap();
        FeatureServiceClient::with_origin(client, origin)
    }

    /// Stops it and gives how it went down. Fails when that takes longer than [`SOON`].
    pub(crate) async fn stop(self) -> Drained {
        self.stop.send(()).unwrap();
        soon(self.served).await.unwrap()
    }
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it takes too long")
}

pub(crate) fn read(view: &str) -> GetFeaturesRequest {
    GetFeaturesRequest { view: view.to_owned(), ..GetFeaturesRequest::default() }
}

pub(crate) fn follow(view: &str) -> SubscribeRequest {
    SubscribeRequest { view: view.to_owned(), ..SubscribeRequest::default() }
}
