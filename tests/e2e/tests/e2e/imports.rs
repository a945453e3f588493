//! `millrace import`: history that says since when it was known, read as of the past.

mod forms;
mod live;

use std::path::PathBuf;
use std::time::Duration;

use millrace_e2e_tests::{Finished, PublishReport, wait_until};
use serde_json::{Value, json};

use crate::crash::clicks as clicks_a_second;
use crate::crash::{USERS, expected_counts};
use crate::fixture::{CLICKS, PROFILES, Site, Topology, assert_features, on_all, on_both, pair};

/// After all of the history.
const AT: &str = "2024-03-01T18:00:00Z";

impl Site {
    fn run_import(&self, args: &[&str]) -> Finished {
        let args = ["-o", "json", "import"].iter().chain(args);
        self.cli().run(args).expect("it ends")
    }

    fn import(&self, args: &[&str]) -> PublishReport {
        self.cli().import(args).expect("imported")
    }

    /// The features of user 42 at the end of the history, as known at an instant.
    fn known(&self, known_at: &str) -> Value {
        self.features(&["42", "--at", AT, "--known-at", known_at])[0].clone()
    }
}

/// Clicks in two files that overlap in time, and profiles. The clicks have a column of their own for
/// when they were received, which is no field of the catalog; e3 was received two hours late.
fn history(site: &Site) -> [String; 3] {
    let header = format!("{CLICKS},received_at");
    let a = site.file(
        "a.csv",
        &[
            &header,
            "e1,42,2024-03-01T10:00:00Z,0,,100,1.5,book,2024-03-01T10:00:01Z",
            "e2,42,2024-03-01T11:00:00Z,0,,100,2.0,book,2024-03-01T11:00:01Z",
            "e3,42,2024-03-01T10:30:00Z,0,,100,4.0,toys,2024-03-01T12:30:00Z",
        ],
    );
    let b = site.file(
        "b.csv",
        &[&header, "e4,42,2024-03-01T10:45:00Z,0,,100,8.0,food,2024-03-01T10:45:01Z"],
    );
    let profiles = site.file(
        "profiles.csv",
        &[PROFILES, "p1,42,2024-03-01T09:00:00Z,0,,FR,1", "p2,42,2024-03-01T10:40:00Z,0,,DE,3"],
    );
    [pair("clicks", &a), pair("clicks", &b), pair("profiles", &profiles)]
}

fn import_history(site: &Site) -> PublishReport {
    let files = history(site);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    site.import(&[&files[..], &["--known-at", "clicks=received_at"]].concat())
}

/// What was known of user 42, hour by hour, by the history alone.
#[track_caller]
fn assert_history(site: &Site) {
    let counts = |clicks: u64, spend: f64, gold: u64, country: &str| {
        [
            ("clicks", json!(clicks), "PRESENT"),
            ("spend", json!(spend), "PRESENT"),
            ("gold_clicks_7d", json!(gold), "PRESENT"),
            ("country", json!(country), "PRESENT"),
        ]
    };
    let nothing = site.known("2024-03-01T08:59:59.999999Z");
    assert_features(&nothing, &[("clicks", json!(0), "MISSING_ENTITY")]);
    let first = site.known("2024-03-01T10:00:01Z");
    assert_features(&first, &counts(1, 1.5, 0, "FR"));
    assert_features(&site.known("2024-03-01T10:45:00.999999Z"), &counts(1, 1.5, 0, "DE"));
    assert_features(&site.known("2024-03-01T10:45:01Z"), &counts(2, 9.5, 1, "DE"));
    assert_features(&site.known("2024-03-01T12:29:59Z"), &counts(3, 11.5, 2, "DE"));
    assert_features(&site.known("2024-03-01T12:30:00Z"), &counts(4, 15.5, 2, "DE"));
}

on_all!(history_is_read_as_it_became_known);
fn history_is_read_as_it_became_known(on: Topology) {
    let mut site = on.site();
    let report = import_history(&site);
    assert_eq!((report.sent, report.accepted), (6, 6), "nothing came out of order: {report:?}");
    assert_history(&site);
    let args = ["explain", "user_activity", "42", "clicks", "--at", AT];
    let explained = site.cli().json(args).expect("explained");
    let facts = explained["used"].as_array().expect("facts").iter();
    let known: Vec<_> = facts.map(|f| (f["id"].clone(), f["known_at"].clone())).collect();
    let expected = [
        ("e2", "2024-03-01T11:00:01Z"),
        ("e4", "2024-03-01T10:45:01Z"),
        ("e3", "2024-03-01T12:30:00Z"),
        ("e1", "2024-03-01T10:00:01Z"),
    ];
    assert_eq!(known, expected.map(|(id, known_at)| (json!(id), json!(known_at))));
    let args = [&args[..], &["--known-at", "2024-03-01T12:00:00Z"]].concat();
    let explained = site.cli().json(&args).expect("explained");
    assert_eq!(explained["value"], 3, "{explained}");
    assert_eq!(explained["left_out_totals"]["AFTER_KNOWN_AT"], 1, "{explained}");

    site.crash_and_restart();
    assert_history(&site);
    let again = import_history(&site);
    assert_eq!((again.sent, again.duplicate), (6, 6), "{again:?}");
    assert_history(&site);

    // What is published now is known now.
    let report = site.publish("clicks", &[CLICKS, "e5,42,2024-03-01T17:00:00Z,0,,1,16,book"]);
    assert_eq!(report.accepted, 1, "{report:?}");
    assert_history(&site);
    let now = site.features(&["42", "--at", AT]);
    assert_features(&now[0], &[("clicks", json!(5), "PRESENT"), ("spend", json!(31.5), "PRESENT")]);
}

