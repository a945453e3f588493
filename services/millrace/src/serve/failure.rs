//! Why a service does not start or does not go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use millrace_client::EndpointError;
use millrace_config::ConfigError;
use millrace_store_scylla::OpenError;
use thiserror::Error;

use crate::cql::CqlArgsError;
use crate::dev::DevError;
use crate::redis::RedisArgsError;
use crate::security::{ClientSecurityError, SecurityError};

/// Why a service does not start or does not go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The configuration file cannot be read.
    #[error("cannot read configuration {}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration file is not understood.
    #[error("configuration {} is not valid: {error}", path.display())]
    ConfigInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        error: String,
    },
    /// A setting breaks a rule.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// An address that is none.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// It is not protected as asked for, or not enough.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The hops to other services cannot be secured as asked for.
    #[error(transparent)]
    ClientSecurity(#[from] ClientSecurityError),
    /// The database cannot be used as asked for.
    #[error(transparent)]
    Cql(#[from] CqlArgsError),
    /// The database or its keyspace is not as it must be.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Redis cannot be used as asked for.
    #[error(transparent)]
    Redis(#[from] RedisArgsError),
    /// Others cannot be told where it is.
    #[error(
        "it listens on {0}, which tells other services nothing: say where they reach it with \
         --advertise http://HOST:PORT"
    )]
    Advertise(SocketAddr),
    /// What every server can meet.
    #[error(transparent)]
    Server(#[from] DevError),
}

impl ServeError {
    /// What to do next, where the message does not say it.
    #[must_use]
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::ConfigFile { .. } => Some("check the path given with --config"),
            Self::ConfigInvalid { .. } => Some("see the keys with `millrace serve --help`"),
            Self::Server(error) => error.next_step(),
            Self::Security(error) => Some(error.next_step()),
            Self::Redis(RedisArgsError::File { .. }) => Some("check the path and its permissions"),
            Self::Cql(CqlArgsError::File { .. }) => Some("check the path and its permissions"),
            Self::Cql(
                CqlArgsError::NoNodes | CqlArgsError::HalfKnown | CqlArgsError::Create(_),
            )
            | Self::Open(_)
            | Self::Redis(RedisArgsError::NoUrl | RedisArgsError::Setting(_))
            | Self::Setting(_)
            | Self::Advertise(_)
            | Self::Endpoint(_)
            | Self::ClientSecurity(_) => None,
        }
    }
}
