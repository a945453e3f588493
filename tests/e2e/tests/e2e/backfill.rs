//! A feature that is added later: right offline at once, BACKFILLING online until the log was read for
//! it, and right from then on; whatever is killed meanwhile.

use std::path::Path;
use std::time::Duration;

use millrace_e2e_tests::{Apart, ApartOptions, Cli, wait_until};
use millrace_test_servers::{Cassandra, Redis, RedisOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::crash::{USERS, clicks};
use crate::fixture::{CLICKS, PROFILES, Site, Topology, catalog, on_both, pair};

const CLICKS_FIRST: usize = 6_000;
/// All clicks lie within the windows that end here.
const AT: &str = "2024-03-01T12:00:00Z";
const SLOTS: u32 = 4;
/// A part of the clicks.
const AT_HAND_BYTES: u64 = 32 * 1_024;
/// A slot takes some seconds.
const BYTES_PER_SECOND: u64 = 40_000;
const DONE_WITHIN: Duration = Duration::from_secs(120);

/// The features that come with the second version.
const ADDED: &str = "      mean_price: {mean: price}
      clicks_30d: {count: {}, window: 30d}
      books: {count: {}, where: \"clicks.category == 'book'\"}
      french: {count: {}, where: \"profiles.country == 'FR'\"}
  later:
    entity: user
    events: clicks
    features: {dwell: {max: dwell_ms}}
";

/// What is told of a view's features of every user.
fn told(cli: &Cli, view: &str) -> Vec<Value> {
    let users: Vec<String> = (0..USERS).map(|user| user.to_string()).collect();
    let args = [view, "--at", AT].into_iter().chain(users.iter().map(String::as_str));
    cli.get(args).expect("read")
}

fn status_of(row: &Value, feature: &str) -> String {
    row["features"][feature]["status"].as_str().unwrap_or_default().to_owned()
}

/// The clicks of each user, of the first so many.
fn counts(total: usize) -> Vec<Value> {
    (0..USERS).map(|user| json!((0..total).filter(|n| n % USERS == user).count())).collect()
}

fn values(rows: &[Value], feature: &str) -> Vec<Value> {
    rows.iter().map(|row| row["features"][feature]["value"].clone()).collect()
}

fn publish(cli: &Cli, folder: &Path, range: std::ops::Range<usize>) {
    let file = folder.join(format!("clicks-{}.csv", range.start));
    let lines: Vec<String> = std::iter::once(CLICKS.to_owned()).chain(clicks(range)).collect();
    std::fs::write(&file, lines.join("\n") + "\n").expect("a file can be written");
    let report = cli.publish([pair("clicks", &file)]).expect("published");
    assert_eq!(report.sent, report.accepted, "{report:?}");
}

/// Publishes a history, most of which leaves.
fn publish_history(cli: &Cli, folder: &Path) {
    let profile = |user: usize| format!("p{user},{user},2024-02-01T00:00:00Z,,,FR,3");
    let lines = std::iter::once(PROFILES.to_owned()).chain((0..USERS).map(profile));
    let profiles = folder.join("profiles.csv");
    let lines: Vec<String> = lines.collect();
    std::fs::write(&profiles, lines.join("\n") + "\n").expect("a file can be written");
    cli.publish([pair("profiles", &profiles)]).expect("published");
    for part in 0..6 {
        publish(cli, folder, part * 1_000..(part + 1) * 1_000);
    }
}

fn apply_second(cli: &Cli, folder: &Path) {
    let first = std::fs::read_to_string(catalog("clickprofile.yaml")).expect("it is there");
    let second = folder.join("second.yaml");
    std::fs::write(&second, first + ADDED).expect("a file can be written");
    let applied = cli.run([Path::new("apply"), &second]);
    applied.and_then(|done| done.expect_code(0)).expect("the second version is applied");
}

/// Slots whose backfill is not done; nothing while a slot has no owner.
fn slots_left(cli: &Cli) -> Option<u64> {
    let status = cli.json(["status"]).ok()?;
    Some(status["backfill"]["slots_left"].as_u64().unwrap_or(0))
}

fn wait_for_slots_left(cli: &Cli, most: u64) {
    wait_until("the backfill", DONE_WITHIN, || slots_left(cli).filter(|left| *left <= most));
}

/// Offline every value is there at once.
fn assert_trained(cli: &Cli, folder: &Path) {
    let spine = folder.join("spine.csv");
    let row = |user: usize| format!("{user},{AT}");
    let lines: Vec<String> =
        std::iter::once("user_id,at".to_owned()).chain((0..USERS).map(row)).collect();
    std::fs::write(&spine, lines.join("\n") + "\n").expect("a file can be written");
    let out = folder.join("set.ndjson");
    let args = ["training", "user_activity", "--known-at", "latest", "--spine"];
    let args = args.map(Path::new).into_iter().chain([&*spine, Path::new("--out"), &*out]);
    cli.run(args).and_then(|done| done.expect_code(0)).expect("a training set");
    let text = std::fs::read_to_string(&out).expect("it was written");
    let rows: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for feature in ["clicks", "clicks_30d", "books", "french"] {
        let column: Vec<Value> = rows.iter().map(|row| row[feature].clone()).collect();
        assert_eq!(column, counts(CLICKS_FIRST), "{feature}");
    }
}

/// While slots are left: what was there before is served as ever, and what is new is whole or not there.
fn assert_served_meanwhile(cli: &Cli, total: usize) -> usize {
    let rows = told(cli, "user_activity");
    assert_eq!(values(&rows, "clicks"), counts(total), "the features of before follow the facts");
    assert!(rows.iter().all(|row| row["rebuilding"] == false), "nobody waits for a rebuild");
    let mut backfilling = 0;
    for (row, count) in rows.iter().zip(counts(total)) {
        for feature in ["clicks_30d", "books", "french"] {
            match status_of(row, feature).as_str() {
                "BACKFILLING" => {
                    backfilling += 1;
                    assert_eq!(row["features"][feature]["value"], Value::Null);
                    assert_eq!(row["final"], false);
                }
                "PRESENT" => assert_eq!(row["features"][feature]["value"], count, "{feature}"),
                other => panic!("{feature} is {other}"),
            }
        }
    }
    for row in told(cli, "later") {
        let (status, value) = (status_of(&row, "dwell"), &row["features"]["dwell"]["value"]);
        assert!((status == "PRESENT") == value.is_i64(), "{row}");
    }
    backfilling
}

/// Nothing is left to be filled in, and all of it is what the log says.
fn assert_filled(cli: &Cli, total: usize) {
    wait_for_slots_left(cli, 0);
    let rows = wait_until("stored heads that know", DONE_WITHIN, || {
        let rows = told(cli, "user_activity");
        rows.iter().all(|row| status_of(row, "books") == "PRESENT").then_some(rows)
    });
    for feature in ["clicks", "clicks_30d", "books", "french"] {
        assert_eq!(values(&rows, feature), counts(total), "{feature}");
    }
    let parity = cli.json(["parity", "--at", AT]).expect("nothing differs");
    assert_eq!(parity["mismatches"], 0, "{parity}");
    for view in parity["views"].as_array().expect("views") {
        assert_eq!(view["backfilling"], 0, "{parity}");
        assert_eq!(view["entities"], USERS, "{parity}");
    }
}

#[test]
fn a_feature_that_comes_later_is_filled_in_through_a_kill() {
    let mut site = Site::with(|options| {
        options.slots = Some(SLOTS);
        options.at_hand_bytes = Some(AT_HAND_BYTES);
        options.backfill_bytes_per_second = Some(BYTES_PER_SECOND);
    });
    let folder = site.path("");
    publish_history(&site.cli(), &folder);
    apply_second(&site.cli(), &folder);
    assert!(assert_served_meanwhile(&site.cli(), CLICKS_FIRST) > 0);
    let told = site.cli().json(["status", "--slots"]).expect("a status");
    assert_eq!(told["backfill"]["catalog_version"], 2, "{told}");
    assert!(told["backfill"]["done"].as_f64().is_some_and(|done| done < 1.0), "{told}");
    assert_trained(&site.cli(), &folder);
    publish(&site.cli(), &folder, CLICKS_FIRST..CLICKS_FIRST + 200);
    assert!(assert_served_meanwhile(&site.cli(), CLICKS_FIRST + 200) > 0);
    // The slot that was done last may not be marked yet; the ones before are.
    wait_for_slots_left(&site.cli(), 2);
    site.crash_and_restart();
    let left = slots_left(&site.cli()).expect("it serves");
    assert!((1..=3).contains(&left), "{left} slots are left after the kill");
    assert_served_meanwhile(&site.cli(), CLICKS_FIRST + 200);
    assert_filled(&site.cli(), CLICKS_FIRST + 200);
    assert_eq!(site.stop(), 0);
    site.start_again();
    assert_eq!(slots_left(&site.cli()), Some(0), "it is done for good");
    assert_filled(&site.cli(), CLICKS_FIRST + 200);
}

#[test]
fn stored_heads_are_filled_in_where_services_run_apart_through_a_kill() {
    fill_in_apart(|_| {}, kill_join_behind_a_slot);
}

/// The slots of the one that is killed go to the other, which goes on.
#[test]
fn a_backfill_goes_on_where_its_slots_go() {
    fill_in_apart(|options| options.more = vec!["join-1"], kill_join_behind_a_slot);
}

/// Two of each on a database and a Redis, and one of each kind dies while slots are left.
#[test]
fn a_backfill_goes_on_through_kills_on_the_cluster() {
    let redis = Redis::start(RedisOptions::default()).expect("a Redis");
    let env = crate::cql::env(Cassandra::shared(), "backfill");
    let options = |options: &mut ApartOptions| {
        options.env = env.to_vec();
        options.env.push(("MILLRACE_REDIS", redis.url()));
        options.more = vec!["store-writer-1", "join-1", "ingest-1", "feature-serving-1"];
        options.backfill_bytes_per_second = Some(BYTES_PER_SECOND / 2);
    };
    fill_in_apart(options, |services, cli| {
        for victim in ["feature-serving", "ingest-1", "store-writer", "join-1"] {
            services.kill(victim).expect("it can be killed");
            services.start_again(victim).expect("it starts again");
            let left = wait_until("a status", DONE_WITHIN, || slots_left(cli));
            assert!(left > 0, "the backfill was over when {victim} died");
        }
    });
}

fn kill_join_behind_a_slot(services: &mut Apart, cli: &Cli) {
    wait_for_slots_left(cli, 3);
    services.kill("join").expect("it can be killed");
    services.start_again("join").expect("it starts again");
}

/// Services that run apart, of which some die while slots are left.
fn fill_in_apart(change: impl FnOnce(&mut ApartOptions), kill: impl FnOnce(&mut Apart, &Cli)) {
    let folder = TempDir::new().expect("a temporary folder");
    let mut options = ApartOptions::on(&folder.path().join("data"));
    options.slots = Some(SLOTS);
    options.at_hand_bytes = Some(AT_HAND_BYTES);
    options.backfill_bytes_per_second = Some(BYTES_PER_SECOND);
    change(&mut options);
    let mut services = Apart::start(&options).expect("the services start");
    let cli = services.cli();
    let first = cli.run([Path::new("apply"), &catalog("clickprofile.yaml")]);
    first.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    publish_history(&cli, folder.path());
    services.settle();
    apply_second(&cli, folder.path());
    wait_until("the second version", DONE_WITHIN, || slots_left(&cli).filter(|left| *left > 0));
    for reader in services.readers() {
        // One that does not know a feature looks for the version that has it.
        reader.get(["user_activity", "1", "--features", "clicks_30d"]).expect("read");
    }
    assert!(assert_served_meanwhile(&cli, CLICKS_FIRST) > 0);
    kill(&mut services, &cli);
    publish(&cli, folder.path(), CLICKS_FIRST..CLICKS_FIRST + 200);
    services.settle();
    assert_served_meanwhile(&cli, CLICKS_FIRST + 200);
    assert_filled(&cli, CLICKS_FIRST + 200);
}

/// Users of a slot that is filled in in several batches, and the clicks of each.
const MANY_USERS: usize = 3_500;
const CLICKS_EACH: usize = 6;
/// They take 2.0 MB.
const AT_HAND: u64 = 1_700_000;

/// The part of the entities that is done.
fn done(cli: &Cli) -> Option<f64> {
    let status = cli.json(["status"]).ok()?;
    Some(status["backfill"]["done"].as_f64().unwrap_or(1.0))
}

on_both!(a_slot_of_many_entities_goes_on_in_its_midst);
fn a_slot_of_many_entities_goes_on_in_its_midst(on: Topology) {
    let mut site = on.site_with(|options| {
        options.slots = Some(1);
        // A third of the clicks leaves.
        options.at_hand_bytes = Some(AT_HAND);
        options.backfill_bytes_per_second = Some(1_000_000);
    });
    let click = |n: usize| {
        let (user, at) = (n % MANY_USERS, 1_709_280_000_000_000_u64 + n as u64 * 100_000);
        format!("e{n},{user},{at},0,,5,0.1,book")
    };
    let clicks = (0..MANY_USERS * CLICKS_EACH).map(click);
    let lines: Vec<String> = std::iter::once(CLICKS.to_owned()).chain(clicks).collect();
    let file = site.file("clicks.csv", &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let report = site.cli().publish([pair("clicks", &file)]).expect("published");
    assert_eq!(report.sent, report.accepted, "{report:?}");
    wait_until("clicks to leave", DONE_WITHIN, || {
        let status = site.cli().json(["status"]).ok()?;
        (status["at_hand_bytes"].as_u64()? <= AT_HAND).then_some(())
    });
    apply_second(&site.cli(), &site.path(""));
    let reached = |cli: &Cli| done(cli).filter(|done| (0.2..1.0).contains(done));
    let before = wait_until("a part of the slot", DONE_WITHIN, || reached(&site.cli()));
    let status = site.cli().json(["status"]).expect("a status");
    let left = status["backfill"]["seconds_left"].as_u64();
    assert!(left.is_some_and(|left| (1..600).contains(&left)), "{status}");
    // A mark may take a second to say so.
    let least =
        wait_until("more of it", DONE_WITHIN, || done(&site.cli()).filter(|done| *done > before));
    assert!(least < 1.0, "it is done already");
    site.crash_and_restart();
    let after = done(&site.cli()).expect("it serves");
    assert!(after >= before, "{after} after the kill, {before} before it");
    wait_for_slots_left(&site.cli(), 0);
    let users: Vec<String> = (0..MANY_USERS).map(|user| user.to_string()).collect();
    for some in users.chunks(1_000) {
        let args = ["user_activity", "--at", AT].into_iter().chain(some.iter().map(String::as_str));
        for row in site.settled().get(args).expect("read") {
            for feature in ["clicks", "clicks_30d", "books"] {
                let value = &row["features"][feature]["value"];
                assert_eq!(*value, CLICKS_EACH, "{feature} of {row}");
            }
        }
    }
}
