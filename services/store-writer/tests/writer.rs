//! The store-writer over the in-memory store with faults.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use millrace_client::port::{AppendOutcome, AppendRequest, StorePort, TakenOver};
use millrace_store::memory::{Call, Fault, FaultPlan, Landing, MemoryStore, Rates};
use millrace_store::{Append, Applied, Fencing, Incarnation, LogStore, NodeId, StoreError};
use millrace_store_writer::{Options, StoreWriter};
use millrace_types::{KnownAt, Position, SlotId};

const RUN: Incarnation = Incarnation(7);

fn node() -> NodeId {
    NodeId("join-0".into())
}

fn flush(slot: u32, sequence: u64) -> AppendRequest {
    let position = Position { epoch: 1, sequence };
    let bytes = Bytes::from(format!("{slot}/{sequence}"));
    let known_at = KnownAt(sequence.cast_signed());
    AppendRequest {
        node: node(),
        incarnation: RUN,
        chunks: vec![Append { slot: SlotId(slot), position, known_at, bytes }],
        trace: Default::default(),
    }
}

/// A root handle, the writer's own handle with faults, and the writer, owner of the slots 0 to 7.
async fn owner(plan: FaultPlan) -> (Arc<MemoryStore>, Arc<MemoryStore>, Arc<StoreWriter>) {
    let root = Arc::new(MemoryStore::new());
    let store = Arc::new(root.handle(FaultPlan::none()));
    let writer = Arc::new(StoreWriter::spawn(Arc::clone(&store) as _, Options::default()));
    assert_eq!(writer.renew_node(&node(), RUN, KnownAt(1 << 40)).await, Ok(Applied::Yes));
    for slot in 0..8 {
        let taken = writer.take_over(SlotId(slot), &node(), RUN, &Fencing::Anyone).await;
        let Ok(TakenOver::Mine(row)) = taken else { panic!("{taken:?}") };
        assert_eq!(row.epoch, 1);
    }
    store.set_plan(plan);
    (root, store, writer)
}

/// Eight slots append side by side while the store loses, tears, delays and refuses: everything
/// confirmed is in the log, and nothing is there twice or out of order.
#[tokio::test(start_paused = true)]
async fn appends_are_repeated_until_they_are_known() {
    for seed in 0..20 {
        let rates = Rates { late_calls_max: 20, ..Rates::rough() };
        let (root, store, writer) = owner(FaultPlan::seeded(seed, rates)).await;
        let slots = (0..8).map(|slot| {
            let writer = Arc::clone(&writer);
            tokio::spawn(async move {
                for sequence in 1..=25 {
                    let outcome = writer.append(flush(slot, sequence)).await;
                    assert_eq!(outcome, Ok(AppendOutcome::Confirmed));
                }
            })
        });
        for slot in slots.collect::<Vec<_>>() {
            slot.await.unwrap();
        }
        root.land();
        for slot in 0..8 {
            let page = root
                .read_log(SlotId(slot), Position::START, Position::END, usize::MAX)
                .await
                .unwrap();
            let expected: Vec<_> = (1..=25)
                .map(|s| {
                    (flush(slot, s).chunks[0].position, flush(slot, s).chunks[0].bytes.clone())
                })
                .collect();
            assert_eq!(page.chunks, expected, "seed {seed}");
        }
        let counts = writer.metrics().counts();
        assert_eq!((counts.appends, counts.chunks), (200, 200));
        assert!(counts.flushes < 200, "flushes of several callers share a commit");
        assert!(store.calls(Call::Confirm) < 200 + counts.retries, "and a confirmation");
    }
}

/// A node fenced between its append and its confirmation learns it, and so does every later flush.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_fenced_node_is_confirmed() {
    let plan = FaultPlan::none().on(Call::Append, 0, Fault::Delayed(Landing::OnDemand));
    let (root, store, writer) = owner(plan).await;
    let append = {
        let writer = Arc::clone(&writer);
        tokio::spawn(async move { writer.append(flush(0, 1)).await })
    };
    while store.calls(Call::Append) == 0 {
        tokio::task::yield_now().await;
    }
    root.fence_node(&node(), RUN).await.unwrap();
    root.land();
    assert_eq!(append.await.unwrap(), Ok(AppendOutcome::Fenced));
    assert_eq!(writer.append(flush(1, 1)).await, Ok(AppendOutcome::Fenced));
    assert_eq!(writer.metrics().counts().fenced, 2);
}

/// A full disk is told at once, to everybody, and is not tried again.
#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told() {
    let (_, store, writer) = owner(FaultPlan::none().on(Call::Append, 0, Fault::Failed)).await;
    for sequence in 1..=2 {
        let failed = writer.append(flush(0, sequence)).await;
        assert!(matches!(failed, Err(StoreError::Failed { .. })), "{failed:?}");
    }
    assert_eq!(store.calls(Call::Append), 2);
    assert_eq!(store.calls(Call::Confirm), 0);
}

