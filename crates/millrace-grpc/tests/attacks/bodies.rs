//! Bodies of calls that do not end when they should: byte by byte, message after message, and more
//! than anybody may send.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use http::request::Builder;
use http::{Request, Response};
use http_body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use millrace_grpc::{ErrorCode, ServerLimits};
use tonic::Status;
use tonic::body::Body;
use tonic_types::StatusExt as _;

use crate::support::{AT_ONCE, PUBLISHER, READ, READER, STREAM, Target, grpc, soon};

/// A frame of the usual size.
const FRAME_BYTES: usize = 16 << 10;

/// A body of these pieces.
struct Pieces(BoxStream<'static, Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_next_unpin(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Makes calls whose bodies are made by hand.
pub(crate) struct Caller {
    client: Client<HttpConnector, Body>,
    origin: String,
}

impl Caller {
    pub(crate) fn of(target: &Target) -> Self {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        Self { client, origin: format!("http://{}", target.address) }
    }

    /// A request, to which headers may be added.
    pub(crate) fn post(&self, path: &str) -> Builder {
        let request = Request::post(format!("{}{path}", self.origin));
        request.header("content-type", "application/grpc").header("te", "trailers")
    }

    /// The status with which the server ends a call of these pieces.
    pub(crate) async fn status(
        &self,
        request: Builder,
        pieces: impl futures::Stream<Item = Bytes> + Send + 'static,
    ) -> Status {
        let request = request.body(Body::new(Pieces(pieces.boxed()))).unwrap();
        ended(self.client.request(request).await.unwrap()).await
    }
}

/// The status in the headers, or the one in the trailers.
async fn ended<B>(response: Response<B>) -> Status
where
    B: http_body::Body + Unpin,
    B::Error: std::fmt::Debug,
{
    let (head, mut body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return status;
    }
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let frame = frame.expect("a call ends with a status").unwrap();
        if let Some(trailers) = frame.trailers_ref() {
            return Status::from_header_map(trailers).expect("trailers have a status");
        }
    }
}

pub(crate) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no reason: {status:?}"));
    info.reason
}

/// Whoever keeps a call busy keeps it no longer than one who says nothing: as long as a handler may
/// take, or where the client states more than that, as long as a stream may live.
#[tokio::test]
async fn a_message_that_comes_byte_by_byte_ends_the_call() {
    const BOUND: Duration = Duration::from_millis(300);
    let few = ServerLimits { handler_timeout: BOUND, ..ServerLimits::default() };
    let aged = ServerLimits { stream_age_max: BOUND, ..ServerLimits::default() };
    for (limits, path, timeout, ends) in [
        (few, READ, None, ErrorCode::DeadlineExceeded),
        (aged, READ, Some("99999999H"), ErrorCode::DeadlineExceeded),
        (aged, STREAM, Some("99999999H"), ErrorCode::StreamAged),
        (aged, STREAM, None, ErrorCode::StreamAged),
    ] {
        let target = Target::start(limits).await;
        let caller = Caller::of(&target);
        let mut request = caller.post(path);
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        // A message of 60,000 bytes; a hundredth of a second each, it would take ten minutes.
        let beginning = futures::stream::iter([Bytes::from_static(&[0, 0, 0, 0xea, 0x60])]);
        let ticks = tokio::time::interval(Duration::from_millis(10));
        let rest = futures::stream::unfold(ticks, |mut ticks| async move {
            // It paces the attacker: nothing is waited for.
            ticks.tick().await;
            Some((Bytes::from_static(&[0]), ticks))
        });
        let status = caller.status(request, beginning.chain(rest));
        let status = tokio::time::timeout(AT_ONCE, status).await.expect("it goes on");
        assert_eq!(reason(&status), ends.reason(), "{path} {timeout:?}");
        target.reader_noticed_nothing().await;
    }
}

/// A call with one message is sent more of them, as fast as they are taken: they are read over, for as
/// long as a handler may take.
#[tokio::test]
async fn more_messages_than_the_call_has_end_it() {
    let handler_timeout = Duration::from_millis(300);
    let limits = ServerLimits { handler_timeout, ..ServerLimits::default() };
    // A field that nobody knows.
    let large = grpc(&[&[0xfa, 0x07, 0xf4, 0x03][..], &[0; 500]].concat());
    for message in [grpc(&[]), large] {
        let target = Target::start(limits).await;
        let caller = Caller::of(&target);
        let piece = Bytes::from(message.repeat(FRAME_BYTES / message.len()));
        let status = caller.status(caller.post(READ), futures::stream::repeat(piece));
        let status = tokio::time::timeout(AT_ONCE, status).await.expect("it goes on");
        assert_eq!(reason(&status), ErrorCode::DeadlineExceeded.reason());
        target.reader_noticed_nothing().await;
    }
}

/// What is too large for a first message is so for any other.
#[tokio::test]
async fn a_second_message_that_is_too_large_is_refused() {
    let target = Target::start(ServerLimits::default()).await;
    let caller = Caller::of(&target);
    let body = [grpc(&[]), vec![0, 0xff, 0xff, 0xff, 0xff, 0]].concat();
    let pieces = futures::stream::iter([Bytes::from(body)]).chain(futures::stream::pending());
    let status = soon(caller.status(caller.post(READ), pieces)).await;
    assert_eq!(reason(&status), ErrorCode::MessageTooLarge.reason());
    target.reader_noticed_nothing().await;
}

/// A gigabyte from one who may not call: it is refused by its headers, and no more of it is let in than
/// may be on the way of any stream. What was let in is not held against the connection.
#[tokio::test]
async fn a_body_of_one_who_may_not_call_is_not_read() {
    const ALL: usize = 1 << 30;
    let limits = ServerLimits::default();
    let target = Target::start_with_access(limits).await;
    let caller = Caller::of(&target);
    for (token, refused) in [
        (None, ErrorCode::Unauthenticated),
        (Some("another-s3cret-token"), ErrorCode::Unauthenticated),
        (Some(PUBLISHER), ErrorCode::PermissionDenied),
    ] {
        // More, together, than a connection has room for.
        for _ in 0..8 {
            let mut request = caller.post(READ);
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let sent = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&sent);
            let piece = Bytes::from(vec![0; FRAME_BYTES]);
            let pieces =
                futures::stream::repeat(piece).take(ALL / FRAME_BYTES).inspect(move |piece| {
                    counted.fetch_add(piece.len(), Ordering::Relaxed);
                });
            let status = caller.status(request, pieces);
            let status = tokio::time::timeout(AT_ONCE, status).await.expect("it was let in");
            assert_eq!(reason(&status), refused.reason());
            // The client has one piece in hand.
            let most = limits.stream_window_bytes as usize + FRAME_BYTES;
            let sent = sent.load(Ordering::Relaxed);
            assert!(sent <= most, "{sent} bytes");
        }
    }
    let request = caller.post(READ).header("authorization", format!("Bearer {READER}"));
    let message = futures::stream::iter([Bytes::from(grpc(&[]))]);
    let status = soon(caller.status(request, message)).await;
    assert_eq!(status.code(), tonic::Code::Ok, "{status:?}");
    target.reader_noticed_nothing().await;
}
