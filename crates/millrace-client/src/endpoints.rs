//! Where the services are.

use std::time::Duration;

use thiserror::Error;
use tonic::transport::{Channel, Endpoint};

/// Where one process serves everything by default.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7400";

/// A connection attempt that takes longer is given up; the call as a whole may try again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections are asked for a sign of life like this; servers allow it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

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

    pub(crate) fn roles(&self) -> Result<Roles, EndpointError> {
        Ok(Roles {
            ingest: Role::lazy("ingest", &self.ingest)?,
            join: Role::lazy("join", &self.join)?,
            serving: Role::lazy("feature-serving", &self.serving)?,
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
}

impl Role {
    /// Connects at the first call.
    pub(crate) fn lazy(name: &'static str, endpoints: &[String]) -> Result<Self, EndpointError> {
        let parsed: Vec<Endpoint> =
            endpoints.iter().map(|e| endpoint(e)).collect::<Result<_, _>>()?;
        let channel = match parsed.as_slice() {
            [one] => one.connect_lazy(),
            _ => Channel::balance_list(parsed.into_iter()),
        };
        Ok(Self { name, address: endpoints.join(", "), channel })
    }
}

fn endpoint(text: &str) -> Result<Endpoint, EndpointError> {
    let error = |rule| EndpointError { endpoint: text.to_owned(), rule };
    let parsed = Endpoint::from_shared(text.to_owned())
        .map_err(|_| error("must be an address such as http://127.0.0.1:7400"))?;
    match parsed.uri().scheme_str() {
        Some("http") => {}
        Some("https") => return Err(error("TLS is not built in yet: use http://")),
        _ => return Err(error("must start with http://")),
    }
    Ok(parsed
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn roles_fall_back_to_the_one_endpoint() {
        let endpoints = Endpoints::single("http://a:1")
            .with_join(vec!["http://b:2".to_owned(), "http://c:3".to_owned()])
            .with_serving(Vec::new());
        let roles = endpoints.roles().unwrap();
        assert_eq!(roles.ingest.address, "http://a:1");
        assert_eq!(roles.join.address, "http://b:2, http://c:3");
        assert_eq!(roles.serving.address, "http://a:1");
    }

    #[test]
    fn what_is_no_endpoint_is_named() {
        for (text, rule) in [
            ("http://a b", "must be an address such as http://127.0.0.1:7400"),
            ("127.0.0.1:7400", "must start with http://"),
            ("localhost", "must start with http://"),
            ("https://a:1", "TLS is not built in yet: use http://"),
        ] {
            let error = Endpoints::single(text).roles().unwrap_err();
            assert_eq!(error, EndpointError { endpoint: text.to_owned(), rule });
        }
    }
}
