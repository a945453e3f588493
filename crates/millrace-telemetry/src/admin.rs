//! The admin port: HTTP/1 for scrapers and for whoever watches processes.
//!
//! `GET /metrics` is Prometheus' text format, `/livez` answers while the process does, `/readyz`
//! answers 200 while its services take calls, as gRPC health says, and 503 otherwise. One request a
//! connection, no body, so a connection can be given up after a few seconds whatever its client does.

mod limits;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

pub use limits::AdminLimits;

use crate::metrics::{Measure, Metrics, TEXT};

/// How long what is measured may take to answer; its gauges then stay as they were.
const MEASURE_WITHIN: Duration = Duration::from_secs(1);
/// The process may be out of file descriptors: asking again at once would only burn its CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The admin port, being put together.
#[derive(Debug, Clone)]
pub struct AdminServer {
    metrics: Metrics,
    limits: AdminLimits,
}

/// A running admin port. Dropped, it is closed.
pub struct AdminPort {
    address: SocketAddr,
    told: Arc<Told>,
    _task: AbortOnDropHandle<()>,
}

/// What it tells of: the process from the start, its services once they are there.
struct Told {
    metrics: Metrics,
    limits: AdminLimits,
    serving: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    measures: RwLock<Vec<Arc<dyn Measure>>>,
    /// One scrape at a time: others wait for it and then measure anew.
    scrape: Mutex<()>,
}

impl AdminPort {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says from now on whether the process's services take calls. Only the first one counts.
    pub fn serves(&self, serving: impl Fn() -> bool + Send + Sync + 'static) {
        // A second one would be a second server of the process.
        let _ = self.told.serving.set(Box::new(serving));
    }

    /// Measures this too before metrics are given.
    pub fn measures(&self, measure: Arc<dyn Measure>) {
        self.told.measures.write().unwrap_or_else(PoisonError::into_inner).push(measure);
    }
}

impl AdminServer {
    /// Tells of these metrics.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, limits: AdminLimits::default() }
    }

    /// With other limits than the default ones.
    #[must_use]
    pub fn with_limits(mut self, limits: AdminLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Answers until it is dropped.
    ///
    /// # Errors
    /// When the listener has no address.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(self, listener: TcpListener) -> io::Result<AdminPort> {
        let address = listener.local_addr()?;
        let told = Arc::new(Told {
            metrics: self.metrics,
            limits: self.limits,
            serving: OnceLock::new(),
            measures: RwLock::default(),
            scrape: Mutex::new(()),
        });
        let task = AbortOnDropHandle::new(tokio::spawn(told.clone().accept(listener)));
        Ok(AdminPort { address, told, _task: task })
    }
}

impl Told {
    /// Takes connections, so many at a time: others wait in the system's queue, where they cost
    /// nothing, and each gets its turn because none stays long.
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    tokio::spawn(async move {
                        let within = server.limits.connection_within;
                        // Whoever is too slow is cut off.
                        let _ = timeout(within, server.serve(stream)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection of the admin port");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let server = self.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(&request).await) }
        });
        let served = http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_within)
            .max_headers(self.limits.headers)
            .max_buf_size(self.limits.header_bytes)
            .serve_connection(TokioIo::new(stream), answer)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection of the admin port broke");
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            refused.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match request.uri().path() {
            "/metrics" => self.scrape().await,
            "/livez" => plain(StatusCode::OK, "ok\n"),
            "/readyz" if self.serving.get().is_some_and(|serving| serving()) => {
                plain(StatusCode::OK, "ok\n")
            }
            "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not serving\n"),
            _ => plain(StatusCode::NOT_FOUND, "/metrics, /livez or /readyz\n"),
        }
    }

    async fn scrape(&self) -> Response<Full<Bytes>> {
        let _alone = self.scrape.lock().await;
        let measures = self.measures.read().unwrap_or_else(PoisonError::into_inner).clone();
        for measure in measures {
            if timeout(MEASURE_WITHIN, measure.measure()).await.is_err() {
                tracing::warn!("gauges are not measured in time and stay as they were");
            }
        }
        match self.metrics.text() {
            Ok(text) => {
                let mut response = Response::new(Full::new(Bytes::from(text)));
                let media = http::HeaderValue::from_static(TEXT);
                response.headers_mut().insert(CONTENT_TYPE, media);
                response
            }
            Err(error) => {
                tracing::error!(%error, "metrics cannot be given");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "see the log\n")
            }
        }
    }
}

impl std::fmt::Debug for AdminPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminPort").field("address", &self.address).finish_non_exhaustive()
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let media = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}
