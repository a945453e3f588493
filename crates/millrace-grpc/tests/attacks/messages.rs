//! Messages that claim to be, or become, larger than they are, and others that are hard to read: deep, not
//! of text, of very many parts, or packed in a way that nobody here unpacks.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use millrace_grpc::{ErrorCode, ServerLimits};
use tonic::{Code, Status};

use crate::bodies::{Caller, reason};
use crate::support::{READ, Target, grpc, soon};

/// Sends these bytes as the body of a read, and gives the reason with which it is refused.
async fn refusal(encoding: &str, body: Vec<u8>) -> String {
    let target = Target::start(ServerLimits::default()).await;
    let caller = Caller::of(&target);
    let request = caller.post(READ).header("grpc-encoding", encoding);
    let status = soon(caller.status(request, futures::stream::iter([Bytes::from(body)]))).await;
    target.reader_noticed_nothing().await;
    reason(&status)
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

/// Sends this message as a read, and gives the status that ends the call.
async fn status_of(target: &Target, message: &[u8]) -> Status {
    let caller = Caller::of(target);
    let body = futures::stream::iter([Bytes::from(grpc(message))]);
    soon(caller.status(caller.post(READ), body)).await
}

/// No message of the protocol holds itself. What nobody knows may: groups of a field of this number, one in
/// the other, each of them begun and ended.
fn nested(levels: usize) -> Vec<u8> {
    const FIELD: u8 = 15;
    let (begin, end) = (FIELD << 3 | 3, FIELD << 3 | 4);
    [vec![begin; levels], vec![end; levels]].concat()
}

/// Whoever reads a level in each other needs a stack for it.
#[tokio::test]
async fn a_message_of_many_levels_is_refused_before_the_stack_ends() {
    let target = Target::start(ServerLimits::default()).await;
    let status = status_of(&target, &nested(100)).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    for levels in [101, 100_000] {
        let status = status_of(&target, &nested(levels)).await;
        assert_eq!(reason(&status), ErrorCode::MessageMalformed.reason(), "{levels}");
    }
    // Begun, and never ended.
    let status = status_of(&target, &nested(100_000)[..100_000]).await;
    assert_eq!(reason(&status), ErrorCode::MessageMalformed.reason());
    target.reader_noticed_nothing().await;
}

#[tokio::test]
async fn a_text_that_is_not_utf_8_is_refused_wherever_it_stands() {
    let target = Target::start(ServerLimits::default()).await;
    for (place, message) in [
        ("view", &[0x0a, 2, 0xc3, 0x28][..]),
        ("features", &[0x1a, 1, 0xff][..]),
        ("entities.parts.string", &[0x12, 5, 0x0a, 3, 0x12, 1, 0xff][..]),
    ] {
        let status = status_of(&target, message).await;
        assert_eq!(reason(&status), ErrorCode::MessageMalformed.reason(), "{place}");
    }
    target.reader_noticed_nothing().await;
}

/// Two bytes each on the wire, and many more in memory: a message is bounded, so they are.
#[tokio::test]
async fn a_flood_of_parts_is_bounded_by_the_message() {
    let limits = ServerLimits::default();
    let target = Target::start(limits).await;
    let most = limits.request_message_bytes_max / 2;
    for (part, field) in [
        ("view", [0x0a_u8, 0]),
        ("entities", [0x12, 0]),
        ("features", [0x1a, 0]),
        ("a field that nobody knows", [0x78, 1]),
    ] {
        let status = status_of(&target, &field.repeat(most)).await;
        assert_eq!(status.code(), Code::Ok, "{part}: {status:?}");
        let status = status_of(&target, &field.repeat(most + 1)).await;
        assert_eq!(reason(&status), ErrorCode::MessageTooLarge.reason(), "{part}");
    }
    target.reader_noticed_nothing().await;
}

/// The protocol has a client be told how it may send its message instead.
#[tokio::test]
async fn a_message_packed_in_an_unknown_way_is_refused_with_the_ways_that_are_known() {
    let target = Target::start(ServerLimits::default()).await;
    let caller = Caller::of(&target);
    for encoding in ["zstd", "deflate", "unheard-of"] {
        let request = caller.post(READ).header("grpc-encoding", encoding);
        let body = futures::stream::iter([Bytes::from_static(&[1, 0, 0, 0, 0])]);
        let status = soon(caller.status(request, body)).await;
        assert_eq!(reason(&status), ErrorCode::MessageMalformed.reason(), "{encoding}");
        assert!(status.message().contains(encoding), "{status:?}");
        assert!(status.message().contains("gzip"), "{status:?}");
        let accepted = status.metadata().get("grpc-accept-encoding").unwrap();
        assert_eq!(accepted.to_str().unwrap(), "gzip,identity", "{encoding}");
    }
    target.reader_noticed_nothing().await;
}
