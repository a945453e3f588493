//! A gRPC server: several services on one listener, with every limit set, health, reflection and a
//! bounded drain.

mod body;
mod call;
mod connection;
#[doc(hidden)]
pub mod decoders;
mod gather;
mod meter;
mod peers;
mod receiving;
mod refusal;
mod transport;
mod untaken;
mod watch;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::Service;

pub use connection::PeerInfo;

use crate::{Drain, Health, Security, ServerLimits};

/// How long connections that were cut, and what their calls began, may take to end.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// A server that is being put together.
pub struct GrpcServer {
    limits: ServerLimits,
    drain: Drain,
    security: Security,
    reporter: HealthReporter,
    serving: Arc<AtomicBool>,
    routes: RoutesBuilder,
    services: Vec<&'static str>,
    descriptors: Vec<&'static [u8]>,
}

/// How a server went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Calls that were still open when connections were cut; 0 when all ended.
    pub calls_cut: u64,
    /// Connections that were cut; 0 when all ended.
    pub connections_cut: u64,
    /// Tasks of [`Drain::tasks`] that had not ended when the server was over.
    pub tasks_left: usize,
}

impl Drained {
    /// Whether everything ended by itself.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.connections_cut == 0 && self.tasks_left == 0
    }
}

/// Why a server did not serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The descriptors for reflection are not valid.
    #[error("the descriptors for reflection are not valid")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the server stopped")]
    Transport(#[source] tonic::transport::Error),
}

/// tonic's server with every HTTP/2 limit set. There is no other place where one is built.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn builder(limits: &ServerLimits) -> Server {
    Server::builder()
        .max_concurrent_streams(limits.streams_per_connection_max)
        .http2_max_local_error_reset_streams(Some(limits.local_error_resets_max))
        .http2_max_pending_accept_reset_streams(Some(limits.pending_accept_resets_max))
        .http2_max_header_list_size(limits.header_list_bytes_max)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
        .max_connection_age(limits.connection_age_max)
        .accept_http1(false)
}

impl GrpcServer {
    /// A server with these limits, on which `drain` tells handlers to end.
    #[must_use]
    pub fn new(limits: ServerLimits, drain: Drain) -> Self {
        let reporter = HealthReporter::new();
        let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        let mut routes = Routes::builder();
        routes.add_service(health);
        Self {
            limits,
            drain,
            security: Security::default(),
            reporter,
            serving: Arc::default(),
            routes,
            services: Vec::new(),
            descriptors: Vec::new(),
        }
    }

    /// Serves with this protection; without it none, which [`Security::check`] allows on the
    /// loopback alone.
    #[must_use]
    pub fn with_security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// Adds a service; take it from [`crate::services`], which sets its limits.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self.services.push(S::NAME);
        self
    }

    /// Serves reflection (v1, and v1alpha for older tools) over these descriptors and the health
    /// service's. It lists the services added to this server.
    #[must_use]
    pub fn with_reflection(mut self, descriptor_set: &'static [u8]) -> Self {
        self.descriptors.push(descriptor_set);
        self
    }

    /// Says whether the services added so far take calls. Until somebody says so they do not.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::new(self.reporter.clone(), &self.services, self.serving.clone())
    }

    /// Serves until `stop` resolves and then goes down in order: health says NOT_SERVING, a notice
    /// passes, handlers are asked to end their streams and no connection is taken any more, calls
    /// still open are ended with SERVER_DRAINING, and at last connections are cut. A second after that
    /// it is over in any case.
    ///
    /// # Errors
    /// [`ServeError`]. A client cannot cause one.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<Drained, ServeError> {
        let health = self.health();
        let Self { limits, drain, security, mut routes, services, descriptors, .. } = self;
        add_reflection(&mut routes, &services, &descriptors)?;

        let Security { tls, access } = security;
        let incoming = connection::incoming(listener, &limits, tls, drain.clone());
        let served = builder(&limits)
            .layer(call::CallLayer::new(&limits, access, drain.clone()))
            .add_routes(routes.routes())
            .serve_with_incoming_shutdown(incoming, drain.started());
        let mut served = pin!(served);
        let mut stop = pin!(stop);
        tokio::select! {
            ended = &mut served => {
                ended.map_err(ServeError::Transport)?;
                return Ok(Drained::default());
            }
            () = &mut stop => {}
        }
        let cut = Instant::now() + limits.drain.connections.min(limits.drain.bound);
        health.set_serving(false).await;
        // Serving goes on through the notice, so the transport is polled beside it.
        let step = |until: Duration| (Instant::now() + until).min(cut);
        let mut ended = timeout_at(step(limits.drain.notice), &mut served).await.is_ok();
        drain.start();
        if !ended {
            ended = timeout_at(step(limits.drain.streams), &mut served).await.is_ok();
        }
        drain.cut_calls();
        if !ended {
            ended = timeout_at(cut, &mut served).await.is_ok();
        }
        let mut drained = Drained::default();
        if !ended {
            drained.calls_cut = drain.calls_open();
            drained.connections_cut = drain.connections_open();
            drain.cut_connections();
            // Cut connections end at their next poll, which the cut itself causes.
            let _ = timeout_at(cut + CUT_GRACE, &mut served).await;
        }
        drain.tasks().close();
        if timeout_at(cut + CUT_GRACE, drain.tasks().wait()).await.is_err() {
            drained.tasks_left = drain.tasks().len();
        }
        Ok(drained)
    }
}

fn add_reflection(
    routes: &mut RoutesBuilder,
    services: &[&'static str],
    descriptors: &[&'static [u8]],
) -> Result<(), ServeError> {
    if descriptors.is_empty() {
        return Ok(());
    }
    let configure = || {
        let sets = descriptors.iter().copied().chain([tonic_health::pb::FILE_DESCRIPTOR_SET]);
        let names =
            services.iter().copied().chain([<HealthServer<HealthService> as NamedService>::NAME]);
        let builder = tonic_reflection::server::Builder::configure();
        let builder = sets.fold(builder, |b, set| b.register_encoded_file_descriptor_set(set));
        names.fold(builder, |b, name| b.with_service_name(name))
    };
    routes.add_service(configure().build_v1().map_err(ServeError::Reflection)?);
    routes.add_service(configure().build_v1alpha().map_err(ServeError::Reflection)?);
    Ok(())
}
