//! Calls: many of one address, and ones that never end.

use std::time::Duration;

use millrace_grpc::{ErrorCode, ServerLimits};
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use millrace_proto::v1::join_service_client::JoinServiceClient;
use millrace_proto::v1::{StreamFeaturesRequest, SubscribeRequest};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tonic::transport::Endpoint;
use tonic_types::StatusExt as _;

use crate::support::{
    Attacker, DATA, END_STREAM, HEADERS, READ, SUBSCRIBE, Target, frame, grpc, soon,
};

/// Each call waits for a message that never comes; together they would hold all the server has.
#[tokio::test]
async fn calls_without_a_message_take_no_more_than_their_share() {
    let limits = ServerLimits { calls_max: 40, calls_per_peer_max: 20, ..ServerLimits::default() };
    let target = Target::start(limits).await;
    let (refuse, mut refused) = mpsc::unbounded_channel();
    for _ in 0..3 {
        let mut attacker = Attacker::greet(&target, &[]).await;
        for _ in 0..20 {
            attacker.call(READ, None).await;
        }
        let refuse = refuse.clone();
        tokio::spawn(async move {
            while let Some((kind, flags, ..)) = attacker.frame().await {
                if kind == HEADERS && flags & END_STREAM != 0 {
                    refuse.send(()).unwrap();
                }
            }
        });
    }
    // 40 of the 60 are answered at once, by headers that end their stream.
    for _ in 0..40 {
        soon(refused.recv()).await.unwrap();
    }
    assert!(refused.try_recv().is_err(), "more were refused");
    target.reader_noticed_nothing().await;
}

#[tokio::test]
async fn a_message_that_never_comes_ends_the_call() {
    let handler_timeout = Duration::from_millis(300);
    let target = Target::start(ServerLimits { handler_timeout, ..ServerLimits::default() }).await;
    let mut attacker = Attacker::greet(&target, &[]).await;
    attacker.call(READ, None).await;
    let status = soon(async {
        loop {
            let (kind, _, _, payload) = attacker.frame().await.expect("closed without an answer");
            if kind == HEADERS {
                break payload;
            }
        }
    })
    .await;
    assert!(!status.is_empty());
    target.reader_noticed_nothing().await;
}

/// Streams stay open for as long as they like: together they would hold all the server has.
#[tokio::test]
async fn streams_take_no_more_than_their_share() {
    let limits =
        ServerLimits { streams_max: 40, streams_per_peer_max: 20, ..ServerLimits::default() };
    let target = Target::start(limits).await;
    let mut attacker = Attacker::greet(&target, &[]).await;
    for _ in 0..30 {
        attacker.call(SUBSCRIBE, Some(&[])).await;
    }
    let refused = soon(attacker.refused(10)).await;
    assert_eq!(refused, 10);
    // Another address has places left, and so has this one once its streams are over.
    let mut other = JoinServiceClient::new(target.channel());
    let changes = other.subscribe(SubscribeRequest::default()).await.unwrap();
    drop(attacker);
    let mut again = Attacker::greet(&target, &[]).await;
    again.call(SUBSCRIBE, Some(&[])).await;
    assert_eq!(soon(again.answered()).await, 0, "it was refused");
    drop(changes);
    target.reader_noticed_nothing().await;
}

/// Messages that are begun and never end: what has come of them is held until the call is over. Whoever
/// sends whole ones from elsewhere finds room for them.
#[tokio::test]
async fn messages_that_do_not_end_take_no_more_than_their_share() {
    let limits = ServerLimits { receiving_bytes_max: 32 << 10, ..ServerLimits::default() };
    let target = Target::start(limits).await;
    let mut attacker = Attacker::greet(&target, &[]).await;
    for _ in 0..10 {
        let stream = attacker.call(READ, None).await;
        let begun = [&[0, 0, 0, 0xff, 0xff][..], &[0; (4 << 10) - 5]].concat();
        attacker.stream.write_all(&frame(DATA, 0, stream, &begun)).await.unwrap();
    }
    // Seven of them fit into the part that one address may have.
    assert_eq!(soon(attacker.refused(3)).await, 3);
    // A message from elsewhere that comes in two pieces: a field of 500 bytes that nobody knows.
    let mut other = Attacker::greet_from(3, &target).await;
    let stream = other.call(READ, None).await;
    let message = grpc(&[&[0xfa, 0x07, 0xf4, 0x03][..], &[0; 500]].concat());
    let (begin, end) = message.split_at(400);
    other.stream.write_all(&frame(DATA, 0, stream, begin)).await.unwrap();
    other.stream.write_all(&frame(DATA, END_STREAM, stream, end)).await.unwrap();
    assert_eq!(soon(other.answered()).await, 0, "it was refused");
    target.reader_noticed_nothing().await;
}

/// Who sends small messages and takes the answers may send many times what may come at once.
#[tokio::test]
async fn small_messages_that_are_answered_are_as_many_as_they_are() {
    const AT_ONCE: u32 = 1_000;
    let limits = ServerLimits::default();
    let target = Target::start(limits).await;
    let mut client = FeatureServiceClient::new(target.channel());
    let (send, requests) = mpsc::unbounded_channel();
    let requests = futures::stream::unfold(requests, |mut requests| async move {
        Some((requests.recv().await?, requests))
    });
    let mut answers = client.stream_features(requests).await.unwrap().into_inner();
    for _ in 0..limits.frames.small_data * 30 / AT_ONCE {
        for _ in 0..AT_ONCE {
            send.send(StreamFeaturesRequest::default()).unwrap();
        }
        for _ in 0..AT_ONCE {
            soon(answers.message()).await.unwrap().unwrap();
        }
    }
    target.reader_noticed_nothing().await;
}

/// A stream ends at its age with a status of its own, whether or not anything comes on it.
#[tokio::test]
async fn a_stream_ends_at_its_age() {
    let stream_age_max = Duration::from_millis(400);
    let target = Target::start(ServerLimits { stream_age_max, ..ServerLimits::default() }).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", target.address)).unwrap();
    for view in ["quiet", "flood"] {
        let mut client = JoinServiceClient::new(endpoint.connect().await.unwrap());
        let request = SubscribeRequest { view: view.to_owned(), ..SubscribeRequest::default() };
        let mut changes = client.subscribe(request).await.unwrap().into_inner();
        let status = soon(async {
            loop {
                match changes.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ended without a status"),
                    Err(status) => break status,
                }
            }
        })
        .await;
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, ErrorCode::StreamAged.reason(), "{view}");
        assert!(status.get_details_retry_info().is_some());
    }
    target.reader_noticed_nothing().await;
}
