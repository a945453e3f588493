//! What is looked at before a store is used: a database that could lose what it acknowledged, or
//! that belongs to somebody else, is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_store::StoreError;
use millrace_types::Micros;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::cluster::Node;
use scylla::errors::ExecutionError;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::Statement as Unprepared;
use thiserror::Error;

use crate::config::CqlConfig;
use crate::connect::OpenError;
use crate::ddl::{self, Dialect, SCHEMA_VERSION};
use crate::statements::Statement;
use crate::store::CqlStore;

/// Greatest difference to the clock of a node, in microseconds.
pub(crate) const SKEW_MAX: i64 = 1_000_000;

/// Microseconds in seconds, to be shown.
#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
pub(crate) fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// What a database or keyspace is not fit for.
#[derive(Debug, Error)]
pub enum CheckError {
    /// Acknowledged chunks would be lost with the power.
    #[error(
        "node {node} has commitlog_sync = {found}: it answers before its commit log is on disk, and \
         would lose acknowledged facts; set commitlog_sync to batch or group"
    )]
    CommitLog {
        /// The node.
        node: String,
        /// How it syncs.
        found: String,
    },
    /// A clock is wrong.
    #[error(
        "the clock of node {node} is {seconds:.1} s away from this machine's: set the clocks (NTP); \
         1 s is allowed"
    )]
    Clock {
        /// The node.
        node: String,
        /// How far it is ahead, in seconds.
        seconds: f64,
    },
    /// A node does not tell about itself.
    #[error("node {node} does not answer what must be known of it: {reason}")]
    Silent {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// Tables are missing.
    #[error(
        "keyspace {keyspace} has no table {missing}: it is not Millrace's, or was not made; name the \
         right one, or have it created"
    )]
    NoTables {
        /// The keyspace.
        keyspace: String,
        /// The tables that are missing.
        missing: String,
    },
    /// Tables are to be made where somebody else has theirs.
    #[error(
        "keyspace {keyspace} has a table {table}, which is not Millrace's: nothing was made in it; name a \
         keyspace of its own"
    )]
    SomebodyElses {
        /// The keyspace.
        keyspace: String,
        /// The first table that is not ours.
        table: String,
    },
    /// Another version of the tables.
    #[error(
        "keyspace {keyspace} has schema version {found}, this program knows {SCHEMA_VERSION}: run \
         the version that belongs to it"
    )]
    SchemaVersion {
        /// The keyspace.
        keyspace: String,
        /// The version there.
        found: String,
    },
    /// Somebody else's keyspace.
    #[error(
        "keyspace {keyspace} belongs to cluster {found:?}, not to {ours:?}: give each cluster a \
         keyspace of its own"
    )]
    OtherCluster {
        /// The keyspace.
        keyspace: String,
        /// The cluster it belongs to.
        found: String,
        /// This one.
        ours: String,
    },
    /// Another number of slots.
    #[error(
        "keyspace {keyspace} was made with {found} slots, not with {ours}: their number is fixed"
    )]
    Slots {
        /// The keyspace.
        keyspace: String,
        /// The number it was made with.
        found: String,
        /// The number asked for.
        ours: u32,
    },
    /// It is not known whose the keyspace is.
    #[error("cannot tell whose keyspace {keyspace} is")]
    Unknown {
        /// The keyspace.
        keyspace: String,
        /// Why.
        source: StoreError,
    },
}

/// Looks at every node that is up, and says which database it is.
pub(crate) async fn server(
    session: &Session,
    now: impl Fn() -> Micros,
) -> Result<Dialect, CheckError> {
    let dialect = dialect(session);
    let state = session.get_cluster_state();
    for node in state.get_nodes_info().iter().filter(|node| node.is_connected()) {
        commit_log(session, node, dialect).await?;
        clock_of(session, node, &now).await?;
    }
    Ok(dialect)
}

/// Which database it is.
pub(crate) fn dialect(session: &Session) -> Dialect {
    let state = session.get_cluster_state();
    let mut connected = state.get_nodes_info().iter().filter(|node| node.is_connected());
    match connected.any(|node| node.sharder().is_some()) {
        true => Dialect::Scylla,
        false => Dialect::Cassandra,
    }
}

fn silent(node: &Arc<Node>) -> impl FnOnce(String) -> CheckError + use<> {
    let node = node.address.to_string();
    move |reason| CheckError::Silent { node, reason }
}

