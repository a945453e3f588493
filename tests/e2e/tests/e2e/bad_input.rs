//! Bad input: each a clear error that names the field, the rule and the way out, while the rest
//! goes on.

use std::fs;
use std::path::Path;

use millrace_e2e_tests::hours_from_now;
use serde_json::json;

use crate::fixture::{CLICKS, Site, Topology, assert_features, catalog, on_both_overnight, pair};

/// A bad row, what the exception's reason is, and a word its message holds.
struct Bad {
    row: String,
    reason: &'static str,
    word: &'static str,
}

fn bad_rows() -> Vec<Bad> {
    let bad = |row: &str, reason, word| Bad { row: row.to_owned(), reason, word };
    vec![
        bad("b1,1,2024-03-01T10:00:00Z,0,,abc,1,book", "bad_row", "dwell_ms"),
        bad("b2,,2024-03-01T10:00:00Z,0,,1,1,book", "missing_key", "user_id"),
        bad(&format!("b3,1,{},0,,1,1,book", hours_from_now(24)), "at_out_of_bounds", "ahead"),
        bad("b4,1,2024-03-01T10:00:00Z,0,,1,NaN,book", "bad_row", "price"),
        bad("b5,1,2024-03-01T10:00:00Z,0,,1,inf,book", "bad_row", "price"),
        bad(
            &format!("b6,1,2024-03-01T10:00:00Z,0,,1,1,{}", "x".repeat(60 * 1024)),
            "too_large",
            "bytes",
        ),
        bad("b7,1,yesterday,0,,1,1,book", "bad_row", "ts"),
        bad("b8,1,2024-03-01T10:00:00Z,-1,,1,1,book", "bad_row", "revision"),
        bad("b9,1", "bad_row", ""),
    ]
}

on_both_overnight!(bad_rows_are_refused_one_by_one_and_the_rest_goes_on);
fn bad_rows_are_refused_one_by_one_and_the_rest_goes_on(on: Topology) {
    let site = on.site();
    let bad = bad_rows();
    let mut lines = vec![CLICKS.to_owned(), "g1,1,2024-03-01T10:00:00Z,0,,1,1,book".to_owned()];
    lines.extend(bad.iter().map(|bad| bad.row.clone()));
    lines.push("g2,1,2024-03-01T10:01:00Z,0,,2,2,book".to_owned());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let report = site.publish("clicks", &lines);

    assert_eq!((report.accepted, report.rejected), (2, bad.len() as u64), "{report:?}");
    assert_eq!(report.exceptions.len(), bad.len(), "{report:?}");
    for (index, (bad, exception)) in bad.iter().zip(&report.exceptions).enumerate() {
        assert_eq!(exception["stream"], "clicks", "{exception}");
        assert_eq!(exception["line"], json!(index + 3), "{exception}");
        assert_eq!(exception["verdict"], "REJECTED", "{exception}");
        let reason = exception["reason"].as_str().unwrap_or_default().to_lowercase();
        assert_eq!(reason.replace([' ', '-'], "_"), bad.reason, "{exception}");
        let message = exception["message"].as_str().unwrap_or_default();
        assert!(message.contains(bad.word) && !message.is_empty(), "{exception}");
    }
    let features = site.features(&["1", "--at", "2024-03-01T11:00:00Z"]);
    assert_features(&features[0], &[("clicks", json!(2), "PRESENT")]);
}

on_both_overnight!(a_conflict_is_reported_and_the_rule_decides);
fn a_conflict_is_reported_and_the_rule_decides(on: Topology) {
    let site = on.site();
    let first = "c1,1,2024-03-01T10:00:00Z,0,,1,1,book";
    let greater = "c1,1,2024-03-01T10:00:00Z,0,,2,1,book";
    let lesser = "c1,1,2024-03-01T10:00:00Z,0,,0,1,book";
    site.publish("clicks", &[CLICKS, first]);
    for (row, dwell) in [(greater, 2), (lesser, 2)] {
        let report = site.publish("clicks", &[CLICKS, row]);
        assert_eq!(report.exceptions.len(), 1, "{report:?}");
        let exception = report.exceptions[0].to_string();
        assert!(exception.contains("CONFLICT"), "{exception}");
        let features = site.features(&["1", "--at", "2024-03-01T11:00:00Z"]);
        assert_features(&features[0], &[("dwell_24h", json!(dwell), "PRESENT")]);
    }
}

