//! Training sets through the command line: forms, order, two clocks, bad input, broken calls.

mod memory;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use millrace_e2e_tests::{Apart, ApartOptions, Finished, wait_until};
use serde_json::Value;

use crate::fixture::{
    CLICKS, PROFILES, Site, Topology, catalog, on_all, on_both, on_both_overnight, pair,
};

const VIEW: &str = "user_activity";

/// A site with a few clicks and profiles of two users.
fn site(on: Topology) -> Site {
    let site = on.site();
    let clicks = [
        CLICKS,
        "e1,1,2026-03-01T10:00:00Z,,,500,1.5,a",
        "e2,1,2026-03-01T10:10:00Z,,,700,2.25,b",
        "e3,2,2026-03-01T11:00:00Z,,,900,,gift",
        "e4,1,2026-03-01T12:00:00Z,,,,4.0,\"c, d\"",
    ];
    let profiles =
        [PROFILES, "p1,1,2026-03-01T09:00:00Z,,,DE,3", "p2,1,2026-03-01T10:05:00Z,,,FR,4"];
    assert_eq!(site.publish("profiles", &profiles).accepted, 2);
    assert_eq!(site.publish("clicks", &clicks).accepted, 4);
    site
}

/// A file of rows; gives its path.
fn csv(site: &Site, name: &str, header: &str, rows: &[&str]) -> String {
    let lines: Vec<&str> = std::iter::once(header).chain(rows.iter().copied()).collect();
    site.file(name, &lines).display().to_string()
}

const SPINE: [&str; 4] = [
    "2,2026-03-01T12:00:00Z,yes",
    "1,2026-03-01T12:00:00Z,no",
    "1,2026-03-01T10:01:00Z,\"a \"\"b\"\", c\"",
    "7,2026-03-01T10:01:00Z,",
];

fn train(site: &Site, args: &[&str], out: &str) -> Finished {
    let out = site.path(out).display().to_string();
    let args = ["-o", "json", "training"].iter().chain(args).copied();
    site.cli().run(args.chain(["--out", out.as_str()])).expect("it ends")
}

fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("the set");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Files that are not whole, or none that should be.
fn partial(site: &Site) -> Vec<String> {
    let folder = site.path("x").parent().expect("a folder").to_owned();
    let names = fs::read_dir(folder).expect("a folder").flatten().map(|e| e.file_name());
    names.filter_map(|n| n.into_string().ok()).filter(|n| n.contains("partial")).collect()
}

on_all!(rows_are_what_reads_at_their_instants_say);
fn rows_are_what_reads_at_their_instants_say(on: Topology) {
    let site = site(on);
    let spine = csv(&site, "spine.csv", "user_id,at,label", &SPINE);
    let done = train(&site, &[VIEW, "--spine", &spine, "--known-at", "latest"], "set.ndjson");
    let told = done.expect_code(0).expect("made").json().expect("JSON");
    assert_eq!((&told["rows"], &told["missing"]), (&4.into(), &1.into()), "{told}");
    let rows = rows(&site.path("set.ndjson"));
    for (row, line) in rows.iter().zip(SPINE) {
        let mut cells = line.split(',');
        let (user, at) = (cells.next().expect("a user"), cells.next().expect("an instant"));
        assert_eq!((row["user_id"].to_string(), row["at"].as_str()), (user.to_owned(), Some(at)));
        let read = site.settled().get([VIEW, user, "--at", at]).expect("read");
        let features = read[0]["features"].as_object().expect("features");
        for (name, feature) in features {
            assert_eq!(row[name], feature["value"], "{name} of {user} at {at}");
        }
    }
    assert_eq!(rows[2]["label"], "a \"b\", c", "other columns stay");
    assert_eq!(rows[1]["country"], "FR");
    assert_eq!(rows[2]["country"], "DE", "the version as of the row");
}

