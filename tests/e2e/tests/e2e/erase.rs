//! `millrace erase`: the entity is gone from every value, row, file and chunk, and stays gone.

mod history;

use std::fs;
use std::path::Path;

use millrace_e2e_tests::{Apart, ApartOptions, Cli, JoinedRows, PublishReport};
use millrace_test_servers::Cassandra;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cql::env;
use crate::fixture::{Topology, assert_features, catalog, on_all, on_both, pair};
use crate::follower::Follower;

const CLICKS: &str = "event_id,user_id,item_id,ts,price,note";
const PROFILES: &str = "version_id,user_id,valid_from,country";
const AT: &str = "2024-03-02T00:00:00Z";
/// Stands in a note of user 42 alone, written so that no compression hides it in a file.
const CANARY: &str = "Qz7-canary-kJ2vXw9pLmR4tB";

fn clicks() -> [String; 5] {
    [
        CLICKS.to_owned(),
        format!("e1,42,book,2024-03-01T10:00:00Z,1.5,{CANARY}"),
        "e2,42,cup,2024-03-01T11:00:00Z,2.0,second".to_owned(),
        "e3,7,book,2024-03-01T10:30:00Z,4.0,seven".to_owned(),
        "e4,7,pen,2024-03-01T10:45:00Z,8.0,more".to_owned(),
    ]
}

/// Publishes lines of a stream as a file of their own, under another producer each time.
fn publish(cli: &Cli, folder: &Path, name: &str, stream: &str, lines: &[String]) -> PublishReport {
    let path = folder.join(format!("{name}.csv"));
    fs::write(&path, lines.join("\n") + "\n").expect("written");
    cli.publish([pair(stream, &path), "--producer".to_owned(), name.to_owned()]).expect("published")
}

fn publish_all(cli: &Cli, folder: &Path, name: &str) -> [PublishReport; 2] {
    let profiles = [PROFILES, "p1,42,2024-03-01T09:00:00Z,FR", "p2,7,2024-03-01T09:00:00Z,DE"]
        .map(str::to_owned);
    [
        publish(cli, folder, &format!("{name}-clicks"), "clicks", &clicks()),
        publish(cli, folder, &format!("{name}-profiles"), "profiles", &profiles),
    ]
}

fn read(cli: &Cli, view: &str, key: &str) -> Value {
    let rows = cli.get([view, key, "--at", AT]).expect("read");
    rows[0]["features"].clone()
}

fn erase(cli: &Cli, args: &[&str]) -> Value {
    let args = ["erase"].iter().chain(args).copied().collect::<Vec<_>>();
    cli.json(&args).expect("erased")
}

/// Nothing of user 42 is in any value, and the others have what is theirs.
#[track_caller]
fn assert_gone(cli: &Cli) {
    let user = read(cli, "user_activity", "42");
    assert_features(
        &user,
        &[("clicks", json!(0), "MISSING_ENTITY"), ("country", Value::Null, "MISSING_ENTITY")],
    );
    let book = read(cli, "item_activity", "book");
    assert_features(
        &book,
        &[
            ("clicks", json!(1), "PRESENT"),
            ("spend", json!(4.0), "PRESENT"),
            ("last_notes", json!(["seven"]), "PRESENT"),
        ],
    );
    assert_features(&read(cli, "item_activity", "cup"), &[("clicks", json!(0), "MISSING_ENTITY")]);
    let seven = read(cli, "user_activity", "7");
    assert_features(
        &seven,
        &[("clicks", json!(2), "PRESENT"), ("country", json!("DE"), "PRESENT")],
    );
}

fn tail(cli: &Cli, view: &str) -> JoinedRows {
    let tail = cli.run(["tail", view, "--until-idle"]).and_then(|t| t.expect_code(0));
    JoinedRows::sum(&tail.expect("a changelog").stdout).expect("in order")
}

