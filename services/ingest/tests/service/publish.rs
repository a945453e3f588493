//! Verdicts and exceptions of batches, refusals of whole requests.

use std::time::Duration;

use millrace_grpc::{ErrorCode, ServerLimits};
use millrace_proto::v1::{self, RejectReason, value::Kind};
use millrace_types::limits::BATCH_FACTS_MAX;
use millrace_types::{Judged, Verdict};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::support::{Running, batch, click, click_with, clicks, counts, soon, visit};

/// Where repeats are forgotten some time, a producer must know when.
#[tokio::test]
async fn a_producer_is_told_how_long_repeats_are_known() {
    const WEEK: u64 = 7 * 24 * 3_600;
    for (known_for, told) in [(WEEK, Some(WEEK as i64)), (0, None)] {
        let known_for = Duration::from_secs(known_for);
        let server = Running::with(|config| config.dedup_retention = known_for).await;
        let mut answers =
            soon(server.client().publish(tokio_stream::pending())).await.unwrap().into_inner();
        let hello = soon(answers.message()).await.unwrap().unwrap();
        let request = v1::PublishBatchRequest::from(clicks(0, &["a"]));
        let one = soon(server.client().publish_batch(request)).await.unwrap().into_inner();
        for retention in [hello.dedup_retention, one.dedup_retention] {
            assert_eq!(retention.map(|retention| retention.seconds), told);
        }
        drop(answers);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_bad_fact_never_fails_its_batch() {
    let server = Running::start().await;
    server.join.judge("late", 0, Verdict::Late);
    server.join.judge("twice", 1, Judged { verdict: Verdict::Accepted, conflict: true });
    let rows = vec![
        click("good", 1, 0),
        click_with("nan", 1, 0, &[("price", Kind::Double(f64::NAN))]),
        click_with("no-user", 1, 0, &[("user_id", Kind::String(String::new()))]),
        click("future", 1, 301),
        click("late", 2, 0),
        click("twice", 3, 0),
        click_with("no-item", 3, 0, &[("item_id", Kind::String(String::new()))]),
        click("long", 4, 300),
    ];
    let result = server.batch(batch("clicks", 100, rows)).await.unwrap();
    assert_eq!(counts(&result), [3, 0, 0, 1, 4]);
    assert_eq!((result.first_sequence, result.next_sequence), (100, 108));
    let listed: Vec<_> = result
        .exceptions
        .iter()
        .map(|e| {
            let verdict = e.verdict().as_str_name().trim_start_matches("VERDICT_");
            (e.index, e.sequence, e.id.as_str(), verdict, e.reason(), e.field.as_str(), e.conflict)
        })
        .collect();
    let none = RejectReason::Unspecified;
    assert_eq!(
        listed,
        [
            (1, 101, "nan", "REJECTED", RejectReason::BadRow, "price", false),
            (2, 102, "no-user", "REJECTED", RejectReason::BadRow, "user_id", false),
            (3, 103, "future", "REJECTED", RejectReason::AtOutOfBounds, "ts", false),
            (4, 104, "late", "LATE", none, "", false),
            (5, 105, "twice", "ACCEPTED", none, "", true),
            (6, 106, "no-item", "REJECTED", RejectReason::MissingKey, "item_id", false),
        ]
    );
    assert!(result.exceptions.iter().all(|e| !e.message.is_empty()));
    server.stop().await;
}

#[tokio::test]
async fn the_strongest_verdict_of_a_facts_entities_is_acknowledged() {
    let server = Running::start().await;
    let (user, item) = (0, 1);
    server.join.judge("rows", user, Verdict::Repaired { rows: 2 });
    server.join.judge("rows", item, Verdict::Repaired { rows: 3 });
    server.join.judge("half", user, Verdict::Duplicate);
    server.join.judge("queued", user, Verdict::Repaired { rows: 9 });
    server.join.judge("queued", item, Verdict::Queued);
    server.join.judge("late", item, Verdict::Late);
    server.join.judge("known", user, Verdict::Duplicate);
    server.join.judge("known", item, Verdict::Duplicate);
    let request = clicks(0, &["rows", "half", "queued", "late", "known"]);
    let result = server.batch(request).await.unwrap();
    assert_eq!(counts(&result), [1, 2, 1, 1, 0]);
    let found = result.counts.unwrap();
    assert_eq!((found.queued, found.rows_repaired), (1, 5));
    assert_eq!(result.exceptions.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn facts_of_an_unknown_stream_are_rejected_until_it_is_applied() {
    let server = Running::start().await;
    let request = batch("later", 0, vec![visit(1, 0), visit(2, 0)]);
    let result = server.batch(request.clone()).await.unwrap();
    assert_eq!(counts(&result), [0, 0, 0, 0, 2]);
    assert_eq!(result.exceptions[0].reason(), RejectReason::UnknownStream);
    let more = "  later:\n    kind: event\n    keys: {user: user_id}\n    at: ts\n    \
                fields: {user_id: int64, ts: timestamp}\n";
    let source = format!("{}{more}", crate::support::CATALOG);
    server.catalog.apply(&source, false, None).await.unwrap();
    // The same batch again: refused numbers are not marked as seen.
    assert_eq!(counts(&server.batch(request).await.unwrap()), [2, 0, 0, 0, 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused_and_names_the_field() {
    let server = Running::start().await;
    let plain = || clicks(0, &["a", "b"]);
    let watermark = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 });
    let damaged = bytes::Bytes::from_static(b"no arrow");
    let cases = [
        (v1::PublishRequest { producer_id: String::new(), ..plain() }, "producer_id"),
        (v1::PublishRequest { stream: "x".repeat(300), ..plain() }, "stream"),
        (v1::PublishRequest { next_sequence: 1, ..plain() }, "next_sequence"),
        (v1::PublishRequest { sequences: vec![5, 5], ..plain() }, "sequences"),
        (v1::PublishRequest { watermark, ..plain() }, "watermark"),
        (v1::PublishRequest { arrow_ipc: damaged.clone(), ..plain() }, "rows"),
        (v1::PublishRequest { arrow_ipc: damaged, rows: Vec::new(), ..plain() }, "arrow_ipc"),
    ];
    for (request, field) in cases {
        let status = server.batch(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field);
    }
    assert_eq!(server.join.batches(), 0);
    // On a call the requests before it are answered first.
    let mut call = server.call().await;
    call.send(plain()).await;
    call.send(v1::PublishRequest { producer_id: String::new(), ..plain() }).await;
    assert_eq!(counts(&call.result().await), [2, 0, 0, 0, 0]);
    let status = call.next().await.unwrap().unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, ErrorCode::InvalidArgument.reason());
    server.stop().await;
}

/// Each of these rows takes two bytes of the message, and many times as much in memory: as many as a
/// message has room for are refused by their number, whole, and none of them is kept.
#[tokio::test]
async fn a_message_of_nothing_but_empty_rows_is_refused_by_their_number() {
    let limits = ServerLimits::default();
    let rows = limits.publish_message_bytes_max / 2 - 64;
    let server = Running::start().await;
    let flood = || batch("clicks", 0, vec![v1::TypedRow::default(); rows]);
    let refused = |status: Status| {
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "rows");
        let (most, sent) = (BATCH_FACTS_MAX.to_string(), rows.to_string());
        let told = &violations[0].description;
        assert!(told.contains(&most) && told.contains(&sent), "{told}");
    };
    refused(server.batch(flood()).await.unwrap_err());
    let mut call = server.call().await;
    call.send(flood()).await;
    refused(call.next().await.unwrap().unwrap_err());
    assert_eq!(server.ingest.budget().waiting_bytes(), 0);
    assert_eq!(server.join.batches(), 0);
    assert_eq!(counts(&server.batch(clicks(0, &["a"])).await.unwrap())[0], 1);
    server.stop().await;
}

#[tokio::test]
async fn ids_are_made_from_producer_and_sequence_where_there_is_no_id_field() {
    let server = Running::start().await;
    let mut request = batch("visits", 5, vec![visit(1, 0), visit(1, 0)]);
    (request.sequences, request.next_sequence) = (vec![6, 9], 12);
    assert_eq!(counts(&server.batch(request).await.unwrap()), [2, 0, 0, 0, 0]);
    let ids: Vec<String> = {
        let state = server.join.state();
        let facts = &state.requests[0].slots[0].facts;
        millrace_types::fact::records(facts)
            .map(|record| String::from_utf8(record.unwrap().body.id.to_vec()).unwrap())
            .collect()
    };
    assert_eq!(ids, ["p/00000000000000000006", "p/00000000000000000009"]);
    server.stop().await;
}
