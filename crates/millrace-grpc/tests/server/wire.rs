//! What the server says on the wire, read frame by frame: its limits are announced and kept.

use std::time::{Duration, Instant};

use millrace_grpc::ServerLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Running, soon};

const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// A client that says hello and then acknowledges nothing.
struct Deaf(TcpStream);

impl Deaf {
    async fn connect(server: &Running) -> Self {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
        Self(stream)
    }

    /// The next frame's type and payload; `None` at the end of the connection.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((head[3], payload))
    }
}

#[tokio::test]
async fn the_limits_are_announced() {
    let limits = ServerLimits::default();
    let server = Running::start(limits).await;
    let mut client = Deaf::connect(&server).await;
    let (kind, payload) = soon(client.frame()).await.unwrap();
    assert_eq!(kind, SETTINGS);
    let setting = |id: u16| {
        payload
            .chunks(6)
            .find(|s| s[..2] == id.to_be_bytes())
            .map(|s| u32::from_be_bytes([s[2], s[3], s[4], s[5]]))
    };
    assert_eq!(setting(3), Some(limits.streams_per_connection_max), "streams at once");
    assert_eq!(setting(4), Some(limits.stream_window_bytes), "window of a stream");
    assert_eq!(setting(6), Some(limits.header_list_bytes_max), "bytes of headers");
}

#[tokio::test]
async fn a_peer_without_a_sign_of_life_is_closed() {
    let limits = ServerLimits {
        keepalive_interval: Duration::from_millis(100),
        keepalive_timeout: Duration::from_millis(100),
        ..ServerLimits::default()
    };
    let server = Running::start(limits).await;
    let mut client = Deaf::connect(&server).await;
    let begun = Instant::now();
    soon(async { while client.frame().await.is_some() {} }).await;
    assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go_away() {
    let limits =
        ServerLimits { connection_age_max: Duration::from_millis(100), ..ServerLimits::default() };
    let server = Running::start(limits).await;
    let mut client = Deaf::connect(&server).await;
    let asked = soon(async {
        loop {
            match client.frame().await {
                Some((GOAWAY, _)) => break true,
                Some(_) => {}
                None => break false,
            }
        }
    })
    .await;
    assert!(asked, "closed without GOAWAY");
}
