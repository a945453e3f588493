//! A node that may have lost a slot tells nothing of it that its next owner may know better.

use std::sync::Arc;

use futures::FutureExt as _;
use millrace_client::port::{
    CatalogPort as _, HeadAnswer, HeadPort as _, HeadRequest, JoinError, SlotPort as _,
};
use millrace_join::{JoinConfig, JoinService};
use millrace_kernel::{EntityState, Plan};
use millrace_parity_tests::OneCatalog;
use millrace_store::memory::{Call, Fault, FaultPlan, MemoryStore};
use millrace_store::{
    Append, Incarnation, LogStore as _, NodeId, Part, Put, SlotEpoch, SnapshotStore as _,
    StoreError,
};
use millrace_store_writer::{Options, StoreWriter};
use millrace_types::chunk::encode_chunk;
use millrace_types::{
    ChunkHeader, Entity, EntityKey, KeyPart, KindId, KnownAt, Micros, Position, SlotId,
};
use tokio::time::{Duration, interval};

const SLOT: SlotId = SlotId(0);

async fn start(store: &Arc<MemoryStore>) -> JoinService {
    let config = JoinConfig { slots: 1, ..JoinConfig::default() };
    let writer = Arc::new(StoreWriter::spawn(store.clone(), Options::default()));
    let (node, run) = (NodeId("join-0".to_owned()), Incarnation(1));
    let join = JoinService::start(config, node, run, writer, Arc::new(OneCatalog::counting()));
    join.await.expect("it serves its slot")
}

fn now() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("it is later");
    i64::try_from(since.as_micros()).expect("it is not that late")
}

/// Beyond its lease another node may be confirming facts by now.
#[tokio::test]
async fn an_instant_beyond_the_lease_is_not_closed_before_it_is_renewed() {
    let store = Arc::new(MemoryStore::default());
    let join = start(&store).await;
    store.set_plan(FaultPlan::none().on_first(1_000, Call::RenewNode, Fault::Unavailable));
    let within = join.close_up_to(SLOT, KnownAt(now())).await;
    within.expect("its lease of before grants this");

    // A lease is for four seconds, so that it may reach to here once it is renewed.
    let mut beyond = Box::pin(join.close_up_to(SLOT, KnownAt(now() + 4_200_000)));
    assert!(beyond.as_mut().now_or_never().is_none(), "it is asked");
    let mut looks = interval(Duration::from_millis(50));
    loop {
        let slots = join.status().await.expect("it answers");
        let closed = beyond.as_mut().now_or_never();
        assert!(closed.is_none(), "{closed:?}");
        if !slots[0].is_owned {
            break;
        }
        looks.tick().await;
    }
    store.set_plan(FaultPlan::none());
    beyond.await.expect("it is renewed");
    assert!(join.status().await.expect("it answers")[0].is_owned);
}

/// The state of a head that covers this, as a store gives it back.
async fn read_with_head(covers: Position) -> JoinError {
    let store = Arc::new(MemoryStore::default());
    let epoch = SlotEpoch {
        epoch: 1,
        node: NodeId("join-1".to_owned()),
        incarnation: Incarnation(9),
        floor: KnownAt(0),
        previous_end: 0,
        released: None,
    };
    store.insert_epoch(SLOT, epoch).await.expect("another had the slot");
    let header = ChunkHeader { known_at: KnownAt(1), catalog_version: 1, ..Default::default() };
    let bytes = encode_chunk(&header, []).into();
    let position = Position { epoch: 1, sequence: 1 };
    let chunk = Append { slot: SLOT, position, known_at: KnownAt(1), bytes };
    store.append(vec![chunk]).await.expect("it is written");

    let catalog = OneCatalog::counting().current();
    let plan = Plan::new(catalog);
    let mut state = EntityState::new(plan.kind(KindId(0)).expect("users").clone());
    state.set_applied(covers, KnownAt(5));
    let key = EntityKey::try_new(&[KeyPart::Int64(1)]).expect("a key");
    let entity = Entity { kind: KindId(0), key };
    let head = Put {
        slot: SLOT,
        entity: entity.clone(),
        part: Part::Head,
        ver: KnownAt(5),
        bytes: state.snapshot(KnownAt(5)).head.into(),
    };
    store.put(vec![head]).await.expect("it is written");

    let join = start(&store).await;
    let request = HeadRequest {
        slot: SLOT,
        view: "activity".into(),
        features: [0].into(),
        catalog_version: 1,
        entities: vec![entity],
        at: Micros(now()),
        known_at: KnownAt::MAX,
    };
    let answer: Result<Vec<HeadAnswer>, JoinError> = join.read_heads(request).await;
    answer.expect_err("it knows that it knows less")
}

#[tokio::test]
async fn a_head_of_a_later_owner_tells_a_node_that_it_is_fenced() {
    let error = read_with_head(Position { epoch: 3, sequence: 1 }).await;
    assert!(matches!(error, JoinError::NotServing { slot: SLOT }), "{error:?}");
}

#[tokio::test]
async fn a_head_beyond_the_end_of_the_log_stops_its_owner() {
    let error = read_with_head(Position { epoch: 1, sequence: 7 }).await;
    let JoinError::Store(StoreError::Damaged { what, reason }) = &error else {
        panic!("{error:?}")
    };
    assert!(what.contains("slot 0") && reason.contains("1.7"), "{error}");
}
