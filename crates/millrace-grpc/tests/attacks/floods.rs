//! Frames that cost the server more than the client, sent as fast as they go.

use millrace_grpc::ServerLimits;

use crate::support::{
    ACK, Attacker, CONTINUATION, Closed, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY,
    READ, RST_STREAM, SETTINGS, Target, WINDOW_UPDATE, fields, frame, headers, literal,
};

/// Far more than a connection gets, and little enough for a server that stops nothing.
const MOST: usize = 100_000;

/// Runs a flood against the default limits: it is closed long before it is through.
async fn closed(pattern: impl FnMut(&mut Attacker) -> Vec<u8>) -> Closed {
    let target = Target::start(ServerLimits::default()).await;
    let attacker = Attacker::greet(&target, &[]).await;
    let closed = attacker.flood(MOST, pattern).await;
    assert!(closed.sent < MOST, "nothing stopped it: {closed:?}");
    target.reader_noticed_nothing().await;
    closed
}

#[tokio::test]
async fn pings() {
    closed(|_| frame(PING, 0, 0, &[0; 8])).await;
}

#[tokio::test]
async fn answers_to_pings_nobody_sent() {
    closed(|_| frame(PING, ACK, 0, &[0; 8])).await;
}

#[tokio::test]
async fn settings() {
    closed(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])).await;
}

#[tokio::test]
async fn window_updates() {
    closed(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await;
}

#[tokio::test]
async fn priorities_and_frames_of_no_known_type() {
    for kind in [PRIORITY, 0xbe] {
        closed(|_| frame(kind, 0, 1, &[0, 0, 0, 3, 1])).await;
    }
}

#[tokio::test]
async fn streams_opened_and_reset() {
    closed(|attacker| {
        let stream = attacker.open();
        let mut bytes = headers(stream, 0, READ);
        bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        bytes
    })
    .await;
}

/// The reset is provoked, so that the server sends it and counts none of the client's.
#[tokio::test]
async fn streams_made_the_server_reset() {
    let overflow = |stream| frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
    let nothing = |stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4]);
    let behind_the_end = |stream| frame(DATA, 0, stream, &[1]);
    for (flags, provoke) in [
        (0, &overflow as &(dyn Fn(u32) -> Vec<u8> + Sync)),
        (0, &nothing),
        (END_STREAM, &behind_the_end),
    ] {
        closed(|attacker| {
            let stream = attacker.open();
            let mut bytes = headers(stream, flags, READ);
            bytes.extend(provoke(stream));
            bytes
        })
        .await;
    }
}

#[tokio::test]
async fn streams_with_a_header_that_is_none() {
    closed(|attacker| {
        let mut fields = fields(READ);
        fields.extend(literal("UPPER", "x"));
        frame(HEADERS, END_HEADERS | END_STREAM, attacker.open(), &fields)
    })
    .await;
}

#[tokio::test]
async fn streams_without_an_end() {
    closed(|attacker| headers(attacker.open(), 0, READ)).await;
}

#[tokio::test]
async fn headers_that_go_on() {
    for field in [literal("a", ""), literal("a", &"x".repeat(100)).repeat(40)] {
        let mut begun = false;
        closed(|attacker| {
            if begun {
                return frame(CONTINUATION, 0, 1, &field);
            }
            begun = true;
            frame(HEADERS, 0, attacker.open(), &fields(READ))
        })
        .await;
    }
}

#[tokio::test]
async fn data_of_nothing_and_of_next_to_nothing() {
    for data in [&[][..], &[0]] {
        let mut begun = false;
        closed(|attacker| {
            if begun {
                return frame(DATA, 0, 1, data);
            }
            begun = true;
            headers(attacker.open(), 0, READ)
        })
        .await;
    }
}

/// Whoever does not read the answers is not saved by the server's waiting.
#[tokio::test]
async fn pings_whose_answers_nobody_reads() {
    use tokio::io::AsyncWriteExt as _;
    let target = Target::start(ServerLimits::default()).await;
    let mut attacker = Attacker::greet(&target, &[]).await;
    let batch = frame(PING, 0, 0, &[0; 8]).repeat(200);
    let refused = crate::support::soon(async {
        for _ in 0..MOST / 200 {
            if attacker.stream.write_all(&batch).await.is_err() {
                return true;
            }
        }
        false
    })
    .await;
    assert!(refused, "nothing stopped it");
    target.reader_noticed_nothing().await;
}
