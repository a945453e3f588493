//! Deadlines, sizes, admission, and the details of every failure.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use millrace_grpc::{ERROR_DOMAIN, ErrorCode, ServerLimits};
use millrace_proto::v1::{EntityKey, GetFeaturesRequest, GetFeaturesResponse, KeyPart, key_part};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::support::{Running, follow, read, soon};

#[track_caller]
fn assert_code(status: &Status, code: ErrorCode) {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(
        (info.reason.as_str(), status.code()),
        (code.reason(), code.grpc_code()),
        "{status:?}"
    );
    assert_eq!(info.domain, ERROR_DOMAIN);
}

#[tokio::test]
async fn a_unary_deadline_is_deadline_exceeded() {
    let server = Running::start(ServerLimits::default()).await;
    let mut request = Request::new(read("never"));
    request.set_timeout(Duration::from_millis(200));
    let status = soon(server.patient().get_features(request)).await.unwrap_err();
    assert_code(&status, ErrorCode::DeadlineExceeded);
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let server = Running::start(ServerLimits::default()).await;
    for view in ["never", "flood"] {
        let mut request = Request::new(follow(view));
        request.set_timeout(Duration::from_millis(300));
        let begun = Instant::now();
        let mut changes = server.join().await.subscribe(request).await.unwrap().into_inner();
        let status = soon(async {
            loop {
                match changes.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the stream ended without a status"),
                    Err(status) => break status,
                }
            }
        })
        .await;
        assert_code(&status, ErrorCode::DeadlineExceeded);
        assert!(begun.elapsed() < Duration::from_secs(5), "{view}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_handler_without_a_deadline_has_one_of_the_server() {
    let handler_timeout = Duration::from_millis(100);
    let limits = ServerLimits { handler_timeout, ..ServerLimits::default() };
    let server = Running::start(limits).await;
    let status = soon(server.features().await.get_features(read("never"))).await.unwrap_err();
    assert_code(&status, ErrorCode::DeadlineExceeded);
    // A stream is no longer in its handler: it goes on.
    let mut changes = server.join().await.subscribe(follow("never")).await.unwrap().into_inner();
    let later = tokio::time::timeout(Duration::from_millis(300), changes.message()).await;
    assert!(later.is_err(), "the stream ended: {later:?}");
}

#[tokio::test]
async fn failures_of_the_transport_are_typed() {
    let limits = ServerLimits { request_message_bytes_max: 1_000, ..ServerLimits::default() };
    let server = Running::start(limits).await;
    let mut client = server.features().await;

    let part = KeyPart { kind: Some(key_part::Kind::String("x".repeat(2_000))) };
    let large = GetFeaturesRequest { entities: vec![EntityKey { parts: vec![part] }], ..read("v") };
    let status = client.get_features(large).await.unwrap_err();
    assert_code(&status, ErrorCode::MessageTooLarge);

    let status = client.get_features(read("missing")).await.unwrap_err();
    assert_code(&status, ErrorCode::ViewNotFound);

    let status = call_raw(&server, "/millrace.v1.FeatureService/Nothing").await;
    assert_code(&status, ErrorCode::MethodNotFound);
    assert!(status.message().contains("FeatureService/Nothing"), "{status:?}");

    let status = call_raw(&server, "/millrace.v1.NoService/Nothing").await;
    assert_code(&status, ErrorCode::MethodNotFound);

    let status = call_raw(&server, "/millrace.v1.FeatureService/GetFeatures").await;
    assert_code(&status, ErrorCode::MessageMalformed);

    let mut nothing = tonic::client::Grpc::new(server.channel().await);
    nothing.ready().await.unwrap();
    let request = Request::new(futures::stream::empty::<Bytes>());
    let path = PathAndQuery::from_static("/millrace.v1.FeatureService/GetFeatures");
    let status = nothing.client_streaming(request, path, RawCodec).await.unwrap_err();
    assert_code(&status, ErrorCode::MessageMalformed);
}

/// Sends bytes that are no message of the protocol.
async fn call_raw(server: &Running, path: &'static str) -> Status {
    let mut client = tonic::client::Grpc::new(server.channel().await);
    client.ready().await.unwrap();
    // Field 1 says that 127 bytes follow, and one does.
    let request = Request::new(Bytes::from_static(&[0x0a, 0x7f, 0x00]));
    client.unary(request, PathAndQuery::from_static(path), RawCodec).await.unwrap_err()
}

#[tokio::test]
async fn calls_beyond_a_connections_share_are_refused_at_once() {
    let limits = ServerLimits { calls_per_connection_max: 1, ..ServerLimits::default() };
    let server = Running::start(limits).await;
    let client = server.features().await;
    let mut busy = client.clone();
    let waiting = tokio::spawn(async move { busy.get_features(read("never")).await });

    // The first call has been taken in once a second one is refused.
    let mut second = client.clone();
    let status = soon(async {
        loop {
            if let Err(status) = second.get_features(read("v")).await {
                break status;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_code(&status, ErrorCode::Overloaded);
    assert!(status.get_details_retry_info().is_some());
    // Another connection has a share of its own.
    server.features().await.get_features(read("v")).await.unwrap();
    waiting.abort();
}

#[tokio::test]
async fn what_a_service_says_passes_as_it_is() {
    let server = Running::start(ServerLimits::default()).await;
    let mut client = server.features().await;
    let answer = client.get_features(read("v")).await.unwrap().into_inner();
    assert_eq!(answer, GetFeaturesResponse::default());
    let status = client.get_features(read("missing")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no view is called missing"));
}

/// Sends the bytes it is given and reads none.
#[derive(Clone, Copy, Default)]
struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(
        &mut self,
        item: Bytes,
        buffer: &mut tonic::codec::EncodeBuf<'_>,
    ) -> Result<(), Status> {
        bytes::BufMut::put(buffer, item);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(
        &mut self,
        buffer: &mut tonic::codec::DecodeBuf<'_>,
    ) -> Result<Option<Bytes>, Status> {
        let len = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, len)))
    }
}
