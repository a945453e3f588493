//! `retention`: what is older goes from the log and from files, values stay what they were, and what would
//! need more is refused with the instant that will do.

use std::fs;
use std::path::Path;
use std::time::Duration;

use millrace_e2e_tests::{Apart, ApartOptions, Cli, JoinedRows, PublishReport, wait_until};
use millrace_test_servers::Cassandra;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{Site, Topology, assert_features, in_files, on_all, pair};

/// Ten days and 15 to 30 hours are kept. The last hour is the 30th at 23:00, so that facts before the 19th at
/// 21:00 are forgotten.
const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    repair: 1h
    retention: 10d
    fields: {event_id: string, user_id: int64, ts: timestamp, price: double, note: string}
views:
  user_activity:
    entity: user
    events: clicks
    features:
      clicks_1d: {count: {}, window: 1d}
      spend_7d: {sum: price, window: 7d}
";

const HEADER: &str = "event_id,user_id,ts,price,note";
/// Stands in a note of the first day alone, written so that no compression hides it in a file.
const CANARY: &str = "Kx4-canary-pQ8mZs1vTbN6y";
/// How long the rewriting of a log may take.
const PATIENCE: Duration = Duration::from_secs(90);
const USERS: u64 = 7;

/// A click of each user each hour of these days of January.
fn clicks(days: std::ops::Range<u64>) -> Vec<String> {
    let mut lines = vec![HEADER.to_owned()];
    for hour in days.start * 24..days.end * 24 {
        for user in 0..USERS {
            let (day, hour) = (hour / 24 + 1, hour % 24);
            let note = if day == 1 { format!("{CANARY}-{user}-{hour}") } else { String::new() };
            let at = format!("2024-01-{day:02}T{hour:02}:00:00Z");
            lines.push(format!("{user}-{day}-{hour},{user},{at},1.5,{note}"));
        }
    }
    lines
}

fn publish(cli: &Cli, folder: &Path, name: &str, lines: &[String]) -> PublishReport {
    let path = folder.join(format!("{name}.csv"));
    fs::write(&path, lines.join("\n") + "\n").expect("written");
    cli.publish([pair("clicks", &path)]).expect("published")
}

fn apply(cli: &Cli, folder: &Path) {
    let path = folder.join("retention.yaml");
    fs::write(&path, CATALOG).expect("written");
    let applied = cli.run(["apply".as_ref(), path.as_os_str()]);
    applied.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
}

/// What a refusal says once the boundary is where the watermark puts it at last.
const EARLIEST: &str = "the earliest instant that can be read is 2024-01-26T21:00:00Z";

/// Nothing while a slot has no owner.
fn forgotten_before(cli: &Cli) -> Option<String> {
    let status = cli.json(["status"]).ok()?;
    status["forgotten_before"]["clicks"].as_str().map(str::to_owned)
}

/// Reads a user at an instant; the message where that is refused.
fn read(cli: &Cli, at: &str) -> Result<Value, String> {
    let args = ["get", "user_activity", "3", "--at", at, "-o", "json"];
    let done = cli.run(args).expect("it ends");
    match done.code {
        0 => {
            let answer: Value = serde_json::from_str(&done.stdout).expect("JSON");
            Ok(answer["rows"][0]["features"].clone())
        }
        _ => Err(done.stderr),
    }
}

#[track_caller]
fn assert_values(cli: &Cli) {
    let now = read(cli, "2024-01-30T12:00:00Z").expect("it is kept");
    assert_features(
        &now,
        &[("clicks_1d", json!(24), "PRESENT"), ("spend_7d", json!(252.0), "PRESENT")],
    );
    let earliest = read(cli, "2024-01-26T21:00:00Z").expect("it is kept");
    assert_features(
        &earliest,
        &[("clicks_1d", json!(24), "PRESENT"), ("spend_7d", json!(252.0), "PRESENT")],
    );
    let error = read(cli, "2024-01-20T00:00:00Z").expect_err("its window is gone");
    assert!(error.contains(EARLIEST), "{error}");
    // Nobody knows any more whether there was such a user.
    let nobody = cli.get(["user_activity", "99", "--at", "2024-01-30T12:00:00Z"]).expect("read");
    assert_features(&nobody[0]["features"], &[("clicks_1d", json!(0), "PRESENT")]);
}

