//! Why `millrace dev` does not start or does not go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use millrace_grpc::ServeError;
use millrace_ingest::catalog::CatalogError;
use millrace_join::{StartError, Stop};
use millrace_placement::SlotsError;
use millrace_store::StoreError;
use millrace_store_fjall::OpenError;
use millrace_telemetry::metrics::MetricsError;
use millrace_telemetry::trace::TraceError;
use thiserror::Error;

use crate::security::SecurityError;

/// Why `millrace dev` does not start or does not go on.
#[derive(Debug, Error)]
pub enum DevError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It is not protected as asked for, or not enough.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The data folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The number of slots is not possible.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// The stored catalog cannot be read.
    #[error("cannot load the catalog")]
    StoredCatalog(#[source] CatalogError),
    /// The catalog file cannot be read.
    #[error("cannot read catalog {}", path.display())]
    CatalogFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The catalog file is refused.
    #[error("catalog {} is refused", path.display())]
    Catalog {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CatalogError,
    },
    /// The slots cannot be taken over.
    #[error("cannot recover the data folder")]
    Start(#[from] StartError),
    /// The services stopped: nothing more could be written.
    #[error("the services stopped: nothing that was acknowledged is lost")]
    Stopped(#[source] StoreError),
    /// Others took the slots over.
    #[error(
        "node {0} was fenced: it did not renew its lease in time, and others took its slots over"
    )]
    Fenced(String),
    /// The server failed.
    #[error(transparent)]
    Serve(ServeError),
    /// A task died.
    #[error("a task died: {0}")]
    Task(String),
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signal(#[source] io::Error),
    /// The drain was cut.
    #[error("heads were not all saved in time; the next start replays more of the log")]
    DrainCut,
    /// There are no traces.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// There are no metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl DevError {
    /// What to do next, where the message does not say it.
    #[must_use]
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Listen { .. } => {
                Some("stop what listens there, or choose another --listen or --admin")
            }
            Self::Catalog { .. } => Some("see all of it with `millrace validate`"),
            Self::Security(error) => Some(error.next_step()),
            Self::CatalogFile { .. } => Some("check the path given with --catalog"),
            Self::Stopped(_) => {
                Some("make room on the disk or mend it, then start again on the same folder")
            }
            Self::Fenced(_) => Some(
                "start it again; if it happens again, look at what keeps it from its store for seconds",
            ),
            Self::Traces(_) => Some("leave OTEL_EXPORTER_OTLP_ENDPOINT out to do without"),
            Self::Metrics(_) => Some("leave --admin out"),
            Self::StoredCatalog(_) => {
                Some("open the folder with the build that wrote it, or choose another --data")
            }
            Self::Open(_)
            | Self::Slots(_)
            | Self::Start(_)
            | Self::Serve(_)
            | Self::Task(_)
            | Self::Signal(_)
            | Self::DrainCut => None,
        }
    }
}

impl From<Stop> for DevError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fenced(node) => Self::Fenced(node.0),
            Stop::Store(error) => Self::Stopped(error),
        }
    }
}
