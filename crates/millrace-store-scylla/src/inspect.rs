//! A look at a database and a keyspace for people: what stands there, and what is wrong with it. It reads
//! alone, by quorum reads, which unlike SERIAL ones finish nothing that another process began.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures::future::join_all;
use millrace_store::{
    IDENTITY, Incarnation, LogStore as _, Member, MemberStore as _, NodeId, Ownership, StoreError,
};
use millrace_types::{Micros, SlotId};
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;

use crate::checks::{self, CheckError};
use crate::config::CqlConfig;
use crate::connect::{self, OpenError};
use crate::store::CqlStore;

/// A node of the database, as it was found.
#[derive(Debug)]
pub struct NodeSeen {
    /// Its address.
    pub address: SocketAddr,
    /// Its datacenter, where the database says it.
    pub datacenter: Option<String>,
    /// What it says of itself; `None` where it cannot be reached.
    pub told: Option<NodeTold>,
}

/// What a node says of itself.
#[derive(Debug)]
pub struct NodeTold {
    /// How it syncs its commit log, or what is wrong with that.
    pub commit_log: Result<String, CheckError>,
    /// How far its clock is ahead, in microseconds, or that it is too far.
    pub clock: Result<i64, CheckError>,
}

/// Whose a keyspace is: what stands there, each `None` where nothing does yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whose {
    /// The version of its tables.
    pub schema: Option<String>,
    /// The cluster that it belongs to.
    pub cluster: Option<String>,
    /// The number of slots.
    pub slots: Option<String>,
    /// Which store it is; see [`millrace_store::CatalogStore::identity`].
    pub identity: Option<String>,
}

impl Whose {
    /// What is not as it should be, by this program and by what was stated.
    #[must_use]
    pub fn problems(
        &self,
        keyspace: &str,
        cluster: Option<&str>,
        slots: Option<u32>,
    ) -> Vec<CheckError> {
        let schema = self.schema.as_deref().map(|found| checks::is_version(keyspace, found));
        let cluster = self.cluster.as_deref().zip(cluster);
        let cluster = cluster.map(|(found, ours)| checks::is_cluster(keyspace, found, ours));
        let slots = self.slots.as_deref().zip(slots);
        let slots = slots.map(|(found, ours)| checks::has_slots(keyspace, found, ours));
        [schema, cluster, slots].into_iter().flatten().filter_map(Result::err).collect()
    }
}

/// A connection to look by. Nothing is made, changed or repaired.
pub struct Inspection {
    session: Session,
    config: CqlConfig,
}

impl Inspection {
    /// Connects.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn connect(config: &CqlConfig) -> Result<Self, OpenError> {
        if let Some(rule) = config.broken_rule() {
            return Err(OpenError::Setting(rule));
        }
        Ok(Self { session: connect::connect(config).await?, config: config.clone() })
    }

    /// Every node that the database knows of, by address. `now` is the clock of this process.
    pub async fn nodes(&self, now: impl Fn() -> Micros) -> Vec<NodeSeen> {
        let dialect = checks::dialect(&self.session);
        let state = self.session.get_cluster_state();
        let now = &now;
        let seen = state.get_nodes_info().iter().map(async |node| {
            let told = match node.is_connected() {
                false => None,
                true => Some(NodeTold {
                    commit_log: checks::commit_log(&self.session, node, dialect).await,
                    clock: checks::clock_of(&self.session, node, now).await,
                }),
            };
            NodeSeen {
                address: SocketAddr::new(node.address.ip(), node.address.port()),
                datacenter: node.datacenter.clone(),
                told,
            }
        });
        let mut nodes = join_all(seen).await;
        nodes.sort_by_key(|node| node.address);
        nodes
    }

    /// How the keyspace is replicated: the parameters of its strategy, `class` among them. `None` where
    /// there is no such keyspace.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn replication(&self) -> Result<Option<BTreeMap<String, String>>, OpenError> {
        let cql = format!(
            "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{}'",
            self.config.keyspace
        );
        let row = self.row::<(BTreeMap<String, String>,)>(cql, "tell of the keyspace").await?;
        Ok(row.map(|(replication,)| replication))
    }

    /// Whose the keyspace is, as a quorum has it.
    ///
    /// # Errors
    /// [`OpenError`], also where a table is missing or there is no quorum.
    pub async fn whose(&self) -> Result<Whose, OpenError> {
        checks::tables(&self.session, &self.config.keyspace).await?;
        let value = async |name: &str| {
            let keyspace = &self.config.keyspace;
            let cql = format!("SELECT value FROM {keyspace}.meta WHERE name = '{name}'");
            let row = self.row::<(String,)>(cql, "tell whose the keyspace is").await?;
            Ok::<_, OpenError>(row.map(|(value,)| value))
        };
        Ok(Whose {
            schema: value("schema").await?,
            cluster: value("cluster").await?,
            slots: value("slots").await?,
            identity: self.identity().await?,
        })
    }

    async fn identity(&self) -> Result<Option<String>, OpenError> {
        let keyspace = &self.config.keyspace;
        let cql =
            format!("SELECT text FROM {keyspace}.catalog WHERE id = 0 AND version = {IDENTITY}");
        let row = self.row::<(String,)>(cql, "tell which store it is").await?;
        Ok(row.map(|(text,)| text))
    }

    async fn row<R>(&self, cql: String, what: &'static str) -> Result<Option<R>, OpenError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let answer = self.session.query_unpaged(cql, &[]).await;
        let answer = answer.map_err(OpenError::statement(what))?;
        let silent = |reason: String| CheckError::Silent { node: "any".to_owned(), reason };
        let rows = answer.into_rows_result().map_err(|error| silent(error.to_string()))?;
        Ok(rows.maybe_first_row::<R>().map_err(|error| silent(error.to_string()))?)
    }

    /// The tables, to look into: of a keyspace whose schema this program knows.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn tables(self) -> Result<Tables, OpenError> {
        Ok(Tables { store: CqlStore::on(self.session, &self.config).await? })
    }
}

/// The tables of a keyspace, to look into.
pub struct Tables {
    store: CqlStore,
}

impl Tables {
    /// What every join node told last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.store.members().await
    }

    /// See [`millrace_store::LogStore::look`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look(
        &self,
        nodes: Vec<NodeId>,
        slots: Vec<SlotId>,
    ) -> Result<Ownership, StoreError> {
        self.store.look(nodes, slots).await
    }

    /// See [`millrace_store::LogStore::confirm`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn confirm(&self, node: &NodeId, run: Incarnation) -> Result<bool, StoreError> {
        self.store.confirm(node, run).await
    }
}

/// What an error says, with its causes.
#[must_use]
pub fn explain(error: &OpenError) -> String {
    connect::with_causes(error)
}
