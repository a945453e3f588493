//! What a server reads of a connection by itself: the heads of HTTP/2's frames, and of gRPC's messages.

use millrace_grpc::server::decoders::{control_frames, messages};

/// What a client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of this kind whose payload looks like heads of PINGs.
fn frame(kind: u8, length: u8) -> Vec<u8> {
    let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 1];
    frame.resize(frame.len() + usize::from(length), 6);
    frame
}

/// A message of this length.
fn message(length: u8) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, length];
    message.resize(message.len() + usize::from(length), 0);
    message
}

/// What it is, and the size of the pieces it comes in, stand before it.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let call = [frame(4, 6), frame(1, 20), frame(0, 200), frame(8, 4), frame(6, 8)].concat();
    vec![
        [&[0, 7], PREFACE, &call].concat(),
        [&[0, 3], PREFACE, &frame(6, 8).repeat(9), &call[15..]].concat(),
        [&[1, 2][..], &message(10), &message(0), &message(3)].concat(),
        [&[1, 9][..], &message(255)].concat(),
    ]
}

/// One of both, chosen by the first byte.
pub(crate) fn frames(data: &[u8]) -> bool {
    let [which, cut, bytes @ ..] = data else { return false };
    let read = if which % 2 == 0 { control_frames } else { messages };
    read(bytes, usize::from(*cut))
}
