//! What an operator says about Redis, and the client made of it.

use std::time::Duration;

use millrace_store::Secret;
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, TlsCertificates};
use thiserror::Error;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

/// Longest name of a cluster, in bytes.
pub const CLUSTER_BYTES_MAX: usize = 64;

/// Where Redis is, how to be known there, and how long it remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// `redis://HOST[:PORT][/DATABASE]`, with TLS `rediss://…`. Neither user nor password.
    pub url: String,
    /// The ACL user; the default one if not stated.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Who signs the server's certificate, PEM; those the system trusts if not stated.
    pub authority: Option<Vec<u8>>,
    /// The name of the cluster: 1 to 64 letters, digits, `-` and `_`. Clusters that share a Redis
    /// have names of their own.
    pub cluster: String,
    /// How long a window stays after its last mark: longer than any producer tries a batch again.
    pub expiry: Duration,
    /// How long one answer of Redis may take before it counts as gone.
    pub patience: Duration,
}

impl RedisConfig {
    /// This Redis without credentials, a day of memory, and 200 ms of patience.
    #[must_use]
    pub fn new(url: impl Into<String>, cluster: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: None,
            password: None,
            authority: None,
            cluster: cluster.into(),
            expiry: Duration::from_secs(86_400),
            patience: Duration::from_millis(200),
        }
    }

    /// The key of a producer's window over the log of a store.
    pub(crate) fn key(&self, store: &str, producer: &str) -> String {
        // Neither name has a colon, so no two of them share a key whatever producers are called.
        format!("millrace:{}:{store}:window:{producer}", self.cluster)
    }

    /// What the keys of all windows of the cluster look like.
    pub(crate) fn pattern(&self) -> String {
        format!("millrace:{}:*:window:*", self.cluster)
    }

    /// Checks the identity of a store.
    pub(crate) fn check_store(store: &str) -> Result<(), RedisConfigError> {
        if is_name(store) { Ok(()) } else { Err(RedisConfigError::Store(store.to_owned())) }
    }

    /// Checks everything and makes the client. Nothing is connected.
    pub(crate) fn client(&self) -> Result<Client, RedisConfigError> {
        if !is_name(&self.cluster) {
            return Err(RedisConfigError::Cluster(self.cluster.clone()));
        }
        if self.expiry < Duration::from_secs(1) {
            return Err(RedisConfigError::Expiry(self.expiry));
        }
        let parsed = redis::parse_redis_url(&self.url).ok_or(RedisConfigError::Url)?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(RedisConfigError::Credentials);
        }
        if parsed.fragment().is_some() || parsed.query().is_some() {
            return Err(RedisConfigError::Url);
        }
        let info = parsed.into_connection_info().map_err(|_| RedisConfigError::Url)?;
        let with_tls = match info.addr() {
            ConnectionAddr::Tcp(..) => false,
            ConnectionAddr::TcpTls { .. } => true,
            ConnectionAddr::Unix(_) | _ => return Err(RedisConfigError::Url),
        };
        if self.authority.is_some() && !with_tls {
            return Err(RedisConfigError::AuthorityWithoutTls);
        }
        let mut known_as = info.redis_settings().clone();
        if let Some(user) = &self.user {
            known_as = known_as.set_username(user);
        }
        if let Some(Secret(password)) = &self.password {
            known_as = known_as.set_password(password);
        }
        // Without it a small command waits for the acknowledgement of the one before.
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = info.set_redis_settings(known_as).set_tcp_settings(tcp);
        if !with_tls {
            return Client::open(info).map_err(RedisConfigError::Client);
        }
        if CryptoProvider::get_default().is_none() {
            // Somebody else may be faster, with the same one.
            let _ = ring::default_provider().install_default();
        }
        let certificates = TlsCertificates { client_tls: None, root_cert: self.authority.clone() };
        Client::build_with_tls(info, certificates).map_err(RedisConfigError::Client)
    }
}

/// Whether a name can be part of a key.
fn is_name(name: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty() && name.len() <= CLUSTER_BYTES_MAX && name.chars().all(sound)
}

/// Why Redis cannot be used as asked for. That it is not there is no such reason.
#[derive(Debug, Error)]
pub enum RedisConfigError {
    /// The address is none.
    #[error("the address of Redis must be redis://HOST[:PORT][/DATABASE], or rediss:// with TLS")]
    Url,
    /// An address is seen by others, in lists of processes and in logs.
    #[error("the address of Redis must not hold a user or a password; state them apart from it")]
    Credentials,
    /// The certificates would go unused.
    #[error("the authority of Redis is stated, but its address is not rediss://")]
    AuthorityWithoutTls,
    /// The cluster cannot be part of a key.
    #[error("cluster = {0:?}: must be 1 to 64 letters, digits, - and _")]
    Cluster(String),
    /// The identity of the store cannot be part of a key.
    #[error("the store says that it is {0:?}: must be 1 to 64 letters, digits, - and _")]
    Store(String),
    /// Windows would be gone before a retry.
    #[error("windows in Redis must be kept for a second at least, not {0:?}")]
    Expiry(Duration),
    /// The client cannot be made, e.g. of these certificates.
    #[error("Redis cannot be used as asked for")]
    Client(#[source] redis::RedisError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut RedisConfig)) -> String {
        let mut config = RedisConfig::new("redis://127.0.0.1:6379", "one");
        change(&mut config);
        config.client().map(drop).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_rule() {
        for url in ["http://h", "h:6379", "redis://h/#insecure", "redis://h/x", "unix:///x", ""] {
            assert!(refused(|c| c.url = url.into()).contains("redis://HOST"), "{url}");
        }
        for url in ["redis://u:p@h", "redis://:p@h", "rediss://u@h"] {
            assert!(refused(|c| c.url = url.into()).contains("state them apart"), "{url}");
        }
        for name in ["", "a:b", "a b", &"x".repeat(65)] {
            assert!(refused(|c| c.cluster = name.into()).contains("letters, digits"), "{name}");
        }
        assert!(refused(|c| c.authority = Some(vec![])).contains("rediss://"));
        assert!(refused(|c| c.expiry = Duration::from_millis(5)).contains("a second"));
    }

    #[test]
    fn credentials_are_never_printed_and_small_commands_never_wait() {
        let mut config = RedisConfig::new("rediss://cache.example:6380/3", "one");
        config.user = Some("millrace".into());
        config.password = Some(Secret("hunter2".into()));
        assert!(!format!("{config:?}").contains("hunter2"));
        let client = config.client().unwrap();
        let info = client.get_connection_info();
        assert!(!format!("{info:?}").contains("hunter2"));
        assert!(info.tcp_settings().nodelay());
        assert_eq!(info.redis_settings().password(), Some("hunter2"));
        assert_eq!(info.redis_settings().db(), 3);
    }
}
