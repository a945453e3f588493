//! The store on a real Cassandra: the suite, the checks at the start, and faults of the database.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::wildcard_enum_match_arm, reason = "any other outcome fails the test")]

mod checks;
mod cut;
mod faults;
mod forged;
mod inspect;
mod late;
mod proxied;
mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::UNIX_EPOCH;

use millrace_store_scylla::{CqlConfig, CqlStore, OpenError, Replication};
use millrace_test_servers::Cassandra;
use millrace_types::Micros;

/// A keyspace of its own for each test, all on one server.
fn config(server: &Cassandra) -> CqlConfig {
    static KEYSPACES: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", KEYSPACES.fetch_add(1, Ordering::Relaxed));
    let mut config = CqlConfig::new(vec![server.address()], name, "one", 64);
    config.create = Some(Replication { datacenter: "datacenter1".into(), factor: 1 });
    config
}

#[allow(clippy::disallowed_methods, reason = "the clock of this machine is what is compared")]
fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Micros(i64::try_from(since.as_micros()).unwrap())
}

async fn open(config: &CqlConfig) -> Result<CqlStore, OpenError> {
    CqlStore::open(config, now).await
}

async fn empty() -> (Arc<CqlStore>, ()) {
    let config = config(Cassandra::shared());
    (Arc::new(open(&config).await.unwrap()), ())
}

mod suite {
    use super::empty;
    millrace_store::conformance_tests!(empty);
}
