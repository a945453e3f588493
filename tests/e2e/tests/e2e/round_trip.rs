//! Disorder through the command line: late, repeated, corrected and retracted facts, with values
//! worked out by hand.

use millrace_e2e_tests::{JoinedRows, PublishReport};
use serde_json::{Value, json};

use crate::fixture::{CLICKS, PROFILES, Site, Topology, assert_features, on_both};

const AT: &str = "2024-03-01T11:00:00Z";

/// Profiles, then clicks in order of their time.
fn publish_in_order(site: &Site) {
    let profiles = site.publish(
        "profiles",
        &[PROFILES, "p1,42,2024-02-01T00:00:00Z,0,,CH,2", "p2,7,2024-02-01T00:00:00Z,0,,US,3"],
    );
    assert_eq!((profiles.sent, profiles.accepted), (2, 2), "{profiles:?}");
    let clicks = site.publish(
        "clicks",
        &[
            CLICKS,
            "c5,42,2024-02-28T09:00:00Z,0,,1000,10,book",
            "c1,42,2024-03-01T10:00:00Z,0,,100,1.25,book",
            "c2,42,2024-03-01T10:20:00Z,0,,200,2.5,gift",
            "c4,7,2024-03-01T10:30:00Z,0,,50,4,toy",
            "c3,42,2024-03-01T10:40:00Z,0,,300,0.1,book",
        ],
    );
    assert_eq!((clicks.sent, clicks.accepted), (5, 5), "{clicks:?}");
}

/// A late click, a repeated one, a correction that moves, and a retraction.
fn publish_disorder(site: &Site) -> PublishReport {
    site.publish(
        "clicks",
        &[
            CLICKS,
            "c6,42,2024-03-01T10:10:00Z,0,,10,0.2,gift",
            "c1,42,2024-03-01T10:00:00Z,0,,100,1.25,book",
            "c3,42,2024-03-01T10:45:00Z,1,,310,0.4,book",
            "c2,42,2024-03-01T10:20:00Z,0,retract,,,",
        ],
    )
}

/// A version that holds from before the last click, and the end of a profile.
fn publish_late_profiles(site: &Site) -> PublishReport {
    site.publish(
        "profiles",
        &[PROFILES, "p3,42,2024-03-01T10:30:00Z,0,,FR,3", "p4,7,2024-03-01T10:40:00Z,0,delete,,"],
    )
}

fn assert_before(site: &Site) {
    let rows = site.features(&["42", "7", "--at", AT]);
    assert_features(
        &rows[0],
        &[
            ("clicks", json!(4), "PRESENT"),
            ("clicks_1h", json!(3), "PRESENT"),
            ("dwell_24h", json!(600), "PRESENT"),
            ("spend", json!(11.35), "PRESENT"),
            ("gold_clicks_7d", json!(0), "PRESENT"),
            ("country", json!("CH"), "PRESENT"),
            ("last_categories", json!(["book", "gift", "book"]), "PRESENT"),
        ],
    );
    assert_features(
        &rows[1],
        &[
            ("clicks", json!(1), "PRESENT"),
            ("gold_clicks_7d", json!(1), "PRESENT"),
            ("country", json!("US"), "PRESENT"),
        ],
    );
}

fn assert_after(site: &Site) {
    let rows = site.features(&["42", "7", "--at", AT]);
    assert_features(
        &rows[0],
        &[
            ("clicks", json!(4), "PRESENT"),
            ("clicks_1h", json!(3), "PRESENT"),
            ("dwell_24h", json!(420), "PRESENT"),
            ("spend", json!(11.65), "PRESENT"),
            ("gold_clicks_7d", json!(1), "PRESENT"),
            ("country", json!("FR"), "PRESENT"),
            ("last_categories", json!(["book", "gift", "book"]), "PRESENT"),
        ],
    );
    assert_features(
        &rows[1],
        &[("gold_clicks_7d", json!(1), "PRESENT"), ("country", Value::Null, "NULL")],
    );
}

