//! Going down ends in bounded time, whatever clients do.

use std::time::{Duration, Instant};

use millrace_grpc::{DrainLimits, ErrorCode, ServerLimits};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_types::StatusExt as _;

use crate::support::{Running, follow, read, soon};

fn limits(streams: Duration, connections: Duration) -> ServerLimits {
    let drain = DrainLimits { streams, connections, bound: connections, notice: Duration::ZERO };
    ServerLimits { drain, ..ServerLimits::default() }
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn streams_that_stay_open_are_told_and_ended() {
    let server = Running::start(limits(Duration::from_millis(100), Duration::from_secs(15))).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watched = health.watch(of("")).await.unwrap().into_inner();
    let first: HealthCheckResponse = watched.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let mut changes = server.join().await.subscribe(follow("never")).await.unwrap().into_inner();

    let begun = Instant::now();
    let drained = server.stop().await;
    assert!(drained.is_clean(), "{drained:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    let told = soon(watched.message()).await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::NotServing);
    for status in
        [soon(watched.message()).await.unwrap_err(), soon(changes.message()).await.unwrap_err()]
    {
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, ErrorCode::ServerDraining.reason());
        assert!(status.get_details_retry_info().is_some());
    }
}

#[tokio::test]
async fn clients_that_neither_read_nor_speak_cannot_hold_it_up() {
    let bound = Duration::from_secs(1);
    let server = Running::start(limits(Duration::from_millis(100), bound)).await;
    // Never read: the server fills the client's window and then cannot send even the end.
    let _unread = server.join().await.subscribe(follow("flood")).await.unwrap();
    // Never spoke: not even the preface of HTTP/2.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    // Has no end: a handler that waits for what never comes.
    let mut client = server.features().await;
    let waiting = tokio::spawn(async move { client.get_features(read("never")).await });
    server.features().await.get_features(read("v")).await.unwrap();

    let begun = Instant::now();
    let drained = server.stop().await;
    assert!(begun.elapsed() < bound + Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(drained.connections_cut >= 2, "{drained:?}");
    assert!(soon(waiting).await.unwrap().is_err());
    // Its connection is closed, by an end of file or a reset, behind what the server said first.
    let _ = soon(silent.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn tasks_are_waited_for() {
    let server = Running::start(limits(Duration::from_secs(1), Duration::from_secs(15))).await;
    let drain = server.drain.clone();
    let started = drain.started();
    let (done, is_done) = tokio::sync::oneshot::channel();
    server.drain.tasks().spawn(async move {
        started.await;
        done.send(()).unwrap();
    });
    assert!(!drain.is_started());
    let drained = server.stop().await;
    assert!(drain.is_started());
    assert_eq!(drained.tasks_left, 0);
    is_done.await.unwrap();
}

#[tokio::test]
async fn health_speaks_for_every_service() {
    let server = Running::start(ServerLimits::default()).await;
    let mut client = HealthClient::new(server.channel().await);
    let services = ["", "millrace.v1.FeatureService", "millrace.v1.JoinService"];
    for service in services {
        let status = client.check(of(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    server.health.set_service_serving("millrace.v1.JoinService", false).await;
    let status = client.check(of("millrace.v1.JoinService")).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);
    let unknown = client.check(of("nothing")).await.unwrap_err();
    assert_eq!(unknown.get_details_error_info().unwrap().reason, "SERVICE_NOT_FOUND");
}
