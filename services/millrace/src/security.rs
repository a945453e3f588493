//! TLS, tokens and certificates, as servers and commands are told of them: files, read here.

mod client;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::FalseyValueParser;
use millrace_grpc::{
    Access, AccessError, ClientCertificates, ExposedError, Security, ServerTls, TlsError,
};
use serde::Deserialize;
use thiserror::Error;

pub use client::{ClientArgs, ClientSecurityError, TokenArg};

/// What protects a server. Off on the loopback unless asked for.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Protection")]
pub struct SecurityArgs {
    /// Serve TLS with this certificate, PEM, the server's own first
    #[arg(
        long,
        env = "MILLRACE_TLS_CERT",
        hide_env_values = true,
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The key of --tls-cert, PEM
    #[arg(
        long,
        env = "MILLRACE_TLS_KEY",
        hide_env_values = true,
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
    /// Who signs certificates of clients, PEM; without --access each of them may do everything
    #[arg(
        long,
        env = "MILLRACE_TLS_CLIENT_CA",
        hide_env_values = true,
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_client_ca: Option<PathBuf>,
    /// Who may do what: tokens and certificates with their roles, TOML
    #[arg(long, env = "MILLRACE_ACCESS", hide_env_values = true, value_name = "FILE")]
    pub access: Option<PathBuf>,
    /// Serve beyond this machine without TLS, or with everything allowed to everybody
    #[arg(long, env = "MILLRACE_INSECURE", value_parser = FalseyValueParser::new())]
    pub insecure: bool,
}

/// Why a server is not protected as asked for, or not enough.
#[derive(Debug, Error)]
pub enum SecurityError {
    /// A file cannot be read.
    #[error("cannot read {what} {}", path.display())]
    File {
        /// What it is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The access file is not of its form.
    #[error("access file {} is refused", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// Why.
        source: AccessError,
    },
    /// Others would reach the admin port.
    #[error(
        "the admin port has no TLS, and {0} is not an address of this machine alone: others could \
         read the metrics"
    )]
    AdminExposed(SocketAddr),
    /// Others would reach it.
    #[error(transparent)]
    Exposed(#[from] ExposedError),
}

impl SecurityError {
    /// What to do next.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::File { .. } => "check the path and its permissions",
            Self::Tls(_) => "check the files of --tls-cert, --tls-key and --tls-client-ca",
            Self::Access { .. } => "see docs/security.md for the form of the file",
            Self::AdminExposed(_) => {
                "let --admin be an address of 127.0.0.1, or say --insecure where the network is \
                 your own"
            }
            Self::Exposed(_) => {
                "give --tls-cert and --tls-key, and --access or --tls-client-ca; or listen on \
                 127.0.0.1; or say --insecure where the network is your own"
            }
        }
    }
}

impl SecurityArgs {
    /// These, and what is not stated from `other`: flags over a file.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            tls_client_ca: self.tls_client_ca.or(other.tls_client_ca),
            access: self.access.or(other.access),
            insecure: self.insecure || other.insecure,
        }
    }

    /// Checks that the admin port, which has neither TLS nor credentials, may listen there: on the
    /// loopback, or where told so plainly.
    ///
    /// # Errors
    /// [`SecurityError::AdminExposed`].
    pub fn check_admin(&self, listen: SocketAddr) -> Result<(), SecurityError> {
        if Security::default().check(listen, self.insecure).is_err() {
            return Err(SecurityError::AdminExposed(listen));
        }
        Ok(())
    }

    /// Reads the files, and checks that a server may listen there with them.
    ///
    /// # Errors
    /// [`SecurityError`].
    pub fn load(&self, listen: SocketAddr) -> Result<Security, SecurityError> {
        let client_ca = self
            .tls_client_ca
            .as_deref()
            .map(|path| read("the authority of client certificates", path))
            .transpose()?;
        let access = match (&self.access, &client_ca) {
            (Some(path), _) => Some(load_access(path)?),
            (None, Some(_)) => Some(Access::any_certificate()),
            (None, None) => None,
        };
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                let clients = match &client_ca {
                    // Who shows none may have a token.
                    Some(ca) if self.access.is_some() => ClientCertificates::Optional(ca),
                    Some(ca) => ClientCertificates::Required(ca),
                    None => ClientCertificates::NotAsked,
                };
                let chain = read("the certificate", cert)?;
                let key = read("the key", key)?;
                Some(ServerTls::from_pem(&chain, &key, clients)?)
            }
            (Some(_), None) => return Err(TlsError::Key.into()),
            (None, Some(_)) => return Err(TlsError::Certificate.into()),
            (None, None) if client_ca.is_some() => return Err(TlsError::Certificate.into()),
            (None, None) => None,
        };
        let security = Security { tls, access: access.map(Arc::new) };
        security.check(listen, self.insecure)?;
        if self.insecure && security.check(listen, false).is_err() {
            tracing::warn!(%listen, "served beyond this machine without protection, as asked for");
        }
        Ok(security)
    }
}

fn load_access(path: &Path) -> Result<Access, SecurityError> {
    let what = "the access file";
    let text = std::fs::read_to_string(path).map_err(|source| SecurityError::File {
        what,
        path: path.to_owned(),
        source,
    })?;
    Access::parse(&text).map_err(|source| SecurityError::Access { path: path.to_owned(), source })
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, SecurityError> {
    std::fs::read(path).map_err(|source| SecurityError::File {
        what,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_port_stays_on_this_machine_unless_told_otherwise() {
        let check = |address: &str, insecure| {
            let args = SecurityArgs { insecure, ..SecurityArgs::default() };
            args.check_admin(address.parse().expect("an address")).is_ok()
        };
        assert!(check("127.0.0.1:9400", false) && check("[::1]:9400", false));
        assert!(!check("0.0.0.0:9400", false) && !check("10.0.0.1:9400", false));
        assert!(check("0.0.0.0:9400", true));
    }
}
