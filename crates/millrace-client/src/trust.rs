//! Who is not trusted: what TLS, or a server, says of a certificate or a token.

use std::error::Error;
use std::io;

use thiserror::Error;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};
use tonic::{Code, Status};

use crate::error::causes;

/// A service that cannot be called until somebody has changed a certificate, an authority or a
/// token: calling it again before changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{service} at {address} cannot be called: {problem}")]
pub struct NotTrusted {
    /// Which service.
    pub service: &'static str,
    /// Where it was called.
    pub address: String,
    /// What is wrong.
    pub problem: TrustProblem,
}

/// What is wrong between a client and a server, as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrustProblem {
    /// The server's certificate is signed by somebody else.
    #[error("its certificate is not signed by the authority given with ca (unknown issuer)")]
    UnknownIssuer,
    /// The server's certificate is too old.
    #[error("its certificate has expired")]
    Expired,
    /// The server's certificate is for later.
    #[error("its certificate is not valid yet")]
    NotValidYet,
    /// The server's certificate is somebody else's.
    #[error("its certificate does not name the host of the address (name mismatch)")]
    NameMismatch,
    /// The server's certificate is not what it should be.
    #[error("its certificate is refused: {0}")]
    Certificate(String),
    /// The server takes bytes as they are.
    #[error("it does not speak TLS")]
    PlainText,
    /// The server was called without TLS and answers what is no HTTP/2.
    #[error("what it answers is not HTTP/2: it speaks TLS, or is another server")]
    NotPlainText,
    /// The server wants to know who calls.
    #[error("it wants a certificate, and none is shown")]
    CertificateMissing,
    /// This client's certificate is too old.
    #[error("the certificate shown to it has expired")]
    OwnExpired,
    /// This client's certificate is signed by somebody the server does not know.
    #[error("it does not know who signed the certificate shown to it (unknown issuer)")]
    OwnUnknownIssuer,
    /// This client's certificate is not what it should be.
    #[error("it refuses the certificate shown to it ({0})")]
    OwnCertificate(String),
    /// The server knows who calls, and does not let them; or does not know them.
    #[error("it refuses what is shown to it: {0}")]
    Credential(String),
}

impl TrustProblem {
    /// What to do about it.
    #[must_use]
    pub const fn way_out(&self) -> &'static str {
        match self {
            Self::UnknownIssuer => "give the authority that signed it with --ca or MILLRACE_CA",
            Self::Expired | Self::NotValidYet => {
                "renew it and start that server again; compare the clocks of both machines"
            }
            Self::NameMismatch => {
                "call the server by a name of its certificate, or give it one that names this host"
            }
            Self::Certificate(_) => "check the files of the server's --tls-cert and --tls-key",
            Self::PlainText => {
                "give that server --tls-cert and --tls-key, or call it with http:// on this machine"
            }
            Self::NotPlainText => {
                "call it with https:// and --ca or MILLRACE_CA; or look whose port that is"
            }
            Self::CertificateMissing => {
                "show one with --cert and --key, or MILLRACE_CERT and MILLRACE_KEY"
            }
            Self::OwnExpired => "renew the files of --cert and --key, then start this again",
            Self::OwnUnknownIssuer => {
                "show one that the authority of the server's --tls-client-ca signed"
            }
            Self::OwnCertificate(_) => {
                "check the files of --cert and --key against the server's --tls-client-ca"
            }
            Self::Credential(_) => {
                "show a certificate or token that has the role in the server's access file"
            }
        }
    }

    /// What TLS says in the causes of a status, if it says anything of trust.
    pub(crate) fn of_tls(status: &Status) -> Option<Self> {
        causes(status).find_map(|cause| match tls_error(cause) {
            Some(error) => Self::of_error(error),
            // What broke a call that was under way is told as text.
            None => Self::of_text(&cause.to_string()),
        })
    }

    /// The same for a hop: who calls there is a service, which has no other credential to try.
    pub(crate) fn of_hop(status: &Status) -> Option<Self> {
        if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) {
            return Some(Self::Credential(status.message().to_owned()));
        }
        Self::of_tls(status)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "errors of rustls, to which it may add")]
    fn of_error(error: &TlsError) -> Option<Self> {
        match error {
            TlsError::InvalidCertificate(error) => Some(match error {
                // An authority that was made anew has the name of the old one, and another key.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Self::UnknownIssuer
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::Expired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotValidYet
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::NameMismatch,
                other => Self::Certificate(other.to_string()),
            }),
            TlsError::AlertReceived(alert) => Self::of_alert(*alert),
            TlsError::InvalidMessage(_) => Some(Self::PlainText),
            // Anything else may pass.
            _ => None,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "alerts of TLS, to which rustls may add")]
    fn of_alert(alert: AlertDescription) -> Option<Self> {
        match alert {
            AlertDescription::CertificateRequired => Some(Self::CertificateMissing),
            AlertDescription::CertificateExpired => Some(Self::OwnExpired),
            // The latter of an authority that has the name of the known one, and another key.
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                Some(Self::OwnUnknownIssuer)
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => Some(Self::OwnCertificate(format!("{alert:?}"))),
            // Anything else is of the connection, not of a certificate.
            _ => None,
        }
    }

    fn of_text(text: &str) -> Option<Self> {
        // An alert of TLS, read as a frame of HTTP/2, is one of more than a megabyte; so is a text. Of a
        // server that speaks HTTP/2 the frames are right. Ours say in HTTP/2 that they want TLS.
        const FOREIGN_FRAME: &str = "connection error detected: frame with invalid size";
        const WANTS_TLS: &str = "connection error received: security properties do not meet";
        if text == FOREIGN_FRAME || text.starts_with(WANTS_TLS) {
            return Some(Self::NotPlainText);
        }
        const ALERTS: [AlertDescription; 9] = [
            AlertDescription::CertificateRequired,
            AlertDescription::CertificateExpired,
            AlertDescription::UnknownCA,
            AlertDescription::DecryptError,
            AlertDescription::BadCertificate,
            AlertDescription::UnsupportedCertificate,
            AlertDescription::CertificateRevoked,
            AlertDescription::CertificateUnknown,
            AlertDescription::AccessDenied,
        ];
        let told =
            |alert: &AlertDescription| text.ends_with(&TlsError::AlertReceived(*alert).to_string());
        ALERTS.into_iter().find(told).and_then(Self::of_alert)
    }
}

