//! What was erased does not come back by the ways that history takes: imports of what is older, and replays of
//! what was LATE before.

use std::fs;

use millrace_e2e_tests::PublishReport;
use serde_json::{Value, json};

use super::{AT, CLICKS, PROFILES, assert_gone, erase, publish_all, read};
use crate::fixture::{Site, Topology, assert_features, catalog, on_both, pair};

/// Imports history that is older than all that was published: of user 42, in part a repeat, and of user 8.
fn import_older(site: &Site) -> PublishReport {
    let header = format!("{CLICKS},received_at");
    let clicks = site.file(
        "older-clicks.csv",
        &[
            &header,
            "h1,42,book,2023-03-01T10:00:00Z,16.0,older,2023-03-01T10:00:01Z",
            "h2,42,pen,2023-03-01T11:00:00Z,32.0,older,2023-03-01T11:00:01Z",
            "h3,8,pen,2023-03-01T11:30:00Z,64.0,of another,2023-03-01T11:30:01Z",
            "e1,42,book,2024-03-01T10:00:00Z,1.5,again,2024-03-01T10:00:01Z",
        ],
    );
    let profiles = site.file("older-profiles.csv", &[PROFILES, "p0,42,2023-01-01T00:00:00Z,ES"]);
    let flags = ["--known-at", "clicks=received_at"].map(str::to_owned);
    let args = [pair("clicks", &clicks), pair("profiles", &profiles)];
    site.cli().import(args.into_iter().chain(flags)).expect("imported")
}

/// A training set of users at the end of the history, as it stands in its file.
fn set(site: &Site, users: &[&str], flags: &[&str]) -> Vec<Value> {
    let rows = users.iter().map(|user| format!("{user},{AT}"));
    let lines: Vec<String> = std::iter::once("user,at".to_owned()).chain(rows).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let spine = site.file("spine.csv", &lines).display().to_string();
    training(site, &[&["--spine", &spine][..], flags].concat())
}

/// The rows of a training set of the users' view.
fn training(site: &Site, flags: &[&str]) -> Vec<Value> {
    let out = site.path("set.ndjson");
    let file = out.display().to_string();
    let args = [&["training", "user_activity", "--out", &file][..], flags].concat();
    site.cli().json(&args).expect("made");
    let text = fs::read_to_string(&out).expect("the set");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

on_both!(an_import_brings_nothing_back_that_was_erased);
/// As known at their rows too, where what an import states would count.
fn an_import_brings_nothing_back_that_was_erased(on: Topology) {
    let mut site = on.bare_site(|options| options.slots = Some(4));
    site.apply(&catalog("shop.yaml"));
    let folder = site.path("in");
    fs::create_dir(&folder).expect("a folder");
    publish_all(&site.cli(), &folder, "first");
    let receipt = erase(&site.cli(), &["user", "42"]);
    assert_eq!(receipt["done"], true, "{receipt}");
    let sets = |site: &Site| {
        let set_of = |known_at| set(site, &["42", "7"], &["--known-at", known_at]);
        ["latest", "at-event"].map(set_of)
    };
    let before = sets(&site);
    assert_eq!((&before[0][0]["clicks"], &before[0][1]["clicks"]), (&json!(0), &json!(2)));

    let report = import_older(&site);
    let told = [report.sent, report.rejected, report.accepted + report.repaired, report.duplicate];
    assert_eq!(told, [5, 4, 1, 0], "{report:?}");
    for exception in &report.exceptions {
        assert_eq!(exception["reason"], "ERASED_ENTITY", "{exception}");
    }
    for round in ["imported", "after a crash"] {
        assert_gone(&site.settled());
        assert_eq!(sets(&site), before, "{round}");
        // The others' part of the import counts, from when it says it was known.
        for known_at in ["latest", "at-event"] {
            let other = set(&site, &["8"], &["--known-at", known_at]);
            assert_eq!(other[0]["spend"], 64.0, "{round}: {other:?}");
        }
        let events = training(&site, &["--events", "--known-at", "latest"]);
        let mut ids: Vec<&str> = events.iter().filter_map(|row| row["id"].as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["e3", "e4", "h3"], "{round}: {events:?}");
        site.crash_and_restart();
    }
    let again = import_older(&site);
    assert_eq!((again.rejected, again.duplicate), (4, 1), "{again:?}");
    assert_gone(&site.settled());
}

on_both!(a_replay_brings_nothing_back_that_was_erased);
/// LATE facts wait in the log until they are replayed, and leave it with their entity.
fn a_replay_brings_nothing_back_that_was_erased(on: Topology) {
    const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    repair: 1h
    beyond_repair: hold
    fields: {event_id: string, user_id: int64, ts: timestamp, price: double}
views:
  user_activity:
    entity: user
    events: clicks
    features:
      clicks: {count: {}}
      spend: {sum: price}
";
    const HEADER: &str = "event_id,user_id,ts,price";
    // One slot: what is LATE there goes by one watermark.
    let site = on.bare_site(|options| options.slots = Some(1));
    site.apply(&site.file("hold.yaml", &[CATALOG]));
    let in_time = ["a,42,2024-03-01T12:00:00Z,1.0", "b,7,2024-03-01T12:00:00Z,2.0"];
    assert_eq!(site.publish("clicks", &[&[HEADER][..], &in_time].concat()).accepted, 2);
    let late = ["c,42,2024-03-01T10:00:00Z,4.0", "d,7,2024-03-01T10:00:00Z,8.0"];
    let late = [&[HEADER][..], &late].concat();
    assert_eq!(site.publish("clicks", &late).late, 2);

    let receipt = erase(&site.cli(), &["user", "42"]);
    assert_eq!(receipt["done"], true, "{receipt}");
    let listed = site.cli().json(["late", "list", "clicks"]).expect("listed");
    let listed: Vec<&Value> = listed["facts"].as_array().into_iter().flatten().collect();
    assert_eq!(listed.iter().map(|fact| &fact["id"]).collect::<Vec<_>>(), [&json!("d")]);
    let with_late = set(&site, &["42", "7"], &["--known-at", "latest", "--include-late"]);
    let counts = |rows: &[Value]| [rows[0]["clicks"].clone(), rows[1]["clicks"].clone()];
    assert_eq!(counts(&with_late), [json!(0), json!(2)], "{with_late:?}");

    let replayed = site.cli().json(["late", "replay", "clicks"]).expect("replayed");
    assert_eq!((&replayed["replayed"], &replayed["accepted"]), (&json!(1), &json!(1)));
    let gone = read(&site.settled(), "user_activity", "42");
    assert_features(&gone, &[("clicks", json!(0), "MISSING_ENTITY")]);
    let other = read(&site.cli(), "user_activity", "7");
    assert_features(&other, &[("clicks", json!(2), "PRESENT"), ("spend", json!(10.0), "PRESENT")]);
    let rows = set(&site, &["42", "7"], &["--known-at", "latest"]);
    assert_eq!(counts(&rows), [json!(0), json!(2)], "{rows:?}");
    // Sent again it is refused, and no more LATE.
    let report = site.publish("clicks", &late[..2]);
    assert_eq!((report.rejected, report.late), (1, 0), "{report:?}");
}