on_all!(an_import_of_what_was_published_counts_from_when_it_says);
fn an_import_of_what_was_published_counts_from_when_it_says(on: Topology) {
    let site = on.site();
    let files = history(&site);
    let report = site.cli().publish(&files).expect("published");
    assert_eq!((report.sent, report.rejected + report.late), (6, 0), "{report:?}");
    let nothing = [("clicks", json!(0), "MISSING_ENTITY")];
    assert_features(&site.known("2024-03-02T00:00:00Z"), &nothing);
    // By their event time first, which is before they were received.
    let report = site.import(&[&files[1], &files[2]]);
    assert_eq!((report.sent, report.duplicate), (3, 3), "{report:?}");
    assert_features(&site.known("2024-03-01T10:45:00Z"), &[("clicks", json!(1), "PRESENT")]);
    // The least of what was said of a fact counts: e4 stays known as of its event time.
    let report = import_history(&site);
    assert_eq!((report.sent, report.duplicate), (6, 6), "{report:?}");
    assert_features(&site.known("2024-03-01T10:45:00Z"), &[("clicks", json!(2), "PRESENT")]);
    assert_features(&site.known("2024-03-01T12:30:00Z"), &[("clicks", json!(4), "PRESENT")]);
    // Published again, by the producer windows or without, all is known.
    let report = site.cli().publish(&files).expect("published");
    assert_eq!((report.sent, report.duplicate), (6, 6), "{report:?}");
}

on_both!(a_known_at_that_goes_back_ends_an_import_and_bad_rows_do_not);
fn a_known_at_that_goes_back_ends_an_import_and_bad_rows_do_not(on: Topology) {
    let site = on.site();
    let header = format!("{CLICKS},seen");
    let bad = site.file(
        "bad.csv",
        &[
            &header,
            "e1,42,2024-03-01T10:00:00Z,0,,100,1.5,book,2024-03-01T10:00:01Z",
            "e2,42,2024-03-01T10:01:00Z,0,,100,1.5,book,",
            "e3,42,2024-03-01T10:02:00Z,0,,100,1.5,book,2999-01-01T00:00:00Z",
            "e4,42,2024-03-01T10:03:00Z,0,,100,1.5,book,2024-03-01T10:00:01Z",
        ],
    );
    let (bad, seen) = (pair("clicks", &bad), ["--known-at", "clicks=seen"]);
    let report = site.import(&[&[bad.as_str()], &seen[..]].concat());
    assert_eq!((report.accepted, report.rejected), (2, 2), "{report:?}");
    for (exception, line, rule) in [
        (&report.exceptions[0], 3, "is NULL"),
        (&report.exceptions[1], 4, "the known_at 2999-01-01T00:00:00Z lies ahead of now"),
    ] {
        assert_eq!((&exception["line"], &exception["field"]), (&json!(line), &json!("seen")));
        assert_eq!(exception["reason"], "BAD_ROW", "{exception}");
        let message = exception["message"].as_str().unwrap_or_default();
        assert!(message.contains(&format!("bad.csv:{line}: field seen: {rule}")), "{message}");
    }

    let back = site.file(
        "back.csv",
        &[
            &header,
            "e5,43,2024-03-01T10:00:00Z,0,,100,1.5,book,2024-03-01T10:05:00Z",
            "e6,43,2024-03-01T10:01:00Z,0,,100,1.5,book,2024-03-01T10:04:00Z",
            "e7,43,2024-03-01T10:02:00Z,0,,100,1.5,book,2024-03-01T10:06:00Z",
        ],
    );
    let back = pair("clicks", &back);
    let finished = site.run_import(&[&[back.as_str()], &seen[..]].concat());
    assert_eq!(finished.code, 1, "{finished:?}");
    for part in [
        "back.csv:3: field seen: known_at goes back",
        "2024-03-01T10:04:00Z lies before 2024-03-01T10:05:00Z of line 2",
        "next: nothing of that row or after it was sent",
    ] {
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
    }
    let sent = finished.json().expect("what was sent is told");
    assert_eq!((&sent["sent"], &sent["accepted"]), (&json!(1), &json!(1)));
    let features = site.features(&["43", "--at", AT]);
    assert_features(&features[0], &[("clicks", json!(1), "PRESENT")]);

    // Usage that cannot be meant is told before anything is sent.
    for (args, told) in [
        (vec!["clicks=a.csv", "--known-at", "profiles=seen"], "names stream profiles"),
        (vec![back.as_str(), "--known-at", "clicks=user_id"], "known_at is a timestamp"),
        (vec![back.as_str(), "--known-at", "clicks=sen"], "did you mean seen?"),
        (vec!["clicks=-"], "standard input needs --producer"),
    ] {
        let finished = site.run_import(&args);
        assert!(finished.stderr.contains(told), "{}", finished.stderr);
        assert!(finished.code == 2 || finished.stderr.contains("lacks"), "{finished:?}");
    }
}

