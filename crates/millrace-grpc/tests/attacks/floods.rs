//! Frames that cost the server more than the client, sent as fast as they go.

use millrace_grpc::ServerLimits;
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    ACK, AT_ONCE, Attacker, CONTINUATION, Closed, DATA, END_HEADERS, END_STREAM, HEADERS, Numbers,
    PING, PRIORITY, READ, RST_STREAM, SETTINGS, STREAM, Target, WINDOW_UPDATE, fields, frame,
    headers, literal,
};

/// Far more than a connection gets, and little enough for a server that stops nothing.
const MOST: usize = 100_000;

/// Runs a flood against the default limits: it is closed at once, long before it is through.
async fn closed(pattern: impl FnMut(&mut Numbers) -> Vec<u8>) -> Closed {
    closed_by(Target::start(ServerLimits::default()).await, pattern).await
}

/// The same under TLS.
async fn closed_under_tls(pattern: impl FnMut(&mut Numbers) -> Vec<u8>) -> Closed {
    closed_by(Target::start_with_tls(ServerLimits::default()).await, pattern).await
}

async fn closed_by(target: Target, pattern: impl FnMut(&mut Numbers) -> Vec<u8>) -> Closed {
    let attacker = Attacker::greet(&target, &[]).await;
    let closed = attacker.flood(MOST, pattern).await;
    assert!(closed.sent < MOST, "nothing stopped it: {closed:?}");
    assert!(closed.took < AT_ONCE, "it was let go on: {closed:?}");
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

fn opened_and_reset(streams: &mut Numbers) -> Vec<u8> {
    let stream = streams.open();
    let mut bytes = headers(stream, 0, READ);
    bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    bytes
}

#[tokio::test]
async fn streams_opened_and_reset() {
    closed(opened_and_reset).await;
    closed_under_tls(opened_and_reset).await;
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
        let provoked = |streams: &mut Numbers| {
            let stream = streams.open();
            let mut bytes = headers(stream, flags, READ);
            bytes.extend(provoke(stream));
            bytes
        };
        closed(provoked).await;
        closed_under_tls(provoked).await;
    }
}

#[tokio::test]
async fn streams_with_a_header_that_is_none() {
    closed(|streams| {
        let mut fields = fields(READ);
        fields.extend(literal("UPPER", "x"));
        frame(HEADERS, END_HEADERS | END_STREAM, streams.open(), &fields)
    })
    .await;
}

#[tokio::test]
async fn streams_without_an_end() {
    closed(|streams| headers(streams.open(), 0, READ)).await;
}

#[tokio::test]
async fn headers_that_go_on() {
    for field in [literal("a", ""), literal("a", &"x".repeat(100)).repeat(40)] {
        let mut begun = false;
        closed(|streams| {
            if begun {
                return frame(CONTINUATION, 0, 1, &field);
            }
            begun = true;
            frame(HEADERS, 0, streams.open(), &fields(READ))
        })
        .await;
    }
}

/// Bytes of a call, which its handler takes as they come: each but the first message of the call is
/// read over. The last of these is a whole message.
#[tokio::test]
async fn data_of_nothing_and_of_next_to_nothing() {
    for data in [&[][..], &[0], &[0; 5]] {
        for path in [READ, STREAM] {
            let mut begun = false;
            closed(|streams| {
                if begun {
                    return frame(DATA, 0, 1, data);
                }
                begun = true;
                headers(streams.open(), 0, path)
            })
            .await;
        }
    }
}

/// Whoever does not read the answers is not saved by the server's waiting.
#[tokio::test]
async fn frames_whose_answers_nobody_reads() {
    for asked in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])] {
        let target = Target::start(ServerLimits::default()).await;
        let mut attacker = Attacker::greet(&target, &[]).await;
        let batch = asked.repeat(200);
        let refused = async {
            for _ in 0..MOST / 200 {
                if attacker.stream.write_all(&batch).await.is_err() {
                    return true;
                }
            }
            false
        };
        let refused = tokio::time::timeout(AT_ONCE, refused).await;
        assert_eq!(refused, Ok(true), "nothing stopped it");
        target.reader_noticed_nothing().await;
    }
}