/// How a node syncs its commit log, which must be before it answers.
pub(crate) async fn commit_log(
    session: &Session,
    node: &Arc<Node>,
    dialect: Dialect,
) -> Result<String, CheckError> {
    let found = setting(session, node, dialect, "commitlog_sync").await.map_err(silent(node))?;
    if is_synced(&found) {
        return Ok(found);
    }
    Err(CheckError::CommitLog { node: node.address.to_string(), found })
}

/// How far the clock of a node is ahead of this machine's, in microseconds: zero where it may be right.
pub(crate) async fn clock_of(
    session: &Session,
    node: &Arc<Node>,
    now: impl Fn() -> Micros,
) -> Result<i64, CheckError> {
    let before = now();
    let theirs = clock(session, node).await.map_err(silent(node))?;
    let ahead = skew(before, theirs, now());
    if ahead.abs() <= SKEW_MAX {
        return Ok(ahead);
    }
    Err(CheckError::Clock { node: node.address.to_string(), seconds: seconds(ahead) })
}

/// Whether a node answers only once its commit log is on disk.
fn is_synced(value: &str) -> bool {
    matches!(value, "batch" | "group")
}

/// How far a clock is ahead that was read between two instants of ours: zero where it may be right.
fn skew(before: Micros, theirs: Micros, after: Micros) -> i64 {
    // The database tells milliseconds.
    let (least, most) = (before.0 - 1_000, after.0);
    if theirs.0 < least { theirs.0 - least } else { (theirs.0 - most).max(0) }
}

async fn ask<R>(session: &Session, node: &Arc<Node>, cql: &str) -> Result<R, String>
where
    R: for<'frame> scylla::deserialize::row::DeserializeRow<'frame, 'frame>,
{
    let target = NodeIdentifier::Node(Arc::clone(node));
    let profile: ExecutionProfile = session
        .get_default_execution_profile_handle()
        .pointee_to_builder()
        .load_balancing_policy(SingleTargetLoadBalancingPolicy::new(target, None))
        .consistency(scylla::statement::Consistency::One)
        .build();
    let mut statement = Unprepared::new(cql);
    statement.set_execution_profile_handle(Some(profile.into_handle()));
    let answer = session.query_unpaged(statement, &[]).await;
    let answer = answer.map_err(|error: ExecutionError| error.to_string())?;
    let rows = answer.into_rows_result().map_err(|error| error.to_string())?;
    rows.first_row::<R>().map_err(|error| error.to_string())
}

async fn setting(
    session: &Session,
    node: &Arc<Node>,
    dialect: Dialect,
    name: &str,
) -> Result<String, String> {
    let table = match dialect {
        Dialect::Scylla => "system.config",
        Dialect::Cassandra => "system_views.settings",
    };
    let cql = format!("SELECT value FROM {table} WHERE name = '{name}'");
    let (value,) = ask::<(Option<String>,)>(session, node, &cql).await?;
    let value = value.unwrap_or_default();
    Ok(value.trim_matches('"').to_lowercase())
}

async fn clock(session: &Session, node: &Arc<Node>) -> Result<Micros, String> {
    let cql = "SELECT toUnixTimestamp(now()) FROM system.local WHERE key = 'local'";
    let (millis,) = ask::<(i64,)>(session, node, cql).await?;
    Ok(Micros(millis.saturating_mul(1_000)))
}

/// Looks whether a keyspace in which tables are to be made has none of somebody else.
pub(crate) async fn nobody_elses(session: &Session, keyspace: &str) -> Result<(), OpenError> {
    let found = names(session, keyspace).await?;
    let ours: BTreeSet<&str> = ddl::names().collect();
    if ours.iter().all(|table| found.contains(*table)) {
        // Of a later version, maybe: the version of the schema tells.
        return Ok(());
    }
    match found.into_iter().find(|table| !ours.contains(table.as_str())) {
        None => Ok(()),
        Some(table) => {
            Err(CheckError::SomebodyElses { keyspace: keyspace.to_owned(), table }.into())
        }
    }
}

