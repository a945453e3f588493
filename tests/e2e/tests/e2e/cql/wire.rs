//! The little of the protocol of CQL that a test speaks itself, in version 4: to look at what the store
//! recorded, and to do what a service asked for in its place.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STARTUP: u8 = 0x01;
const READY: u8 = 0x02;
const QUERY: u8 = 0x07;
const RESULT: u8 = 0x08;
const PREPARE: u8 = 0x09;
/// Of a query.
const QUORUM: u16 = 0x04;
/// Bytes of a frame before its body.
const HEAD: usize = 9;

/// How the server calls a statement.
pub(crate) async fn prepare(server: SocketAddr, text: &str) -> Vec<u8> {
    let answer = result(server, PREPARE, &long(text)).await;
    // The kind of the result, four bytes, and the id behind its length.
    assert_eq!(answer[..4], [0, 0, 0, 4], "PREPARED");
    let length = u16::from_be_bytes([answer[4], answer[5]]);
    answer[6..6 + usize::from(length)].to_vec()
}

/// What the answer to a query holds: all its rows at once.
pub(crate) async fn query(server: SocketAddr, text: &str) -> Vec<u8> {
    let mut body = long(text);
    body.extend_from_slice(&QUORUM.to_be_bytes());
    body.push(0);
    result(server, QUERY, &body).await
}

/// The texts in a query's rows of one column.
pub(crate) async fn texts(server: SocketAddr, text: &str) -> Vec<String> {
    let answer = query(server, text).await;
    let number = |at: usize| answer[at..at + 4].iter().fold(0, |n, b| n << 8 | usize::from(*b));
    // The kind of the result, flags, and one column, whose keyspace, table and name come before its type.
    assert_eq!([number(0), number(4), number(8)], [2, 1, 1], "rows of one table: {answer:?}");
    let mut at = 12;
    for _name in 0..3 {
        at += 2 + usize::from(u16::from_be_bytes([answer[at], answer[at + 1]]));
    }
    at += 2;
    let rows = number(at);
    at += 4;
    let mut text = || {
        let length = number(at);
        let text = &answer[at + 4..at + 4 + length];
        at += 4 + length;
        String::from_utf8(text.to_vec()).expect("a text")
    };
    (0..rows).map(|_| text()).collect()
}

/// The number in a query's one row of one column, a `bigint`.
pub(crate) async fn number(server: SocketAddr, text: &str) -> i64 {
    let answer = query(server, text).await;
    // It stands at the end, behind the count of rows and its own length.
    let Some((_, [0, 0, 0, 1, 0, 0, 0, 8, number @ ..])) = answer.split_last_chunk::<16>() else {
        panic!("{text}: {answer:?}");
    };
    i64::from_be_bytes(*number)
}

/// Asks on a connection of its own, and gives what the answer holds, which must be a result.
pub(crate) async fn result(server: SocketAddr, operation: u8, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.expect("the database takes connections");
    let mut startup = vec![0, 1];
    for text in ["CQL_VERSION", "3.0.0"] {
        startup.extend_from_slice(&(text.len() as u16).to_be_bytes());
        startup.extend_from_slice(text.as_bytes());
    }
    assert_eq!(ask(&mut stream, STARTUP, &startup).await.0, READY);
    let (told, answer) = ask(&mut stream, operation, body).await;
    assert_eq!(told, RESULT, "{}", String::from_utf8_lossy(&answer));
    answer
}

fn long(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

/// Sends a frame and gives operation and body of the answer.
async fn ask(stream: &mut TcpStream, operation: u8, body: &[u8]) -> (u8, Vec<u8>) {
    let mut frame = vec![4, 0, 0, 0, operation];
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(body);
    stream.write_all(&frame).await.expect("it is sent");
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await.expect("an answer");
    let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.expect("all of it");
    (head[4], answer)
}
