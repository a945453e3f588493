//! Messages that claim to be, or become, larger than they are.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use millrace_grpc::{ErrorCode, ServerLimits};

use crate::bodies::{Caller, reason};
use crate::support::{READ, Target, soon};

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
