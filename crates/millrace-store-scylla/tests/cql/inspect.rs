//! What a look at a database tells, and that it leaves everything as it is.

use millrace_store::{CatalogStore, Incarnation, LogStore, MemberStore, NodeId};
use millrace_store_scylla::inspect::{Inspection, Whose, explain};
use millrace_store_scylla::{CheckError, CqlConfig, OpenError};
use millrace_test_servers::Cassandra;
use millrace_types::{KnownAt, SlotId};

use super::forged::epoch;
use super::{config, now, open};

#[tokio::test]
async fn a_keyspace_that_is_not_there_is_told_and_not_made() {
    // Told to make it, as a store-writer may be: a look never does.
    let config = config(Cassandra::shared());
    for _ in 0..2 {
        let look = Inspection::connect(&config).await.unwrap();
        assert_eq!(look.replication().await.unwrap(), None);
        let error = look.whose().await.unwrap_err();
        assert!(matches!(error, OpenError::Check(CheckError::NoTables { .. })), "{error}");
        assert!(explain(&error).contains(&config.keyspace), "{error}");
        assert!(look.tables().await.is_err());
    }
}

#[tokio::test]
async fn a_look_tells_nodes_copies_whose_it_is_and_who_owns_slots() {
    let config = config(Cassandra::shared());
    let store = open(&config).await.unwrap();
    let look = Inspection::connect(&config).await.unwrap();
    let nodes = look.nodes(now).await;
    let [node] = &nodes[..] else { panic!("{nodes:?}") };
    assert_eq!(node.address.to_string(), Cassandra::shared().address());
    let told = node.told.as_ref().unwrap();
    assert_eq!(told.commit_log.as_deref().unwrap(), "group");
    assert!(told.clock.as_ref().unwrap().abs() < 1_000_000, "{told:?}");
    let replication = look.replication().await.unwrap().unwrap();
    assert!(replication["class"].ends_with("NetworkTopologyStrategy"), "{replication:?}");
    assert_eq!(replication["datacenter1"], "1");

    let some = |text: &str| Some(text.to_owned());
    let mine = Whose { schema: some("1"), cluster: some("one"), slots: some("64"), identity: None };
    assert_eq!(look.whose().await.unwrap(), mine);
    store.identity("a1b2".to_owned()).await.unwrap();
    assert_eq!(look.whose().await.unwrap(), Whose { identity: some("a1b2"), ..mine.clone() });
    assert_eq!(mine.problems(&config.keyspace, Some("one"), Some(64)).len(), 0);
    let problems = mine.problems(&config.keyspace, Some("two"), Some(8));
    let [CheckError::OtherCluster { .. }, CheckError::Slots { .. }] = &problems[..] else {
        panic!("{problems:?}")
    };

    let (node, run) = (NodeId("join-0".to_owned()), Incarnation(7));
    store.renew_node(&node, run, KnownAt(5)).await.unwrap();
    let row = epoch(1, &node, run, 0);
    store.insert_epoch(SlotId(3), row.clone()).await.unwrap();
    let tables = look.tables().await.unwrap();
    let found = tables.look(vec![node.clone()], vec![SlotId(2), SlotId(3)]).await.unwrap();
    assert_eq!(found.epochs, [vec![], vec![row]]);
    assert_eq!(found.leases[0].as_ref().map(|lease| lease.ceiling), Some(KnownAt(5)));
    assert!(tables.confirm(&node, run).await.unwrap());
    assert_eq!(tables.members().await.unwrap(), store.members().await.unwrap());
}

/// A keyspace with all tables that no store-writer has opened stays nobody's.
#[tokio::test]
async fn a_keyspace_of_nobody_is_not_claimed() {
    let config = config(Cassandra::shared());
    open(&config).await.unwrap();
    super::checks::ask(&config, &[format!("TRUNCATE {}.meta", config.keyspace)]).await;
    let look = Inspection::connect(&config).await.unwrap();
    for _ in 0..2 {
        assert_eq!(look.whose().await.unwrap(), Whose::default());
    }
    look.tables().await.unwrap();
    let other = CqlConfig { cluster: "two".into(), create: None, ..config };
    open(&other).await.unwrap();
}
