//! What an operator says about the database.

use std::time::Duration;

use millrace_store::Secret;

/// Where copies of a keyspace are kept. One datacenter: a confirmation reads a quorum of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// The datacenter, as the database calls it.
    pub datacenter: String,
    /// How many copies.
    pub factor: u8,
}

/// Where the database is, and what is expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CqlConfig {
    /// Some of its nodes, each `HOST:PORT`.
    pub nodes: Vec<String>,
    /// User and password.
    pub credentials: Option<(String, Secret)>,
    /// The keyspace: 1 to 48 lower-case letters, digits and `_`, a letter first.
    pub keyspace: String,
    /// The name of the cluster that owns the keyspace. Two clusters in one keyspace would destroy
    /// each other's log.
    pub cluster: String,
    /// The number of slots, fixed when the keyspace is made.
    pub slots: u32,
    /// Makes the keyspace and its tables where they are missing. Without it they must be there.
    pub create: Option<Replication>,
    /// How long one request may take: more than the database itself allows for (10 s at most by
    /// its defaults), so that it is the one to say what became of it.
    pub patience: Duration,
    /// Greatest number of requests in flight towards one shard.
    pub in_flight_max: usize,
}

impl CqlConfig {
    /// These nodes without credentials, nothing made, 12 s of patience, and 256 requests a shard.
    #[must_use]
    pub fn new(
        nodes: Vec<String>,
        keyspace: impl Into<String>,
        cluster: impl Into<String>,
        slots: u32,
    ) -> Self {
        Self {
            nodes,
            credentials: None,
            keyspace: keyspace.into(),
            cluster: cluster.into(),
            slots,
            create: None,
            patience: Duration::from_secs(12),
            in_flight_max: 256,
        }
    }

    /// The first rule that is broken, if one is.
    pub(crate) fn broken_rule(&self) -> Option<String> {
        let name = &self.keyspace;
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.len() > 48
            || !name.starts_with(|c: char| c.is_ascii_lowercase())
            || !name.chars().all(sound)
        {
            let rule = "must be 1 to 48 lower-case letters, digits and _, a letter first";
            return Some(format!("keyspace = {name:?}: {rule}"));
        }
        if self.nodes.is_empty() {
            return Some("nodes: at least one HOST:PORT must be given".to_owned());
        }
        if let Some(Replication { datacenter, factor }) = &self.create {
            let quoted = datacenter.is_empty() || datacenter.contains('\'');
            if quoted || !(1..=9).contains(factor) {
                let rule = "must be a datacenter's name and 1 to 9 copies";
                return Some(format!("replication = {datacenter:?}, {factor}: {rule}"));
            }
        }
        if self.in_flight_max == 0 || self.in_flight_max > 4_096 {
            let rule = "must be between 1 and 4096";
            return Some(format!("in_flight_max = {}: {rule}", self.in_flight_max));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_rule_is_named_with_its_value() {
        let broken = |change: fn(&mut CqlConfig)| {
            let mut config = CqlConfig::new(vec!["h:9042".into()], "millrace", "one", 64);
            change(&mut config);
            config.broken_rule()
        };
        assert_eq!(broken(|_| ()), None);
        for name in ["", "1a", "A", "a; DROP", &"a".repeat(49)] {
            let mut config = CqlConfig::new(vec!["h".into()], name, "one", 64);
            assert!(config.broken_rule().unwrap().contains(&format!("{name:?}")));
            config.keyspace = "a".into();
            assert_eq!(config.broken_rule(), None);
        }
        let quoted = |factor| Replication { datacenter: "a'b".into(), factor };
        assert_eq!(
            broken(|c| c.create = Some(Replication { factor: 0, datacenter: "a".into() })),
            Some("replication = \"a\", 0: must be a datacenter's name and 1 to 9 copies".into())
        );
        let mut config = CqlConfig::new(vec!["h".into()], "a", "one", 64);
        config.create = Some(quoted(3));
        assert!(config.broken_rule().is_some());
        assert!(broken(|c| c.nodes.clear()).unwrap().contains("HOST:PORT"));
        assert!(broken(|c| c.in_flight_max = 0).is_some());
        config.credentials = Some(("u".into(), Secret("hunter2".into())));
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
