//! Clients that do not take part: a producer and readers that read no answer, and connections without
//! number.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

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
/// Of these a service keeps so many: `connections_per_peer_max` in docs/operations.md.
const KEPT_MAX: usize = 512;
/// How long a connection may wait, and how long those beyond the limits may take to be closed, on a
/// machine that builds beside the tests.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Begins all of them.
pub(super) fn begin(scene: &Scene, tasks: &mut JoinSet<()>) {
    tasks.spawn(deaf_producer(scene.clone(), "deaf".to_owned()));
    tasks.spawn(deaf_reader(scene.clone()));
    tasks.spawn(deaf_follower(scene.clone()));
    tasks.spawn(connections(scene.clone()));
}

/// Sends a batch again and again, of users of its own, and reads no answer.
async fn deaf_producer(scene: Scene, producer: String) {
    let mut client = IngestServiceClient::new(connect(&scene.ingest).await);
    let (requests, receiver) = mpsc::channel(1);
    let answers = client.publish(ReceiverStream::new(receiver)).await;
    let mut batch = batch(&producer, 0, 0);
    for row in &mut batch.rows {
        let user = row.values.get_mut("user_id").expect("a user");
        if let Some(v1::value::Kind::Int64(user)) = &mut user.kind {
            *user = *user % 50 - 1_000_000;
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

/// Opens connections as fast as it can, and keeps those that are not closed. Each is opened or refused at
/// once, and of those that are opened all but a few are closed, however busy the services are.
async fn connections(scene: Scene) {
    let (mut kept, mut refused) = (Vec::new(), 0);
    for number in 0..CONNECTIONS {
        let to = if number % 2 == 0 { &scene.ingest } else { &scene.serving };
        let to: SocketAddr = to.trim_start_matches("http://").parse().expect("an address");
        match timeout(ANSWERED_WITHIN, open(to)).await.expect("nobody is kept waiting") {
            Ok(opened) => kept.push(opened),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => refused += 1,
            Err(error) => panic!("connection {number} of {CONNECTIONS}: {error}"),
        }
        if number % 100 == 0 {
            refused += let_go(&mut kept);
        }
    }
    let until = Instant::now() + ANSWERED_WITHIN;
    while kept.len() > 2 * KEPT_MAX {
        assert!(Instant::now() < until, "{} connections are open", kept.len());
        // It only paces the question: the sockets tell nobody when all of them are closed.
        tokio::time::sleep(Duration::from_millis(50)).await;
        refused += let_go(&mut kept);
    }
    assert_eq!(kept.len() + refused, CONNECTIONS, "each is open or was refused");
    until_over(&scene, std::future::pending()).await;
    drop(kept);
}

/// Drops what is closed at the other end, and counts it.
fn let_go(connections: &mut Vec<TcpStream>) -> usize {
    let before = connections.len();
    connections.retain(|stream| {
        let mut said = [0; 256];
        loop {
            match stream.try_read(&mut said) {
                Ok(0) => return false,
                // A server speaks first.
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    });
    before - connections.len()
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
