//! Training sets beside their values: wide spines, labels, versions, what files say of themselves, what is
//! LATE or erased, and calls that are taken up again.

mod files;
mod taken_up;

use std::fs;
use std::path::Path;

use millrace_e2e_tests::Finished;
use serde_json::{Value, json};

use crate::fixture::{CLICKS, PROFILES, Site, Topology, catalog, on_all, on_both_overnight};

const VIEW: &str = "user_activity";
const LATEST: [&str; 2] = ["--known-at", "latest"];

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
    let profiles = [PROFILES, "p1,1,2026-03-01T09:00:00Z,,,DE,3"];
    assert_eq!(site.publish("profiles", &profiles).accepted, 1);
    assert_eq!(site.publish("clicks", &clicks).accepted, 4);
    site
}

fn apply(site: &Site, catalog: &Path) {
    let applied = site.cli().run(["apply".as_ref(), catalog.as_os_str()]);
    applied.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
}

fn train(site: &Site, args: &[&str], out: &str) -> Finished {
    let out = site.path(out).display().to_string();
    let args = ["-o", "json", "training"].iter().chain(args).copied();
    site.cli().run(args.chain(["--out", out.as_str()])).expect("it ends")
}

/// Makes a set; what was told.
#[track_caller]
fn made(site: &Site, args: &[&str], out: &str) -> Value {
    train(site, args, out).expect_code(0).expect("made").json().expect("JSON")
}

/// Makes a set of these lines of a spine as NDJSON, and gives its rows.
#[track_caller]
fn rows_of(site: &Site, spine: &Path, more: &[&str]) -> Vec<Value> {
    let spine = spine.display().to_string();
    made(site, &[&[VIEW, "--spine", &spine][..], &LATEST, more].concat(), "rows.ndjson");
    rows(&site.path("rows.ndjson"))
}

fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("the set");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The columns of a set that is CSV.
fn header(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("the set");
    text.lines().next().expect("a header").to_owned()
}

on_both_overnight!(rows_of_a_spine_may_be_wide);
/// Labels of a megabyte together would be more than a server takes in a message.
fn rows_of_a_spine_may_be_wide(on: Topology) {
    const ROWS: usize = 3_000;
    let site = site(on);
    let label = |row: usize| format!("{row:01000}");
    let mut lines = vec!["label,user_id,at".to_owned()];
    lines.extend((0..ROWS).map(|row| format!("{},{},2026-03-01T12:00:01Z", label(row), row % 3)));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let rows = rows_of(&site, &site.file("wide.csv", &lines), &["--features", "clicks"]);
    assert_eq!(rows.len(), ROWS);
    for (row, found) in rows.iter().enumerate() {
        let clicks = [0, 3, 1][row % 3];
        let label = label(row);
        let at = "2026-03-01T12:00:01Z";
        let expected = json!({"label": label, "user_id": row % 3, "at": at, "clicks": clicks});
        assert_eq!(found, &expected);
    }
}

