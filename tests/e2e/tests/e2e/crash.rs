//! `kill -9` and restart: nothing acknowledged is lost, nothing counts twice.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use millrace_e2e_tests::{Order, shuffled, wait_until};
use serde_json::{Value, json};

use crate::fixture::{CLICKS, Site, Topology, on_all, pair};

pub(crate) const USERS: usize = 50;

/// A click of a user, one a second, each user in turn.
pub(crate) fn clicks(range: std::ops::Range<usize>) -> Vec<String> {
    let start = 1_709_280_000_000_000_u64;
    let row = |n: usize| {
        let at = start + n as u64 * 1_000_000;
        format!("e{n},{},{at},0,,{},0.1,book", n % USERS, n % 7)
    };
    range.map(row).collect()
}

fn write(site: &Site, name: &str, rows: &[String]) -> PathBuf {
    let lines: Vec<&str> = std::iter::once(CLICKS).chain(rows.iter().map(String::as_str)).collect();
    site.file(name, &lines)
}

/// Every user's count and sum after clicks `0..total`.
pub(crate) fn expected_counts(total: usize) -> Vec<(Value, Value)> {
    let of = |user: usize| {
        let count = (0..total).filter(|n| n % USERS == user).count();
        // The exact sum rounded once is the product of the double nearest to 0.1.
        (json!(count), json!(0.1 * count as f64))
    };
    (0..USERS).map(of).collect()
}

/// Every user's count and sum equal those of clicks `0..total`.
#[track_caller]
fn assert_all_counted_once(site: &Site, total: usize) {
    let keys: Vec<String> = (0..USERS).map(|user| user.to_string()).collect();
    let mut args: Vec<&str> = keys.iter().map(String::as_str).collect();
    args.extend(["--at", "2030-01-01T00:00:00Z", "--features", "clicks,spend"]);
    let rows = site.features(&args);
    let value = |features: &Value, name: &str| features[name]["value"].clone();
    let told: Vec<(Value, Value)> =
        rows.iter().map(|row| (value(row, "clicks"), value(row, "spend"))).collect();
    assert_eq!(told, expected_counts(total));
}

on_all!(what_was_acknowledged_survives_kills_between_batches);
fn what_was_acknowledged_survives_kills_between_batches(on: Topology) {
    let mut site = on.site();
    let mut files = Vec::new();
    for part in 0..6 {
        let rows = clicks(part * 400..(part + 1) * 400);
        let file = write(&site, &format!("part{part}.csv"), &rows);
        let report = site.cli().publish([pair("clicks", &file)]).expect("published");
        assert_eq!(report.accepted, 400, "{report:?}");
        files.push(file);
        if part % 2 == 1 {
            site.crash_and_restart();
        }
    }
    assert_all_counted_once(&site, 2400);
    for file in &files {
        let report = site.cli().publish([pair("clicks", file)]).expect("published again");
        assert_eq!((report.sent, report.duplicate), (400, 400), "{report:?}");
    }
    assert_all_counted_once(&site, 2400);
}

on_all!(a_publish_goes_on_after_a_kill_in_its_middle);
fn a_publish_goes_on_after_a_kill_in_its_middle(on: Topology) {
    let mut site = on.site();
    let total = 60_000;
    let file = write(&site, "clicks.csv", &clicks(0..total));
    let publishing = {
        let (cli, pair) = (site.cli(), pair("clicks", &file));
        thread::spawn(move || cli.publish([pair]))
    };
    wait_until("the first facts", Duration::from_secs(60), || {
        // By what is in the log, which stored heads follow a second later.
        let explain = ["explain", "user_activity", "0", "clicks", "--at", "2030-01-01T00:00:00Z"];
        let explained = site.cli().json(explain).expect("explained");
        explained["used_total"].as_u64().filter(|count| *count > 0)
    });
    site.crash_and_restart();
    let report = publishing.join().expect("no panic").expect("it goes on by itself");
    assert_eq!(report.sent, total as u64, "{report:?}");
    assert_eq!(report.rejected + report.late, 0, "{report:?}");
    assert_all_counted_once(&site, total);

    let again = site.cli().publish([pair("clicks", &file)]).expect("published again");
    assert_eq!(again.duplicate, total as u64, "{again:?}");
    site.crash_and_restart();
    assert_all_counted_once(&site, total);
}

on_all!(rebuilds_survive_a_kill);
/// With next to nothing at hand, disorder makes rebuilds, and the kill meets some of them.
fn rebuilds_survive_a_kill(on: Topology) {
    let mut site = on.site_with(|options| {
        options.at_hand_bytes = Some(64 * 1024);
        options.slots = Some(4);
    });
    let total = 20_000;
    for (name, rows) in [
        ("later.csv", clicks(total / 2..total)),
        ("earlier.csv", Order::Reversed.of(clicks(0..total / 2))),
    ] {
        let file = write(&site, name, &rows);
        let report = site.cli().publish([pair("clicks", &file)]).expect("published");
        assert_eq!(report.accepted + report.repaired, (total / 2) as u64, "{report:?}");
        site.crash_and_restart();
    }
    let again = write(&site, "again.csv", &shuffled(clicks(0..total), 1));
    let report = site.cli().publish([pair("clicks", &again)]).expect("published");
    // A retry may say REPAIRED (queued) where its entity is dirty; it must not add anything.
    assert_eq!(report.duplicate + report.repaired, total as u64, "{report:?}");
    site.cli().wait_for_rebuilds(Duration::from_secs(120));
    assert_all_counted_once(&site, total);
}