on_both!(ndjson_from_standard_input_says_since_when_too);
fn ndjson_from_standard_input_says_since_when_too(on: Topology) {
    let site = on.site();
    let row = |id: &str, at: &str, seen: Value| {
        let row = json!({"event_id": id, "user_id": 42, "ts": at, "price": 1, "category": "book",
                         "seen": seen});
        format!("{row}\n")
    };
    let rows = [
        row("e1", "2024-03-01T10:00:00Z", json!("2024-03-01T10:00:01Z")),
        row("e2", "2024-03-01T10:00:00Z", json!(1_709_287_202_000_000_i64)),
        row("e3", "2024-03-01T10:00:00Z", Value::Null),
    ];
    let args = ["-o", "json", "import", "clicks=-", "--producer", "p", "--format", "ndjson"];
    let args = [&args[..], &["--known-at", "clicks=seen"]].concat();
    let finished = site.cli().run_with_input(args, rows.concat().as_bytes()).expect("it ends");
    let report = PublishReport::read(&finished).expect("imported");
    assert_eq!((report.accepted, report.rejected), (2, 1), "{report:?}");
    assert_features(&site.known("2024-03-01T10:00:01Z"), &[("clicks", json!(1), "PRESENT")]);
    assert_features(&site.known("2024-03-01T10:00:02Z"), &[("clicks", json!(2), "PRESENT")]);
}

/// As many clicks as take a while, in two files whose seconds alternate.
fn long_files(site: &Site, total: usize) -> [String; 2] {
    let rows = clicks_a_second(0..total);
    [0, 1].map(|half| -> String {
        let rows = rows.iter().enumerate().filter(|(n, _)| n / 1_000 % 2 == half);
        let lines: Vec<&str> =
            std::iter::once(CLICKS).chain(rows.map(|(_, row)| row.as_str())).collect();
        let file: PathBuf = site.file(&format!("half{half}.csv"), &lines);
        pair("clicks", &file)
    })
}

on_both!(an_import_that_was_killed_is_completed_by_running_it_again);
fn an_import_that_was_killed_is_completed_by_running_it_again(on: Topology) {
    let mut site = on.site();
    // So many that it takes far longer than to see its first facts.
    let total = 240_000;
    let files = long_files(&site, total);
    let mut command = site.cli().command(["import", &files[0], &files[1]]).expect("a binary");
    let mut import = command.spawn().expect("it starts");
    wait_for_first_facts(&site);
    // Both die, in whatever they are about.
    import.kill().expect("it can be killed");
    import.wait().expect("it ended");
    site.crash_and_restart();
    let report = site.import(&[&files[0], &files[1]]);
    assert_eq!(report.sent, total as u64, "{report:?}");
    assert_eq!(report.rejected + report.late, 0, "{report:?}");
    assert!(report.duplicate > 0, "some were there: {report:?}");
    assert!(report.accepted > 0, "it was killed when all were there: {report:?}");
    let again = site.import(&[&files[0], &files[1]]);
    assert_eq!(again.duplicate, total as u64, "{again:?}");
    assert_eq!(counted(&site, &[]), expected_counts(total));
    let half = last_instant(30_000);
    assert_eq!(counted(&site, &["--known-at", &half]), expected_counts(30_000));
}

/// Every user's count and sum, with further arguments of the read.
fn counted(site: &Site, known: &[&str]) -> Vec<(Value, Value)> {
    let keys: Vec<String> = (0..USERS).map(|user| user.to_string()).collect();
    let mut args: Vec<&str> = keys.iter().map(String::as_str).collect();
    args.extend(["--at", "2030-01-01T00:00:00Z", "--features", "clicks,spend"]);
    args.extend(known);
    let value = |row: &Value, name: &str| row[name]["value"].clone();
    let rows = site.features(&args);
    rows.iter().map(|row| (value(row, "clicks"), value(row, "spend"))).collect()
}

/// When the last of so many clicks happened, and so was known: one a second from 2024-03-01T08:00:00Z on.
fn last_instant(total: usize) -> String {
    ((1_709_280_000 + total as i64 - 1) * 1_000_000).to_string()
}

/// Waits until an import has got somewhere, by what is in the log, which stored heads follow a second later.
fn wait_for_first_facts(site: &Site) {
    wait_until("the first facts", Duration::from_secs(60), || {
        let explain = ["explain", "user_activity", "0", "clicks", "--at", "2030-01-01T00:00:00Z"];
        let explained = site.cli().json(explain).expect("explained");
        explained["used_total"].as_u64().filter(|count| *count > 0)
    });
}