/// Reads and puts are tried a few times, not for ever.
#[tokio::test(start_paused = true)]
async fn other_calls_are_tried_again_within_bounds() {
    let (_, store, writer) = owner(FaultPlan::none()).await;
    store.set_plan(FaultPlan::none().on_first(3, Call::LoadMark, Fault::Unavailable));
    assert_eq!(writer.load_mark(SlotId(0)).await, Ok(None));
    assert_eq!(store.calls(Call::LoadMark), 4);
    store.set_plan(FaultPlan::none().on_first(10_000, Call::LoadMark, Fault::Unavailable));
    let refused = writer.load_mark(SlotId(0)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(store.calls(Call::LoadMark) <= 1 + Options::default().retries as u64);
}

/// While every call fails, only a share of them is tried again, and the others say that this is why
/// they were not. An append, which must be known, goes on all the same.
#[tokio::test(start_paused = true)]
async fn a_store_in_trouble_gets_a_bounded_share_of_retries() {
    let (_, store, writer) = owner(FaultPlan::none()).await;
    let plan = FaultPlan::none().on_first(10_000, Call::LoadMark, Fault::Unavailable);
    store.set_plan(plan.on_first(3, Call::Append, Fault::Lost));
    let calls = 400;
    let refused = join_all((0..calls).map(|_| writer.load_mark(SlotId(0)))).await;
    for refused in &refused {
        let Err(StoreError::RetriesSpent { error }) = refused else { panic!("{refused:?}") };
        assert!(matches!(**error, StoreError::Unavailable { .. }), "{error:?}");
    }
    let Options { retry_percent, retries_per_second, .. } = Options::default();
    let share = calls * u64::from(retry_percent) / 100;
    let floor = 10 * u64::from(retries_per_second); // of ten seconds, which did not pass
    let retries = store.calls(Call::LoadMark) - calls;
    assert!((share..=share + floor + 10).contains(&retries), "{retries}");
    assert_eq!(writer.metrics().counts().spent, calls);

    assert_eq!(writer.append(flush(0, 1)).await, Ok(AppendOutcome::Confirmed));
    assert_eq!(store.calls(Call::Append), 4);
    assert!(writer.metrics().counts().spent > calls, "it found none left");
}

/// A release whose answer was lost is repeated and found done; a release of what is not owned is
/// refused.
#[tokio::test(start_paused = true)]
async fn a_release_is_known_in_the_end() {
    let plan = FaultPlan::none().on_first(2, Call::ReleaseEpoch, Fault::AppliedUnknown);
    let (root, _, writer) = owner(plan).await;
    assert_eq!(writer.release(SlotId(0), 1, RUN, 0, KnownAt(5)).await, Ok(()));
    let row = root.last_epoch(SlotId(0)).await.unwrap().unwrap();
    assert_eq!(row.released, Some((0, KnownAt(5))));
    let refused = writer.release(SlotId(0), 1, RUN, 9, KnownAt(5)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

/// What was queued when it is shut down is answered; what comes later is refused.
#[tokio::test(start_paused = true)]
async fn shutdown_answers_what_is_queued() {
    let plan = FaultPlan::none().on(Call::Append, 0, Fault::Delayed(Landing::OnDemand));
    let (root, store, writer) = owner(plan).await;
    let appends: Vec<_> = (0..8)
        .map(|slot| {
            let writer = Arc::clone(&writer);
            tokio::spawn(async move { writer.append(flush(slot, 1)).await })
        })
        .collect();
    while store.calls(Call::Append) == 0 {
        tokio::task::yield_now().await;
    }
    let down = {
        let writer = Arc::clone(&writer);
        tokio::spawn(async move { writer.shutdown().await })
    };
    tokio::task::yield_now().await;
    assert!(!down.is_finished(), "a flush is under way");
    root.land();
    down.await.unwrap();
    for append in appends {
        assert_eq!(append.await.unwrap(), Ok(AppendOutcome::Confirmed));
    }
    let late = writer.append(flush(0, 2)).await;
    assert!(matches!(late, Err(StoreError::Unavailable { .. })), "{late:?}");
    writer.shutdown().await; // again is no error
}

/// A store-writer that is dropped says so instead of leaving its callers waiting.
#[tokio::test(start_paused = true)]
async fn a_dropped_writer_leaves_nobody_waiting() {
    let store = Arc::new(MemoryStore::new().handle(FaultPlan::none().on(
        Call::Append,
        0,
        Fault::Delayed(Landing::OnDemand),
    )));
    let writer = StoreWriter::spawn(Arc::clone(&store) as _, Options::default());
    let append = writer.append(flush(0, 1));
    let outcome = tokio::select! {
        outcome = append => Some(outcome),
        () = async {
            while store.calls(Call::Append) == 0 {
                tokio::task::yield_now().await;
            }
        } => None,
    };
    assert_eq!(outcome, None);
    drop(writer);
    assert_eq!(store.land(), 0);
}
