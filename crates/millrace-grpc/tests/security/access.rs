//! Tokens and roles.

use bytes::Bytes;
use http::uri::PathAndQuery;
use millrace_grpc::{ErrorCode, Security, ServerLimits};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{access, plain, read, refused, serve};

const READER: &str = "reader-s3cret-token";
const PUBLISHER: &str = "publisher-s3cret-token";
const FILE: &str = r#"
    [[token]]
    name = "the reader's entry"
    token = "reader-s3cret-token"
    roles = ["read:shown"]
    [[token]]
    name = "the publisher's entry"
    token = "publisher-s3cret-token"
    roles = ["publish:clicks"]
"#;
/// What no refusal repeats.
const SECRETS: [&str; 3] = ["s3cret", "entry", "shown"];

fn protected() -> Security {
    Security { tls: None, access: access(FILE) }
}

#[tokio::test]
async fn a_token_does_what_its_roles_say() {
    let address = serve(protected(), ServerLimits::default()).await;
    let channel = plain(address).await;
    let of = |view, token| read(channel.clone(), view, token);
    of("shown", Some(READER)).await.unwrap();
    refused(of("hidden", Some(READER)).await, ErrorCode::PermissionDenied, &SECRETS);
    refused(of("shown", Some(PUBLISHER)).await, ErrorCode::PermissionDenied, &SECRETS);
    refused(of("shown", None).await, ErrorCode::Unauthenticated, &SECRETS);
    refused(of("shown", Some("another-s3cret-token")).await, ErrorCode::Unauthenticated, &SECRETS);
}

#[tokio::test]
async fn a_token_goes_no_further_than_the_door() {
    // With access off too, where a client may send one nevertheless.
    for security in [protected(), Security::default()] {
        let channel = plain(serve(security, ServerLimits::default()).await).await;
        let seen = read(channel, "shown", Some(READER)).await.unwrap().changelogs.remove(0);
        assert!(seen.contains("shown") && !seen.contains("s3cret"), "{seen}");
        assert!(!seen.contains("authorization"), "{seen}");
    }
}

#[tokio::test]
async fn health_needs_no_credential_and_everything_else_does() {
    let channel = plain(serve(protected(), ServerLimits::default()).await).await;
    let mut health = HealthClient::new(channel.clone());
    health.check(HealthCheckRequest::default()).await.unwrap();
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/millrace.v1.StoreService/Append",
        "/millrace.v1.FeatureService/GetFeatures",
        "/nobody.knows/It",
    ] {
        refused(call(channel.clone(), path, None).await, ErrorCode::Unauthenticated, &SECRETS);
    }
    for path in ["/millrace.v1.StoreService/Append", "/nobody.knows/It"] {
        let answer = call(channel.clone(), path, Some(READER)).await;
        refused(answer, ErrorCode::PermissionDenied, &SECRETS);
    }
}

/// The refusal comes before the message: what has a bad token and a broken message hears of the
/// token.
async fn call(
    channel: tonic::transport::Channel,
    path: &'static str,
    token: Option<&str>,
) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(Bytes::from_static(&[0x0a, 0x7f]));
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let path = PathAndQuery::from_static(path);
    client.unary(request, path, Raw).await.map(tonic::Response::into_inner)
}

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
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

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(buffer, item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, len)))
    }
}
