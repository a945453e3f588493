//! Repeats: by producers, and by the service itself when the join service loses facts.

use millrace_client::port::{JoinError, SlotGrant};
use millrace_store::memory::{Call, Fault, FaultPlan};
use millrace_types::{SlotId, Verdict};

use crate::join::Step;
use crate::support::{Running, batch, click, clicks, counts, soon};

#[tokio::test]
async fn a_batch_sent_again_is_duplicate_without_the_join_service() {
    let server = Running::start().await;
    let rows = vec![click("a", 1, 0), click("future", 1, 400), click("b", 2, 0)];
    let request = batch("clicks", 10, rows);
    assert_eq!(counts(&server.batch(request.clone()).await.unwrap()), [2, 0, 0, 0, 1]);
    assert_eq!(server.join.batches(), 1);
    let again = server.batch(request.clone()).await.unwrap();
    // What ingest refused is refused again, by its own rule and not from memory.
    assert_eq!(counts(&again), [0, 0, 2, 0, 1]);
    assert_eq!((again.exceptions[0].id.as_str(), server.join.batches()), ("future", 1));
    // The clock goes on, and the same row is good.
    server.clock.now.store(200_000_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(counts(&server.batch(request).await.unwrap()), [1, 0, 2, 0, 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_that_was_late_in_part_is_not_marked() {
    let server = Running::start().await;
    server.join.judge("late", 0, Verdict::Late);
    let request = clicks(0, &["a", "late"]);
    assert_eq!(counts(&server.batch(request.clone()).await.unwrap()), [1, 0, 0, 1, 0]);
    // Forwarded again, and found by the facts' own ids.
    assert_eq!(counts(&server.batch(request).await.unwrap()), [0, 0, 1, 1, 0]);
    assert_eq!(server.join.batches(), 2);
    server.stop().await;
}

#[tokio::test]
async fn windows_that_fail_cost_work_and_nothing_else() {
    let server = Running::start().await;
    let seen = FaultPlan::none().on_first(100, Call::Seen, Fault::Unavailable);
    server.faults(seen.on_first(100, Call::MarkWindow, Fault::Lost));
    let request = clicks(0, &["a", "b"]);
    assert_eq!(counts(&server.batch(request.clone()).await.unwrap()), [2, 0, 0, 0, 0]);
    assert_eq!(counts(&server.batch(request).await.unwrap()), [0, 0, 2, 0, 0]);
    assert_eq!((server.join.batches(), server.counters().window_failures), (2, 4));
    server.stop().await;
}

#[tokio::test]
async fn what_the_join_service_does_not_take_or_loses_is_sent_again() {
    let server = Running::start().await;
    let slot = SlotId(3);
    server.join.state().script.extend([
        Step::Refuse(JoinError::Overloaded { slot }),
        Step::Refuse(JoinError::NotServing { slot }),
        Step::Lose(JoinError::NotServing { slot }),
        Step::Refuse(JoinError::Overloaded { slot }),
    ]);
    let mut call = server.call().await;
    call.send(clicks(0, &["a", "b"])).await;
    call.send(clicks(2, &["c", "d"])).await;
    assert_eq!(counts(&call.result().await), [2, 0, 0, 0, 0]);
    assert_eq!(counts(&call.result().await), [2, 0, 0, 0, 0]);
    assert_eq!(server.counters().resends, 4);
    call.finish().await;
    server.stop().await;
}

/// A slot that has another owner gets its facts now, and not after a pause: as many pauses as there are moves
/// here would take longer than facts are sent again.
#[tokio::test]
async fn facts_follow_their_slots_without_a_pause() {
    let server = Running::start().await;
    let moved = Step::Move(JoinError::NotServing { slot: SlotId(3) });
    server.join.state().script.extend(std::iter::repeat_n(moved, 60));
    assert_eq!(counts(&server.batch(clicks(0, &["a", "b"])).await.unwrap()), [2, 0, 0, 0, 0]);
    assert_eq!(server.counters().resends, 60);
    server.stop().await;
}

/// Slots that took their part beside others that did not are not sent theirs again.
#[tokio::test]
async fn what_landed_is_not_sent_again() {
    let server = Running::start().await;
    let error = JoinError::NotServing { slot: SlotId(3) };
    server.join.state().script.extend([Step::Land(1, error.clone()), Step::Land(1, error)]);
    let facts = clicks(0, &["a", "b", "c", "d"]);
    assert_eq!(counts(&server.batch(facts).await.unwrap()), [4, 0, 0, 0, 0]);
    let slots: Vec<Vec<SlotId>> = server
        .join
        .state()
        .requests
        .iter()
        .filter(|request| !request.slots.is_empty())
        .map(|request| request.slots.iter().map(|facts| facts.slot).collect())
        .collect();
    assert!(slots.len() == 3 && slots[0].len() > 2, "{slots:?}");
    assert_eq!((&slots[1][..], &slots[2][..]), (&slots[0][1..], &slots[0][2..]));
    server.stop().await;
}

#[tokio::test]
async fn a_full_join_service_refuses_a_single_batch_at_once() {
    let server = Running::start().await;
    server.join.state().script.push_back(Step::Refuse(JoinError::Overloaded { slot: SlotId(1) }));
    let status = server.batch(clicks(0, &["a"])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(counts(&server.batch(clicks(0, &["a"])).await.unwrap()), [1, 0, 0, 0, 0]);
    server.stop().await;
}

#[tokio::test]
async fn facts_are_encoded_anew_under_a_catalog_the_join_service_knows() {
    let server = Running::start().await;
    server.join.state().unknown_version = Some(1);
    let mut call = server.call().await;
    call.send(clicks(0, &["a", "b"])).await;
    server.join.until_batches(1).await;
    let version = server.apply_another().await;
    assert_eq!(counts(&call.result().await), [2, 0, 0, 0, 0]);
    let versions: Vec<u32> =
        server.join.state().requests.iter().map(|request| request.catalog_version).collect();
    assert_eq!((versions[0], *versions.last().unwrap()), (1, version));
    call.finish().await;
    server.stop().await;
}

/// The batch behind it in its call waits for credits of the same slots, and is answered after it.
#[tokio::test]
async fn a_batch_that_is_encoded_anew_keeps_its_place() {
    let server = Running::start().await;
    server.join.state().credits = SlotGrant { facts: 1, bytes: 1 << 20 };
    server.join.state().unknown_version = Some(1);
    server.join.pause();
    let mut call = server.call().await;
    call.send(clicks(0, &["a"])).await;
    server.join.until_batches(1).await;
    server.apply_another().await;
    call.send(clicks(1, &["b"])).await;
    call.send(clicks(2, &["c"])).await;
    soon(async {
        while server.ingest.counters().waiting == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.join.resume();
    for _ in 0..3 {
        assert_eq!(counts(&soon(call.result()).await), [1, 0, 0, 0, 0]);
    }
    call.finish().await;
    server.stop().await;
}

/// One join node knows the catalog and judged its part; another one does not know it yet.
#[tokio::test]
async fn what_landed_is_not_encoded_anew() {
    let server = Running::start().await;
    server.join.state().script.push_back(Step::Land(4, JoinError::UnknownCatalog(1)));
    let result = server.batch(clicks(0, &["a", "b", "c", "d"])).await.unwrap();
    assert_eq!(counts(&result), [4, 0, 0, 0, 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_store_that_cannot_write_ends_the_call() {
    let server = Running::start().await;
    let failed = millrace_store::StoreError::Failed { reason: "No space left".to_owned() };
    server.join.state().script.push_back(Step::Lose(JoinError::Store(failed)));
    let mut call = server.call().await;
    call.send(clicks(0, &["a"])).await;
    let status = call.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Internal);
    assert!(status.message().contains("disk"), "{status:?}");
    assert!(!status.message().contains("No space left"));
    server.stop().await;
}
