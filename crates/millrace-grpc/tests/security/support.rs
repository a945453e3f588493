//! A server that answers every read, and clients for it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use millrace_grpc::{
    Access, Caller, ClientCertificates, Drain, ErrorCode, GrpcServer, Security, ServerLimits,
    ServerTls, services,
};
use millrace_proto::FILE_DESCRIPTOR_SET;
use millrace_proto::v1;
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use millrace_proto::v1::feature_service_server::FeatureService;
use millrace_proto::v1::{
    GetFeaturesRequest, GetFeaturesResponse, StreamFeaturesRequest, StreamFeaturesResponse,
};
use tokio::net::TcpListener;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::certificates::{Authority, Signed};

/// Answers reads that the caller may do, with the headers that reach it.
#[derive(Clone, Copy)]
struct Reads;

#[tonic::async_trait]
impl FeatureService for Reads {
    type GetTrainingSetStream =
        futures::stream::Empty<Result<millrace_proto::v1::GetTrainingSetResponse, Status>>;

    async fn get_training_set(
        &self,
        _: Request<Streaming<millrace_proto::v1::GetTrainingSetRequest>>,
    ) -> Result<Response<Self::GetTrainingSetStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type StreamFeaturesStream =
        Pin<Box<dyn Stream<Item = Result<StreamFeaturesResponse, Status>> + Send>>;

    async fn get_features(
        &self,
        request: Request<GetFeaturesRequest>,
    ) -> Result<Response<GetFeaturesResponse>, Status> {
        Caller::of(&request).may_read(&request.get_ref().view)?;
        let seen = format!("{request:?} {:?}", request.metadata());
        Ok(Response::new(GetFeaturesResponse { changelogs: vec![seen], ..Default::default() }))
    }

    async fn stream_features(
        &self,
        _: Request<Streaming<StreamFeaturesRequest>>,
    ) -> Result<Response<Self::StreamFeaturesStream>, Status> {
        Ok(Response::new(Box::pin(futures::stream::empty())))
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

/// Starts a server with this protection.
pub(crate) async fn serve(security: Security, limits: ServerLimits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = GrpcServer::new(limits, Drain::new())
        .with_security(security)
        .add_service(services::features(Reads, &limits))
        .with_reflection(FILE_DESCRIPTOR_SET);
    server.health().set_serving(true).await;
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await.unwrap() });
    address
}

/// TLS with a certificate of this authority.
pub(crate) fn tls(authority: &Authority, clients: ClientCertificates<'_>) -> Option<ServerTls> {
    let Signed { cert, key } = authority.server();
    Some(ServerTls::from_pem(cert.as_bytes(), key.as_bytes(), clients).unwrap())
}

pub(crate) fn access(file: &str) -> Option<Arc<Access>> {
    Some(Arc::new(Access::parse(file).unwrap()))
}

/// A channel over TLS that trusts `authority` and shows `client`.
pub(crate) async fn channel(
    address: SocketAddr,
    authority: &Authority,
    client: Option<&Signed>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    if let Some(Signed { cert, key }) = client {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await
}

pub(crate) async fn plain(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Reads a view.
pub(crate) async fn read(
    channel: Channel,
    view: &str,
    token: Option<&str>,
) -> Result<GetFeaturesResponse, Status> {
    let mut request =
        Request::new(GetFeaturesRequest { view: view.to_owned(), ..Default::default() });
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let mut client = FeatureServiceClient::new(channel);
    let answered = tokio::time::timeout(Duration::from_secs(20), client.get_features(request));
    answered.await.expect("it takes too long").map(Response::into_inner)
}

/// A refusal has this code, its reason, and nothing of `secrets`.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    code: ErrorCode,
    secrets: &[&str],
) {
    let status = answer.unwrap_err();
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!((info.reason.as_str(), status.code()), (code.reason(), code.grpc_code()));
    let told = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
    for secret in secrets {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}