on_both_overnight!(an_unknown_stream_is_named_with_those_there_are);
fn an_unknown_stream_is_named_with_those_there_are(on: Topology) {
    let site = on.site();
    let file = site.file("clicks.csv", &[CLICKS]);
    let finished = site.cli().run(["publish", &pair("clocks", &file)]).expect("it ends");
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stderr.contains("clocks"), "{}", finished.stderr);
    assert!(finished.stderr.contains("clicks"), "{}", finished.stderr);
}

on_both_overnight!(a_missing_column_is_an_error_before_anything_is_sent);
fn a_missing_column_is_an_error_before_anything_is_sent(on: Topology) {
    let site = on.site();
    let lines = ["event_id,user_id,ts", "c1,1,2024-03-01T10:00:00Z"];
    let file = site.file("clicks.csv", &lines);
    let finished = site.cli().run(["publish", &pair("clicks", &file)]).expect("it ends");
    assert_eq!(finished.code, 1, "{finished:?}");
    for column in ["revision", "dwell_ms", "price", "category"] {
        assert!(finished.stderr.contains(column), "{column}: {}", finished.stderr);
    }
    let features = site.features(&["1", "--at", "2024-03-01T11:00:00Z"]);
    assert_features(&features[0], &[("clicks", json!(0), "MISSING_ENTITY")]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let site = Site::new();
    let file = site.path("no_such_file.csv");
    let finished = site.cli().run(["publish", &pair("clicks", &file)]).expect("it ends");
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stderr.contains("no_such_file.csv"), "{}", finished.stderr);
}

/// The line of each mistake in `ten_mistakes.yaml` and a word that stands there.
const MISTAKES: [(u32, &str); 10] = [
    (1, "int46"),
    (4, "evnt"),
    (5, "customer"),
    (6, "time"),
    (7, "integer"),
    (11, "cliks"),
    (16, "category"),
    (17, "1x"),
    (18, "averge"),
    (19, "where"),
];

on_both_overnight!(every_mistake_of_a_catalog_is_told_at_once);
fn every_mistake_of_a_catalog_is_told_at_once(on: Topology) {
    let site = on.site();
    let bad = catalog("ten_mistakes.yaml");
    for command in ["validate", "apply"] {
        let finished = site.cli().run([Path::new(command), &bad]).expect("it ends");
        assert_eq!(finished.code, 1, "{command}: {finished:?}");
        let text = format!("{}{}", finished.stdout, finished.stderr);
        for (line, word) in MISTAKES {
            let told =
                text.lines().any(|told| told.contains(&format!(":{line}:"))) && text.contains(word);
            assert!(told, "{command} does not tell line {line} ({word}):\n{text}");
        }
    }
    // Refused whole: the catalog in force is the one before.
    let features = site.features(&["1", "--at", "2024-03-01T11:00:00Z"]);
    assert_features(&features[0], &[("clicks", json!(0), "MISSING_ENTITY")]);
}

on_both_overnight!(a_change_that_would_make_facts_unreadable_is_refused);
fn a_change_that_would_make_facts_unreadable_is_refused(on: Topology) {
    let site = on.site();
    let text = fs::read_to_string(catalog("clickprofile.yaml")).expect("readable");
    let changed = site.path("changed.yaml");
    fs::write(&changed, text.replace("dwell_ms: int64", "dwell_ms: double")).expect("writable");
    let finished = site.cli().run([Path::new("apply"), &changed]).expect("it ends");
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stderr.contains("dwell_ms"), "{}", finished.stderr);
}