on_both_overnight!(every_form_holds_the_same_and_a_version_makes_it_again);
fn every_form_holds_the_same_and_a_version_makes_it_again(on: Topology) {
    let site = site(on);
    let spine = csv(&site, "spine.csv", "user_id,at,label", &SPINE);
    let made = |from: &str, out: &str, version: &[&str]| -> Value {
        let args = [VIEW, "--spine", from, "--known-at", "latest"];
        let args: Vec<&str> = args.iter().chain(version).copied().collect();
        train(&site, &args, out).expect_code(0).expect("made").json().expect("JSON")
    };
    let first = made(&spine, "set.parquet", &[]);
    let version = first["version"].as_str().expect("a version").to_owned();
    // The features of a set are read back as a spine's other columns would be, so a set without them:
    // what names its rows goes through Parquet and Arrow and is answered alike.
    let events = [VIEW, "--events", "--known-at", "latest"];
    for out in ["events.parquet", "events.arrow", "events.csv", "events.ndjson"] {
        train(&site, &events, out).expect_code(0).expect("made");
    }
    let of_events = rows(&site.path("events.ndjson"));
    assert_eq!(of_events.len(), 4);
    assert_eq!(of_events[0]["id"], "e1", "an entity's events in the order of time");
    // More facts come: a set of that version does not see them.
    site.publish("clicks", &[CLICKS, "e9,1,2026-03-01T09:59:00Z,,,1,1.0,a"]);
    let again = made(&spine, "again.ndjson", &["--set-version", &version]);
    assert_eq!(again["version"], version.as_str());
    made(&spine, "before.ndjson", &["--set-version", &version]);
    let newer = made(&spine, "newer.ndjson", &[]);
    assert_ne!(newer["version"], version.as_str());
    assert_eq!(rows(&site.path("again.ndjson")), rows(&site.path("before.ndjson")));
    assert_ne!(rows(&site.path("again.ndjson")), rows(&site.path("newer.ndjson")));
    // Nor the features of another catalog, which mean something else by the same name.
    let source = fs::read_to_string(catalog("clickprofile.yaml")).expect("it is there");
    let other = source.replace("spend: {sum: price,", "spend: {max: price,");
    assert_ne!(other, source);
    let file = site.file("other.yaml", &other.lines().collect::<Vec<_>>());
    site.cli()
        .run(["apply".as_ref(), file.as_os_str()])
        .and_then(|d| d.expect_code(0))
        .expect("applied");
    made(&spine, "later.ndjson", &[]);
    let again = made(&spine, "still.ndjson", &["--set-version", &version]);
    assert_eq!(
        (&again["version"], &again["catalog_version"]),
        (&first["version"], &first["catalog_version"])
    );
    assert_eq!(rows(&site.path("still.ndjson")), rows(&site.path("before.ndjson")));
    assert_ne!(rows(&site.path("later.ndjson")), rows(&site.path("newer.ndjson")));
    let csv = fs::read_to_string(site.path("events.csv")).expect("the set");
    assert_eq!(csv.lines().count(), 5, "a header and the rows");
}

on_both_overnight!(published_history_is_not_known_at_its_events_and_that_is_said);
fn published_history_is_not_known_at_its_events_and_that_is_said(on: Topology) {
    let site = site(on);
    let done = train(&site, &[VIEW, "--events", "--known-at", "at-event"], "set.ndjson");
    let done = done.expect_code(0).expect("made");
    assert!(done.stderr.contains("100.0 % of the rows are empty"), "{}", done.stderr);
    assert_eq!(done.json().expect("JSON")["unknown"], 4);
}

