//! Connections: accepted up to a number, without Nagle's delay, and closed when they break a limit
//! or the drain says so.

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
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::transport::server::Connected;

use super::gather::Gather;
use super::meter::Meter;
use super::peers::{Peers, Place};
use super::transport::{PeerNames, Transport};
use super::untaken::Untaken;
use super::watch::Watch;
use crate::drain::{Drain, OpenConnection};
use crate::metrics::ConnectionMetrics;
use crate::{ServerLimits, ServerTls};

/// The process may be out of file descriptors: asking again at once would only burn its CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a call's connection. In the extensions of every request.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    address: Option<SocketAddr>,
    calls: Arc<Semaphore>,
    calls_of_address: Arc<Semaphore>,
    streams_of_address: Arc<Semaphore>,
    untaken: Arc<Untaken>,
    names: PeerNames,
}

impl PeerInfo {
    /// The peer's address, where the operating system knew it.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The URI and DNS names of the client's certificate, which is valid; `None` without one.
    #[must_use]
    pub fn certificate_names(&self) -> Option<&[String]> {
        self.names.get().map(Vec::as_slice)
    }

    /// One permit a call of this connection that waits for its response.
    pub(super) fn calls(&self) -> &Arc<Semaphore> {
        &self.calls
    }

    /// One permit a call of this address that waits for its response.
    pub(super) fn calls_of_address(&self) -> &Arc<Semaphore> {
        &self.calls_of_address
    }

    /// One permit a stream of this address.
    pub(super) fn streams_of_address(&self) -> &Arc<Semaphore> {
        &self.streams_of_address
    }

    /// Where responses say what they handed out.
    pub(super) fn untaken(&self) -> &Arc<Untaken> {
        &self.untaken
    }
}

/// Accepts connections for ever. Dropping it closes the listener.
pub(super) fn incoming(
    listener: TcpListener,
    limits: &ServerLimits,
    tls: Option<ServerTls>,
    drain: Drain,
) -> impl Stream<Item = Result<Connection, Infallible>> + use<> {
    let metrics = Arc::new(ConnectionMetrics::new(limits, &drain));
    let peers = Peers::new(limits);
    let accept = Accept { listener, limits: *limits, tls, peers, drain, metrics };
    futures::stream::unfold(accept, |accept| async move {
        let connection = accept.next().await;
        Some((Ok(connection), accept))
    })
}

struct Accept {
    listener: TcpListener,
    limits: ServerLimits,
    tls: Option<ServerTls>,
    peers: Arc<Peers>,
    drain: Drain,
    metrics: Arc<ConnectionMetrics>,
}

impl Accept {
    /// The next connection that there is a place for. Others are closed at once, which costs less
    /// than to let them wait, and lets a client go elsewhere.
    async fn next(&self) -> Connection {
        loop {
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.peers.place(address.ip()) {
                Ok(place) => return self.connection(stream, address, place),
                Err(full) => {
                    self.metrics.refused(full.name());
                    tracing::debug!(%address, ?full, "connection refused");
                }
            }
        }
    }

    fn connection(&self, stream: TcpStream, address: SocketAddr, place: Place) -> Connection {
        if let Err(error) = stream.set_nodelay(true) {
            // The peer may be gone already; its connection then ends by itself.
            tracing::debug!(%error, "set TCP_NODELAY");
        }
        let now = Instant::now();
        let untaken = Arc::new(Untaken::default());
        let peer = PeerInfo {
            address: Some(address),
            calls: Arc::new(Semaphore::new(self.limits.calls_per_connection_max)),
            calls_of_address: Arc::clone(place.calls()),
            streams_of_address: Arc::clone(place.streams()),
            untaken: Arc::clone(&untaken),
            names: PeerNames::default(),
        };
        let stream = Transport::new(stream, self.tls.as_ref(), Arc::clone(&peer.names));
        Connection {
            stream: Gather::new(stream),
            meter: Meter::new(&self.limits.frames, now),
            watch: Watch::new(&self.limits, self.drain.clone(), untaken, now),
            peer,
            metrics: self.metrics.clone(),
            _open: self.drain.open_connection(),
            _place: place,
        }
    }
}

/// A connection that ends with an error once it breaks a limit, or once the drain cuts connections,
/// so that a peer that neither reads nor closes cannot hold the server up.
pub(super) struct Connection {
    stream: Gather<Transport>,
    meter: Meter,
    watch: Watch,
    peer: PeerInfo,
    metrics: Arc<ConnectionMetrics>,
    _open: OpenConnection,
    _place: Place,
}

impl Connection {
    /// Runs one operation, unless the connection is over; also wakes the task when it will be.
    fn unless_over<T>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        operate: impl FnOnce(Pin<&mut Gather<Transport>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = &mut *self;
        if let Some(over) = this.watch.cut() {
            return Poll::Ready(Err(over.into()));
        }
        let polled = operate(Pin::new(&mut this.stream), cx);
        if polled.is_pending() {
            let over = ready!(this.watch.poll_over(cx, this.meter.has_call()));
            this.metrics.closed(over.name());
            tracing::debug!(address = ?this.peer.address, %over, "connection closed");
            return Poll::Ready(Err(over.into()));
        }
        polled
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.as_mut().unless_over(cx, |stream, cx| stream.poll_read(cx, buffer)))?;
        let this = &mut *self;
        let read =
            this.meter.read(&buffer.filled()[before..], || this.peer.untaken.take_responded());
        if let Err(flood) = read {
            let address = this.peer.address;
            this.metrics.closed("flood");
            tracing::debug!(?address, frames = flood.frames, "connection closed: a flood");
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "more control frames than the server takes",
            )));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_over(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_over(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_over(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}