/// Looks whether every table is there.
pub(crate) async fn tables(session: &Session, keyspace: &str) -> Result<(), OpenError> {
    let found = names(session, keyspace).await?;
    let missing: Vec<&str> = ddl::names().filter(|table| !found.contains(*table)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(CheckError::NoTables { keyspace: keyspace.to_owned(), missing }.into())
}

/// The tables of a keyspace; none where there is no such keyspace.
async fn names(session: &Session, keyspace: &str) -> Result<BTreeSet<String>, OpenError> {
    let cql =
        format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'");
    let answer = session.query_unpaged(cql, &[]).await;
    let answer = answer.map_err(OpenError::statement("tell its tables"))?;
    let silent = |reason: String| CheckError::Silent { node: "any".to_owned(), reason };
    let rows = answer.into_rows_result().map_err(|error| silent(error.to_string()))?;
    let rows = rows.rows::<(String,)>().map_err(|error| silent(error.to_string()))?;
    let name = |row: Result<(String,), _>| row.map(|(name,)| name);
    let names: Result<BTreeSet<String>, _> = rows.map(name).collect();
    Ok(names.map_err(|error| silent(error.to_string()))?)
}

/// Looks whether the keyspace is of this version, this cluster and this number of slots; one that is
/// nobody's yet becomes this cluster's.
pub(crate) async fn owner(store: &CqlStore, config: &CqlConfig) -> Result<(), CheckError> {
    let unknown = |source| CheckError::Unknown { keyspace: config.keyspace.clone(), source };
    let standing = async |name: &str, ours: &str| match read(store, name).await.map_err(unknown)? {
        Some(found) => Ok(found),
        None => claim(store, name, ours).await.map_err(unknown),
    };
    is_version(&config.keyspace, &standing("schema", SCHEMA_VERSION).await?)?;
    is_cluster(&config.keyspace, &standing("cluster", &config.cluster).await?, &config.cluster)?;
    let slots = standing("slots", &config.slots.to_string()).await?;
    has_slots(&config.keyspace, &slots, config.slots)
}

/// The tables are of the version that this program knows.
pub(crate) fn is_version(keyspace: &str, found: &str) -> Result<(), CheckError> {
    if found == SCHEMA_VERSION {
        return Ok(());
    }
    Err(CheckError::SchemaVersion { keyspace: keyspace.to_owned(), found: found.to_owned() })
}

/// The keyspace belongs to this cluster.
pub(crate) fn is_cluster(keyspace: &str, found: &str, ours: &str) -> Result<(), CheckError> {
    if found == ours {
        return Ok(());
    }
    let (keyspace, found, ours) = (keyspace.to_owned(), found.to_owned(), ours.to_owned());
    Err(CheckError::OtherCluster { keyspace, found, ours })
}

/// The keyspace was made with this number of slots.
pub(crate) fn has_slots(keyspace: &str, found: &str, ours: u32) -> Result<(), CheckError> {
    if found == ours.to_string() {
        return Ok(());
    }
    Err(CheckError::Slots { keyspace: keyspace.to_owned(), found: found.to_owned(), ours })
}

async fn read(store: &CqlStore, name: &str) -> Result<Option<String>, StoreError> {
    Ok(store.one::<(String,)>(Statement::Meta, (name,)).await?.map(|(value,)| value))
}

/// Writes a value if none stands there, and gives the one that does. An unknown outcome is settled by
/// a SERIAL read: whoever wrote it, it is what all of us find.
async fn claim(store: &CqlStore, name: &str, ours: &str) -> Result<String, StoreError> {
    let claimed = store.run_conditional(Statement::ClaimMeta, (name, ours)).await;
    match claimed {
        Ok(true) => Ok(ours.to_owned()),
        outcome => match read(store, name).await? {
            Some(found) => Ok(found),
            None => Err(outcome.err().unwrap_or_else(|| StoreError::Unknown {
                operation: "claim keyspace",
                reason: "not applied, and no row stands there".to_owned(),
            })),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_outside_of_the_reading_is_wrong() {
        let at = |s: i64| Micros(s * 1_000_000);
        assert_eq!(skew(at(10), at(11), at(12)), 0);
        assert_eq!(skew(at(10), at(15), at(12)), 3_000_000);
        assert_eq!(skew(at(10), at(7), at(12)), -2_999_000);
        assert_eq!(skew(Micros(10_000_900), at(10), Micros(10_000_950)), 0, "cut to milliseconds");
    }

    #[test]
    fn a_commit_log_that_is_synced_later_is_refused() {
        assert!(is_synced("batch") && is_synced("group"));
        assert!(!is_synced("periodic") && !is_synced(""));
    }
}
