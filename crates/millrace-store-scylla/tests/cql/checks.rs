//! What is refused at the start, with words that say what to do, and no data touched.

use std::time::Duration;

use millrace_store::{
    Applied, CatalogStore, GRANT, Incarnation, LogStore, NodeId, Secret, StoreError,
};
use millrace_store_scylla::{CheckError, CqlConfig, CqlStore, OpenError};
use millrace_test_servers::{Cassandra, CassandraOptions};
use millrace_types::{KnownAt, Micros, SlotId};
use scylla::client::session_builder::SessionBuilder;
use tokio::time::timeout;

use super::proxied::{fresh, keyspace};
use super::{config, now, open};

/// How long Cassandra may take to make its first role, on a machine that builds beside the tests.
const ROLE_WITHIN: Duration = Duration::from_secs(60);

async fn refusal(config: &CqlConfig) -> OpenError {
    match open(config).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn another_cluster_or_number_of_slots_does_not_get_in() {
    let mine = config(Cassandra::shared());
    let store = open(&mine).await.unwrap();
    store.put_catalog(1, "entities: {}".into()).await.unwrap();
    // Again, also without the right to create.
    open(&CqlConfig { create: None, ..mine.clone() }).await.unwrap();

    let other = CqlConfig { cluster: "two".into(), ..mine.clone() };
    match refusal(&other).await {
        OpenError::Check(CheckError::OtherCluster { found, ours, .. }) => {
            assert_eq!((&*found, &*ours), ("one", "two"));
        }
        other => panic!("{other}"),
    }
    let other = CqlConfig { slots: 128, ..mine.clone() };
    let error = refusal(&other).await;
    assert!(error.to_string().contains("was made with 64 slots, not with 128"), "{error}");
    assert_eq!(store.catalogs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_keyspace_that_was_not_made_is_not_made_unasked() {
    let mut config = config(Cassandra::shared());
    let replication = config.create.take();
    let error = refusal(&config).await;
    assert!(matches!(error, OpenError::Check(CheckError::NoTables { .. })), "{error}");
    config.create = replication;
    open(&config).await.unwrap();
}

/// Asks the database as anybody may.
pub(super) async fn ask(config: &CqlConfig, statements: &[String]) {
    let session = SessionBuilder::new().known_nodes(&config.nodes).build().await.unwrap();
    for statement in statements {
        session.query_unpaged(statement.as_str(), &[]).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_made_beside_tables_of_somebody_else() {
    let config = config(Cassandra::shared());
    let keyspace = &config.keyspace;
    let replication = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}";
    let theirs = [
        format!("CREATE KEYSPACE {keyspace} WITH replication = {replication}"),
        format!("CREATE TABLE {keyspace}.orders (id int PRIMARY KEY)"),
    ];
    ask(&config, &theirs).await;
    let error = refusal(&config).await;
    let OpenError::Check(CheckError::SomebodyElses { table, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(table, "orders");
    let unasked = CqlConfig { create: None, ..config.clone() };
    match refusal(&unasked).await {
        OpenError::Check(CheckError::NoTables { missing, .. }) => {
            assert!(missing.starts_with("meta, "), "nothing was made: {missing}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn tables_of_another_version_are_left_to_it() {
    let config = config(Cassandra::shared());
    open(&config).await.unwrap();
    let later = "UPDATE {}.meta SET value = '999' WHERE name = 'schema'";
    ask(&config, &[later.replace("{}", &config.keyspace)]).await;
    let error = refusal(&config).await;
    assert!(matches!(error, OpenError::Check(CheckError::SchemaVersion { .. })), "{error}");
    assert!(error.to_string().contains("schema version 999"), "{error}");
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told() {
    let config = config(Cassandra::shared());
    for wrong in [-5_000_000, 5_000_000] {
        let refused = CqlStore::open(&config, || Micros(now().0 + wrong)).await;
        match refused.map(drop) {
            Err(OpenError::Check(CheckError::Clock { seconds, .. })) => {
                assert!((seconds.abs() - 5.0).abs() < 1.0, "{seconds}");
                assert!(seconds * (wrong as f64) < 0.0, "{seconds}: ahead is theirs");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Versions are stamped by the clocks of join nodes: each renewal is held against the database's.
#[tokio::test]
async fn a_lease_is_not_granted_to_a_clock_that_is_ahead() {
    let store = open(keyspace().await).await.unwrap();
    let node = NodeId(format!("ahead-{}", fresh()));
    let renew = async |ahead: i64| {
        let until = now().0 + ahead + i64::try_from(GRANT.as_micros()).unwrap();
        (until, store.renew_node(&node, Incarnation(1), KnownAt(until)).await)
    };
    let (granted, renewed) = renew(0).await;
    assert_eq!(renewed, Ok(Applied::Yes));
    match renew(60_000_000).await.1 {
        Err(StoreError::ClockSkew { reason }) => {
            assert!(reason.contains("clock of node ahead-"), "{reason}");
            assert!(reason.contains("set the clocks"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let lease = store.read_node(&node).await.unwrap().unwrap();
    assert_eq!((lease.ceiling, lease.renewals), (KnownAt(granted), 1));
    assert_eq!(renew(0).await.1, Ok(Applied::Yes), "once it is set");
}

#[tokio::test]
async fn nobody_there_is_told_and_so_is_a_broken_rule() {
    let nobody = CqlConfig::new(vec!["127.0.0.1:1".into()], "k", "one", 64);
    let error = refusal(&nobody).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    let error = refusal(&CqlConfig { keyspace: "No".into(), ..nobody }).await;
    assert!(matches!(error, OpenError::Setting(_)), "{error}");
}

/// A server that asks for a password, and syncs its commit log when it likes.
#[tokio::test]
async fn a_commit_log_that_is_not_synced_is_refused() {
    let options = CassandraOptions {
        commit_log_sync: "commitlog_sync: periodic\ncommitlog_sync_period: 10s\n\
                          authenticator: PasswordAuthenticator",
        ..CassandraOptions::default()
    };
    let server = Cassandra::start(options).unwrap();
    let mut config = config(&server);
    let known = |password: &str| Some(("cassandra".into(), Secret(password.into())));
    for credentials in [None, known("wrong")] {
        config.credentials = credentials;
        let error = refusal(&config).await;
        assert!(matches!(error, OpenError::Credentials { .. }), "{error}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
    config.credentials = known("cassandra");
    // Cassandra makes its first role only once it takes calls; until then nobody is known to it.
    let made = async {
        loop {
            match refusal(&config).await {
                OpenError::Credentials { .. } => {}
                other => break other,
            }
        }
    };
    match timeout(ROLE_WITHIN, made).await.unwrap() {
        OpenError::Check(CheckError::CommitLog { found, .. }) => assert_eq!(found, "periodic"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_was_written_is_there_for_the_next_process() {
    let config = config(Cassandra::shared());
    let first = open(&config).await.unwrap();
    let second = open(&CqlConfig { create: None, ..config }).await.unwrap();
    first.put_catalog(1, "entities: {}".into()).await.unwrap();
    assert_eq!(second.catalogs_after(0).await.unwrap(), [(1, "entities: {}".to_owned())]);
    assert_eq!(second.catalogs_after(1).await.unwrap(), []);
    assert_eq!(second.last_epoch(SlotId(9)).await.unwrap(), None);
}
