//! Where the services are.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::pool::Pool;
use crate::security::{ClientSecurity, Credential, Wire};
use crate::trust::{NotTrusted, TrustProblem};

/// Where one process serves everything by default.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7400";

/// A connection attempt that takes longer is given up; the call as a whole may try again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections are asked for a sign of life like this; servers allow it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A service that is not trusted is not connected to again for so long, however many calls want it.
const DISTRUST: Duration = Duration::from_secs(1);

/// The addresses of the services by role. Calls spread over the addresses of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    ingest: Vec<String>,
    join: Vec<String>,
    serving: Vec<String>,
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("endpoint {endpoint:?}: {rule}")]
pub struct EndpointError {
    /// What was given.
    pub endpoint: String,
    /// What is allowed.
    pub rule: &'static str,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self::single(DEFAULT_ENDPOINT)
    }
}

impl Endpoints {
    /// One address for every role, such as `http://127.0.0.1:7400`.
    #[must_use]
    pub fn single(endpoint: &str) -> Self {
        let all = vec![endpoint.to_owned()];
        Self { ingest: all.clone(), join: all.clone(), serving: all }
    }

    /// The same, with these addresses of ingest (publishing and the catalog) unless there are none.
    #[must_use]
    pub fn with_ingest(mut self, endpoints: Vec<String>) -> Self {
        replace(&mut self.ingest, endpoints);
        self
    }

    /// The same, with these addresses of join (subscriptions) unless there are none.
    #[must_use]
    pub fn with_join(mut self, endpoints: Vec<String>) -> Self {
        replace(&mut self.join, endpoints);
        self
    }

    /// The same, with these addresses of feature-serving (reads, status) unless there are none.
    #[must_use]
    pub fn with_serving(mut self, endpoints: Vec<String>) -> Self {
        replace(&mut self.serving, endpoints);
        self
    }

    pub(crate) fn roles(&self, security: &ClientSecurity) -> Result<Roles, EndpointError> {
        Ok(Roles {
            ingest: Role::secure("ingest", &self.ingest, security)?,
            join: Role::secure("join", &self.join, security)?,
            serving: Role::secure("feature-serving", &self.serving, security)?,
        })
    }
}

fn replace(role: &mut Vec<String>, endpoints: Vec<String>) {
    if !endpoints.is_empty() {
        *role = endpoints;
    }
}

/// The channels of the roles.
#[derive(Debug, Clone)]
pub(crate) struct Roles {
    pub(crate) ingest: Role,
    pub(crate) join: Role,
    pub(crate) serving: Role,
}

/// A service one can call, wherever it is.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    /// For messages.
    pub(crate) name: &'static str,
    /// For messages.
    pub(crate) address: String,
    pub(crate) channel: Channel,
    /// Its processes one by one, where there are several.
    pub(crate) pool: Option<Arc<Pool>>,
    credential: Credential,
    /// Until when it is not called, and why.
    distrusted: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Role {
    /// Connects at the first call.
    pub(crate) fn secure(
        name: &'static str,
        endpoints: &[String],
        security: &ClientSecurity,
    ) -> Result<Self, EndpointError> {
        let parsed: Vec<Endpoint> =
            endpoints.iter().map(|e| endpoint(e, security)).collect::<Result<_, _>>()?;
        let each = parsed.iter().map(Endpoint::connect_lazy).collect();
        let pool = (endpoints.len() > 1).then_some(Arc::new(Pool::new(each)));
        let channel = match parsed.as_slice() {
            [one] => one.connect_lazy(),
            _ => Channel::balance_list(parsed.into_iter()),
        };
        let credential = security.credential().clone();
        let (address, distrusted) = (endpoints.join(", "), Arc::default());
        Ok(Self { name, address, channel, pool, credential, distrusted })
    }

    /// It is not called until somebody has changed something.
    pub(crate) fn not_trusted(&self, problem: TrustProblem) -> NotTrusted {
        NotTrusted { service: self.name, address: self.address.clone(), problem }
    }

    /// The same in a status of a hop to it: what is wrong, and what to do. [`Role::trusted`] says so
    /// for a while.
    pub(crate) fn distrust(&self, status: &Status) -> Option<String> {
        let problem = TrustProblem::of_hop(status)?;
        let way_out = problem.way_out();
        let reason = format!("{}; {way_out}", self.not_trusted(problem));
        let until = Instant::now() + DISTRUST;
        *self.distrusted.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((until, reason.clone()));
        Some(reason)
    }

    /// Whether a hop may call it now.
    ///
    /// # Errors
    /// Why not: it was not trusted a moment ago.
    pub(crate) fn trusted(&self) -> Result<(), String> {
        let distrusted = self.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
        match &*distrusted {
            Some((until, reason)) if Instant::now() < *until => Err(reason.clone()),
            Some(_) | None => Ok(()),
        }
    }

    /// Its channel, with the credential in every call.
    pub(crate) fn wire(&self) -> Wire {
        self.wire_over(self.channel.clone())
    }

    /// The same to one of its processes.
    pub(crate) fn wire_over(&self, channel: Channel) -> Wire {
        Wire::new(channel, self.credential.clone())
    }
}

