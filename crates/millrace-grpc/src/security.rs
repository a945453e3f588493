//! What protects a server: TLS, and who may do what.

use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;

use crate::{Access, ServerTls};

/// The protection of a server. None by default, which is for the loopback.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// TLS; `None` takes bytes as they are.
    pub tls: Option<ServerTls>,
    /// Who may do what; `None` lets everybody do everything.
    pub access: Option<Arc<Access>>,
}

/// Others than this machine would reach a server without protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ExposedError {
    /// Without TLS.
    #[error(
        "{0} is not an address of this machine alone, and there is no TLS: others could read along"
    )]
    Readable(SocketAddr),
    /// With TLS, and everybody may do everything.
    #[error("{0} is not an address of this machine alone, and everybody may do everything there")]
    Open(SocketAddr),
}

impl Security {
    /// Whether a server may listen on an address: on the loopback always, elsewhere with TLS and
    /// known callers, or when told so plainly.
    ///
    /// # Errors
    /// [`ExposedError`].
    pub fn check(&self, listen: SocketAddr, insecure: bool) -> Result<(), ExposedError> {
        if insecure || listen.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        match (&self.tls, &self.access) {
            (None, _) => Err(ExposedError::Readable(listen)),
            (Some(_), None) => Err(ExposedError::Open(listen)),
            (Some(_), Some(_)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_reaches_a_server_without_protection() {
        let none = Security::default();
        let known = Security { access: Some(Arc::new(Access::any_certificate())), tls: None };
        for listen in ["127.0.0.1:0", "127.8.9.1:7400", "[::1]:7400", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(none.check(listen.parse().unwrap(), false), Ok(()), "{listen}");
        }
        for listen in ["0.0.0.0:7400", "[::]:7400", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let listen = listen.parse().unwrap();
            assert_eq!(none.check(listen, false), Err(ExposedError::Readable(listen)));
            assert_eq!(known.check(listen, false), Err(ExposedError::Readable(listen)));
            assert_eq!(none.check(listen, true), Ok(()));
        }
    }
}
