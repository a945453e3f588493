//! A reader has caught up once it has what other nodes had confirmed as it began, of which their marks tell
//! a moment later.

use std::sync::Arc;
use std::time::Duration;

use millrace_client::port::{Change, SubscribeFrom, SubscribePort as _, Subscribed};
use millrace_join::{Beside, JoinConfig, JoinService};
use millrace_parity_tests::{OneCatalog, SOON};
use millrace_store::memory::MemoryStore;
use millrace_store::{
    Append, Incarnation, LogStore as _, Mark, Member, MemberSlot, MemberStore as _, NodeId,
    SlotEpoch, SnapshotStore as _,
};
use millrace_store_writer::{Options, StoreWriter};
use millrace_types::chunk::encode_chunk;
use millrace_types::{ChunkHeader, Filled, KnownAt, Position, Retained, SlotId};
use tokio::time::timeout;

const SLOT: SlotId = SlotId(0);
const FIRST: Position = Position { epoch: 1, sequence: 1 };

/// The slot is another node's, which is not taken for dead while the test runs; so it stays.
async fn owned_by_another(store: &MemoryStore) {
    let (node, incarnation) = (NodeId("join-1".to_owned()), Incarnation(9));
    store.insert_epoch(SLOT, epoch(1)).await.expect("another has the slot");
    let slot = MemberSlot { slot: SLOT, epoch: 1, load: 1, offered_to: None };
    let member = Member {
        node,
        incarnation,
        endpoint: "http://127.0.0.1:1".to_owned(),
        weight: 1,
        beat: 1,
        leaving: false,
        slots: vec![slot],
    };
    store.put_member(KnownAt(1), member).await.expect("it tells of itself");
}

fn epoch(epoch: u64) -> SlotEpoch {
    SlotEpoch {
        epoch,
        node: NodeId("join-1".to_owned()),
        incarnation: Incarnation(9),
        floor: KnownAt(0),
        previous_end: 0,
        released: None,
    }
}

async fn append(store: &MemoryStore, position: Position) {
    let header = ChunkHeader { known_at: KnownAt(1), catalog_version: 1, ..Default::default() };
    let bytes = encode_chunk(&header, []).into();
    let chunk = Append { slot: SLOT, position, known_at: KnownAt(1), bytes };
    store.append(vec![chunk]).await.expect("it is written");
}

/// That its heads have the first chunk.
fn mark() -> Mark {
    Mark {
        position: FIRST,
        closed: KnownAt(1),
        watermarks: Vec::new(),
        incarnations: Vec::new(),
        views: Vec::new(),
        latest: Vec::new(),
        oldest_waiting: None,
        erasures: 0,
        filled: Filled::default(),
        retained: Retained::default(),
    }
}

/// A node beside the other one.
async fn start(store: &Arc<MemoryStore>) -> JoinService {
    let beside = Beside {
        endpoint: "http://127.0.0.1:2".to_owned(),
        weight: 1,
        lease: Duration::from_secs(3_600),
    };
    let config = JoinConfig { slots: 1, beside: Some(beside), ..JoinConfig::default() };
    let writer = Arc::new(StoreWriter::spawn(store.clone(), Options::default()));
    let (node, run) = (NodeId("join-0".to_owned()), Incarnation(1));
    let join = JoinService::start(config, node, run, writer, Arc::new(OneCatalog::counting()));
    join.await.expect("it serves")
}

async fn follow(join: &JoinService) -> Subscribed {
    let follow = join.subscribe("activity".to_owned(), SubscribeFrom::Start);
    follow.await.expect("it begins")
}

/// The cursor of a reader that caught up.
async fn caught_up(mut followed: Subscribed) -> String {
    loop {
        let changes = timeout(SOON, followed.changes.recv()).await.expect("in time");
        for change in changes.expect("it goes on").expect("no error") {
            if let Change::CaughtUp { cursor } = change {
                return cursor.as_ref().to_owned();
            }
        }
    }
}

#[tokio::test]
async fn what_another_node_confirmed_comes_before_a_reader_has_caught_up() {
    let store = Arc::new(MemoryStore::default());
    owned_by_another(&store).await;
    append(&store, FIRST).await;
    let join = start(&store).await;
    let followed = follow(&join).await;
    store.put_mark(SLOT, KnownAt(2), mark()).await.expect("it is written");
    assert_eq!(caught_up(followed).await, "activity/1@0:1.1");
    // A mark that tells of it already.
    assert_eq!(caught_up(follow(&join).await).await, "activity/1@0:1.1");
}

#[tokio::test]
async fn what_a_takeover_cut_off_is_not_waited_for() {
    let store = Arc::new(MemoryStore::default());
    owned_by_another(&store).await;
    append(&store, FIRST).await;
    let join = start(&store).await;
    let followed = follow(&join).await;
    store.insert_epoch(SLOT, epoch(2)).await.expect("it is taken over");
    assert_eq!(caught_up(followed).await, "activity/1@");
}