on_both_overnight!(what_cannot_be_a_spine_is_named_and_leaves_nothing_behind);
fn what_cannot_be_a_spine_is_named_and_leaves_nothing_behind(on: Topology) {
    let site = site(on);
    let spine = |name: &str, header: &str, rows: &[&str]| csv(&site, name, header, rows);
    let good = spine("good.csv", "user_id,at", &["1,2026-03-01T12:00:00Z"]);
    let cases: [(Vec<String>, i32, &str); 9] = [
        (vec![VIEW.into(), spine("k.csv", "who,at", &["1,5"])], 1, "\"user_id\""),
        (vec![VIEW.into(), spine("a.csv", "user_id,when", &["1,5"])], 1, "\"at\""),
        (vec![VIEW.into(), spine("n.csv", "user_id,at", &["1,5", "2,"])], 1, "spine[1].at"),
        (vec![VIEW.into(), spine("u.csv", "user_id,at", &[",5"])], 1, "spine[0].user_id"),
        (vec![VIEW.into(), spine("t.csv", "user_id,at", &["1,5", "1,noon"])], 1, "line 3"),
        (
            vec![VIEW.into(), spine("f.csv", "user_id,at", &["1,2999-01-01T00:00:00Z"])],
            1,
            "ahead of now",
        ),
        (vec!["nothing".into(), good.clone()], 1, "no view called \"nothing\""),
        (
            vec![VIEW.into(), good.clone(), "--features".into(), "nix".into()],
            1,
            "no feature \"nix\"",
        ),
        (vec![VIEW.into(), site.path("none.csv").display().to_string()], 1, "none.csv"),
    ];
    for (mut args, code, says) in cases {
        let spine = args.remove(1);
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.extend(["--spine", &spine, "--known-at", "latest"]);
        let done = train(&site, &args, "set.parquet");
        assert_eq!(done.code, code, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{args:?} says {}", done.stderr);
    }
    let ahead = [VIEW, "--spine", &good, "--known-at", "2999-01-01T00:00:00Z"];
    let done = train(&site, &ahead, "set.parquet");
    assert!(done.stderr.contains("ahead of now"), "{}", done.stderr);
    let nowhere = train(&site, &[VIEW, "--spine", &good, "--known-at", "latest"], "no/where.csv");
    assert_eq!(nowhere.code, 1, "{}", nowhere.stderr);
    assert!(nowhere.stderr.contains("cannot write"), "{}", nowhere.stderr);
    assert!(!site.path("set.parquet").exists());
    assert_eq!(partial(&site), [""; 0]);
    // Before all history a row is no error: it is empty.
    let early = spine("early.csv", "user_id,at", &["1,1970-01-01T00:00:00Z"]);
    let done = train(&site, &[VIEW, "--spine", &early, "--known-at", "latest"], "early.ndjson");
    assert_eq!(done.expect_code(0).expect("made").json().expect("JSON")["missing"], 1);
}

on_both!(nothing_leaks_from_what_was_known_later);
/// A fact that became known after a row's instant is no part of the row, however early it happened; known
/// before, it is.
fn nothing_leaks_from_what_was_known_later(on: Topology) {
    const ROW: &str = "1,2026-03-01T12:00:00Z";
    let row_at = "2026-03-01T12:00:00Z";
    for (seen, clicks) in [
        ("2026-03-01T11:59:59.999999Z", 2),
        (row_at, 2),
        ("2026-03-01T12:00:00.000001Z", 1),
        ("2026-03-02T00:00:00Z", 1),
    ] {
        let site = on.site();
        let header = format!("{CLICKS},seen");
        let first = "e1,1,2026-03-01T10:00:00Z,,,500,1.5,a,2026-03-01T10:00:01Z";
        let shifted = format!("e2,1,2026-03-01T11:00:00Z,,,500,1.5,a,{seen}");
        let file = csv(&site, "clicks.csv", &header, &[first, &shifted]);
        let clicks_file = format!("clicks={file}");
        let args = ["import", &clicks_file, "--known-at", "clicks=seen"];
        assert_eq!(site.cli().json(args).expect("imported")["accepted"], 2);
        let spine = csv(&site, "spine.csv", "user_id,at", &[ROW]);
        let known = |known_at: &str, out: &str| {
            let args = [VIEW, "--spine", &spine, "--known-at", known_at];
            train(&site, &args, out).expect_code(0).expect("made");
            rows(&site.path(out))[0]["clicks"].clone()
        };
        assert_eq!(known("at-event", "event.ndjson"), clicks, "known since {seen}");
        assert_eq!(known(row_at, "instant.ndjson"), clicks, "known since {seen}");
        assert_eq!(known("latest", "latest.ndjson"), 2);
        // The same as a read at the row's two clocks.
        let read = site.settled().get([VIEW, "1", "--at", row_at, "--known-at", row_at]);
        assert_eq!(read.expect("read")[0]["features"]["clicks"]["value"], clicks);
    }
}

on_both_overnight!(a_set_is_taken_up_again_where_its_call_broke);
/// A server that is killed in the middle is found again, and the set is what it would have been.
fn a_set_is_taken_up_again_where_its_call_broke(on: Topology) {
    const ROWS: usize = 400_000;
    let mut site = site(on);
    let lines: Vec<String> =
        (0..ROWS).map(|n| format!("{},2026-03-01T12:00:{:02}Z", n % 5, n % 60)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let spine = csv(&site, "spine.csv", "user_id,at", &lines);
    let args = [VIEW, "--spine", &spine, "--known-at", "latest"];
    let whole = train(&site, &args, "whole.ndjson").expect_code(0).expect("made");
    assert_eq!(whole.json().expect("JSON")["resumed"], false);
    let out = site.path("broken.ndjson");
    let file = out.display().to_string();
    let command = site.cli().command(
        ["-o", "json", "training"].into_iter().chain(args).chain(["--out", file.as_str()]),
    );
    let mut command = command.expect("the binary");
    command.stdout(Stdio::piped());
    let child = command.spawn().expect("it starts");
    // Some rows are there, and more are to come.
    wait_until("rows", Duration::from_secs(60), || {
        let folder = out.parent()?;
        let found = fs::read_dir(folder).ok()?.flatten().find(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.contains("broken") && entry.metadata().is_ok_and(|m| m.len() > 1 << 20)
        });
        found.map(|_| ())
    });
    site.crash_and_restart();
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "{done:?}");
    let told: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(told["resumed"], true, "the server was killed too late: {told}");
    assert_eq!(told["rows"], ROWS);
    let same = fs::read(&out).expect("the set") == fs::read(site.path("whole.ndjson")).expect("it");
    assert!(same, "a set that was taken up again differs");
    assert_eq!(partial(&site), [""; 0]);
}

