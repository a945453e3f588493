//! `millrace serve`: one service in a process of its own, on the gRPC implementations of its ports.
//!
//! Services start in any order: each waits for what it needs, and says that it serves only while
//! that serves too.

mod failure;
mod keys;
mod services;

use std::sync::Arc;
use std::time::Duration;

use millrace_client::port::PeerPort;
use millrace_grpc::{Drain, Health};
use tokio_util::task::AbortOnDropHandle;

pub use failure::ServeError;
pub use keys::ServeKeys;
pub(crate) use keys::{duration, read_keys};
use services::{IngestPart, JoinPart, Service, ServingPart, StoreWriterPart};

use crate::cli::{Global, ServeArgs, ServiceName};
use crate::dev::{self, DevError, Signals};
use crate::exit::Exit;
use crate::going_down::go_down;
use crate::listen::listen;

/// How often a service looks whether what it needs serves.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs one service until a signal ends it.
///
/// # Errors
/// [`ServeError`].
pub async fn run(args: &ServeArgs, global: &Global) -> Result<Exit, ServeError> {
    let told = keys::told(args, global)?;
    let address = told.settings.listen;
    // The address first: it is the cheapest thing to be wrong.
    let listener = listen(address).map_err(|source| DevError::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| DevError::Listen { address, source })?;
    let admin = dev::admin_port(told.admin, args.service.name())?;
    let traces = dev::traces(args.service.name())?;
    let mut signals = Signals::listen()?;
    let start = async {
        Ok::<Arc<dyn Service>, ServeError>(match args.service {
            ServiceName::StoreWriter => Arc::new(StoreWriterPart::start(&told).await?),
            ServiceName::Join => Arc::new(JoinPart::start(&told, address).await?),
            ServiceName::Ingest => Arc::new(IngestPart::start(&told).await?),
            ServiceName::FeatureServing => Arc::new(ServingPart::start(&told).await?),
        })
    };
    let service = tokio::select! {
        service = start => service?,
        () = signals.next() => return Ok(Exit::Done),
    };
    let drain = Drain::new();
    let scheme = if told.protection.tls.is_some() { "https" } else { "http" };
    let limits = told.limits();
    let server = service
        .server(limits, drain)
        .with_reflection(millrace_proto::FILE_DESCRIPTOR_SET)
        .with_security(told.protection.clone());
    let health = server.health();
    if let Some(port) = &admin {
        let health = health.clone();
        port.serves(move || health.is_serving());
        if let Some(measure) = service.measure() {
            port.measures(measure);
        }
    }
    let beside = admin.as_ref().map(|port| format!(" (admin: http://{})", port.address()));
    let beside = beside.unwrap_or_default();
    let server = dev::serve(server, listener);
    let name = args.service.name();
    let ready =
        AbortOnDropHandle::new(tokio::spawn(readiness(service.clone(), health, move || {
            dev::print_line(&format!("millrace {name} is ready on {scheme}://{address}{beside}\n"));
        })));
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        stop = service.failed() => Err(DevError::from(stop)),
    };
    drop(ready);
    let drained = go_down(&limits.drain, server, service.drain(), traces).await;
    outcome?;
    drained?;
    Ok(Exit::Done)
}

/// Says that the service serves while everything it needs does; calls `first` the first time.
async fn readiness(service: Arc<dyn Service>, health: Health, first: impl FnOnce()) {
    let mut first = Some(first);
    let mut said = None;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let lacking = lacking(service.needs()).await;
        if said.as_ref() == Some(&lacking) {
            continue;
        }
        health.set_serving(lacking.is_none()).await;
        match (&lacking, first.take()) {
            (None, Some(first)) => first(),
            (None, None) => tracing::info!("serving again"),
            (Some((name, why)), waiting) => {
                first = waiting;
                tracing::warn!(needs = *name, %why, "not serving: what is needed does not serve");
            }
        }
        said = Some(lacking);
    }
}

/// The first service that is needed and does not serve, and why it does not.
async fn lacking(needs: &[Arc<dyn PeerPort>]) -> Option<(&'static str, String)> {
    for peer in needs {
        if let Err(why) = peer.serves().await {
            return Some((peer.name(), why));
        }
    }
    None
}
