//! Redis, as `millrace serve ingest` is told of it: for the windows of producers.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millrace_store::Secret;
use millrace_store_redis::{RedisConfig, RedisConfigError};
use serde::Deserialize;
use thiserror::Error;

/// Where the windows of producers are kept, if not in the store.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Redis, for ingest")]
pub struct RedisArgs {
    /// ingest: remember in this Redis what producers have sent; without it the store does
    #[arg(long = "redis", env = "MILLRACE_REDIS", hide_env_values = true, value_name = "URL")]
    #[serde(rename = "url")]
    pub redis: Option<String>,
    /// Its ACL user, if not the default one
    #[arg(long, env = "MILLRACE_REDIS_USER", hide_env_values = true, value_name = "NAME")]
    #[serde(rename = "user")]
    pub redis_user: Option<String>,
    /// A file with its password
    #[arg(long, env = "MILLRACE_REDIS_PASSWORD_FILE", hide_env_values = true, value_name = "FILE")]
    #[serde(rename = "password_file")]
    pub redis_password_file: Option<PathBuf>,
    /// Who signs the certificate of a rediss:// address, PEM, if not whom the system trusts
    #[arg(long, env = "MILLRACE_REDIS_CA", hide_env_values = true, value_name = "FILE")]
    #[serde(rename = "ca")]
    pub redis_ca: Option<PathBuf>,
    /// How long it remembers a producer that sends nothing; longer than producers try again
    #[arg(long, env = "MILLRACE_REDIS_EXPIRY", hide_env_values = true, value_name = "TIME",
          value_parser = crate::cli::duration)]
    #[serde(rename = "expiry", deserialize_with = "crate::serve::duration")]
    pub redis_expiry: Option<Duration>,
}

/// Why Redis cannot be used as asked for.
#[derive(Debug, Error)]
pub enum RedisArgsError {
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
    /// Settings of a Redis that is not named.
    #[error("settings of Redis are given, but not where it is: say --redis URL, or leave them out")]
    NoUrl,
    /// A setting breaks a rule.
    #[error(transparent)]
    Setting(#[from] RedisConfigError),
}

impl RedisArgs {
    /// These, and what is not stated from `other`: flags over a file.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            redis: self.redis.or(other.redis),
            redis_user: self.redis_user.or(other.redis_user),
            redis_password_file: self.redis_password_file.or(other.redis_password_file),
            redis_ca: self.redis_ca.or(other.redis_ca),
            redis_expiry: self.redis_expiry.or(other.redis_expiry),
        }
    }

    /// Reads the files. `None` when there is no Redis. `cluster` is the name of the cluster in it.
    ///
    /// # Errors
    /// [`RedisArgsError`].
    pub fn load(&self, cluster: &str) -> Result<Option<RedisConfig>, RedisArgsError> {
        let Some(url) = &self.redis else {
            let settings = [&self.redis_password_file, &self.redis_ca];
            let stated = settings.iter().any(|path| path.is_some()) || self.redis_user.is_some();
            return if stated { Err(RedisArgsError::NoUrl) } else { Ok(None) };
        };
        let read = |what, path: &Option<PathBuf>| {
            let read = path.as_ref().map(|path| {
                std::fs::read(path).map_err(|source| RedisArgsError::File {
                    what,
                    path: path.clone(),
                    source,
                })
            });
            read.transpose()
        };
        let mut config = RedisConfig::new(url, cluster);
        config.user.clone_from(&self.redis_user);
        let password = read("the password of Redis", &self.redis_password_file)?;
        // Editors leave a line break at the end.
        config.password = password.map(|bytes| {
            Secret(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned())
        });
        config.authority = read("the authority of Redis", &self.redis_ca)?;
        if let Some(expiry) = self.redis_expiry {
            config.expiry = expiry;
        }
        Ok(Some(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_states_it_in_a_table_and_flags_stand_over_it() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("password");
        std::fs::write(&secret, "hunter2\n").unwrap();
        let file: RedisArgs = toml::from_str(&format!(
            "url = \"redis://cache:6379\"\nuser = \"mill\"\npassword_file = {secret:?}\nexpiry = \"2h\"\n",
        ))
        .unwrap();
        let flags = RedisArgs { redis_user: Some("other".into()), ..RedisArgs::default() };
        let config = flags.or(file).load("one").unwrap().unwrap();
        assert_eq!(config.user.as_deref(), Some("other"));
        assert_eq!(config.password, Some(Secret("hunter2".into())));
        assert_eq!((config.expiry, &*config.cluster), (Duration::from_secs(7_200), "one"));
        assert!(RedisArgs::default().load("one").unwrap().is_none());
        let lost = RedisArgs { redis_user: Some("mill".into()), ..RedisArgs::default() };
        assert!(matches!(lost.load("one"), Err(RedisArgsError::NoUrl)));
    }
}
