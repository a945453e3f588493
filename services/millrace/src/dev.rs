//! `millrace dev`: the four services in one process on the embedded store.
//!
//! Each service is a library behind its ports; here they are put together and called directly.
//! What a hop carries is owned data all the same, so that the services can run apart.

mod failure;
mod parts;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millrace_config::Share;
use millrace_grpc::{Drain, DrainLimits, GrpcServer, Security};
use millrace_telemetry::admin::AdminPort;
use millrace_telemetry::{AdminServer, Metrics, Traces};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

pub use failure::DevError;
use parts::Parts;
pub(crate) use parts::incarnation;

use crate::cli::DevArgs;
use crate::exit::Exit;
use crate::going_down::{Serving, go_down};
use crate::listen::listen;

/// What a process that runs everything is started with.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// The folder that holds everything.
    pub data: PathBuf,
    /// Where gRPC is served; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The number of slots.
    pub slots: u32,
    /// A slot's budget of facts at hand, in bytes.
    pub at_hand_bytes: usize,
    /// The share of answers that is compared with the log.
    pub parity_sample: Share,
    /// Bytes of the log read a second to fill in new features.
    pub backfill_bytes_per_second: u64,
    /// A catalog to apply at the start.
    pub catalog: Option<PathBuf>,
    /// What protects the server.
    pub security: Security,
    /// Where health and metrics are told over HTTP; nowhere by default.
    pub admin: Option<SocketAddr>,
}

impl From<&DevArgs> for DevOptions {
    fn from(args: &DevArgs) -> Self {
        Self {
            data: args.data.clone(),
            listen: args.listen,
            slots: args.slots,
            at_hand_bytes: usize::try_from(args.at_hand_bytes).unwrap_or(usize::MAX),
            parity_sample: args.parity_sample,
            backfill_bytes_per_second: args.backfill_bytes_per_second,
            catalog: args.catalog.clone(),
            security: Security::default(),
            admin: args.admin,
        }
    }
}

/// All services, running.
pub struct Dev {
    address: SocketAddr,
    server: Serving,
    parts: Arc<Parts>,
    admin: Option<AdminPort>,
    traces: Option<Traces>,
}

impl Dev {
    /// Opens the folder, takes its slots over, and serves.
    ///
    /// # Errors
    /// [`DevError`]; nothing is served then.
    pub async fn start(options: &DevOptions) -> Result<Self, DevError> {
        // The address first: it is the cheapest thing to be wrong.
        let listener = listen(options.listen)
            .map_err(|source| DevError::Listen { address: options.listen, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| DevError::Listen { address: options.listen, source })?;
        let admin = admin_port(options.admin, "dev")?;
        let traces = traces("dev")?;
        let parts = Arc::new(Parts::start(options).await?);
        if let Some(path) = &options.catalog {
            apply(&parts, path).await?;
        }
        let drain = Drain::new();
        let server = parts.server(drain).with_security(options.security.clone());
        let health = server.health();
        if let Some(port) = &admin {
            let health = health.clone();
            port.serves(move || health.is_serving());
            port.measures(parts.join.clone());
        }
        let server = serve(server, listener);
        health.set_serving(true).await;
        Ok(Self { address, server, parts, admin, traces })
    }

    /// Where gRPC is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are told, if anywhere.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminPort::address)
    }

    /// Resolves when the services cannot go on, with the reason.
    pub async fn failed(&self) -> DevError {
        self.parts.join.failed().await.into()
    }

    /// Goes down in order: calls end, what is in flight lands, heads and marks are saved, slots are
    /// released. Bounded by [`DrainLimits::bound`].
    ///
    /// # Errors
    /// [`DevError`] when something could not be saved in time; nothing acknowledged is lost.
    pub async fn stop(self) -> Result<(), DevError> {
        let limits = DrainLimits::default();
        go_down(&limits, self.server, self.parts.drain(), self.traces).await
    }
}

/// Serves in a task of its own.
pub(crate) fn serve(server: GrpcServer, listener: TcpListener) -> Serving {
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(async move {
        let stop = async {
            // A dropped sender is a stop too.
            let _ = stopped.await;
        };
        server.serve(listener, stop).await.map_err(DevError::Serve)?;
        Ok(())
    });
    Serving { stop, served }
}

async fn apply(parts: &Parts, path: &Path) -> Result<(), DevError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| DevError::CatalogFile { path: path.to_owned(), source })?;
    parts
        .catalog
        .apply(&text, false, None)
        .await
        .map_err(|source| DevError::Catalog { path: path.to_owned(), source })?;
    Ok(())
}

/// Runs `millrace dev` until a signal ends it.
///
/// # Errors
/// [`DevError`].
pub async fn run(args: &DevArgs) -> Result<Exit, DevError> {
    let security = args.security.load(args.listen)?;
    if let Some(admin) = args.admin {
        args.security.check_admin(admin)?;
    }
    let options = DevOptions { security, ..DevOptions::from(args) };
    let dev = Dev::start(&options).await?;
    // Before anybody is told that it serves: whoever is told may end it at once.
    let mut signals = Signals::listen()?;
    announce(&dev, &options);
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        error = dev.failed() => Err(error),
    };
    let stopped = dev.stop().await;
    outcome.and(stopped).map(|()| Exit::Done)
}

/// One line on standard output once everything serves: scripts wait for it.
fn announce(dev: &Dev, options: &DevOptions) {
    let line = format!(
        "millrace dev is ready on {}://{} (data: {}, slots: {}{}); next: {}\n",
        if options.security.tls.is_some() { "https" } else { "http" },
        dev.address(),
        options.data.display(),
        options.slots,
        dev.admin().map(|admin| format!(", admin: http://{admin}")).unwrap_or_default(),
        if options.catalog.is_some() { "millrace status" } else { "millrace apply CATALOG" },
    );
    print_line(&line);
}

/// Opens the admin port, before anything that it counts is made. It tells of the process alone until
/// the services are there.
pub(crate) fn admin_port(
    address: Option<SocketAddr>,
    service: &'static str,
) -> Result<Option<AdminPort>, DevError> {
    let Some(address) = address else { return Ok(None) };
    let failed = |source| DevError::Listen { address, source };
    let listener = listen(address).map_err(failed)?;
    let metrics = Metrics::install(service, env!("CARGO_PKG_VERSION"))?;
    AdminServer::new(metrics).spawn(listener).map(Some).map_err(failed)
}

/// Exports spans where the environment asks for it.
pub(crate) fn traces(service: &'static str) -> Result<Option<Traces>, DevError> {
    let read = |name: &str| std::env::var(name).ok();
    Ok(Traces::install(service, env!("CARGO_PKG_VERSION"), read)?)
}

/// Says something on standard output at once.
pub(crate) fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    // A closed standard output must not end the server.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// The signals that end a server in order. From when it listens on, none of them is lost and none ends the
/// process as it stands.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`DevError::Signal`].
    pub(crate) fn listen() -> Result<Self, DevError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(DevError::Signal)?,
            interrupt: signal(SignalKind::interrupt()).map_err(DevError::Signal)?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
