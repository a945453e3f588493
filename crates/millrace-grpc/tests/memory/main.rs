//! What attacks cost in memory. One test alone: what the process takes is looked at, which others would
//! take beside it.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever it does not expect")]

#[path = "../attacks/support.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod support;

use millrace_grpc::ServerLimits;

use crate::support::{
    Attacker, DATA, Numbers, PING, READ, RST_STREAM, SETTINGS, Target, WINDOW_UPDATE, frame,
    headers,
};

/// Frames enough to take many times as much from a server that stops nothing.
const MOST: usize = 100_000;
/// Attacker and server together.
const GROWTH_MAX: usize = 64 << 20;

/// The most memory that the process ever had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

fn streams_without_an_end(streams: &mut Numbers) -> Vec<u8> {
    headers(streams.open(), 0, READ)
}

fn windows_that_overflow(streams: &mut Numbers) -> Vec<u8> {
    let stream = streams.open();
    let overflow = frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
    [headers(stream, 0, READ), overflow].concat()
}

fn streams_opened_and_reset(streams: &mut Numbers) -> Vec<u8> {
    let stream = streams.open();
    [headers(stream, 0, READ), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
}

/// Each message claims to be as large as one may be.
fn messages_begun(streams: &mut Numbers) -> Vec<u8> {
    let stream = streams.open();
    let begun = frame(DATA, 0, stream, &[0, 0, 0x0f, 0xff, 0xff, 0]);
    [headers(stream, 0, READ), begun].concat()
}

fn settings(_: &mut Numbers) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])
}

fn pings(_: &mut Numbers) -> Vec<u8> {
    frame(PING, 0, 0, &[0; 8])
}

#[tokio::test]
async fn attacks_take_little_memory() {
    type Pattern = fn(&mut Numbers) -> Vec<u8>;
    for (name, pattern) in [
        ("streams without an end", streams_without_an_end as Pattern),
        ("windows that overflow", windows_that_overflow),
        ("streams opened and reset", streams_opened_and_reset),
        ("messages begun", messages_begun),
        ("settings", settings),
        ("pings", pings),
    ] {
        let target = Target::start(ServerLimits::default()).await;
        let before = peak();
        let attacker = Attacker::greet(&target, &[]).await;
        let closed = attacker.flood(MOST, pattern).await;
        let grown = peak() - before;
        assert!(grown < GROWTH_MAX, "{name}: {grown} bytes, {closed:?}");
        assert!(closed.sent < MOST, "nothing stopped {name}: {closed:?}");
        target.reader_noticed_nothing().await;
    }
}
