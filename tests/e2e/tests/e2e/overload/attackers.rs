//! Clients that do not take part: a producer and readers that read no answer, and connections without
//! number.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use millrace_proto::v1;
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use millrace_proto::v1::ingest_service_client::IngestServiceClient;
use millrace_proto::v1::join_service_client::JoinServiceClient;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::producers::batch;
use super::{Scene, connect, read};

/// Connections of one address, half to ingest and half to feature-serving.
const CONNECTIONS: usize = 10_000;

/// Begins all of them.
pub(super) fn begin(scene: &Scene, tasks: &mut JoinSet<()>) {
    for number in 0..4 {
        tasks.spawn(deaf_producer(scene.clone(), format!("deaf-{number}")));
        tasks.spawn(deaf_reader(scene.clone()));
        tasks.spawn(deaf_follower(scene.clone()));
    }
    tasks.spawn(connections(scene.clone()));
}

/// Sends a batch again and again, of users of its own, and reads no answer.
async fn deaf_producer(scene: Scene, producer: String) {
    let mut client = IngestServiceClient::new(connect(&scene.ingest).await);
    let (requests, receiver) = mpsc::channel(1);
    let answers = client.publish(ReceiverStream::new(receiver)).await;
    let mut batch = batch(&producer, 0, 0, 50);
    for row in &mut batch.rows {
        let user = row.values.get_mut("user_id").expect("a user");
        if let Some(v1::value::Kind::Int64(user)) = &mut user.kind {
            *user += 1_000_000;
        }
    }
    until_over(&scene, async { while requests.send(batch.clone()).await.is_ok() {} }).await;
    drop(answers);
}

/// Asks for the features of users again and again, and reads no answer.
async fn deaf_reader(scene: Scene) {
    let mut client = FeatureServiceClient::new(connect(&scene.serving).await);
    let (requests, receiver) = mpsc::channel(1);
    let answers = client.stream_features(ReceiverStream::new(receiver)).await;
    until_over(&scene, async {
        let mut tag = 0;
        loop {
            let read = Some(read(0..20));
            if requests.send(v1::StreamFeaturesRequest { tag, read }).await.is_err() {
                return;
            }
            tag += 1;
        }
    })
    .await;
    drop(answers);
}

/// Follows every joined row from the beginning, and reads none.
async fn deaf_follower(scene: Scene) {
    let mut client = JoinServiceClient::new(connect(&scene.join).await);
    let from = v1::subscribe_request::From::Start(v1::SubscribeStart::Beginning as i32);
    let request = v1::SubscribeRequest {
        view: "load".to_owned(),
        from: Some(from),
        ..v1::SubscribeRequest::default()
    };
    let changes = client.subscribe(request).await;
    until_over(&scene, std::future::pending()).await;
    drop(changes);
}

/// Opens connections as fast as it can, and keeps those that are not closed.
async fn connections(scene: Scene) {
    let mut kept = Vec::new();
    for number in 0..CONNECTIONS {
        let to = if number % 2 == 0 { &scene.ingest } else { &scene.serving };
        let to: SocketAddr = to.trim_start_matches("http://").parse().expect("an address");
        let opened = timeout(Duration::from_secs(30), open(to)).await;
        // What is refused here is closed there: either way nobody is kept waiting.
        kept.extend(opened.ok().and_then(Result::ok));
        if !scene.goes_on() {
            break;
        }
    }
    until_over(&scene, std::future::pending()).await;
    drop(kept);
}

/// Opens so many connections and gives them, those too that are closed at the other end.
pub(super) async fn hold(to: SocketAddr, connections: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..connections {
        let opened = timeout(Duration::from_secs(30), open(to)).await;
        held.extend(opened.ok().and_then(Result::ok));
    }
    held
}

async fn open(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0))?;
    socket.connect(to).await
}

/// Runs until the load is over.
async fn until_over(scene: &Scene, attack: impl Future<Output = ()>) {
    let over = async {
        while scene.goes_on() {
            // A look now and then costs the attack nothing.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = attack => {}
        () = over => {}
    }
}
