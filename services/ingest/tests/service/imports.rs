//! Imports: batches that state since when their facts were known.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use millrace_grpc::ErrorCode;
use millrace_proto::v1::{self, RejectReason};
use millrace_store::{ProducerWindows, Seen};
use millrace_types::fact::records;
use tonic_types::StatusExt as _;

use crate::support::{NOON, Running, batch, click, clicks, counts};

/// The clicks of these ids, each known so many seconds after noon.
fn import(first: u64, known: &[(&str, i64)]) -> v1::PublishRequest {
    let ids: Vec<&str> = known.iter().map(|(id, _)| *id).collect();
    let known_at_us = known.iter().map(|(_, after)| NOON + after * 1_000_000).collect();
    v1::PublishRequest { known_at_us, ..clicks(first, &ids) }
}

/// What the join service was told of the facts, by id: seconds after noon, where stated.
fn told(server: &Running) -> Vec<BTreeMap<String, Option<i64>>> {
    let state = server.join.state();
    let requests = state.requests.iter().filter(|request| !request.slots.is_empty());
    let facts = requests.map(|request| {
        let records = request.slots.iter().flat_map(|slot| records(&slot.facts));
        let told = records.map(Result::unwrap).map(|record| {
            let after = record.body.known_at.map(|known_at| (known_at.0 - NOON) / 1_000_000);
            (String::from_utf8_lossy(record.body.id).into_owned(), after)
        });
        told.collect()
    });
    facts.collect()
}

#[tokio::test]
async fn what_an_import_states_goes_with_its_facts_to_each_entity() {
    let server = Running::start().await;
    let result = server.batch(import(0, &[("a", -7_200), ("b", -7_200), ("c", 0)])).await.unwrap();
    assert_eq!(counts(&result), [3, 0, 0, 0, 0]);
    let stated =
        [("a", Some(-7_200)), ("b", Some(-7_200)), ("c", Some(0))].map(|(id, k)| (id.into(), k));
    assert_eq!(told(&server), [BTreeMap::from(stated)]);
    server.stop().await;
}

#[tokio::test]
async fn an_import_goes_past_the_window_that_knows_its_facts_and_leaves_none() {
    let server = Running::start().await;
    let result = server.batch(clicks(0, &["a", "b"])).await.unwrap();
    assert_eq!(counts(&result), [2, 0, 0, 0, 0]);
    let seen = async |first, next| server.store.seen("clicks/p", first, next).await.unwrap();
    assert_eq!(seen(0, 2).await, [Seen::Yes; 2]);
    // The window would hide the copies that say since when the facts were known.
    let result = server.batch(import(0, &[("a", -60), ("b", -60), ("c", -60)])).await.unwrap();
    assert_eq!(counts(&result), [1, 0, 2, 0, 0]);
    assert_eq!(told(&server)[1].len(), 3);
    assert_eq!(seen(2, 3).await, [Seen::No]);
    // Nor does an import hide from the window what is published later.
    let result = server.batch(batch("clicks", 2, vec![click("c", 3, 0)])).await.unwrap();
    assert_eq!((counts(&result), server.join.batches()), ([0, 0, 1, 0, 0], 3));
    assert_eq!(seen(2, 3).await, [Seen::Yes]);
    server.stop().await;
}

#[tokio::test]
async fn a_fact_that_is_not_known_yet_is_rejected_and_the_rest_goes_on() {
    let server = Running::start().await;
    server.clock.now.store(1, Ordering::Relaxed);
    let mut request = import(0, &[("old", -1), ("now", 0), ("soon", 0), ("later", 60)]);
    request.known_at_us[1] += 1;
    request.known_at_us[2] += 2;
    let result = server.batch(request.clone()).await.unwrap();
    assert_eq!(counts(&result), [2, 0, 0, 0, 2]);
    let listed: Vec<_> = result
        .exceptions
        .iter()
        .map(|e| (e.sequence, e.id.as_str(), e.reason(), e.field.as_str()))
        .collect();
    let bad = RejectReason::BadRow;
    assert_eq!(listed, [(2, "soon", bad, "known_at_us"), (3, "later", bad, "known_at_us")]);
    let message = &result.exceptions[0].message;
    assert!(
        message.starts_with("the known_at 2026-03-01T12:00:00.000002Z lies ahead"),
        "{message}"
    );
    // Once it is known it is taken.
    server.clock.now.store(60_000_000, Ordering::Relaxed);
    let result = server.batch(request).await.unwrap();
    assert_eq!(counts(&result), [2, 0, 2, 0, 0]);
    server.stop().await;
}

#[tokio::test]
async fn an_import_that_goes_back_or_states_too_little_is_refused_whole() {
    let server = Running::start().await;
    let mut short = import(0, &[("a", -2), ("b", -1)]);
    short.known_at_us.pop();
    let mut none = short.clone();
    none.rows.clear();
    let back = import(0, &[("a", -1), ("b", -1), ("c", -2)]);
    for (request, rule) in [
        (short, "states 1 instants for 2 facts; one a fact"),
        (none, "states 1 instants for 0 facts; one a fact"),
        (
            back,
            "must not go back: 2026-03-01T11:59:58Z of fact 2 lies before 2026-03-01T11:59:59Z of \
             the fact in front of it",
        ),
    ] {
        let status = server.batch(request).await.unwrap_err();
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| &bad.field_violations[0]).unwrap();
        assert_eq!(
            (violations.field.as_str(), violations.description.as_str()),
            ("known_at_us", rule)
        );
        let reason = details.error_info().map(|info| info.reason.as_str());
        assert_eq!(reason, Some(ErrorCode::InvalidArgument.reason()));
    }
    assert_eq!(server.join.batches(), 0);
    server.stop().await;
}

#[tokio::test]
async fn imports_move_watermarks_as_published_facts_do() {
    let server = Running::start().await;
    let mut request = import(0, &[("a", -7_200), ("b", -3_600)]);
    request.rows = vec![click("a", 1, -7_200), click("b", 2, -3_600)];
    server.batch(request).await.unwrap();
    let stated: Vec<i64> = {
        let state = server.join.state();
        let last = state.requests.iter().rfind(|r| !r.slots.is_empty()).unwrap();
        last.watermarks.iter().map(|watermark| watermark.at.0).collect()
    };
    // The greatest event time less five seconds out of order.
    assert_eq!(stated, [NOON - 3_605_000_000]);
    server.stop().await;
}
