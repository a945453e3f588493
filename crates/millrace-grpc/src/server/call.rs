//! The layer around every call: admission, deadline, complete statuses.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::body::{CallBody, End};
use super::connection::PeerInfo;
use super::receiving::{Received, Receiving};
use crate::access::is_stream;
use crate::deadline::{self, Deadline};
use crate::metrics::{CallMetrics, Measured};
use crate::status::completed;
use crate::{Access, Caller, Drain, ErrorCode, Fault, PeerNetwork, ServerLimits};

/// Wraps the services of a server.
#[derive(Clone)]
pub(super) struct CallLayer {
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    receiving: Arc<Receiving>,
    handler_timeout: Duration,
    stream_age_max: Duration,
    access: Option<Arc<Access>>,
    drain: Drain,
    metrics: Arc<CallMetrics>,
}

impl CallLayer {
    pub(super) fn new(limits: &ServerLimits, access: Option<Arc<Access>>, drain: Drain) -> Self {
        Self {
            metrics: CallMetrics::new(limits, &drain),
            calls: Arc::new(Semaphore::new(limits.calls_max)),
            streams: Arc::new(Semaphore::new(limits.streams_max)),
            receiving: Receiving::new(limits.receiving_bytes_max),
            handler_timeout: limits.handler_timeout,
            stream_age_max: limits.stream_age_max,
            access,
            drain,
        }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner, layer: self.clone() }
    }
}

/// See [`CallLayer`].
#[derive(Clone)]
pub(super) struct CallService<S> {
    inner: S,
    layer: CallLayer,
}

/// Held until a call's response begins.
struct Admitted {
    _of_peer: Option<[OwnedSemaphorePermit; 2]>,
    _of_server: OwnedSemaphorePermit,
}

/// Held until a stream ends; nothing for other calls.
#[derive(Default)]
pub(super) struct Streams {
    _of_peer: Option<OwnedSemaphorePermit>,
    _of_server: Option<OwnedSemaphorePermit>,
}

fn take(
    limit: &Arc<Semaphore>,
    what: &'static str,
    scope: &'static str,
) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(limit).try_acquire_owned().map_err(|_| {
        Fault::new(ErrorCode::Overloaded, format!("too many {what} at once of this {scope}"))
            .with("scope", scope)
            .into_status()
    })
}

impl CallLayer {
    /// Says who calls, for the services, or why they may not.
    fn identify(&self, request: &mut Request<Body>, peer: Option<&PeerInfo>) -> Result<(), Status> {
        // No service, and nothing it logs, needs the token.
        let shown = request.headers_mut().remove(AUTHORIZATION);
        let caller = match &self.access {
            None => Caller::unrestricted(),
            Some(access) => {
                let names = peer.and_then(PeerInfo::certificate_names);
                access.admit(request.uri().path(), shown.as_ref(), names)?
            }
        };
        request.extensions_mut().insert(caller);
        Ok(())
    }

    /// Takes a call in, or says why not. Refusing costs little, so it is done before anything else.
    fn admit(&self, peer: Option<&PeerInfo>) -> Result<Admitted, Status> {
        let take = |calls, scope| take(calls, "calls", scope);
        let of_peer = match peer {
            Some(peer) => {
                Some([take(peer.calls(), "connection")?, take(peer.calls_of_address(), "address")?])
            }
            None => None,
        };
        Ok(Admitted { _of_peer: of_peer, _of_server: take(&self.calls, "server")? })
    }

    /// Takes a stream in: it has memory of its own for as long as it is open.
    fn admit_stream(&self, path: &str, peer: Option<&PeerInfo>) -> Result<Streams, Status> {
        if !is_stream(path) {
            return Ok(Streams::default());
        }
        let of_peer = peer.map(|peer| take(peer.streams_of_address(), "streams", "address"));
        Ok(Streams {
            _of_peer: of_peer.transpose()?,
            _of_server: Some(take(&self.streams, "streams", "server")?),
        })
    }
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut measured = self.layer.metrics.begin(request.uri().path());
        // The clone was not asked whether it is ready; the original was.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let peer: Option<PeerInfo> = request.extensions().get().cloned();
        // Who may not call takes no place, and its message is not read.
        let admitted = self
            .layer
            .identify(&mut request, peer.as_ref())
            .and_then(|()| self.layer.admit(peer.as_ref()))
            .and_then(|admitted| {
                let streams = self.layer.admit_stream(request.uri().path(), peer.as_ref())?;
                Ok((admitted, streams))
            });
        let receiving = Arc::clone(&self.layer.receiving);
        let address = peer.as_ref().and_then(PeerInfo::address).map(|address| address.ip());
        let network = PeerNetwork::of(address);
        let mut request = request.map(|body| Body::new(Received::new(body, &receiving, network)));
        let deadline = Deadline::of_headers(request.headers());
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        let now = Instant::now();
        // A client may ask for less time than a stream has, and for no more.
        let longest = now + self.layer.stream_age_max;
        let until = deadline
            .map_or(now + self.layer.handler_timeout, |deadline| deadline.instant().min(longest));
        let drain = self.layer.drain.clone();
        let stream_age_max = self.layer.stream_age_max;
        Box::pin(async move {
            let open = drain.open_call();
            let (admitted, streams) = match admitted {
                Ok(admitted) => admitted,
                Err(status) => return Ok(refused(measured, status)),
            };
            let uri = request.uri().clone();
            let handler = Deadline::handle(until, inner.call(request));
            let response = match timeout_at(until, handler).await {
                Ok(response) => response?,
                Err(_elapsed) => return Ok(refused(measured, deadline::exceeded())),
            };
            drop(admitted);
            if let Some(status) = failed(&response) {
                if let Some(status) = completed(&status, uri.path()) {
                    return Ok(refused(measured, status));
                }
                measured.end(&status);
            }
            let end = End::of(deadline, now, stream_age_max, open.number());
            let untaken = peer.map(|peer| Arc::clone(peer.untaken()));
            Ok(response.map(|body| {
                Body::new(CallBody::new(body, end, drain, untaken, (open, streams), measured))
            }))
        })
    }
}

/// A response that is only a failure.
fn refused(mut measured: Measured, status: Status) -> Response<Body> {
    measured.end(&status);
    status.into_http()
}

/// The status of a response that is only a failure: it stands in the headers.
fn failed(response: &Response<Body>) -> Option<Status> {
    if !response.headers().contains_key(Status::GRPC_STATUS) {
        return None;
    }
    Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok)
}
