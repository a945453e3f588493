//! ScyllaDB or Cassandra, as `millrace serve store-writer` is told of it: in place of the embedded
//! store.

use std::io;
use std::path::PathBuf;

use clap::Args;
use millrace_store::Secret;
use millrace_store_scylla::{CqlConfig, Replication};
use serde::Deserialize;
use thiserror::Error;

/// Where the log and everything else is kept, if not in a folder.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "ScyllaDB or Cassandra, for store-writer")]
pub struct CqlArgs {
    /// store-writer: keep everything there, not in a folder; some nodes, separated by commas
    #[arg(
        long = "cql",
        env = "MILLRACE_CQL",
        hide_env_values = true,
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    #[serde(rename = "nodes")]
    pub cql: Vec<String>,
    /// The keyspace; of this cluster alone
    #[arg(long, env = "MILLRACE_CQL_KEYSPACE", hide_env_values = true, value_name = "NAME")]
    #[serde(rename = "keyspace")]
    pub cql_keyspace: Option<String>,
    /// Who to be there
    #[arg(long, env = "MILLRACE_CQL_USER", hide_env_values = true, value_name = "NAME")]
    #[serde(rename = "user")]
    pub cql_user: Option<String>,
    /// A file with the password
    #[arg(long, env = "MILLRACE_CQL_PASSWORD_FILE", hide_env_values = true, value_name = "FILE")]
    #[serde(rename = "password_file")]
    pub cql_password_file: Option<PathBuf>,
    /// Make the keyspace and its tables where they are missing, with so many copies in a datacenter,
    /// such as datacenter1=3
    #[arg(long, env = "MILLRACE_CQL_CREATE", hide_env_values = true, value_name = "DC=COPIES")]
    #[serde(rename = "create")]
    pub cql_create: Option<String>,
}

/// Why the database cannot be used as asked for.
#[derive(Debug, Error)]
pub enum CqlArgsError {
    /// A file cannot be read.
    #[error("cannot read the password of the database {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Settings of a database that is not named.
    #[error("settings of a database are given, but not where it is: say --cql HOST:PORT")]
    NoNodes,
    /// One of user and password is missing.
    #[error("user and password of the database go together: --cql-user and --cql-password-file")]
    HalfKnown,
    /// Copies are not stated as they are to be.
    #[error("--cql-create {0:?}: must be a datacenter and how many copies, such as datacenter1=3")]
    Create(String),
}

impl CqlArgs {
    /// These, and what is not stated from `other`: flags over a file.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            cql: if self.cql.is_empty() { other.cql } else { self.cql },
            cql_keyspace: self.cql_keyspace.or(other.cql_keyspace),
            cql_user: self.cql_user.or(other.cql_user),
            cql_password_file: self.cql_password_file.or(other.cql_password_file),
            cql_create: self.cql_create.or(other.cql_create),
        }
    }

    /// Reads the files. `None` when there is no database: the embedded store is used.
    ///
    /// # Errors
    /// [`CqlArgsError`].
    pub fn load(&self, cluster: &str, slots: u32) -> Result<Option<CqlConfig>, CqlArgsError> {
        if self.cql.is_empty() {
            let stated = self.cql_keyspace.is_some()
                || self.cql_user.is_some()
                || self.cql_password_file.is_some()
                || self.cql_create.is_some();
            return if stated { Err(CqlArgsError::NoNodes) } else { Ok(None) };
        }
        let keyspace = self.cql_keyspace.as_deref().unwrap_or("millrace");
        let mut config = CqlConfig::new(self.cql.clone(), keyspace, cluster, slots);
        config.credentials = match (&self.cql_user, &self.cql_password_file) {
            (None, None) => None,
            (Some(user), Some(path)) => {
                let read = std::fs::read_to_string(path);
                let password =
                    read.map_err(|source| CqlArgsError::File { path: path.clone(), source })?;
                // Editors leave a line break at the end.
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                Some((user.clone(), Secret(password)))
            }
            (Some(_), None) | (None, Some(_)) => return Err(CqlArgsError::HalfKnown),
        };
        config.create = self.cql_create.as_deref().map(replication).transpose()?;
        Ok(Some(config))
    }
}

fn replication(text: &str) -> Result<Replication, CqlArgsError> {
    let stated = text.split_once('=').and_then(|(datacenter, factor)| {
        let datacenter = (!datacenter.is_empty()).then(|| datacenter.to_owned())?;
        Some(Replication { datacenter, factor: factor.parse().ok()? })
    });
    stated.ok_or_else(|| CqlArgsError::Create(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_states_it_in_a_table_and_flags_stand_over_it() {
        let file: CqlArgs =
            toml::from_str("nodes = [\"a:9042\", \"b:9042\"]\ncreate = \"dc1=3\"\n").unwrap();
        let flags = CqlArgs { cql_keyspace: Some("other".into()), ..CqlArgs::default() };
        let config = flags.or(file).load("one", 64).unwrap().unwrap();
        assert_eq!(config.nodes, ["a:9042", "b:9042"]);
        assert_eq!((&*config.keyspace, &*config.cluster, config.slots), ("other", "one", 64));
        let replication = Replication { datacenter: "dc1".into(), factor: 3 };
        assert_eq!(config.create, Some(replication));
    }

    #[test]
    fn what_is_half_stated_is_refused() {
        let load = |args: CqlArgs| args.load("one", 64);
        assert!(matches!(load(CqlArgs::default()), Ok(None)));
        let args = CqlArgs { cql_user: Some("u".into()), ..CqlArgs::default() };
        assert!(matches!(load(args.clone()), Err(CqlArgsError::NoNodes)));
        let args = CqlArgs { cql: vec!["h".into()], ..args };
        assert!(matches!(load(args), Err(CqlArgsError::HalfKnown)));
        for text in ["dc1", "=3", "dc1=", "dc1=x"] {
            let create = Some(text.to_owned());
            let args = CqlArgs { cql: vec!["h".into()], cql_create: create, ..CqlArgs::default() };
            assert!(matches!(load(args), Err(CqlArgsError::Create(_))), "{text}");
        }
    }
}
