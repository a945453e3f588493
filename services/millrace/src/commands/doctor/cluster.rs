//! `millrace doctor --cql`: looks at the database of store-writers and the Redis of ingest, and changes
//! nothing in either.

mod database;
mod owners;
mod report;
mod windows;

use millrace_placement::Slots;
use millrace_store_redis::RedisConfig;
use millrace_store_scylla::inspect::Whose;
use millrace_store_scylla::{CqlConfig, Inspection};

use owners::Owners;
pub use report::{ClusterDoctorReport, Finding, State};

use crate::clock;

/// What is to be looked at, and what is expected there.
#[derive(Debug, Clone)]
pub struct ClusterQuestion {
    /// The database. Its cluster and number of slots are not looked at.
    pub cql: CqlConfig,
    /// The Redis, if one is named.
    pub redis: Option<RedisConfig>,
    /// The cluster that the keyspace is to be of; any if not stated.
    pub cluster: Option<String>,
    /// The number of slots that it is to have; any if not stated.
    pub slots: Option<u32>,
}

/// Looks at all of it. What cannot be looked at for what was found before is left out.
pub(super) async fn examine(question: &ClusterQuestion) -> ClusterDoctorReport {
    let ClusterQuestion { cql, redis, .. } = question;
    let (mut checks, whose) = database(question).await;
    if let Some(config) = redis {
        let config = RedisConfig {
            cluster: whose.cluster.clone().unwrap_or_else(|| config.cluster.clone()),
            ..config.clone()
        };
        checks.extend(windows::findings(&config, whose.identity.as_deref()).await);
    }
    let url = redis.as_ref().map(|config| config.url.clone());
    ClusterDoctorReport::new(cql.nodes.clone(), cql.keyspace.clone(), url, checks)
}

/// Looks at the database, as far as it lets, and says whose the keyspace is.
async fn database(question: &ClusterQuestion) -> (Vec<Finding>, Whose) {
    let ClusterQuestion { cql, cluster, slots, .. } = question;
    let inspection = match Inspection::connect(cql).await {
        Ok(inspection) => inspection,
        Err(error) => return (vec![database::unconnected(&error)], Whose::default()),
    };
    let nodes = inspection.nodes(clock::now).await;
    let mut checks = vec![database::reachable(&nodes)];
    checks.extend(database::commit_logs(&nodes));
    checks.extend(database::clocks(&nodes));
    match inspection.replication().await {
        Ok(replication) => {
            let missing = replication.is_none();
            checks.push(database::copies(&cql.keyspace, replication.as_ref(), &nodes));
            if missing {
                return (checks, Whose::default());
            }
        }
        Err(error) => {
            checks.push(database::untold(&error));
            return (checks, Whose::default());
        }
    }
    let whose = match inspection.whose().await {
        Ok(whose) => whose,
        Err(error) => {
            checks.push(database::untold(&error));
            return (checks, Whose::default());
        }
    };
    checks.extend(database::whose(&cql.keyspace, &whose, cluster.as_deref(), *slots));
    let count = whose.slots.as_ref().and_then(|count| count.parse().ok());
    let count = count.and_then(|count| Slots::try_new(count).ok()).map(|slots| slots.count());
    // Tables of another version may say something else by the same names.
    let is_ours = whose.problems(&cql.keyspace, None, None).is_empty();
    if let Some(count) = count.filter(|_| is_ours) {
        checks.extend(ownership(inspection, count).await);
    }
    (checks, whose)
}

/// Who owns the slots.
async fn ownership(inspection: Inspection, slots: u32) -> Vec<Finding> {
    let tables = match inspection.tables().await {
        Ok(tables) => tables,
        Err(error) => return vec![database::untold(&error)],
    };
    match Owners::read(&tables, slots).await {
        Ok(owners) => owners.findings(clock::now()),
        Err(error) => {
            let next = "start the nodes that are gone: a quorum of the copies must answer";
            vec![Finding::fail("leases", error.to_string(), next)]
        }
    }
}
