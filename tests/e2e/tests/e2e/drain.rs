//! Going down takes no longer than it may, whatever clients do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use millrace_e2e_tests::SERVICES;

use crate::apart::Place;
use crate::crash::{clicks, expected_counts};
use crate::fixture::{CLICKS, Site, pair};

/// What a service promises from SIGTERM on (docs/operations.md).
const BOUND: Duration = Duration::from_secs(10);
/// The first bytes of a client of HTTP/2, and settings that change nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A client that follows the health of a server, was answered once, and from then on neither reads nor
/// says a word: no GOAWAY reaches it. It is gone when dropped.
struct Deaf {
    _stream: TcpStream,
}

impl Deaf {
    fn follow(address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("an address");
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("it is no zero");
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Watch"),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let mut first = PREFACE.to_vec();
        let literal =
            headers.iter().flat_map(|(name, value)| field(name, value)).collect::<Vec<_>>();
        first.extend(frame(HEADERS, END_HEADERS, &literal));
        // A message without a field: every service of the server.
        first.extend(frame(DATA, END_STREAM, &[0; 5]));
        stream.write_all(&first).expect("it is taken");
        while next_frame(&mut stream) != DATA {}
        Self { _stream: stream }
    }
}

/// A header as a literal without an index: lengths below 127 are one byte.
fn field(name: &str, value: &str) -> Vec<u8> {
    let [name_length, value_length] = [name.len() as u8, value.len() as u8];
    [&[0, name_length], name.as_bytes(), &[value_length], value.as_bytes()].concat()
}

/// A frame of stream 1.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &1_u32.to_be_bytes(), payload].concat()
}

/// Reads a frame and gives its kind.
fn next_frame(stream: &mut TcpStream) -> u8 {
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("a frame");
    let [a, b, c, kind, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).expect("its payload");
    kind
}

#[track_caller]
fn assert_in_time(begun: Instant, what: &str) {
    let took = begun.elapsed();
    assert!(took < BOUND, "{what} took {took:?}");
}

#[test]
fn a_client_that_does_not_go_cannot_hold_one_process_up() {
    let mut site = Site::new();
    let rows = clicks(0..2_000);
    let lines: Vec<&str> = std::iter::once(CLICKS).chain(rows.iter().map(String::as_str)).collect();
    let report = site.publish("clicks", &lines);
    assert_eq!(report.accepted, 2_000, "{report:?}");
    let deaf = Deaf::follow(&site.server().address());
    let begun = Instant::now();
    assert_eq!(site.stop(), 0);
    assert_in_time(begun, "dev");
    drop(deaf);
    site.start_again();
    let report = site.publish("clicks", &lines);
    assert_eq!(report.duplicate, 2_000, "{report:?}");
}

#[test]
fn a_client_that_does_not_go_cannot_hold_services_up() {
    let mut place = Place::with(&[]);
    let file = pair("clicks", &place.clicks("clicks.csv", 0..2_000));
    let report = place.cli().publish([&file]).expect("published");
    assert_eq!(report.accepted, 2_000, "{report:?}");
    // The two that have something to save.
    for service in ["join", "store-writer"] {
        let endpoint = place.services.endpoint(service);
        let deaf = Deaf::follow(endpoint.trim_start_matches("http://"));
        let begun = Instant::now();
        assert_eq!(place.services.terminate(service).expect("it drains"), 0, "{service}");
        assert_in_time(begun, service);
        drop(deaf);
    }
    for service in SERVICES {
        place.kill_and_start(service);
    }
    assert_eq!(place.settled_counts(), expected_counts(2_000));
}