fn endpoint(text: &str, security: &ClientSecurity) -> Result<Endpoint, EndpointError> {
    let error = |rule| EndpointError { endpoint: text.to_owned(), rule };
    let parsed = Endpoint::from_shared(text.to_owned())
        .map_err(|_| error("must be an address such as http://127.0.0.1:7400"))?;
    let parsed = match parsed.uri().scheme_str() {
        Some("http") if security.needs_tls() => {
            return Err(error("is without TLS: use https://, or leave ca, cert and key out"));
        }
        Some("http") if !security.credential().is_none() && !is_loopback(parsed.uri()) => {
            return Err(error(
                "is without TLS: a token is sent over https:// alone, or to 127.0.0.1",
            ));
        }
        Some("http") => parsed,
        Some("https") => {
            let tls = security.tls().ok_or_else(|| {
                error("needs the certificate of who signed the server's: give it with ca")
            })?;
            parsed.tls_config(tls).map_err(|_| {
                error("ca, cert or key is not what it should be: PEM files, the key that of cert")
            })?
        }
        _ => return Err(error("must start with http:// or https://")),
    };
    Ok(parsed
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Whether an address is one of this machine, whatever name servers say.
fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn roles_fall_back_to_the_one_endpoint() {
        let endpoints = Endpoints::single("http://a:1")
            .with_join(vec!["http://b:2".to_owned(), "http://c:3".to_owned()])
            .with_serving(Vec::new());
        let roles = endpoints.roles(&ClientSecurity::default()).unwrap();
        assert_eq!(roles.ingest.address, "http://a:1");
        assert_eq!(roles.join.address, "http://b:2, http://c:3");
        assert_eq!(roles.serving.address, "http://a:1");
    }

    #[test]
    fn what_is_no_endpoint_is_named() {
        for (text, rule) in [
            ("http://a b", "must be an address such as http://127.0.0.1:7400"),
            ("127.0.0.1:7400", "must start with http:// or https://"),
            ("localhost", "must start with http:// or https://"),
            ("https://a:1", "needs the certificate of who signed the server's: give it with ca"),
        ] {
            let error = Endpoints::single(text).roles(&ClientSecurity::default()).unwrap_err();
            assert_eq!(error, EndpointError { endpoint: text.to_owned(), rule });
        }
    }

    #[tokio::test]
    async fn nothing_secret_goes_where_others_read() {
        let check = |text: &str, security: &ClientSecurity| {
            Endpoints::single(text).roles(security).map(|_| ()).map_err(|e| e.rule)
        };
        let token = ClientSecurity::default().with_token("a-token").unwrap();
        for text in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert_eq!(check(text, &token), Ok(()));
        }
        for text in ["http://10.0.0.1:1", "http://localhost.example:1", "http://127.0.0.1.evil:1"] {
            assert!(check(text, &token).unwrap_err().contains("https:// alone"), "{text}");
        }
        let ca = ClientSecurity::default().with_ca(b"no PEM".to_vec());
        assert!(check("http://127.0.0.1:1", &ca).unwrap_err().contains("use https://"));
    }
}