on_both_overnight!(other_columns_of_ndjson_are_kept_as_text);
fn other_columns_of_ndjson_are_kept_as_text(on: Topology) {
    let site = site(on);
    let spine = site.file(
        "spine.ndjson",
        &[
            "",
            r#"{"zeta": 1, "user_id": 1, "label": "a \"b\"", "at": "2026-03-01T12:00:01Z", "more": null}"#,
            r#"{"user_id": 2, "at": 1772366401000000, "zeta": true, "more": {"x": [1, 2.50]}}"#,
            r#"{"user_id": 7, "at": 5, "zeta": 1.50, "label": "", "more": "text"}"#,
        ],
    );
    let rows = rows_of(&site, &spine, &["--features", "clicks"]);
    let other = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(other("zeta"), [json!("1"), json!("true"), json!("1.50")]);
    assert_eq!(other("label"), [json!("a \"b\""), Value::Null, json!("")]);
    assert_eq!(other("more"), [Value::Null, json!(r#"{"x": [1, 2.50]}"#), json!("text")]);
    assert_eq!(other("clicks"), [json!(3), json!(1), json!(0)]);
    let spine = spine.display().to_string();
    made(
        &site,
        &[&[VIEW, "--spine", &spine, "--features", "clicks"][..], &LATEST].concat(),
        "s.csv",
    );
    assert_eq!(header(&site.path("s.csv")), "zeta,user_id,label,at,more,clicks", "in their order");

    // A field that no column was made for would be lost.
    let late = site.file(
        "late.ndjson",
        &[r#"{"user_id": 1, "at": 5}"#, r#"{"user_id": 2, "at": 5, "label": "yes"}"#],
    );
    let late = late.display().to_string();
    let refused = train(&site, &[&[VIEW, "--spine", &late][..], &LATEST].concat(), "late.csv");
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in ["line 2", "field label", "the first line names them all"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    assert!(!site.path("late.csv").exists());
}

on_both_overnight!(other_columns_of_parquet_and_arrow_are_kept_with_their_types);
/// What one set has as features is what another has as labels.
fn other_columns_of_parquet_and_arrow_are_kept_with_their_types(on: Topology) {
    let site = site(on);
    let labels = ["--features", "clicks,country,last_categories"];
    for form in ["parquet", "arrow"] {
        let name = format!("labels.{form}");
        made(&site, &[&[VIEW, "--events"][..], &LATEST, &labels].concat(), &name);
        let rows = rows_of(&site, &site.path(&name), &["--features", "spend"]);
        let of = |id: &str| rows.iter().find(|row| row["id"] == id).expect("its row").clone();
        let expected = json!({
            "user": 1, "at": "2026-03-01T12:00:00Z", "id": "e4", "clicks": 2, "country": "DE",
            "last_categories": ["b", "a"], "spend": 3.75,
        });
        assert_eq!((rows.len(), of("e4")), (4, expected), "{form}");
        assert_eq!(of("e3")["country"], Value::Null);
    }
}

on_both_overnight!(a_set_without_rows_has_all_columns);
fn a_set_without_rows_has_all_columns(on: Topology) {
    let site = site(on);
    let csv = site.file("none.csv", &["user_id,label,at"]);
    let none = ["--events", "--from", "2030-01-01T00:00:00Z", "--features", "country"];
    made(&site, &[&[VIEW][..], &none, &LATEST].concat(), "none.parquet");
    for (spine, columns) in
        [(csv, "user_id,label,at,clicks"), (site.path("none.parquet"), "user,at,id,country,clicks")]
    {
        let spine = spine.display().to_string();
        let args = [&[VIEW, "--spine", &spine, "--features", "clicks"][..], &LATEST].concat();
        assert_eq!(made(&site, &args, "set.csv")["rows"], 0);
        assert_eq!(header(&site.path("set.csv")), columns);
        // A name that stands twice is refused whether there are rows or not.
        let features = [&[VIEW, "--spine", &spine][..], &LATEST].concat();
        let refused = train(&site, &features, "twice.csv");
        assert_eq!(refused.code == 0, !columns.contains("country"), "{refused:?}");
    }
}

on_both_overnight!(a_version_is_made_again_after_its_view_was_dropped);
/// A view that another catalog dropped is still there in the one that the set was made under.
fn a_version_is_made_again_after_its_view_was_dropped(on: Topology) {
    let site = site(on);
    let spine = site.file("spine.csv", &["user_id,at", "1,2026-03-01T12:00:01Z"]);
    let spine = spine.display().to_string();
    let args = [&[VIEW, "--spine", &spine][..], &LATEST].concat();
    let events = [&[VIEW, "--events"][..], &LATEST].concat();
    let version = made(&site, &args, "first.csv")["version"].as_str().expect("one").to_owned();
    made(&site, &events, "events.csv");
    let source = fs::read_to_string(catalog("clickprofile.yaml")).expect("it is there");
    let other = source.replace("user_activity:", "other_activity:");
    apply(&site, &site.file("other.yaml", &other.lines().collect::<Vec<_>>()));
    for args in [&args, &events] {
        let refused = train(&site, args, "gone.csv");
        assert!(refused.stderr.contains("no view called \"user_activity\""), "{}", refused.stderr);
    }
    let version = ["--set-version", version.as_str()];
    for (args, first) in [(&args, "first.csv"), (&events, "events.csv")] {
        made(&site, &[args, &version[..]].concat(), "again.csv");
        let files = ["again.csv", first].map(|name| fs::read(site.path(name)).expect("the set"));
        assert!(files[0] == files[1], "{first}");
    }
    // A view of today is none of then.
    let args = [&["other_activity", "--spine", &spine][..], &LATEST, &version].concat();
    let refused = train(&site, &args, "none.csv");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("other_activity"), "{}", refused.stderr);
}

on_both_overnight!(rows_that_are_empty_are_told_of_all_rows_of_all_views);
fn rows_that_are_empty_are_told_of_all_rows_of_all_views(on: Topology) {
    let site = on.bare_site(|_| {});
    apply(&site, &catalog("shop.yaml"));
    let header = "event_id,user_id,item_id,ts,price,note";
    let clicks = ["a,1,x,10,1.5,", "b,2,y,20,1.5,"];
    assert_eq!(site.publish("clicks", &[&[header][..], &clicks].concat()).accepted, 2);
    let spine = site.file("spine.csv", &["user,item,at", "1,x,50", "2,x,60"]);
    let spine = spine.display().to_string();
    let args = ["user_activity", "item_activity", "--spine", &spine, "--known-at", "at-event"];
    let done = train(&site, &args, "set.ndjson").expect_code(0).expect("made");
    let told = done.json().expect("JSON");
    let counts = ["rows", "counted_rows", "unknown"].map(|name| told[name].clone());
    assert_eq!(counts, [json!(2), json!(2), json!(4)], "{told}");
    let share = "100.0 % of the rows, counted once for each view, are empty";
    assert!(done.stderr.contains(share), "{}", done.stderr);
}

on_all!(facts_judged_late_count_where_they_are_asked_for);
/// A fact that came too late to be repaired is part of a set that asks for it, and of no other.
fn facts_judged_late_count_where_they_are_asked_for(on: Topology) {
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
    features: {clicks: {count: {}}, spend: {sum: price}}
";
    const HEADER: &str = "event_id,user_id,ts,price";
    let site = on.bare_site(|_| {});
    site.share_slots();
    apply(&site, &site.file("hold.yaml", &[CATALOG]));
    let first = [HEADER, "a,7,2024-03-01T10:00:00Z,1.5", "b,7,2024-03-01T12:00:00Z,2.0"];
    assert_eq!(site.publish("clicks", &first).accepted, 2);
    let report = site.publish("clicks", &[HEADER, "c,7,2024-03-01T10:30:00Z,4.0"]);
    assert_eq!(report.late, 1, "{report:?}");
    let spine = site.file("spine.csv", &["user,at", "7,2024-03-01T13:00:00Z"]);
    let with = ["--include-late"];
    for (more, clicks, spend) in [(&[][..], 2, 3.5), (&with[..], 3, 7.5)] {
        let row = rows_of(&site, &spine, more)[0].clone();
        assert_eq!((&row["clicks"], &row["spend"]), (&json!(clicks), &json!(spend)), "{more:?}");
        let events = [&[VIEW, "--events"][..], &LATEST, more].concat();
        assert_eq!(made(&site, &events, "events.csv")["rows"], clicks, "{more:?}");
    }
}

on_all!(nothing_of_an_erased_entity_is_in_a_set);
/// Neither its own rows nor what others had of it are made again, by any version, also after a restart.
fn nothing_of_an_erased_entity_is_in_a_set(on: Topology) {
    const NOTE: &str = "a note of user 42";
    let mut site = on.bare_site(|options| options.slots = Some(4));
    apply(&site, &catalog("shop.yaml"));
    let clicks = [
        "event_id,user_id,item_id,ts,price,note".to_owned(),
        format!("e1,42,book,2024-03-01T10:00:00Z,1.5,{NOTE}"),
        format!("e2,42,cup,2024-03-01T11:00:00Z,2.0,{NOTE}"),
        "e3,7,book,2024-03-01T10:30:00Z,4.0,seven".to_owned(),
    ];
    let clicks = clicks.each_ref().map(String::as_str);
    let profiles = ["version_id,user_id,valid_from,country", "p1,42,2024-03-01T09:00:00Z,FR"];
    assert_eq!(site.publish("profiles", &profiles).accepted, 1);
    assert_eq!(site.publish("clicks", &clicks).accepted, 3);
    let at = "2024-03-02T00:00:00Z";
    let lines = [format!("42,book,{at}"), format!("7,cup,{at}")];
    let lines = ["user,item,at", &lines[0], &lines[1]];
    let spine = site.file("spine.csv", &lines).display().to_string();
    let views = ["user_activity", "item_activity", "--spine", &spine, "--known-at", "latest"];
    let told = made(&site, &views, "before.ndjson");
    let values = |path: &Path| -> Value {
        let columns = ["user_activity.clicks", "user_activity.country", "item_activity.clicks"];
        json!(rows(path).iter().map(|row| columns.map(|c| row[c].clone())).collect::<Vec<_>>())
    };
    assert_eq!(values(&site.path("before.ndjson")), json!([[2, "FR", 2], [1, null, 1]]));
    let before = ["--set-version", told["version"].as_str().expect("a version")];

    let receipt = site.cli().json(["erase", "user", "42"]).expect("erased");
    assert_eq!(receipt["done"], true, "{receipt}");
    for round in ["at once", "after a restart"] {
        for version in [&[][..], &before] {
            made(&site, &[&views[..], version].concat(), "after.ndjson");
            let text = fs::read_to_string(site.path("after.ndjson")).expect("the set");
            assert!(!text.contains(NOTE), "{round}: {text}");
            let expected = json!([[0, null, 1], [1, null, 0]]);
            let found = values(&site.path("after.ndjson"));
            assert_eq!(found, expected, "{round}, {version:?}");
            for view in ["user_activity", "item_activity"] {
                let events = [&[view, "--events"][..], &LATEST, version].concat();
                made(&site, &events, "events.ndjson");
                let rows = rows(&site.path("events.ndjson"));
                let found: Vec<_> = rows.iter().map(|row| row["id"].clone()).collect();
                assert_eq!(found, ["e3"], "{round}, {view}, {version:?}");
            }
        }
        site.crash_and_restart();
    }
}