on_both!(disorder_is_repaired_and_the_past_stays_readable);
fn disorder_is_repaired_and_the_past_stays_readable(on: Topology) {
    let mut site = on.site();
    publish_in_order(&site);
    assert_before(&site);
    let first = site.cli().json(["get", "user_activity", "42", "--at", AT]).expect("read");

    let repeated = publish_disorder(&site);
    assert_eq!(
        (repeated.accepted, repeated.duplicate, repeated.repaired, repeated.rows_repaired),
        (1, 1, 2, 2),
        "{repeated:?}"
    );
    let late = publish_late_profiles(&site);
    assert_eq!((late.accepted, late.repaired, late.rows_repaired), (1, 1, 1), "{late:?}");
    assert_after(&site);

    // As known before the disorder, the answer is the one that was given then.
    let known_at = first["known_at"].as_str().expect("an instant");
    let again = ["get", "user_activity", "42", "--at", AT, "--known-at", known_at];
    let again = site.cli().json(again).expect("read");
    assert_eq!(again["rows"][0]["features"], first["rows"][0]["features"]);

    // The same files again change nothing.
    let again = publish_disorder(&site);
    assert_eq!((again.duplicate, again.sent), (4, 4), "{again:?}");
    let again = publish_late_profiles(&site);
    assert_eq!((again.duplicate, again.sent), (2, 2), "{again:?}");
    assert_after(&site);

    // Nor does a restart.
    assert_eq!(site.stop(), 0, "SIGTERM is a way to end");
    site.start_again();
    assert_after(&site);
}

on_both!(an_entity_without_facts_is_missing_and_not_an_error);
fn an_entity_without_facts_is_missing_and_not_an_error(on: Topology) {
    let site = on.site();
    publish_in_order(&site);
    let rows = site.features(&["99", "--at", AT]);
    assert_features(
        &rows[0],
        &[
            ("clicks", json!(0), "MISSING_ENTITY"),
            ("dwell_24h", Value::Null, "MISSING_ENTITY"),
            ("country", Value::Null, "MISSING_ENTITY"),
            ("last_categories", json!([]), "MISSING_ENTITY"),
        ],
    );
}

on_both!(the_sum_of_a_tail_is_the_join_and_a_cursor_resumes_it);
fn the_sum_of_a_tail_is_the_join_and_a_cursor_resumes_it(on: Topology) {
    let site = on.site();
    publish_in_order(&site);
    publish_disorder(&site);
    publish_late_profiles(&site);
    let tail = |from: &str| {
        let args = ["tail", "user_activity", "--from", from, "--until-idle"];
        site.cli().run(args).and_then(|done| done.expect_code(0)).expect("a tail").stdout
    };
    let whole = tail("start");
    let sum = JoinedRows::sum(&whole).expect("a changelog in order");

    let mut rows: Vec<_> = sum
        .rows
        .values()
        .map(|row| {
            let joined = &row["joined"]["profiles"];
            let text = |value: &Value| value.as_str().map(str::to_owned);
            (
                text(&row["id"]),
                text(&row["at"]),
                row["row"]["dwell_ms"].as_i64(),
                text(&joined["country"]),
            )
        })
        .collect();
    rows.sort();
    let row = |id: &str, at: &str, dwell, country: &str| {
        (Some(id.to_owned()), Some(at.to_owned()), Some(dwell), Some(country.to_owned()))
    };
    assert_eq!(
        rows,
        [
            row("c1", "2024-03-01T10:00:00Z", 100, "CH"),
            row("c3", "2024-03-01T10:45:00Z", 310, "FR"),
            row("c4", "2024-03-01T10:30:00Z", 50, "US"),
            row("c5", "2024-02-28T09:00:00Z", 1000, "CH"),
            row("c6", "2024-03-01T10:10:00Z", 10, "CH"),
        ]
    );
    // c2 was retracted, c3 corrected, and c3 again when its profile came.
    assert_eq!(sum.retractions, 3);

    // A cursor resumes after the chunk of its record, so from the last record of each chunk.
    for (stop, cursor) in sum.cursors.iter().enumerate() {
        if sum.cursors.get(stop + 1) == Some(cursor) {
            continue;
        }
        let first: String = whole.lines().take(stop + 1).map(|line| format!("{line}\n")).collect();
        let resumed = JoinedRows::sum(&(first + &tail(cursor)))
            .unwrap_or_else(|error| panic!("resumed after record {}: {error}", stop + 1));
        assert_eq!(resumed.rows, sum.rows, "resumed after record {}", stop + 1);
    }
}
