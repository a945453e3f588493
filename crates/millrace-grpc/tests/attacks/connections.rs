//! Connections: many, silent ones, ones that say hello and nothing else, and ones that stay.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::StreamExt as _;
use millrace_grpc::ServerLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Attacker, SUBSCRIBE, Target, connect, soon};

/// Ten thousand connections, in turns of what the process may have open: all but the share of the
/// attacker's address are closed at once.
#[tokio::test]
async fn ten_thousand_connections_take_no_more_than_their_share() {
    const ALL: usize = 10_000;
    const AT_ONCE: usize = 1_000;
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
