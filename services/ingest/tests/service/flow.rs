//! Credits, order, the budget, and calls that end early.

use std::time::Duration;

use millrace_client::port::SlotGrant;
use millrace_ingest::budget::BudgetLimits;
use millrace_placement::Slots;
use millrace_proto::v1;
use millrace_proto::v1::value::Kind;
use millrace_types::entity::entity_hash;
use millrace_types::fact::records;
use millrace_types::{EntityKey, KeyPart};
use tokio::task::JoinSet;
use tonic::Request;
use tonic_types::StatusExt as _;

use crate::support::{Running, batch, click_with, clicks, counts, soon, visit};

#[tokio::test]
async fn several_requests_are_in_flight_and_are_answered_in_order() {
    let server = Running::start().await;
    server.join.pause();
    let mut call = server.call().await;
    for first in 0..3u64 {
        let (a, b) = (format!("a{first}"), format!("b{first}"));
        call.send(clicks(first * 2, &[&a, &b])).await;
    }
    // All of them are with the join service before the first is answered.
    server.join.until_batches(3).await;
    server.join.resume();
    for first in 0..3u64 {
        let result = call.result().await;
        assert_eq!((result.first_sequence, result.durable_sequence), (first * 2, first * 2 + 2));
        assert_eq!(counts(&result), [2, 0, 0, 0, 0]);
    }
    call.finish().await;
    // Each slot got the facts in the order of the producer.
    let mut last = std::collections::BTreeMap::new();
    for request in &server.join.state().requests {
        for slot in &request.slots {
            for record in millrace_types::fact::records(&slot.facts) {
                let id = record.unwrap().body.id.to_vec();
                let number = id[1];
                assert!(last.insert(slot.slot, number).is_none_or(|before| before <= number));
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_in_flight_is_bounded_and_shared() {
    let budget = BudgetLimits {
        facts: 8,
        bytes: 1 << 20,
        call_facts: 8,
        call_bytes: 1 << 20,
        ..BudgetLimits::default()
    };
    let server = Running::with(|config| config.budget = budget).await;
    server.join.pause();
    let mut one = server.call().await;
    let mut two = server.call().await;
    // A client that does not mind its credits: half the budget is one call's share.
    for first in 0..6u64 {
        one.send(clicks(first * 2, &["a", "b"])).await;
    }
    server.join.until_batches(2).await;
    // The other call's share is still there.
    two.send(v1::PublishRequest {
        producer_id: "q".to_owned(),
        ..clicks(0, &["c", "d", "e", "f"])
    })
    .await;
    server.join.until_batches(3).await;
    assert_eq!(server.ingest.budget().in_flight().facts, 8);
    // Nothing is left: a call of its own waits a moment, and is told when to try again.
    let status = server.batch(clicks(100, &["x"])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    assert_eq!(server.counters().refused, 1);
    assert_eq!(server.join.batches(), 3, "a call goes not beyond its share");
    server.join.resume();
    for _ in 0..6 {
        let response = one.next().await.unwrap().unwrap();
        assert_eq!(response.credits.unwrap().facts, 4);
    }
    assert_eq!(counts(&two.result().await)[0], 4);
    one.finish().await;
    two.finish().await;
    server.join.until(|_| server.ingest.budget().in_flight().facts == 0).await;
    assert_eq!(counts(&server.batch(clicks(100, &["x"])).await.unwrap())[0], 1);
    server.stop().await;
}

/// It would only come again, and be read again.
#[tokio::test]
async fn a_call_of_its_own_waits_for_room_and_for_credits() {
    let server = Running::with(|config| {
        config.budget = BudgetLimits {
            facts: 2,
            call_facts: 2,
            waiting_small_bytes: 0,
            ..BudgetLimits::default()
        };
        config.room_patience = Duration::from_secs(600);
    })
    .await;
    let mut one = server.call().await;
    server.join.pause();
    one.send(clicks(0, &["a", "b"])).await;
    server.join.until_batches(1).await;
    let goes_on = async {
        while server.ingest.budget().waiting_bytes() == 0 {
            tokio::task::yield_now().await;
        }
        server.join.resume();
    };
    let (result, ()) = tokio::join!(server.batch(clicks(100, &["x"])), goes_on);
    assert_eq!(counts(&result.unwrap())[0], 1);
    assert_eq!(counts(&one.result().await)[0], 2);
    // Now a slot has no credits.
    let [user, _] = users_of_two_slots();
    server.join.state().credits = SlotGrant { facts: 1, bytes: 1 << 20 };
    server.join.pause();
    one.send(batch("visits", 0, vec![visit(user, 0)])).await;
    server.join.until_batches(3).await;
    let goes_on = async {
        server.waits(1).await;
        server.join.resume();
    };
    let visits = batch("visits", 100, vec![visit(user, 1)]);
    let (result, ()) = tokio::join!(server.batch(visits), goes_on);
    assert_eq!(counts(&result.unwrap())[0], 1);
    assert_eq!(counts(&one.result().await)[0], 1);
    assert_eq!(server.counters().refused, 0);
    one.finish().await;
    server.stop().await;
}

/// One address with many calls has as much as another one with a single call.
#[tokio::test]
async fn who_calls_often_has_no_more_than_who_calls_once() {
    let budget = BudgetLimits { facts: 8, call_facts: 8, ..BudgetLimits::default() };
    let server = Running::with(|config| config.budget = budget).await;
    server.join.pause();
    let mut many = Vec::new();
    for number in 0..8 {
        let call = server.call().await;
        let producer_id = format!("many-{number}");
        call.send(v1::PublishRequest { producer_id, ..clicks(0, &["a", "b"]) }).await;
        many.push(call);
    }
    // Four have all there is; the others wait with what they sent.
    server.join.until_batches(4).await;
    let mut one = server.call_from_elsewhere().await;
    one.send(v1::PublishRequest { producer_id: "one".to_owned(), ..clicks(0, &["c"]) }).await;
    server.join.resume();
    let response = one.next().await.unwrap().unwrap();
    assert_eq!(counts(&response.result.unwrap())[0], 1);
    assert_eq!(response.credits.unwrap().facts, 4, "half of it is for its address");
    for mut call in many {
        // Facts of one identity: the first of them counts.
        assert_eq!(counts(&call.result().await).iter().sum::<u64>(), 2);
        call.finish().await;
    }
    one.finish().await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_beyond_the_whole_budget_goes_alone() {
    let budget = BudgetLimits {
        facts: 2,
        bytes: 64,
        call_facts: 2,
        call_bytes: 64,
        ..BudgetLimits::default()
    };
    let server = Running::with(|config| config.budget = budget).await;
    let mut call = server.call().await;
    for first in [0, 5] {
        call.send(clicks(first, &["a", "b", "c", "d", "e"])).await;
    }
    assert_eq!(counts(&call.result().await)[0], 5);
    assert_eq!(counts(&call.result().await)[2], 5);
    call.finish().await;
    server.stop().await;
}

/// Calls that each send a message as large as one may be, while nothing is let in: what they sent is in
/// memory, so few may wait, and the others are told. Who sends little waits all the same.
#[tokio::test]
async fn a_flood_of_large_messages_does_not_take_the_memory() {
    const CALLS: usize = 200;
    let (message, waiting_bytes) = (3_900_000, 16 << 20);
    let budget = BudgetLimits { facts: 2, waiting_bytes, ..BudgetLimits::default() };
    let server = Running::with(|config| config.budget = budget).await;
    server.join.pause();
    let mut first = server.call().await;
    first.send(clicks(0, &["a", "b"])).await;
    server.join.until_batches(1).await;
    let mut flood = JoinSet::new();
    for number in 0..CALLS {
        let mut call = server.call().await;
        flood.spawn(async move {
            let note = Kind::String("x".repeat(message));
            let row = click_with("large", number as i64, 0, &[("note", note)]);
            let producer_id = format!("flood-{number}");
            call.send(v1::PublishRequest { producer_id, ..batch("clicks", 0, vec![row]) }).await;
            call.next().await.unwrap()
        });
    }
    let may_wait = waiting_bytes as usize / message;
    for _ in may_wait..CALLS {
        let status = soon(flood.join_next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    }
    let waiting = server.ingest.budget().waiting_bytes();
    assert!(waiting as usize >= may_wait * message && waiting <= waiting_bytes, "{waiting}");
    let mut fair = server.call().await;
    fair.send(v1::PublishRequest { producer_id: "fair".to_owned(), ..clicks(0, &["c"]) }).await;
    server.join.resume();
    assert_eq!(counts(&fair.result().await)[0], 1);
    assert_eq!(counts(&first.result().await)[0], 2);
    while let Some(answer) = soon(flood.join_next()).await {
        assert_eq!(counts(&answer.unwrap().unwrap().result.unwrap()).iter().sum::<u64>(), 1);
    }
    assert_eq!(server.ingest.budget().waiting_bytes(), 0);
    server.stop().await;
}

#[tokio::test]
async fn what_a_dropped_call_sent_is_settled_all_the_same() {
    let server = Running::start().await;
    server.join.pause();
    let call = server.call().await;
    call.send(clicks(0, &["a", "b"])).await;
    server.join.until_batches(1).await;
    drop(call);
    server.join.resume();
    // Going down waits for it.
    let store = std::sync::Arc::clone(&server.store);
    server.stop().await;
    let seen = millrace_store::ProducerWindows::seen(&*store, "clicks/p", 0, 2).await.unwrap();
    assert_eq!(seen, [millrace_store::Seen::Yes; 2]);
}

/// The client may not know that its facts are on their way, and sends them again.
#[tokio::test]
async fn a_batch_whose_deadline_passes_is_settled_and_counts_once() {
    let server = Running::start().await;
    server.join.pause();
    let batch = clicks(0, &["a", "b"]);
    let mut request = Request::new(v1::PublishBatchRequest::from(batch.clone()));
    request.set_timeout(Duration::from_secs(1));
    let mut client = server.patient();
    let call = tokio::spawn(async move { client.publish_batch(request).await });
    server.join.until_batches(1).await;
    let status = soon(call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "DEADLINE_EXCEEDED");
    // It holds its part of the budget for as long as it is on its way.
    assert_eq!(server.ingest.budget().in_flight().facts, 2);
    server.join.resume();
    soon(async {
        while server.ingest.budget().in_flight().facts > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(counts(&server.batch(batch).await.unwrap()), [0, 0, 2, 0, 0]);
    assert_eq!(server.join.batches(), 1, "it was known as settled");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_goes_down_answers_what_it_took() {
    let server = Running::start().await;
    server.join.pause();
    let mut call = server.call().await;
    call.send(clicks(0, &["a", "b"])).await;
    server.join.until_batches(1).await;
    let join = std::sync::Arc::clone(&server.join);
    let stopping = tokio::spawn(server.stop());
    join.resume();
    assert_eq!(counts(&call.result().await), [2, 0, 0, 0, 0]);
    let status = call.next().await.unwrap().unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "SERVER_DRAINING");
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_too_large_is_an_error_and_not_an_end() {
    let server = Running::start().await;
    let mut call = server.call().await;
    call.send(clicks(0, &["a"])).await;
    let long = "x".repeat(5 << 20);
    call.send(clicks(1, &[&long])).await;
    assert_eq!(counts(&call.result().await)[0], 1);
    let status = call.next().await.unwrap().unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "MESSAGE_TOO_LARGE");
    server.stop().await;
}

/// Users whose slots differ, of the eight slots that the tests have.
fn users_of_two_slots() -> [i64; 2] {
    let slots = Slots::try_new(8).unwrap();
    let slot = |user| {
        let key = EntityKey::try_new(&[KeyPart::Int64(user)]).unwrap();
        slots.slot_of(entity_hash("user", key.as_bytes()))
    };
    let other = (1..).find(|user| slot(*user) != slot(0)).unwrap();
    [0, other]
}

#[tokio::test]
async fn a_slot_without_credits_holds_back_the_producers_that_need_it_and_no_others() {
    let server = Running::start().await;
    let [stalled, other] = users_of_two_slots();
    server.join.state().credits = SlotGrant { facts: 2, bytes: 1 << 20 };
    server.join.pause();
    let visits = |producer: &str, first, user| v1::PublishRequest {
        producer_id: producer.to_owned(),
        ..batch("visits", first, vec![visit(user, 0), visit(user, 1)])
    };
    let (mut one, mut two, mut three) =
        (server.call().await, server.call().await, server.call().await);
    one.send(visits("one", 0, stalled)).await;
    server.join.until_batches(1).await;
    // No credits are left there: these wait, in this order.
    one.send(visits("one", 2, stalled)).await;
    server.waits(1).await;
    two.send(visits("two", 0, stalled)).await;
    server.waits(2).await;
    // A call of its own waits a moment, and is told.
    let refused = server.batch(visits("four", 0, stalled)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    // Another slot has its own, and watermarks go without.
    three.send(visits("three", 0, other)).await;
    server.join.until_batches(2).await;
    server.clock.millis.store(6_000, std::sync::atomic::Ordering::Relaxed);
    server.ingest.punctuate().await.unwrap();
    assert_eq!(server.join.state().requests.len(), 3);
    server.join.resume();
    for call in [&mut one, &mut two, &mut three] {
        assert_eq!(counts(&call.result().await)[0], 2);
    }
    assert_eq!(counts(&one.result().await)[0], 2);
    for call in [one, two, three] {
        call.finish().await;
    }
    assert_eq!(server.counters().waiting, 0);
    server.stop().await;
}

#[tokio::test]
async fn facts_that_are_sent_again_keep_their_credits() {
    use millrace_client::port::JoinError;
    use millrace_types::SlotId;

    use crate::join::Step;

    let server = Running::start().await;
    server.join.state().credits = SlotGrant::default();
    let lost = Step::Lose(JoinError::Overloaded { slot: SlotId(0) });
    server.join.state().script.extend([lost.clone(), lost]);
    let mut call = server.call().await;
    for (first, id) in (0..).zip(["a", "b", "c"]) {
        call.send(clicks(first, &[id])).await;
    }
    for _ in 0..3 {
        call.result().await;
    }
    call.finish().await;
    // One batch at a time: the second is not handed over before the first is in the log.
    let ids: Vec<_> = {
        let state = server.join.state();
        let facts = state.requests.iter().filter_map(|request| request.slots.first());
        // A click is in a slot for its user and in one for its item.
        let first = facts.filter_map(|slot| records(&slot.facts).next());
        first.map(|record| record.unwrap().body.id.to_vec()).collect()
    };
    assert_eq!(ids, [b"a", b"a", b"a", b"b", b"c"]);
    server.stop().await;
}
