//! One fault at a time, at the step where it hurts.

use millrace_store::memory::{Call, Fault, FaultPlan, Landing, MemoryStore};
use millrace_store::{
    Append, Incarnation, LogStore, SlotEpoch, StoreError, TakeOverError, take_over,
};
use millrace_types::KnownAt;

use super::{Attempts, SLOT, at, chunk, node};

const OLD: Incarnation = Incarnation(1);
const NEW: Incarnation = Incarnation(2);
const RIVAL: Incarnation = Incarnation(3);

/// A store whose slot is owned by the run OLD of `join-0` and holds two chunks.
async fn owned() -> MemoryStore {
    let store = MemoryStore::new();
    store.renew_node(&node("join-0"), OLD, KnownAt(900)).await.unwrap();
    take(&store, OLD, "join-0").await.unwrap();
    let append = |s: i64| Append {
        slot: SLOT,
        position: at(1, s as u64),
        known_at: KnownAt(s),
        bytes: chunk(KnownAt(s), "x"),
    };
    store.append(vec![append(1), append(2)]).await.unwrap();
    store
}

async fn take(
    store: &MemoryStore,
    run: Incarnation,
    name: &str,
) -> Result<SlotEpoch, TakeOverError> {
    take_over(store, SLOT, &node(name), run, &mut Attempts(20)).await
}

/// Whatever call goes wrong, and however: the take-over ends in the same row.
#[tokio::test]
async fn every_step_is_repeated_until_its_outcome_is_known() {
    let faults = [
        Fault::Lost,
        Fault::AppliedUnknown,
        Fault::Torn,
        Fault::Late(Landing::AfterCalls(2)),
        Fault::Late(Landing::OnDemand),
        Fault::Unavailable,
    ];
    let calls = [
        Call::LastEpoch,
        Call::FenceNode,
        Call::ReadNode,
        Call::LastChunk,
        Call::Append,
        Call::LoadMark,
        Call::InsertEpoch,
    ];
    for call in calls {
        for fault in faults {
            let root = owned().await;
            let store = root.handle(FaultPlan::none().on_first(3, call, fault));
            let row = take(&store, NEW, "join-1").await.unwrap();
            root.land();
            assert_eq!((row.epoch, row.previous_end), (2, 2), "{call:?} {fault:?}");
            assert!(row.floor > KnownAt(900));
            assert_eq!(root.last_epoch(SLOT).await, Ok(Some(row)), "{call:?} {fault:?}");
            assert_eq!(root.confirm(&node("join-0"), OLD).await, Ok(false));
            assert!(store.calls(Call::Append) >= 1, "the last chunk is written once more");
        }
    }
}

/// A fence that stays unknown stops the take-over: nothing is sealed.
#[tokio::test]
async fn nothing_is_sealed_before_the_fence_is_known() {
    let root = owned().await;
    for fault in [Fault::Lost, Fault::AppliedUnknown] {
        let store = root.handle(FaultPlan::none().on_first(100, Call::FenceNode, fault));
        let refused = take(&store, NEW, "join-1").await;
        assert!(matches!(refused, Err(TakeOverError::Store(StoreError::Unknown { .. }))));
        assert_eq!(store.calls(Call::InsertEpoch), 0);
    }
    assert_eq!(root.last_epoch(SLOT).await.unwrap().unwrap().epoch, 1);
}

/// The insert of a taker that gave up lands after a rival opened the epoch: the rival keeps it.
#[tokio::test]
async fn a_late_insert_does_not_replace_the_row() {
    let root = owned().await;
    let plan = FaultPlan::none().on_first(100, Call::InsertEpoch, Fault::Late(Landing::OnDemand));
    let slow = root.handle(plan);
    let gave_up = take_over(&slow, SLOT, &node("join-1"), NEW, &mut Attempts(3)).await;
    assert!(matches!(gave_up, Err(TakeOverError::Store(StoreError::Unknown { .. }))));
    let row = take(&root, RIVAL, "join-2").await.unwrap();
    assert_eq!(row.epoch, 2);
    assert!(root.land() >= 3);
    assert_eq!(root.epochs(SLOT).await.unwrap()[1..], [row]);
    // The slow one asks again and is told, by its next take-over fencing the rival.
    slow.set_plan(FaultPlan::none());
    let next = take(&slow, NEW, "join-1").await.unwrap();
    assert_eq!((next.epoch, next.previous_end), (3, 0));
    assert_eq!(root.confirm(&node("join-2"), RIVAL).await, Ok(false));
}

/// The insert of the slow taker lands just before the rival's: end, floor and owner are the row's.
#[tokio::test]
async fn the_row_that_stands_decides_whoever_wrote_it() {
    let root = owned().await;
    let plan = FaultPlan::none().on_first(100, Call::InsertEpoch, Fault::Late(Landing::OnDemand));
    let slow = root.handle(plan);
    take_over(&slow, SLOT, &node("join-1"), NEW, &mut Attempts(2)).await.unwrap_err();
    // The rival has read epoch 1 and is about to insert when everything lands: its own call is
    // the one that waits.
    let rival =
        root.handle(FaultPlan::none().on(Call::InsertEpoch, 0, Fault::Delayed(Landing::OnDemand)));
    let (taken, _) = tokio::join!(take(&rival, RIVAL, "join-2"), async {
        while rival.calls(Call::InsertEpoch) == 0 {
            tokio::task::yield_now().await;
        }
        root.land();
    });
    let Err(TakeOverError::Taken { by, .. }) = taken else { panic!("{taken:?}") };
    assert_eq!((by.epoch, by.incarnation, by.previous_end), (2, NEW, 2));
    // The slow one asks again: it owns the epoch, as the row says.
    slow.set_plan(FaultPlan::none());
    assert_eq!(take(&slow, NEW, "join-1").await, Ok(by));
}

/// A full disk is no unknown outcome: there is nothing to repeat.
#[tokio::test]
async fn a_failed_store_ends_it_at_once() {
    let root = owned().await;
    let store = root.handle(FaultPlan::none().on(Call::InsertEpoch, 0, Fault::Failed));
    let failed = take(&store, NEW, "join-1").await;
    assert!(matches!(failed, Err(TakeOverError::Store(StoreError::Failed { .. }))), "{failed:?}");
    assert_eq!(store.calls(Call::InsertEpoch), 1);
}

/// A last chunk whose bytes are damaged is named, and the slot stays unsealed.
#[tokio::test]
async fn a_damaged_last_chunk_is_named() {
    let root = owned().await;
    let mut bytes = chunk(KnownAt(3), "y").to_vec();
    bytes[9] ^= 1;
    let (known_at, position) = (KnownAt(3), at(1, 3));
    root.append(vec![Append { slot: SLOT, position, known_at, bytes: bytes.into() }])
        .await
        .unwrap();
    let damaged = take(&root, NEW, "join-1").await.unwrap_err().to_string();
    assert!(damaged.contains("chunk 1.3 of slot 5 is damaged"), "{damaged}");
    assert_eq!(root.last_epoch(SLOT).await.unwrap().unwrap().epoch, 1);
}
