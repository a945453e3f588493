//! Messages that claim to be, or become, larger than they are.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Request;
use http_body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use millrace_grpc::{ErrorCode, ServerLimits};
use tonic::Status;
use tonic::body::Body;
use tonic_types::StatusExt as _;

use crate::support::{READ, Target, soon};

/// A body in one piece.
struct Piece(Option<Bytes>);

impl http_body::Body for Piece {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Sends these bytes as the body of a read, and gives the reason with which it is refused.
async fn refusal(encoding: &str, body: Vec<u8>) -> String {
    let target = Target::start(ServerLimits::default()).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = Request::post(format!("http://{}{READ}", target.address))
        .header("content-type", "application/grpc")
        .header("grpc-encoding", encoding)
        .body(Body::new(Piece(Some(body.into()))))
        .unwrap();
    let response = soon(client.request(request)).await.unwrap();
    let status = Status::from_header_map(response.headers()).expect("it was answered");
    target.reader_noticed_nothing().await;
    status.get_details_error_info().unwrap().reason
}

#[tokio::test]
async fn a_length_that_lies_is_refused_before_anything_is_kept() {
    for length in [u32::MAX, 2 << 20] {
        let mut body = vec![0];
        body.extend(length.to_be_bytes());
        body.push(0);
        assert_eq!(refusal("identity", body).await, ErrorCode::MessageTooLarge.reason());
    }
}

/// A thousand to one.
#[tokio::test]
async fn a_message_that_unpacks_to_too_much_is_refused() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..256 {
        packed.write_all(&[0; 1 << 20]).unwrap();
    }
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 512 << 10, "{}", packed.len());
    let mut body = vec![1];
    body.extend(u32::try_from(packed.len()).unwrap().to_be_bytes());
    body.extend(packed);
    assert_eq!(refusal("gzip", body).await, ErrorCode::MessageTooLarge.reason());
}