/// The error of TLS that a cause is, or carries.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    match cause.downcast_ref::<io::Error>() {
        // Its source is the source of what it carries, and not that itself.
        Some(error) => error.get_ref()?.downcast_ref(),
        None => cause.downcast_ref(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A status as the transport makes it of an error.
    fn status(error: impl Error + Send + Sync + 'static) -> Status {
        let mut status = Status::unavailable("transport error");
        status.set_source(Arc::new(error));
        status
    }

    fn of(error: TlsError) -> Option<TrustProblem> {
        TrustProblem::of_tls(&status(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_apart() {
        use TrustProblem as P;
        for (error, problem) in [
            (CertificateError::UnknownIssuer, P::UnknownIssuer),
            (CertificateError::BadSignature, P::UnknownIssuer),
            (CertificateError::Expired, P::Expired),
            (CertificateError::NotValidYet, P::NotValidYet),
            (CertificateError::NotValidForName, P::NameMismatch),
            (CertificateError::Revoked, P::Certificate("certificate revoked".to_owned())),
        ] {
            let found = of(TlsError::InvalidCertificate(error.clone()));
            match (&found, &problem) {
                // The text is rustls's own.
                (Some(P::Certificate(_)), P::Certificate(_)) => {}
                _ => assert_eq!(found, Some(problem), "{error:?}"),
            }
        }
        for (alert, problem) in [
            (AlertDescription::CertificateRequired, P::CertificateMissing),
            (AlertDescription::CertificateExpired, P::OwnExpired),
            (AlertDescription::UnknownCA, P::OwnUnknownIssuer),
            (AlertDescription::DecryptError, P::OwnUnknownIssuer),
            (
                AlertDescription::CertificateRevoked,
                P::OwnCertificate("CertificateRevoked".to_owned()),
            ),
        ] {
            assert_eq!(of(TlsError::AlertReceived(alert)), Some(problem.clone()));
            // As HTTP/2 passes it on.
            let text = io::Error::other(TlsError::AlertReceived(alert).to_string());
            assert_eq!(TrustProblem::of_tls(&status(text)), Some(problem));
        }
    }

    /// A connection that breaks is tried again; it is no question of trust.
    #[test]
    fn what_may_pass_is_no_question_of_trust() {
        assert_eq!(of(TlsError::HandshakeNotComplete), None);
        assert_eq!(of(TlsError::AlertReceived(AlertDescription::InternalError)), None);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(TrustProblem::of_tls(&status(reset)), None);
        assert_eq!(TrustProblem::of_hop(&Status::unavailable("broken off")), None);
    }
}