/// A client that takes no rows keeps its memory and its turn no longer than `--response-stall` says; who
/// asks meanwhile is answered, and when it reads on it ends up with the same set.
#[test]
fn a_client_that_stops_reading_is_cut_off_and_goes_on_later() {
    const ROWS: usize = 400_000;
    const SOON: Duration = Duration::from_secs(60);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut options = ApartOptions::on(&folder.path().join("data"));
    let stall = [("MILLRACE_RESPONSE_STALL", "1s"), ("RUST_LOG", "info,millrace_grpc=debug")];
    options.env = stall.map(|(name, value)| (name, value.to_owned())).to_vec();
    let services = Apart::start(&options).expect("the services start");
    let cli = services.cli();
    let apply = cli.run(["apply".as_ref(), catalog("clickprofile.yaml").as_os_str()]);
    apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        path
    };
    let click = |n: usize| format!("e{n},{n},2026-03-01T10:00:00Z,,,{n},1.5,a\n");
    let clicks =
        write("clicks.csv", format!("{CLICKS}\n{}", (0..5).map(click).collect::<String>()));
    assert_eq!(cli.publish([pair("clicks", &clicks)]).expect("published").accepted, 5);
    services.settle();
    let row = |n: usize| format!("{},2026-03-01T12:00:{:02}Z\n", n % 7, n % 60);
    let rows = (0..ROWS).map(row).collect::<String>();
    let spine = write("spine.csv", format!("user_id,at\n{rows}")).display().to_string();
    let args = |out: &Path| {
        let args = ["-o", "json", "training", VIEW, "--spine", &spine, "--known-at", "latest"];
        args.map(str::to_owned).into_iter().chain(["--out".into(), out.display().to_string()])
    };

    let out = folder.path().join("stopped.csv");
    let mut command = cli.command(args(&out)).expect("the binary");
    let child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    wait_until("rows", SOON, || {
        let found = fs::read_dir(folder.path()).ok()?.flatten().find(|entry| {
            let is_set = entry.file_name().to_string_lossy().contains("stopped");
            is_set && entry.metadata().is_ok_and(|m| m.len() > 0)
        });
        found.map(|_| ())
    });
    let signal = |name: &str| {
        let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    };
    signal("STOP");
    // It waits for its turn no longer than the stall, which nobody else's memory pays for.
    let other = folder.path().join("other.csv");
    cli.run(args(&other)).and_then(|done| done.expect_code(0)).expect("the other is answered");
    wait_until("the end of its connection", SOON, || {
        let log = services.log("feature-serving");
        log.contains("a response was not taken in time").then_some(())
    });
    assert!(!out.exists(), "a set that is not whole has no file");
    signal("CONT");
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "{done:?}");
    let told: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((&told["rows"], &told["resumed"]), (&ROWS.into(), &true.into()), "{told}");
    let same = fs::read(&out).expect("the set") == fs::read(&other).expect("the set");
    assert!(same, "a set that was taken up again differs");
}

