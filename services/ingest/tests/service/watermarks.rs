//! Watermarks as the join service sees them.

use std::sync::atomic::Ordering;

use millrace_client::port::JoinError;
use millrace_proto::v1;
use millrace_types::SlotId;

use crate::join::Step;
use crate::support::{NOON, Running, batch, click, clicks, soon};

/// The watermark of clicks with the last request, in seconds from noon, and whether it is idle.
fn last(server: &Running) -> Option<(i64, bool)> {
    let state = server.join.state();
    let watermark = state.requests.last()?.watermarks.first().copied()?;
    Some(((watermark.at.0 - NOON) / 1_000_000, watermark.idle))
}

fn from(producer: &str, request: v1::PublishRequest) -> v1::PublishRequest {
    v1::PublishRequest { producer_id: producer.to_owned(), ..request }
}

#[tokio::test]
async fn watermarks_go_with_the_facts_they_follow_from() {
    let server = Running::start().await;
    let mut call = server.call().await;
    call.send(batch("clicks", 0, vec![click("a", 1, 60), click("b", 2, 30)])).await;
    call.result().await;
    assert_eq!(last(&server), Some((55, false)));
    call.send(from("q", batch("clicks", 0, vec![click("c", 1, 40)]))).await;
    call.result().await;
    assert_eq!(last(&server), Some((35, false)));
    // q has nothing more to say for now; nothing goes out before the next punctuation.
    call.send(v1::PublishRequest { idle: true, ..from("q", batch("clicks", 1, Vec::new())) }).await;
    call.result().await;
    let requests = server.join.state().requests.len();
    server.ingest.punctuate().await.unwrap();
    assert_eq!(last(&server), Some((55, false)));
    server.ingest.punctuate().await.unwrap();
    let sent = server.join.state().requests.len() - requests;
    assert_eq!(sent, 1, "only when it moved");
    // A statement counts instead of what was seen.
    let watermark = Some(prost_types::Timestamp { seconds: NOON / 1_000_000 + 70, nanos: 0 });
    call.send(v1::PublishRequest { watermark, ..batch("clicks", 2, Vec::new()) }).await;
    call.result().await;
    server.ingest.punctuate().await.unwrap();
    assert_eq!(last(&server), Some((70, false)));
    // A call that ends in order says that its producers are idle.
    call.finish().await;
    soon(async {
        while last(&server) != Some((70, true)) {
            server.ingest.punctuate().await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_producer_that_vanishes_holds_the_watermark_for_a_while() {
    let server = Running::start().await;
    let slow = server.call().await;
    slow.send(from("slow", batch("clicks", 0, vec![click("a", 1, 10)]))).await;
    server.join.until_batches(1).await;
    server.batch(batch("clicks", 0, vec![click("b", 1, 60)])).await.unwrap();
    assert_eq!(last(&server), Some((5, false)));
    drop(slow);
    // It is not known when the server notices; from then on it is half a minute.
    soon(async {
        while last(&server) != Some((55, false)) {
            server.batch(clicks(1, &["b"])).await.unwrap();
            server.clock.millis.fetch_add(1_000, Ordering::Relaxed);
            server.ingest.punctuate().await.unwrap();
        }
    })
    .await;
    assert!(server.clock.millis.load(Ordering::Relaxed) >= 30_000);
    server.stop().await;
}

#[tokio::test]
async fn no_watermark_moves_while_facts_wait_to_be_sent_again() {
    let server = Running::start().await;
    server.batch(batch("clicks", 0, vec![click("a", 1, 10)])).await.unwrap();
    let mut call = server.call().await;
    {
        let mut state = server.join.state();
        state.script.push_back(Step::Lose(JoinError::NotServing { slot: SlotId(0) }));
        state.refused_id = Some("lost");
    }
    call.send(from("q", batch("clicks", 0, vec![click("lost", 2, 60)]))).await;
    server.join.until_batches(2).await;
    soon(async {
        while server.counters().resends < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Both producers are beyond 50 s, but the facts that brought q there are not in the log.
    server.batch(batch("clicks", 1, vec![click("b", 1, 90)])).await.unwrap();
    server.ingest.punctuate().await.unwrap();
    assert_eq!(last(&server), Some((5, false)));
    server.join.state().refused_id = None;
    call.result().await;
    server.ingest.punctuate().await.unwrap();
    assert_eq!(last(&server), Some((55, false)));
    call.finish().await;
    server.stop().await;
}

/// When slots change hands, facts may be under way to the owner before: no watermark ahead of them is
/// stated to the next one.
#[tokio::test]
async fn no_watermark_passes_facts_on_another_way() {
    let server = Running::start().await;
    server.batch(batch("clicks", 0, vec![click("a", 1, 10)])).await.unwrap();
    let mut call = server.call().await;
    server.join.pause();
    call.send(batch("clicks", 1, vec![click("b", 2, 60)])).await;
    server.join.until_batches(2).await;
    assert_eq!(last(&server), Some((55, false)), "on the same way it goes with its facts");
    server.join.state().ways = 1;
    call.send(batch("clicks", 2, vec![click("c", 3, 90)])).await;
    server.join.until_batches(3).await;
    assert_eq!(last(&server), Some((5, false)));
    server.join.resume();
    call.result().await;
    call.result().await;
    server.ingest.punctuate().await.unwrap();
    assert_eq!(last(&server), Some((85, false)));
    call.finish().await;
    server.stop().await;
}
