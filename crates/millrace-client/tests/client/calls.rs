//! Unary calls: reaching a service, deadlines, refusals.

use std::time::Duration;

use futures::StreamExt as _;
use millrace_client::{Client, ClientError, ClientOptions, Endpoints};
use millrace_grpc::ErrorCode;
use millrace_proto::v1;
use tokio::net::TcpListener;

use crate::support::{Running, client, free_address, soon};

fn read(view: &str) -> v1::GetFeaturesRequest {
    v1::GetFeaturesRequest { view: view.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_not_reachable() {
    let address = free_address().await;
    let reach_within = Duration::from_millis(200);
    let client = client(address, ClientOptions { reach_within, ..Default::default() });
    let error = soon(client.get_features(read("v"))).await.unwrap_err();
    let ClientError::NotReachable { service, address: tried, reason, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(service, "feature-serving");
    assert_eq!(tried, format!("http://{address}"));
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn a_service_that_comes_late_is_reached() {
    let address = free_address().await;
    let client = client(address, ClientOptions::default());
    let waiting = tokio::spawn(async move { client.get_features(read("v")).await });
    let _server = Running::start_at(address).await;
    assert_eq!(soon(waiting).await.unwrap().unwrap().catalog_version, 7);
}

#[tokio::test]
async fn the_deadline_of_a_call_is_its_own_error() {
    let server = Running::start().await;
    let call_timeout = Duration::from_millis(200);
    let client = client(server.address, ClientOptions { call_timeout, ..Default::default() });
    let error = soon(client.get_features(read("never"))).await.unwrap_err();
    assert_eq!(error, ClientError::DeadlineExceeded { after: call_timeout });
}

/// A process that is frozen: the system accepts connections for it, and nobody answers.
#[tokio::test]
async fn a_read_is_asked_of_another_process_where_one_is_frozen() {
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Running::start().await;
    let addresses = [frozen.local_addr().unwrap(), server.address].map(|a| format!("http://{a}"));
    let endpoints = Endpoints::default().with_serving(addresses.to_vec());
    let client = Client::new(&endpoints, ClientOptions::default()).unwrap();
    // Whichever is asked first, each is at some time.
    for _ in 0..4 {
        assert_eq!(soon(client.get_features(read("v"))).await.unwrap().catalog_version, 7);
    }
}

#[tokio::test]
async fn a_refusal_is_typed_and_not_repeated() {
    let server = Running::start().await;
    let client = client(server.address, ClientOptions::default());
    let error = soon(client.get_features(read("missing"))).await.unwrap_err();
    assert_eq!(error.to_string(), "no view is called missing");
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.code, Some(ErrorCode::ViewNotFound));
    assert_eq!(refusal.violations[0].field, "view");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn streamed_reads_are_answered_in_order() {
    let server = Running::start().await;
    let client = client(server.address, ClientOptions::default());
    let requests = (0..100).map(|tag| v1::StreamFeaturesRequest { tag, read: Some(read("v")) });
    let answers = client.stream_features(futures::stream::iter(requests)).await.unwrap();
    let tags: Vec<u64> = soon(answers.map(|answer| answer.unwrap().tag).collect()).await;
    assert_eq!(tags, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_batch_is_one_call() {
    let server = Running::start().await;
    let client = client(server.address, ClientOptions::default());
    let request = v1::PublishBatchRequest { next_sequence: 9, ..Default::default() };
    let answer = soon(client.publish_batch(request)).await.unwrap();
    assert_eq!(answer.result.unwrap().next_sequence, 9);
}