/// Marks lag behind what is acknowledged: who asks while nobody owns the slots waits for an owner.
#[test]
fn what_is_asked_for_while_join_is_down_lacks_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = ApartOptions::on(&folder.path().join("data"));
    let mut services = Apart::start(&options).expect("the services start");
    let cli = services.cli();
    let apply = cli.run(["apply".as_ref(), catalog("clickprofile.yaml").as_os_str()]);
    apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    let write = |name: &str, lines: &[String]| {
        let path = folder.path().join(name);
        fs::write(&path, lines.join("\n")).expect("a file can be written");
        path
    };
    let click = |n: usize| format!("e{n},1,2026-03-01T10:00:00Z,,,{n},1.5,a");
    let lines: Vec<String> = std::iter::once(CLICKS.to_owned()).chain((0..9).map(click)).collect();
    let clicks = write("clicks.csv", &lines);
    assert_eq!(cli.publish([pair("clicks", &clicks)]).expect("published").accepted, 9);
    services.kill("join").expect("it can be killed");

    let spine = write("spine.csv", &["user_id,at", "1,2026-03-01T12:00:00Z"].map(str::to_owned));
    let (spine, out) = (spine.display().to_string(), folder.path().join("set.ndjson"));
    let file = out.display().to_string();
    let set = ["training", VIEW, "--spine", &spine, "--known-at", "latest", "--out", &file];
    let at = "2026-03-01T12:00:00Z";
    let explained = ["explain", VIEW, "1", "clicks", "--at", at];
    let asked: Vec<_> = [&set[..], &explained[..]]
        .map(|args| {
            let mut command = cli.command(["-o", "json"].iter().chain(args)).expect("the binary");
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
        })
        .into();
    services.start_again("join").expect("it starts again");
    let told: Vec<Value> = asked
        .into_iter()
        .map(|child| child.wait_with_output().expect("it ends"))
        .map(|done| {
            assert!(done.status.success(), "{done:?}");
            serde_json::from_slice(&done.stdout).expect("JSON")
        })
        .collect();
    assert_eq!(rows(&out)[0]["clicks"], 9);
    assert_eq!(told[1]["value"], 9, "{}", told[1]);
}

on_both_overnight!(several_views_are_joined_to_one_spine);
/// Views of two kinds of entity, joined to the same rows.
fn several_views_are_joined_to_one_spine(on: Topology) {
    const CATALOG: &str = "
entities: {user: int64, item: string}
streams:
  clicks:
    kind: event
    keys: {user: user_id, item: item}
    at: ts
    id: event_id
    fields: {event_id: string, user_id: int64, ts: timestamp, dwell_ms: int64, item: string}
views:
  of_user: {entity: user, events: clicks, features: {n: {count: {}}}}
  of_item: {entity: item, events: clicks, features: {n: {count: {}}, dwell: {sum: dwell_ms}}}
";
    let site = on.bare_site(|_| {});
    let catalog = site.file("catalog.yaml", &[CATALOG]);
    let applied = site.cli().run([Path::new("apply"), &catalog]);
    applied.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    let header = "event_id,user_id,ts,dwell_ms,item";
    let clicks = ["a,1,10,5,x", "b,1,20,7,y", "c,2,30,9,\"q,r\"", "d,1,40,,x"];
    let lines: Vec<&str> = std::iter::once(header).chain(clicks).collect();
    assert_eq!(site.publish("clicks", &lines).accepted, 4);
    let spine = csv(&site, "spine.csv", "item,user,at", &["x,1,50", "\"q,r\",2,50", "y,1,15"]);
    let args = ["of_user", "of_item", "--spine", &spine, "--known-at", "latest"];
    let told = train(&site, &args, "set.ndjson").expect_code(0).expect("made");
    assert_eq!(told.json().expect("JSON")["missing"], 1, "item y had no click by then");
    let values: Vec<_> = rows(&site.path("set.ndjson"))
        .iter()
        .map(|row| [&row["of_user.n"], &row["of_item.n"], &row["of_item.dwell"]].map(Value::clone))
        .collect();
    let expected = serde_json::json!([[3, 2, 5], [1, 1, 9], [1, 0, null]]);
    assert_eq!(serde_json::json!(values), expected);
}
