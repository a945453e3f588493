//! A client that speaks HTTP/2 without TLS, where TLS is spoken. An alert of TLS means nothing to it, and it
//! would try for ever; it is told in its own language, by the error that HTTP/2 has for this.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

/// SETTINGS without any, with which a server begins, and GOAWAY with INADEQUATE_SECURITY and a text
/// (RFC 9113, 6.5, 6.8 and 7).
const FAREWELL: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x1c\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0cthis port speaks TLS";
/// Of what the client has sent meanwhile so much is read, or closing would take the farewell back.
const READ_MAX: usize = 64 * 1024;

/// Such a client, and how far it was told.
pub(super) struct Refusal {
    stream: TcpStream,
    written: usize,
    is_shut: bool,
    read: usize,
}

impl Refusal {
    pub(super) fn of(stream: TcpStream) -> Self {
        Self { stream, written: 0, is_shut: false, read: 0 }
    }

    /// Tells it, and waits until it is gone; how long that may take is bounded as for every connection
    /// without a call.
    pub(super) fn poll_tell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < FAREWELL.len() {
            let left = &FAREWELL[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        if !self.is_shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        while self.read < READ_MAX {
            let mut bytes = [0; 1024];
            let mut bytes = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut bytes))?;
            if bytes.filled().is_empty() {
                break;
            }
            self.read += bytes.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::FAREWELL;

    #[test]
    fn the_farewell_is_two_frames() {
        let (settings, goaway) = FAREWELL.split_at(9);
        assert_eq!(settings, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        let length = u32::from_be_bytes([0, goaway[0], goaway[1], goaway[2]]) as usize;
        assert_eq!((goaway[3], length), (7, goaway.len() - 9));
        assert_eq!(goaway[9..17], [0, 0, 0, 0, 0, 0, 0, 0x0c]);
    }
}
