//! Publishing on one call: credits, reconnects, order, bounds.

use std::time::Duration;

use bytes::Bytes;
use millrace_client::{
    Batch, ClientError, ClientOptions, Outcomes, Payload, Published, Publisher, PublisherOptions,
};
use millrace_grpc::{Drain, ErrorCode, Fault};
use millrace_proto::v1;
use tokio::time::timeout;

use crate::support::{MOMENT, Running, client, free_address, soon};

const PLENTY: u64 = 1 << 30;

/// Four facts in Arrow form whose bytes tell which batch they are.
fn batch(n: u64) -> Batch {
    let payload = Payload::Arrow {
        schema: Bytes::from_static(b"schema;"),
        batches: format!("batch {n}").into(),
        facts: 4,
    };
    Batch { tag: n, ..Batch::new("p", "clicks", n * 4, payload) }
}

fn publisher(server: &Running) -> (Publisher, Outcomes) {
    client(server.address, ClientOptions::default()).publisher(PublisherOptions::default())
}

async fn published(outcomes: &mut Outcomes) -> Published {
    soon(outcomes.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn no_more_is_in_flight_than_the_credits_allow() {
    let mut server = Running::start().await;
    let (publisher, mut outcomes) = publisher(&server);
    for n in 0..4 {
        publisher.send(batch(n)).await.unwrap();
    }
    let mut call = server.call().await;
    call.assert_quiet().await;
    // Two batches of four facts fit.
    call.grant(11, PLENTY).await;
    let first = call.request().await;
    let second = call.request().await;
    call.assert_quiet().await;
    // An answer makes room for one, and takes the credits away for the one after it.
    call.accept(&first, 8, PLENTY).await;
    let third = call.request().await;
    call.accept(&second, 0, 0).await;
    call.accept(&third, 0, 0).await;
    call.assert_quiet().await;
    // A batch larger than all credits goes alone.
    call.grant(1, 1).await;
    let fourth = call.request().await;
    call.accept(&fourth, PLENTY, PLENTY).await;
    for n in 0..4 {
        let outcome = published(&mut outcomes).await;
        assert_eq!((outcome.tag, outcome.result.first_sequence), (n, n * 4));
    }
    // The end of the publisher is the end of the requests.
    drop(publisher);
    assert!(soon(call.requests.message()).await.unwrap().is_none());
    drop(call);
    assert!(soon(outcomes.next()).await.is_none());
}

#[tokio::test]
async fn what_was_not_answered_is_sent_again_as_it_was() {
    let mut server = Running::start().await;
    let (publisher, mut outcomes) = publisher(&server);
    for n in 0..3 {
        publisher.send(batch(n)).await.unwrap();
    }
    let mut call = server.call().await;
    call.grant(PLENTY, PLENTY).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(call.request().await);
    }
    assert_eq!(sent[0].arrow_ipc, "schema;batch 0");
    assert_eq!(sent[1].arrow_ipc, "batch 1");
    call.accept(&sent[0], PLENTY, PLENTY).await;
    assert_eq!(published(&mut outcomes).await.tag, 0);
    call.fail(Drain::status()).await;

    let mut call = server.call().await;
    call.grant(PLENTY, PLENTY).await;
    let again = [call.request().await, call.request().await];
    // The new call has not seen the schema.
    assert_eq!(again[0].arrow_ipc, "schema;batch 1");
    let sequences = |r: &v1::PublishRequest| (r.first_sequence, r.next_sequence);
    assert_eq!(again.each_ref().map(sequences), [(4, 8), (8, 12)]);
    for request in &again {
        call.accept(request, PLENTY, PLENTY).await;
    }
    publisher.send(batch(3)).await.unwrap();
    let last = call.request().await;
    call.accept(&last, PLENTY, PLENTY).await;
    for n in 1..4 {
        assert_eq!(published(&mut outcomes).await.tag, n);
    }
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let mut server = Running::start().await;
    let address = server.address;
    let (publisher, mut outcomes) = publisher(&server);
    publisher.send(batch(0)).await.unwrap();
    let mut call = server.call().await;
    call.grant(PLENTY, PLENTY).await;
    call.request().await;
    server.stop().await;

    let mut server = Running::start_at(address).await;
    let mut call = server.call().await;
    call.grant(PLENTY, PLENTY).await;
    let request = call.request().await;
    assert_eq!(request.arrow_ipc, "schema;batch 0");
    call.accept(&request, PLENTY, PLENTY).await;
    assert_eq!(published(&mut outcomes).await.tag, 0);
}

#[tokio::test]
async fn a_refusal_ends_the_publisher_and_says_why() {
    let mut server = Running::start().await;
    let (publisher, mut outcomes) = publisher(&server);
    publisher.send(batch(0)).await.unwrap();
    let mut call = server.call().await;
    call.grant(PLENTY, PLENTY).await;
    call.request().await;
    let fault = Fault::new(ErrorCode::BatchInvalid, "not an Arrow IPC stream");
    call.fail(fault.violation("arrow_ipc", "not an Arrow IPC stream").into_status()).await;
    let error = soon(outcomes.next()).await.unwrap().unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.code, Some(ErrorCode::BatchInvalid));
    assert_eq!(refusal.violations[0].field, "arrow_ipc");
    assert!(soon(outcomes.next()).await.is_none());
    let late = soon(publisher.send(batch(1))).await;
    assert_eq!(late, Err(ClientError::PublisherEnded));
}

