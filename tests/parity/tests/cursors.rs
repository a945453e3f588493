//! A cursor is refused for good only by the log: a node that was frozen does not know how far others are.

use std::sync::Arc;

use millrace_client::port::{JoinError, SubscribeFrom, SubscribePort as _};
use millrace_join::{JoinConfig, JoinService};
use millrace_parity_tests::OneCatalog;
use millrace_store::memory::MemoryStore;
use millrace_store::{Append, Incarnation, LogStore as _, NodeId, SlotEpoch};
use millrace_store_writer::{Options, StoreWriter};
use millrace_types::{KnownAt, Position, SlotId};

#[tokio::test]
async fn what_another_owner_confirmed_is_not_a_cursor_of_another_log() {
    let store = Arc::new(MemoryStore::default());
    let config = JoinConfig { slots: 1, ..JoinConfig::default() };
    let writer = Arc::new(StoreWriter::spawn(store.clone(), Options::default()));
    let (node, run) = (NodeId("join-0".to_owned()), Incarnation(1));
    let join = JoinService::start(config, node, run, writer, Arc::new(OneCatalog::counting()));
    let join = join.await.expect("it serves its slot");

    let slot = SlotId(0);
    let epoch = SlotEpoch {
        epoch: 2,
        node: NodeId("join-1".to_owned()),
        incarnation: Incarnation(2),
        floor: KnownAt(0),
        previous_end: 0,
        released: None,
    };
    store.insert_epoch(slot, epoch).await.expect("another takes the slot over");
    let position = Position { epoch: 2, sequence: 1 };
    let append = Append { slot, position, known_at: KnownAt(1), bytes: "a chunk".into() };
    store.append(vec![append]).await.expect("it is written");

    let follow = |cursor: &str| {
        join.subscribe("activity".to_owned(), SubscribeFrom::Cursor(cursor.to_owned()))
    };
    let known = follow("activity/1@0:2.1").await;
    assert!(matches!(known, Err(JoinError::NotServing { slot: SlotId(0) })), "{known:?}");
    assert!(follow("activity/1@0:2.0").await.is_ok(), "all before an epoch, whoever has it");
    for cursor in ["activity/1@0:2.2", "activity/1@0:3.1", "activity/1@0:1.7"] {
        let unknown = follow(cursor).await;
        assert!(matches!(unknown, Err(JoinError::BadCursor(_))), "{cursor}: {unknown:?}");
    }
}
