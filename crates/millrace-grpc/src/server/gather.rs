//! Writes gathered until they are flushed.
//!
//! HTTP/2 writes a response as frames. Over a writer that takes several slices at once, `h2` keeps a
//! message of 256 bytes or more where it is and writes it out before the frame that follows, so the
//! trailers of every such response cost a write, a packet and a wake-up of the client of their own.
//! Over a writer of single slices it copies messages up to 1 KiB and writes the response in one go.
//! Here the slices are gathered again, so that larger messages still leave in few writes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at most: two HTTP/2 frames of the usual size.
const GATHER_BYTES_MAX: usize = 32 << 10;
/// A buffer that grew beyond this is given back once it is written.
const KEEP_BYTES: usize = 4 << 10;

/// A stream whose writes are gathered until [`AsyncWrite::poll_flush`].
#[derive(Debug)]
pub(super) struct Gather<S> {
    stream: S,
    buffer: Vec<u8>,
    /// How much of the buffer is written.
    written: usize,
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), written: 0 }
    }

    /// Writes what was gathered.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let rest = &self.buffer[self.written..];
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
        }
        self.written = 0;
        if self.buffer.capacity() > KEEP_BYTES {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.buffer.len() + bytes.len() > GATHER_BYTES_MAX {
            ready!(self.poll_drain(cx))?;
        }
        if bytes.len() > GATHER_BYTES_MAX {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Counts writes, and takes a bounded number of bytes in each.
    struct Counted {
        taken: Vec<u8>,
        writes: usize,
        most: usize,
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let n = bytes.len().min(self.most);
            self.taken.extend_from_slice(&bytes[..n]);
            self.writes += 1;
            Poll::Ready(Ok(n))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn counted(most: usize) -> Gather<Counted> {
        Gather::new(Counted { taken: Vec::new(), writes: 0, most })
    }

    #[tokio::test]
    async fn frames_of_a_response_leave_in_one_write() {
        let mut stream = counted(usize::MAX);
        for frame in [&b"headers"[..], b"message", b"trailers"] {
            stream.write_all(frame).await.unwrap();
        }
        assert_eq!(stream.stream.writes, 0);
        stream.flush().await.unwrap();
        assert_eq!(stream.stream.taken, b"headersmessagetrailers");
        assert_eq!(stream.stream.writes, 1);
    }

    #[tokio::test]
    async fn every_byte_arrives_in_order_whatever_the_sizes() {
        for most in [1, 7, 4_096, usize::MAX] {
            let mut stream = counted(most);
            let mut wanted = Vec::new();
            for (n, size) in [1, 300, GATHER_BYTES_MAX, 5, GATHER_BYTES_MAX + 1, 40_000, 9]
                .into_iter()
                .enumerate()
            {
                let bytes = vec![n as u8; size];
                stream.write_all(&bytes).await.unwrap();
                wanted.extend(bytes);
                assert!(stream.buffer.len() <= GATHER_BYTES_MAX);
            }
            stream.shutdown().await.unwrap();
            assert_eq!(stream.stream.taken, wanted);
            assert!(stream.buffer.capacity() <= KEEP_BYTES);
        }
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_holds_the_flush_up() {
        let (near, mut far) = tokio::io::duplex(8);
        let mut stream = Gather::new(near);
        stream.write_all(&[7; 100]).await.unwrap();
        let flush = stream.flush();
        tokio::pin!(flush);
        assert!(futures::poll!(flush.as_mut()).is_pending());
        let mut taken = [0; 100];
        let (flushed, read) = tokio::join!(flush, far.read_exact(&mut taken));
        flushed.unwrap();
        read.unwrap();
        assert_eq!(taken, [7; 100]);
    }
}
