//! `beyond_repair: hold`: LATE facts are kept, listed, and take effect when they are replayed.

use millrace_e2e_tests::Cli;
use serde_json::{Value, json};

use crate::fixture::{Site, Topology, on_all, pair};

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
const AT: &str = "2024-03-01T13:00:00Z";

fn listed(cli: &Cli, args: &[&str]) -> Vec<Value> {
    let args = ["late", "list", "clicks"].iter().chain(args);
    let report = cli.json(args).expect("LATE facts are listed");
    report["facts"].as_array().expect("`facts` is a list").clone()
}

fn explain(site: &Site, args: &[&str]) -> Value {
    let args = ["explain", "user_activity", "7", "spend", "--at", AT].iter().chain(args);
    site.cli().json(args).expect("the value is explained")
}

fn ids(facts: &Value) -> Vec<&str> {
    let facts = facts.as_array().expect("a list of facts");
    facts.iter().map(|f| f["id"].as_str().expect("an id")).collect()
}

#[track_caller]
fn assert_clicks(site: &Site, args: &[&str], clicks: u64, spend: f64) {
    let features = site.features(&[&["7", "--at", AT], args].concat());
    assert_eq!(features[0]["clicks"]["value"], json!(clicks));
    assert_eq!(features[0]["spend"]["value"], json!(spend));
}

on_all!(late_facts_change_nothing_until_they_are_replayed);
fn late_facts_change_nothing_until_they_are_replayed(on: Topology) {
    let mut site = on.bare_site(|_| {});
    site.share_slots();
    site.apply(&site.file("hold.yaml", &[CATALOG]));
    let first = site.file(
        "first.csv",
        &[HEADER, "a,7,2024-03-01T10:00:00Z,1.5", "b,7,2024-03-01T12:00:00Z,2.0"],
    );
    let report = site.cli().publish([pair("clicks", &first)]).expect("published");
    assert_eq!(report.accepted, 2, "{report:?}");

    // An hour and a half behind the watermark, and half an hour.
    let second = site.file(
        "second.csv",
        &[HEADER, "c,7,2024-03-01T10:30:00Z,4.0", "d,7,2024-03-01T11:30:00Z,8.0"],
    );
    let report = site.cli().publish([pair("clicks", &second)]).expect("published");
    assert_eq!((report.late, report.accepted), (1, 1), "{report:?}");
    assert_eq!(report.exceptions[0]["id"], "c");
    assert_eq!(report.exceptions[0]["verdict"], "LATE");
    assert_clicks(&site, &[], 3, 11.5);
    let known = site.cli().get(["user_activity", "7", "--at", AT]).expect("read");
    let before = known[0]["known_at"].as_str().expect("an instant").to_owned();

    // Sent again, all is DUPLICATE but what is LATE.
    let report = site.cli().publish([pair("clicks", &second)]).expect("published");
    assert_eq!((report.late, report.duplicate), (1, 1), "{report:?}");
    let facts = listed(&site.cli(), &[]);
    assert_eq!(facts.len(), 2, "{facts:?}");
    assert_eq!(facts[0]["id"], "c");
    assert_eq!(facts[0]["row"]["price"], 4.0);
    assert_eq!(facts[0]["in_effect_since"], Value::Null);
    assert_eq!(facts[0]["late_for_good"], false, "nothing is forgotten");
    site.crash_and_restart();
    assert_clicks(&site, &[], 3, 11.5);
    let explained = explain(&site, &[]);
    assert_eq!((&explained["value"], &explained["used_total"]), (&json!(11.5), &json!(3)));
    assert_eq!(ids(&explained["used"]), ["b", "d", "a"]);
    assert_eq!(ids(&explained["left_out"]), ["c"]);
    assert_eq!(explained["left_out_totals"], json!({"LATE": 1}));

    let replayed = site.cli().json(["late", "replay", "clicks"]).expect("replayed");
    assert_eq!((&replayed["replayed"], &replayed["accepted"]), (&json!(1), &json!(1)));
    assert_clicks(&site, &[], 4, 15.5);
    assert_clicks(&site, &["--known-at", &before], 3, 11.5);
    let explained = explain(&site, &[]);
    assert_eq!(ids(&explained["used"]), ["b", "d", "c", "a"]);
    assert_eq!(explained["left_out"], json!([]));
    let explained = explain(&site, &["--known-at", &before]);
    assert_eq!(explained["value"], 11.5);
    assert_eq!(explained["left_out_totals"], json!({"AFTER_KNOWN_AT": 1}));
    let again = site.cli().json(["late", "replay", "clicks"]).expect("replayed");
    assert_eq!(again["replayed"], 0);
    assert!(listed(&site.cli(), &["--pending"]).is_empty());
    assert!(listed(&site.cli(), &[]).iter().all(|f| f["in_effect_since"].is_string()));
    site.crash_and_restart();
    assert_clicks(&site, &[], 4, 15.5);
}
