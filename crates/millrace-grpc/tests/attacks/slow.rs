//! Clients that take, or send, next to nothing.

use std::time::Duration;

use millrace_grpc::ServerLimits;
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    Attacker, DATA, READ, SUBSCRIBE, Target, WINDOW_UPDATE, frame, headers, soon,
};

/// A request for `view`, field 1 of both messages.
fn of(view: &str) -> Vec<u8> {
    let mut message = vec![0x0a, u8::try_from(view.len()).unwrap()];
    message.extend(view.as_bytes());
    message
}

/// The settings of a client whose streams have no room.
const NO_WINDOW: [(u16, u32); 1] = [(4, 0)];

/// The client is alive, and keeps what it asked for in the server's memory.
#[tokio::test]
async fn responses_that_are_not_taken_are_given_up() {
    let response_stall_max = Duration::from_millis(400);
    for (path, view) in [(READ, "large"), (SUBSCRIBE, "flood")] {
        let limits = ServerLimits { response_stall_max, ..ServerLimits::default() };
        let target = Target::start(limits).await;
        let mut attacker = Attacker::greet(&target, &NO_WINDOW).await;
        for _ in 0..20 {
            attacker.call(path, Some(&of(view))).await;
        }
        soon(attacker.stay_alive()).await;
        target.reader_noticed_nothing().await;
    }
}

/// Who reads slowly, but reads, is served.
#[tokio::test]
async fn a_slow_reader_that_reads_is_served() {
    let limits =
        ServerLimits { response_stall_max: Duration::from_secs(1), ..ServerLimits::default() };
    let target = Target::start(limits).await;
    let mut reader = Attacker::greet(&target, &NO_WINDOW).await;
    let stream = reader.call(SUBSCRIBE, Some(&of("flood"))).await;
    // Twice as long as anything may stall; one message is taken every 100 ms.
    let mut taken = 0;
    for _ in 0..20 {
        for id in [0, stream] {
            let room = frame(WINDOW_UPDATE, 0, id, &(70_u32 << 10).to_be_bytes());
            reader.stream.write_all(&room).await.unwrap();
        }
        let until = taken + (64 << 10);
        while taken < until {
            let (kind, _, _, payload) = soon(reader.frame()).await.expect("it was closed");
            if kind == DATA {
                taken += payload.len();
            }
        }
        // To be slow is what is tested: nothing is waited for here.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    target.reader_noticed_nothing().await;
}

/// The head of a frame that never comes: whatever the client sends next would be its payload, so
/// it cannot answer a PING.
#[tokio::test]
async fn half_a_frame_is_closed() {
    let limits = ServerLimits {
        keepalive_interval: Duration::from_millis(100),
        keepalive_timeout: Duration::from_millis(100),
        ..ServerLimits::default()
    };
    let target = Target::start(limits).await;
    let mut attacker = Attacker::greet(&target, &[]).await;
    let stream = attacker.open();
    let mut bytes = headers(stream, 0, READ);
    bytes.extend(&frame(DATA, 0, stream, &[0; 16_000])[..100]);
    attacker.stream.write_all(&bytes).await.unwrap();
    soon(attacker.stay_alive()).await;
    target.reader_noticed_nothing().await;
}