on_all!(an_erased_entity_is_gone_and_stays_gone);
fn an_erased_entity_is_gone_and_stays_gone(on: Topology) {
    let mut site = on.bare_site(|options| options.slots = Some(4));
    site.apply(&catalog("shop.yaml"));
    let folder = site.path("in");
    fs::create_dir(&folder).expect("a folder");
    let [clicked, _] = publish_all(&site.cli(), &folder, "first");
    assert_eq!((clicked.accepted, clicked.rejected), (4, 0), "{clicked:?}");
    assert_ne!(site.holding(CANARY.as_bytes()), [""; 0], "what is looked for later is there now");
    let before = tail(&site.cli(), "item_activity");
    assert_eq!(before.rows.len(), 4);
    // That of the last row's whole chunk: within a chunk that is rewritten nobody can go on.
    let cursor = before.cursors.last().and_then(|cursor| cursor.split('#').next());
    let cursor = cursor.expect("a cursor").to_owned();

    site.crash_and_restart();
    let receipt = erase(&site.cli(), &["user", "42"]);
    let counts = ["number", "slots", "slots_done", "facts", "entities"].map(|n| &receipt[n]);
    // Two clicks of the user and two of items, and a profile; two items are rebuilt.
    assert_eq!(counts, [&json!(1), &json!(4), &json!(4), &json!(5), &json!(2)], "{receipt}");
    assert_eq!(receipt["done"], true);
    assert_eq!(site.holding(CANARY.as_bytes()), [""; 0], "they still have it");
    assert_gone(&site.settled());
    assert_eq!(tail(&site.cli(), "item_activity").rows.len(), 2);
    assert_eq!(tail(&site.cli(), "user_activity").rows.len(), 2);
    // Who goes on from before is told to forget.
    let args = ["tail", "item_activity", "--until-idle", "--from", &cursor];
    let rest = site.cli().run(args).and_then(|t| t.expect_code(0)).expect("it goes on");
    assert!(rest.stdout.contains(r#""op":"e","key":"book""#), "{}", rest.stdout);

    // The fence: repeats, late facts, and whatever comes after a crash.
    for round in ["again", "after a crash"] {
        let [clicked, profiled] = publish_all(&site.cli(), &folder, &round.replace(' ', "-"));
        assert_eq!((clicked.duplicate, clicked.rejected), (2, 2), "{round}: {clicked:?}");
        assert_eq!((profiled.duplicate, profiled.rejected), (1, 1), "{round}: {profiled:?}");
        assert_gone(&site.settled());
        site.crash_and_restart();
        assert_gone(&site.settled());
    }
    let late = [CLICKS, "e9,42,pen,2020-01-01T00:00:00Z,1,late"].map(str::to_owned);
    let report = publish(&site.cli(), &folder, "late", "clicks", &late);
    assert_eq!((report.rejected, report.accepted + report.repaired), (1, 0), "{report:?}");
    let text = format!("{report:?}");
    assert!(text.contains("ERASED_ENTITY"), "{text}");
    // The same command tells the same receipt.
    assert_eq!(erase(&site.cli(), &["user", "42"]), receipt);
}

on_both!(what_cannot_be_erased_is_told);
fn what_cannot_be_erased_is_told(on: Topology) {
    let site = on.site();
    let refused = |args: &[&str], code: i32, words: &str| {
        let args = ["erase"].iter().chain(args).copied().collect::<Vec<_>>();
        let done = site.cli().run(&args).and_then(|d| d.expect_code(code)).expect("it ends");
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    };
    refused(&["shop", "42"], 1, "no entity called \"shop\"");
    refused(&["user", "forty-two"], 2, "is no int64");
    // One that never was is fenced all the same.
    let receipt = erase(&site.cli(), &["user", "-5"]);
    assert_eq!((&receipt["facts"], &receipt["done"]), (&json!(0), &json!(true)), "{receipt}");
    let clicks = [crate::fixture::CLICKS, "e1,-5,2024-03-01T10:00:00Z,0,,1,1,book"];
    let report = site.publish("clicks", &clicks);
    assert_eq!(report.rejected, 1, "{report:?}");
}

/// Four processes, of which join and store-writer are killed in the middle of it.
#[test]
fn an_erasure_goes_on_after_kills() {
    erases_through_kills(Vec::new(), Vec::new());
}

/// The same with two join nodes on a database, of which one is gone for as long as it takes the other to
/// have its slots.
#[test]
fn an_erasure_goes_on_after_kills_on_a_database() {
    let database = Cassandra::shared();
    erases_through_kills(env(database, "erases").to_vec(), vec!["join-1"]);
}

fn erases_through_kills(env: Vec<(&'static str, String)>, more: Vec<&'static str>) {
    let folder = TempDir::new().expect("a temporary folder");
    let mut options = ApartOptions::on(&folder.path().join("data"));
    options.env = env;
    options.env.push(("MILLRACE_SLOTS", "16".to_owned()));
    options.more = more;
    let mut services = Apart::start(&options).expect("the services start");
    let cli = services.cli();
    let apply = cli.run(["apply".as_ref(), catalog("shop.yaml").as_os_str()]);
    apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    publish_all(&cli, folder.path(), "first");
    services.settle();
    let follower = Follower::start(&cli);
    let begun = erase(&cli, &["user", "42", "--no-wait"]);
    assert_eq!(begun["number"], 1, "{begun}");
    for service in ["join", "store-writer"] {
        services.kill(service).expect("it can be killed");
        services.start_again(service).expect("it starts again");
    }
    let receipt = erase(&cli, &["user", "42"]);
    let counts = ["slots_done", "facts", "entities"].map(|n| &receipt[n]);
    assert_eq!(counts, [&json!(16), &json!(5), &json!(2)], "{receipt}");
    services.settle();
    assert_gone(&cli);
    let [clicked, _] = publish_all(&cli, folder.path(), "again");
    assert_eq!((clicked.duplicate, clicked.rejected), (2, 2), "{clicked:?}");
    let sum = tail(&cli, "user_activity");
    assert_eq!(sum.rows.len(), 2, "those of user 7");
    follower.stop_at(&sum, "at the end");
}