#[tokio::test]
async fn answers_that_do_not_fit_are_a_broken_protocol() {
    let mut server = Running::start().await;
    let (publisher, mut outcomes) = publisher(&server);
    publisher.send(batch(0)).await.unwrap();
    let mut call = server.call().await;
    call.grant(PLENTY, PLENTY).await;
    let mut request = call.request().await;
    request.first_sequence += 1;
    call.accept(&request, PLENTY, PLENTY).await;
    let error = soon(outcomes.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn memory_is_bounded_while_the_server_grants_nothing() {
    let mut server = Running::start().await;
    let options = PublisherOptions { batches_max: 2, ..Default::default() };
    let client = client(server.address, ClientOptions::default());
    let (publisher, _outcomes) = client.publisher(options);
    let mut taken = 0;
    while timeout(MOMENT, publisher.send(batch(taken))).await.is_ok() {
        taken += 1;
    }
    // Two in the window and one on its way there.
    assert_eq!(taken, 3);
    server.call().await.assert_quiet().await;
}

#[tokio::test]
async fn outcomes_nobody_takes_hold_the_publisher_up() {
    let mut server = Running::start().await;
    let options = PublisherOptions { batches_max: 2, ..Default::default() };
    let client = client(server.address, ClientOptions::default());
    let (publisher, mut outcomes) = client.publisher(options);
    let sending = tokio::spawn(async move {
        for n in 0..20 {
            publisher.send(batch(n)).await.unwrap();
        }
    });
    let mut call = server.call().await;
    let answering = tokio::spawn(async move {
        call.grant(PLENTY, PLENTY).await;
        while let Ok(Some(request)) = call.requests.message().await {
            call.accept(&request, PLENTY, PLENTY).await;
        }
    });
    // Nobody takes an outcome, so not all can be sent.
    assert!(
        timeout(MOMENT, async {
            while !sending.is_finished() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .is_err()
    );
    for n in 0..20 {
        assert_eq!(published(&mut outcomes).await.tag, n);
    }
    soon(sending).await.unwrap();
    assert!(soon(outcomes.next()).await.is_none());
    soon(answering).await.unwrap();
}

#[tokio::test]
async fn a_publisher_without_a_server_gives_up_in_time() {
    let address = free_address().await;
    let reach_within = Duration::from_millis(200);
    let client = client(address, ClientOptions { reach_within, ..Default::default() });
    let (publisher, mut outcomes) = client.publisher(PublisherOptions::default());
    publisher.send(batch(0)).await.unwrap();
    let error = soon(outcomes.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::NotReachable { service: "ingest", .. }), "{error:?}");
}