on_all!(what_is_older_than_its_retention_is_gone_and_the_rest_is_as_it_was);
fn what_is_older_than_its_retention_is_gone_and_the_rest_is_as_it_was(on: Topology) {
    let mut site = on.bare_site(|options| options.slots = Some(2));
    let folder = site.path("");
    apply(&site.cli(), &folder);
    let report = publish(&site.cli(), &folder, "first", &clicks(0..2));
    assert_eq!(report.accepted, 2 * 24 * USERS, "{report:?}");
    assert_ne!(site.holding(CANARY.as_bytes()), [""; 0], "what is looked for later is there now");

    // A crash at whatever step: after the base chunk, in the middle of the rewrite, or before both.
    let report = publish(&site.cli(), &folder, "second", &clicks(2..30));
    assert_eq!(report.accepted, 28 * 24 * USERS, "{report:?}");
    site.crash_and_restart();
    wait_until("the boundary", PATIENCE, || {
        forgotten_before(&site.cli()).filter(|at| at == "2024-01-19T21:00:00Z")
    });
    site.crash_and_restart();
    wait_until("a store without it", PATIENCE, || {
        site.holding(CANARY.as_bytes()).is_empty().then_some(())
    });
    assert_values(&site.settled());

    // LATE for good: published, imported, and replayed.
    let late = publish(&site.cli(), &folder, "late", &clicks(3..4));
    assert_eq!(late.late, 24 * USERS, "{late:?}");
    let listed = site.cli().json(["late", "list", "clicks"]).expect("they are listed");
    let listed = listed["facts"].as_array().expect("facts");
    assert_eq!(listed.len() as u64, 24 * USERS);
    assert!(listed.iter().all(|fact| fact["late_for_good"] == true), "{listed:?}");
    let args = ["explain", "user_activity", "3", "clicks_1d", "--at", "2024-01-30T12:00:00Z"];
    let explained = site.cli().json(args.into_iter().chain(["--limit", "1000"]));
    let explained = explained.expect("explained");
    let late = explained["left_out"].as_array().expect("facts").iter();
    let late: Vec<&Value> = late.filter(|fact| fact["reason"] == "LATE").collect();
    assert!(!late.is_empty(), "{explained}");
    assert!(late.iter().all(|fact| fact["late_for_good"] == true), "{explained}");
    let replayed = site.cli().run(["late", "replay", "clicks", "-o", "json"]).expect("it ends");
    assert_eq!(replayed.code, 3, "{}", replayed.stderr);
    let replayed: Value = serde_json::from_str(&replayed.stdout).expect("JSON");
    assert_eq!((&replayed["replayed"], &replayed["late"]), (&json!(0), &json!(24 * USERS)));
    assert_values(&site.settled());

    training(&site);
    // Who begins a changelog now has the rows that are kept.
    let tail = site.cli().run(["tail", "user_activity", "--until-idle"]);
    let tail = tail.and_then(|t| t.expect_code(0)).expect("a changelog");
    let rows = JoinedRows::sum(&tail.stdout).expect("in order").rows.len() as u64;
    // From the 19th at 21:00 to the end of the 30th.
    assert_eq!(rows, (3 + 11 * 24) * USERS);
    site.crash_and_restart();
    assert_values(&site.settled());
}

/// Stored heads and marks say what is kept, and another join service goes on where the first one was killed.
#[test]
fn services_apart_refuse_the_same_and_go_on_after_a_kill() {
    forget_apart(&[], |_, data| in_files(data, CANARY.as_bytes()).is_empty());
}

/// The facts from the 19th at 21:00 on.
const KEPT: u64 = (3 + 11 * 24) * USERS;

/// Chunks and heads are rewritten in a database; a set of all events looks at every fact that is left in the
/// log.
#[test]
fn services_apart_on_cassandra_refuse_the_same_and_go_on_after_a_kill() {
    let env = crate::cql::env(Cassandra::shared(), "retention");
    forget_apart(&env, |cli, data| {
        let out = data.with_extension("ndjson").display().to_string();
        let args = ["training", "user_activity", "--events", "--known-at", "latest", "--out", &out];
        cli.json(args).is_ok_and(|set| set["facts_read"] == KEPT)
    });
}

/// Publishes and forgets while join is killed; `is_gone` tells when nothing is left of what was forgotten.
fn forget_apart(env: &[(&'static str, String)], is_gone: impl Fn(&Cli, &Path) -> bool) {
    let folder = TempDir::new().expect("a temporary folder");
    let mut options = ApartOptions::on(&folder.path().join("data"));
    options.slots = Some(2);
    options.env = env.to_vec();
    let mut apart = Apart::start(&options).expect("the services start");
    let cli = apart.cli();
    apply(&cli, folder.path());
    let report = publish(&cli, folder.path(), "all", &clicks(0..30));
    assert_eq!(report.accepted, 30 * 24 * USERS, "{report:?}");
    apart.kill("join").expect("it can be killed");
    apart.start_again("join").expect("it starts again");
    wait_until("the boundary", PATIENCE, || {
        forgotten_before(&cli).filter(|at| at == "2024-01-19T21:00:00Z")
    });
    // The boundary moved in steps; marks, which stored heads are read with, follow within a second.
    wait_until("a mark with the last boundary", PATIENCE, || {
        read(&cli, "2024-01-20T00:00:00Z").err().filter(|error| error.contains(EARLIEST))
    });
    assert_values(&cli);
    wait_until("a log without it", PATIENCE, || is_gone(&cli, &options.data).then_some(()));
    assert_values(&cli);
    // Heads were stored once more before.
    for service in ["join", "feature-serving"] {
        apart.kill(service).expect("it can be killed");
        apart.start_again(service).expect("it starts again");
    }
    apart.settle();
    assert_values(&cli);
}

fn training(site: &Site) {
    let out = site.path("events.ndjson");
    let out = out.to_str().expect("a path");
    let args = ["training", "user_activity", "--events", "--known-at", "latest", "--out", out];
    let made = site.cli().json(args).expect("a set");
    assert_eq!(made["rows_from"], "2024-01-26T21:00:00Z", "{made}");
    let rows = fs::read_to_string(out).expect("rows");
    assert_eq!(rows.lines().count() as u64, (3 + 4 * 24) * USERS);
    let all = |row: &str| {
        let row: Value = serde_json::from_str(row).expect("JSON");
        (row["clicks_1d"].clone(), row["spend_7d"].clone())
    };
    assert!(rows.lines().all(|row| all(row) == (json!(24), json!(252.0))), "{rows}");

    let spine =
        site.file("spine.csv", &["user,at", "3,2024-01-27T00:00:00Z", "3,2024-01-19T00:00:00Z"]);
    let spine = spine.to_str().expect("a path");
    let out = site.path("rows.csv");
    let out = out.to_str().expect("a path");
    let args =
        ["training", "user_activity", "--spine", spine, "--known-at", "latest", "--out", out];
    let refused = site.cli().run(args).expect("it ends");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let error = &refused.stderr;
    assert!(error.contains("row 1 of the spine") && error.contains("2024-01-26"), "{error}");
}
