//! Connections: many, silent ones, ones that say hello and nothing else, and ones that stay.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use millrace_grpc::ServerLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::rustls::ClientConnection;

use crate::support::{AT_ONCE, Attacker, SUBSCRIBE, Target, connect, server_name, soon};

/// How long a connection without a call lasts where many of them are tested.
const NO_CALL: Duration = Duration::from_millis(500);

/// Held by a test of many connections: the process may have open what one of them needs, and not more.
static CROWD: Mutex<()> = Mutex::const_new(());

/// Ten thousand connections, in turns of what the process may have open: all but the share of the
/// attacker's address are closed at once.
#[tokio::test]
async fn ten_thousand_connections_take_no_more_than_their_share() {
    const ALL: usize = 10_000;
    const AT_ONCE: usize = 1_000;
    let _alone = CROWD.lock().await;
    let limits = ServerLimits {
        connections_per_peer_max: 100,
        // Nothing else closes them.
        first_call_within: Duration::from_secs(3_600),
        ..ServerLimits::default()
    };
    let target = Target::start(limits).await;
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..ALL / AT_ONCE {
        let attempts = (0..AT_ONCE).map(|_| async {
            let mut stream = connect(target.address, Ipv4Addr::new(127, 0, 0, 2)).await?;
            // A server that takes a connection speaks first; one that does not ends it.
            stream.read_u8().await.map(|_| stream)
        });
        let opened = futures::stream::iter(attempts).buffer_unordered(64).collect::<Vec<_>>();
        held.extend(soon(opened).await.into_iter().filter_map(Result::ok));
    }
    assert_eq!(held.len(), limits.connections_per_peer_max);
    target.reader_noticed_nothing().await;
}

/// Neither says anything that costs; a place is what they take.
#[tokio::test]
async fn silence_and_no_more_than_a_greeting_are_closed() {
    let first_call_within = Duration::from_millis(300);
    let target = Target::start(ServerLimits { first_call_within, ..ServerLimits::default() }).await;
    let mut silent = Attacker::connect(&target).await;
    let mut half = Attacker::connect(&target).await;
    half.stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut greeted = Attacker::greet(&target, &[]).await;
    let (_, _, ended) = soon(futures::future::join3(
        silent.stay_alive(),
        half.stay_alive(),
        // Alive in every other respect.
        greeted.stay_alive(),
    ))
    .await;
    assert_eq!(ended.resets, 0);
    target.reader_noticed_nothing().await;
}

/// Opens so many connections that say this and are then silent, from an address of their own, and sees
/// them all closed.
async fn many_are_closed(target: &Target, number: u8, count: usize, says: &[u8]) {
    let open = (0..count).map(|_| async {
        let mut stream = connect(target.address, Ipv4Addr::new(127, 0, 0, number)).await.unwrap();
        stream.write_all(says).await.unwrap();
        stream
    });
    // No more at once than the kernel keeps until they are accepted: the rest would come seconds later.
    let open = futures::stream::iter(open).buffer_unordered(32).collect::<Vec<TcpStream>>();
    let open = soon(open).await;
    let closed = join_all(open.into_iter().map(|mut stream| async move {
        let mut heard = Vec::new();
        // A reset is an end too: what was said may not have been read.
        let _ = stream.read_to_end(&mut heard).await;
    }));
    assert!(tokio::time::timeout(AT_ONCE, closed).await.is_ok(), "some are still open");
}

/// This many, or as many as the process may have open at both ends with what other tests have.
fn as_many_as_may_be_open(count: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let open = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let soft = open.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX);
    count.min(soft.saturating_sub(400) / 2)
}

/// Nearly as many as one address may have, and once more from another, which say nothing or no more than
/// hello.
#[tokio::test]
async fn hundreds_that_say_nothing_are_closed() {
    const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let _alone = CROWD.lock().await;
    let limits = ServerLimits { first_call_within: NO_CALL, ..ServerLimits::default() };
    let target = Target::start(limits).await;
    for (number, says) in [(2, &b""[..]), (3, HELLO)] {
        many_are_closed(&target, number, as_many_as_may_be_open(500), says).await;
    }
    target.reader_noticed_nothing().await;
}

/// Half of a first message, and all of it without the one that would follow the server's: the server
/// waits for the client in either case.
#[tokio::test]
async fn handshakes_that_do_not_end_are_closed() {
    let _alone = CROWD.lock().await;
    let limits = ServerLimits { first_call_within: NO_CALL, ..ServerLimits::default() };
    let target = Target::start_with_tls(limits).await;
    let mut hello = Vec::new();
    let mut client = ClientConnection::new(target.tls_config(), server_name()).unwrap();
    client.write_tls(&mut hello).unwrap();
    let half = &hello[..hello.len() / 2];
    futures::future::join(
        many_are_closed(&target, 2, 100, half),
        many_are_closed(&target, 3, 100, &hello),
    )
    .await;
    target.reader_noticed_nothing().await;
}

/// The client acknowledges everything and goes nowhere.
#[tokio::test]
async fn a_connection_that_was_asked_to_go_and_stays_is_closed() {
    let limits = ServerLimits {
        connection_age_max: Duration::from_millis(200),
        connection_age_grace: Duration::from_millis(300),
        ..ServerLimits::default()
    };
    let target = Target::start(limits).await;
    let mut attacker = Attacker::greet(&target, &[]).await;
    attacker.call(SUBSCRIBE, Some(&[])).await;
    let closed = soon(attacker.stay_alive()).await;
    assert_eq!(closed.goaway, Some(0), "it was asked first");
    target.reader_noticed_nothing().await;
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let limits = ServerLimits {
        keepalive_interval: Duration::from_millis(100),
        keepalive_timeout: Duration::from_millis(100),
        ..ServerLimits::default()
    };
    let target = Target::start(limits).await;
    let mut attacker = Attacker::greet(&target, &[]).await;
    attacker.call(SUBSCRIBE, Some(&[])).await;
    // It reads, as the kernel of a machine that hangs still does, and answers nothing.
    attacker.closed().await;
    target.reader_noticed_nothing().await;
}
