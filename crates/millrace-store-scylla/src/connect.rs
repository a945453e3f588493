//! Opening a store: a session, the checks, the tables, the statements.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use millrace_store::Secret;
use millrace_types::Micros;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{ExecutionError, NewSessionError, PrepareError};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::{Consistency, SerialConsistency};
use thiserror::Error;

use crate::checks::{self, CheckError};
use crate::config::{CqlConfig, Replication};
use crate::ddl::{self, Dialect};
use crate::statements::Statements;
use crate::store::CqlStore;

/// How long one connection may take.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

/// Why a store cannot be opened. Unless something was to be created, no data was touched.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A setting breaks a rule.
    #[error("{0}")]
    Setting(String),
    /// None of the nodes lets us in.
    #[error("none of the nodes {nodes} can be reached, or lets us in: {reason}")]
    Unreachable {
        /// The nodes asked for.
        nodes: String,
        /// What the last of them said.
        reason: String,
    },
    /// User or password is wrong.
    #[error("the database refuses user and password: {reason}")]
    Credentials {
        /// What it said.
        reason: String,
    },
    /// A check failed.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A statement failed.
    #[error("the database did not {what}")]
    Statement {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: Box<ExecutionError>,
    },
    /// Statements cannot be prepared: the tables have another form.
    #[error("the tables of keyspace {keyspace} have another form than expected")]
    Tables {
        /// The keyspace.
        keyspace: String,
        /// Why.
        source: Box<PrepareError>,
    },
}

impl OpenError {
    pub(crate) fn statement(what: &'static str) -> impl FnOnce(ExecutionError) -> Self {
        move |source| Self::Statement { what, source: Box::new(source) }
    }
}

impl CqlStore {
    /// Connects, looks whether the database and the keyspace are as they must be, and makes what is
    /// missing if told to. `now` is the clock of this process.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        config: &CqlConfig,
        now: impl Fn() -> Micros + Send + Sync,
    ) -> Result<Self, OpenError> {
        if let Some(rule) = config.broken_rule() {
            return Err(OpenError::Setting(rule));
        }
        let session = connect(config).await?;
        let dialect = checks::server(&session, now).await?;
        if let Some(replication) = &config.create {
            create(&session, dialect, &config.keyspace, replication).await?;
        }
        let store = Self::on(session, config).await?;
        checks::owner(&store, config).await?;
        Ok(store)
    }

    /// The store on the tables of a keyspace, whosever it is.
    pub(crate) async fn on(session: Session, config: &CqlConfig) -> Result<Self, OpenError> {
        checks::tables(&session, &config.keyspace).await?;
        let statements = Statements::prepare(&session, &config.keyspace).await;
        let statements = statements.map_err(|source| OpenError::Tables {
            keyspace: config.keyspace.clone(),
            source: Box::new(source),
        })?;
        Ok(Self::new(session, statements, config.keyspace.clone(), config.in_flight_max))
    }
}

/// Connects as the configuration says, and looks at nothing.
pub(crate) async fn connect(config: &CqlConfig) -> Result<Session, OpenError> {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::Serial))
        .request_timeout(Some(config.patience))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.nodes)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(CONNECTS_WITHIN)
        .keyspaces_to_fetch([&config.keyspace])
        // Not after each table that is made, but once, after all of them.
        .refresh_metadata_on_auto_schema_agreement(false)
        .tcp_nodelay(true);
    if let Some((user, Secret(password))) = &config.credentials {
        builder = builder.user(user, password);
    }
    builder.build().await.map_err(|error| refused(config, &error))
}

fn refused(config: &CqlConfig, error: &NewSessionError) -> OpenError {
    let reason = with_causes(error);
    let lower = reason.to_lowercase();
    if lower.contains("authentication") || lower.contains("credentials") {
        return OpenError::Credentials { reason };
    }
    OpenError::Unreachable { nodes: config.nodes.join(", "), reason }
}

/// What an error says, with its causes: the reason lies up to five levels deep, the levels change with the
/// driver's versions, and some say again what lies below them.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// Makes the keyspace and its tables where they are missing. Two processes may do it at once.
async fn create(
    session: &Session,
    dialect: Dialect,
    keyspace: &str,
    replication: &Replication,
) -> Result<(), OpenError> {
    checks::nobody_elses(session, keyspace).await?;
    let statement = ddl::keyspace(dialect, keyspace, replication);
    let made = session.query_unpaged(statement, &[]).await;
    made.map_err(OpenError::statement("make the keyspace"))?;
    for table in ddl::tables(dialect, keyspace) {
        let made = session.query_unpaged(table, &[]).await;
        made.map_err(OpenError::statement("make a table"))?;
    }
    let told = session.refresh_metadata().await.map_err(ExecutionError::from);
    told.map_err(OpenError::statement("tell of the keyspace"))
}
