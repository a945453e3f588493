//! How a client knows the server, and shows who it is.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Request, Status};

/// How a client knows the server, and shows who it is. Nothing by default, which is for servers on
/// this machine. Debug shows no key and no token.
#[derive(Clone, Default)]
pub struct ClientSecurity {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    credential: Credential,
}

impl ClientSecurity {
    /// Trusts servers whose certificates these authorities signed, in PEM. `https://` needs it:
    /// what the operating system trusts is not asked.
    #[must_use]
    pub fn with_ca(mut self, pem: Vec<u8>) -> Self {
        self.ca = Some(pem);
        self
    }

    /// Shows this chain of certificates, whose key this is, both in PEM.
    #[must_use]
    pub fn with_certificate(mut self, chain: Vec<u8>, key: Vec<u8>) -> Self {
        self.identity = Some((chain, key));
        self
    }

    /// Shows this token with every call. `None` when no header can carry it.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Option<Self> {
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().ok()?;
        value.set_sensitive(true);
        self.credential = Credential(Some(value));
        Some(self)
    }

    pub(crate) fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Whether anything is set that needs TLS.
    pub(crate) fn needs_tls(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }

    /// `None` without an authority to trust.
    pub(crate) fn tls(&self) -> Option<ClientTlsConfig> {
        let ca = Certificate::from_pem(self.ca.as_ref()?);
        let tls = ClientTlsConfig::new().ca_certificate(ca);
        Some(match &self.identity {
            Some((chain, key)) => tls.identity(Identity::from_pem(chain, key)),
            None => tls,
        })
    }
}

impl fmt::Debug for ClientSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSecurity")
            .field("ca", &self.ca.is_some())
            .field("certificate", &self.identity.is_some())
            .field("credential", &self.credential)
            .finish()
    }
}

/// What every call of a channel carries.
#[derive(Clone, Default)]
pub(crate) struct Credential(Option<MetadataValue<Ascii>>);

/// A channel whose calls carry a credential.
pub(crate) type Wire = InterceptedService<Channel, Credential>;

impl Credential {
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "no token" } else { "a token" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let security = ClientSecurity::default()
            .with_certificate(b"chain".to_vec(), b"s3cret".to_vec())
            .with_token("s3cret-token")
            .unwrap();
        let mut credential = security.credential().clone();
        let request = credential.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer s3cret-token");
        let shown = format!("{security:?} {:?} {request:?}", security.credential());
        assert!(!shown.contains("s3cret") && !shown.contains("115, 51"), "{shown}");
    }

    #[test]
    fn a_token_that_no_header_carries_is_refused() {
        for token in ["", "a b", "a\n", "é"] {
            assert!(ClientSecurity::default().with_token(token).is_none(), "{token:?}");
        }
    }
}
