//! The bytes of a connection: as they are, or under TLS.
//!
//! The handshake is part of reading and writing, so that it runs beside those of other connections
//! and within the limits of its own: its place, its time, the drain.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};
use webpki::EndEntityCert;

use super::refusal::Refusal;
use crate::ServerTls;

/// What a client of HTTP/2 says first (RFC 9113, 3.4); TLS begins with another byte.
const PLAIN_HTTP2: [u8; 1] = *b"P";

/// The names of a client's certificate, once it is known to be valid.
pub(super) type PeerNames = Arc<OnceLock<Vec<String>>>;

/// See the module.
pub(super) enum Transport {
    Plain(TcpStream),
    /// Nothing was received yet.
    Silent(TcpStream, TlsAcceptor, PeerNames),
    /// The client speaks HTTP/2 without TLS, and is told.
    Refusing(Refusal),
    Greeting(Box<Accept<TcpStream>>, PeerNames),
    Secure(Box<TlsStream<TcpStream>>),
    Failed,
}

impl Transport {
    /// Over a connection that was just accepted. `names` is filled before the first byte is read.
    pub(super) fn new(stream: TcpStream, tls: Option<&ServerTls>, names: PeerNames) -> Self {
        match tls {
            None => Self::Plain(stream),
            Some(tls) => Self::Silent(stream, TlsAcceptor::from(tls.config()), names),
        }
    }

    /// The stream once the handshake is over.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Stream>>> {
        if let Self::Silent(stream, ..) = self {
            let mut first = [0];
            ready!(stream.poll_peek(cx, &mut ReadBuf::new(&mut first)))?;
            if let Self::Silent(stream, acceptor, names) = std::mem::replace(self, Self::Failed) {
                *self = match first {
                    PLAIN_HTTP2 => Self::Refusing(Refusal::of(stream)),
                    _ => Self::Greeting(Box::new(acceptor.accept(stream)), names),
                };
            }
        }
        if let Self::Refusing(refusal) = self {
            ready!(refusal.poll_tell(cx))?;
            *self = Self::Failed;
        }
        if let Self::Greeting(accept, names) = self {
            match ready!(Pin::new(accept.as_mut()).poll(cx)) {
                Ok(stream) => {
                    if let Some(of_peer) = peer_names(&stream) {
                        // Set once, here.
                        let _ = names.set(of_peer);
                    }
                    *self = Self::Secure(Box::new(stream));
                }
                Err(error) => {
                    *self = Self::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match self {
            Self::Plain(stream) => Ok(Pin::new(stream)),
            Self::Secure(stream) => Ok(Pin::new(stream.as_mut())),
            Self::Silent(..) | Self::Refusing(_) | Self::Greeting(..) | Self::Failed => {
                Err(io::ErrorKind::NotConnected.into())
            }
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(cx))?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_stream(cx))?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(cx))?.poll_shutdown(cx)
    }
}

/// The URI and DNS names of the client's certificate, which rustls found valid.
fn peer_names(stream: &TlsStream<TcpStream>) -> Option<Vec<String>> {
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates()?.first()?;
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let names = certificate.valid_uri_names().chain(certificate.valid_dns_names());
    Some(names.map(str::to_owned).collect())
}
