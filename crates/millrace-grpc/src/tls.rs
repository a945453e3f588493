//! TLS of a server: rustls with ring, TLS 1.3 alone.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// How a server proves who it is, and whether its clients must. Debug shows no key.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

/// Whether clients show a certificate. The bytes are PEM: who signs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates<'a> {
    /// They are not asked for one.
    NotAsked,
    /// They may; one that is shown must be valid.
    Optional(&'a [u8]),
    /// They must, or there is no connection.
    Required(&'a [u8]),
}

/// Why TLS cannot be set up. Nothing of a key is in the text.
#[derive(Debug, Error)]
pub enum TlsError {
    /// No certificate in PEM.
    #[error("the certificate is no PEM file with a certificate, its own first")]
    Certificate,
    /// No key in PEM.
    #[error("the key is no PEM file with a private key (PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    Key,
    /// No certificate in PEM.
    #[error("the authority of client certificates is no PEM file with certificates")]
    ClientAuthority,
    /// The key is not the certificate's, or of a kind that is not supported.
    #[error("certificate and key cannot be used together")]
    Pair(#[source] rustls::Error),
    /// rustls itself.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

impl ServerTls {
    /// From a chain of certificates and its key, in PEM.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        clients: ClientCertificates<'_>,
    ) -> Result<Self, TlsError> {
        let chain = certificates(chain).ok_or(TlsError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Setup)?;
        let builder = match verifier(clients)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed connection would not look at the client's certificate again, which may have
        // expired; connections live long, so there is little to save.
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config) })
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

fn verifier(
    clients: ClientCertificates<'_>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let (authority, required) = match clients {
        ClientCertificates::NotAsked => return Ok(None),
        ClientCertificates::Optional(authority) => (authority, false),
        ClientCertificates::Required(authority) => (authority, true),
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority).ok_or(TlsError::ClientAuthority)? {
        roots.add(certificate).map_err(|_| TlsError::ClientAuthority)?;
    }
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map(Some).map_err(|_| TlsError::ClientAuthority)
}

/// The certificates of a PEM file; `None` if it has none or is none.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}
