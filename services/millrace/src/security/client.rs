//! How commands know servers, and show who they are.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use millrace_client::ClientSecurity;
use serde::Deserialize;
use thiserror::Error;

/// How a command knows servers, and shows who it is; a service likewise, for those it calls.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Options of every command")]
pub struct ClientArgs {
    /// Trust servers whose certificate this one signed, PEM; for https://
    #[arg(long, global = true, env = "MILLRACE_CA", hide_env_values = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Show this certificate to servers, PEM, its own first
    #[arg(long, global = true, env = "MILLRACE_CERT", hide_env_values = true, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The key of --cert, PEM
    #[arg(long, global = true, env = "MILLRACE_KEY", hide_env_values = true, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Show this token to servers; @FILE reads it from a file, where others do not see it
    #[arg(
        long,
        global = true,
        env = "MILLRACE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub token: Option<TokenArg>,
}

/// A token, or `@` and the file that holds it. Debug shows no token.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct TokenArg(String);

impl FromStr for TokenArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for TokenArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}

/// Why a command cannot show who it is.
#[derive(Debug, Error)]
pub enum ClientSecurityError {
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
    /// One of a pair.
    #[error("--cert and --key go together")]
    Pair,
    /// Not a token.
    #[error("the token has characters that no header carries, or none at all")]
    Token,
}

impl ClientArgs {
    /// These, and what is not stated from `other`: flags over a file. Certificate and key are of one
    /// place.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let is_stated = |path: &Option<PathBuf>| stated(path.as_ref()).is_some();
        let own = is_stated(&self.cert) || is_stated(&self.key);
        let (cert, key) = if own { (self.cert, self.key) } else { (other.cert, other.key) };
        Self {
            ca: self.ca.filter(|path| stated(Some(path)).is_some()).or(other.ca),
            cert,
            key,
            token: self.token.filter(|token| !token.0.is_empty()).or(other.token),
        }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// [`ClientSecurityError`].
    pub fn load(&self) -> Result<ClientSecurity, ClientSecurityError> {
        let mut security = ClientSecurity::default();
        if let Some(path) = stated(self.ca.as_ref()) {
            security = security.with_ca(read("the authority of servers", path)?);
        }
        match (stated(self.cert.as_ref()), stated(self.key.as_ref())) {
            (Some(cert), Some(key)) => {
                let chain = read("the certificate", cert)?;
                security = security.with_certificate(chain, read("the key", key)?);
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => return Err(ClientSecurityError::Pair),
        }
        match self.token.as_ref().map(|token| token.0.as_str()) {
            None | Some("") => Ok(security),
            Some(text) => {
                let read = |path| read("the token", Path::new(path));
                let bytes = text.strip_prefix('@').map(read).transpose()?;
                let token = match &bytes {
                    Some(bytes) => std::str::from_utf8(bytes).unwrap_or_default().trim(),
                    None => text,
                };
                security.with_token(token).ok_or(ClientSecurityError::Token)
            }
        }
    }
}

/// A variable of the environment that is set to nothing is as good as unset.
fn stated(path: Option<&PathBuf>) -> Option<&Path> {
    path.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ClientSecurityError> {
    std::fs::read(path).map_err(|source| ClientSecurityError::File {
        what,
        path: path.to_owned(),
        source,
    })
}
