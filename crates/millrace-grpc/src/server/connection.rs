//! Connections: accepted up to a number, without Nagle's delay, and closed when the drain says so.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::gather::Gather;
use crate::drain::{Drain, OpenConnection};
use crate::limits::ServerLimits;

/// The process may be out of file descriptors: asking again at once would only burn its CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a call's connection. In the extensions of every request.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    address: Option<SocketAddr>,
    calls: Arc<Semaphore>,
}

impl PeerInfo {
    /// The peer's address, where the operating system knew it.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// One permit a call of this connection that waits for its response.
    pub(super) fn calls(&self) -> &Arc<Semaphore> {
        &self.calls
    }
}

/// Accepts connections for ever. Dropping it closes the listener.
pub(super) fn incoming(
    listener: TcpListener,
    limits: &ServerLimits,
    drain: Drain,
) -> impl Stream<Item = Result<Connection, Infallible>> + use<> {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let calls_max = limits.calls_per_connection_max;
    futures::stream::unfold((listener, slots, drain), move |(listener, slots, drain)| async move {
        let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
        let (stream, address) = loop {
            match listener.accept().await {
                Ok((stream, address)) => break (stream, address),
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            // The peer may be gone already; its connection then ends by itself.
            tracing::debug!(%error, "set TCP_NODELAY");
        }
        let peer = PeerInfo { address: Some(address), calls: Arc::new(Semaphore::new(calls_max)) };
        let connection = Connection {
            stream: Gather::new(stream),
            cut: Box::pin(drain.connections_cut()),
            peer,
            drain: drain.clone(),
            _open: drain.open_connection(),
            _slot: slot,
        };
        Some((Ok(connection), (listener, slots, drain)))
    })
}

/// A connection that ends with an error once the drain cuts connections, so that a peer that
/// neither reads nor closes cannot hold the server up.
pub(super) struct Connection {
    stream: Gather<TcpStream>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    peer: PeerInfo,
    drain: Drain,
    _open: OpenConnection,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    /// Runs one operation, unless the connection is cut; also wakes the task when it will be.
    fn unless_cut<T>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        operate: impl FnOnce(Pin<&mut Gather<TcpStream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.drain.are_connections_cut() {
            return Poll::Ready(Err(cut_error()));
        }
        let polled = operate(Pin::new(&mut self.stream), cx);
        if polled.is_pending() {
            ready!(self.cut.as_mut().poll(cx));
            return Poll::Ready(Err(cut_error()));
        }
        polled
    }
}

fn cut_error() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the server is down")
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.unless_cut(cx, |stream, cx| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_cut(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_cut(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_cut(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}
