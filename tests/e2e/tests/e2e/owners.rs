//! `millrace status` and `millrace doctor` of services that share a database: who owns slots, who is gone,
//! and what to do.

use std::time::Duration;

use millrace_e2e_tests::{Finished, millrace, run_bounded, wait_until};
use millrace_test_servers::{Cassandra, CassandraOptions, Redis, RedisOptions};
use serde_json::{Value, json};

use crate::apart::Place;
use crate::cql::refused::{assert_refused, store_writer};
use crate::fixture::pair;

/// A node is taken for dead after 4 s; a machine that builds beside the tests is slow.
const MOVED_WITHIN: Duration = Duration::from_secs(60);
/// Cassandra makes its first role only once it takes calls.
const ROLE_WITHIN: Duration = Duration::from_secs(60);
/// No look takes longer, but where nodes are gone it is tried for a while.
const LOOKED_WITHIN: Duration = Duration::from_secs(120);

/// `millrace doctor -o json` with these arguments.
pub(crate) fn doctor(args: &[&str]) -> (Finished, Value) {
    let mut command = millrace().expect("the binary");
    command.args(["doctor", "-o", "json"]).args(args);
    let finished = run_bounded(&mut command, b"", LOOKED_WITHIN).expect("it ends");
    let report = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{finished:?}"));
    (finished, report)
}

/// The findings of a report in a state, each as its check, what was found and what to do.
pub(crate) fn findings(report: &Value, state: &str) -> Vec<String> {
    let all = report["checks"].as_array().expect("checks");
    let of_state = all.iter().filter(|finding| finding["state"] == state);
    of_state.map(|f| format!("{}: {} next: {}", f["check"], f["found"], f["next"])).collect()
}

/// The look fails, and of what failed says all of these words.
#[track_caller]
fn assert_fails(args: &[&str], words: &[&str]) {
    let (finished, report) = doctor(args);
    assert_eq!(finished.code, 1, "{finished:?}");
    let failed = findings(&report, "fail").join("\n");
    for word in words {
        assert!(failed.contains(word), "{word} is not in: {failed}");
    }
    assert!(finished.stderr.contains("do what is said beside each problem"), "{finished:?}");
}

#[track_caller]
fn assert_all_ok(args: &[&str]) -> Value {
    let (finished, report) = doctor(args);
    assert_eq!(finished.code, 0, "{finished:?}");
    let all = report["checks"].as_array().expect("checks").len();
    assert_eq!(findings(&report, "ok").len(), all, "{report:#}");
    assert_eq!((&report["clean"], &report["state"]), (&json!(true), &json!("ok")));
    report
}

fn node<'a>(status: &'a Value, name: &str) -> &'a Value {
    let nodes = status["join_nodes"].as_array().expect("join nodes");
    nodes.iter().find(|node| node["node"] == name).unwrap_or_else(|| panic!("{name}: {status}"))
}

/// The state, whether Millrace serves or not.
fn status(place: &Place) -> Value {
    let finished = place.cli().run(["-o", "json", "status"]).expect("it ends");
    finished.json().unwrap_or_else(|error| panic!("{error:?}: {finished:?}"))
}

fn settled(place: &Place, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, MOVED_WITHIN, || {
        let status = place.cli().json(["status"]).ok()?;
        is_so(&status).then_some(status)
    })
}

/// Both nodes own slots, with a lease, a run and epochs, and each slot is told with its owner.
fn assert_shared(status: &Value) {
    let mut slots = 0;
    for name in ["join", "join-1"] {
        let node = node(status, name);
        let owned = status["slots"].as_array().expect("slots");
        let owned = owned.iter().filter(|slot| slot["node"] == name).count() as u64;
        assert_eq!(node["slots"].as_u64(), Some(owned), "{node}");
        slots += owned;
        let lease = &node["lease"];
        assert_eq!((&lease["state"], &node["answers"]), (&json!("held"), &json!(true)), "{node}");
        assert_eq!(lease["incarnation"], node["incarnation"], "{node}");
        let left = lease["seconds_left"].as_f64().expect("a number");
        assert!((0.0..=5.0).contains(&left), "{node}");
        assert!(node["epochs"][0].as_u64().is_some_and(|epoch| epoch >= 1), "{node}");
        assert_eq!(node["incarnation"].as_str().map(str::len), Some(16), "{node}");
    }
    assert_eq!(slots, 64);
    assert_eq!((&status["unreachable"], &status["unowned"]), (&json!([]), &json!([])));
}

/// While a node that was killed is not replaced yet it is named, with its slots and what to do.
fn assert_gone(place: &Place) {
    let status = wait_until("a status that names who is gone", MOVED_WITHIN, || {
        let status = status(place);
        (node(&status, "join")["answers"] == false).then_some(status)
    });
    let gone = &status["unreachable"][0];
    assert_eq!((&gone["service"], &gone["node"]), (&json!("join"), &json!("join")), "{status}");
    assert_eq!(gone["next"], "start it: millrace serve join", "{status}");
    assert!(node(&status, "join")["lease"]["state"] != "fenced", "{status}");
    let unowned = status["unowned"].as_array().expect("slots");
    assert_eq!(status["unowned_slots"].as_u64(), Some(unowned.len() as u64), "{status}");
    assert!(unowned.len() >= 24, "{status}");
    for slot in unowned {
        assert_eq!((&slot["reason"], &slot["node"]), (&json!("silent"), &json!("join")), "{slot}");
        let number = slot["slot"].as_u64().expect("a number") as usize;
        assert_eq!(status["slots"][number]["node"], "join", "{status}");
    }
    let table = place.cli().run(["-o", "table", "status"]).expect("it ends").stdout;
    for told in
        ["unreachable        join join at http://127.0.0.1:", "join does not answer: another"]
    {
        // By now it may be over.
        assert!(table.contains(told) || !table.contains("without owner"), "{told}: {table}");
    }
}

#[test]
fn a_join_node_that_dies_is_named_with_its_slots_and_then_its_successor() {
    let database = Cassandra::shared();
    let options = RedisOptions { args: vec!["--maxmemory".into(), "64mb".into()], password: None };
    let mut redis = Redis::start(options).expect("a Redis");
    let mut env = crate::cql::env(database, "owners").to_vec();
    env.push(("MILLRACE_REDIS", redis.url()));
    let mut place = Place::made(|options| {
        options.env = env;
        options.more = vec!["join-1"];
    });
    let (address, url) = (database.address(), redis.url());
    let of = |keyspace: &'static str| -> Vec<&str> {
        vec!["--cql", &address, "--cql-keyspace", keyspace, "--redis", &url]
    };
    let ours = of("owners");
    let file = place.clicks("clicks.csv", 0..500);
    assert_eq!(place.cli().publish([pair("clicks", &file)]).expect("published").accepted, 500);
    let owns = |status: &Value, name: &str| node(status, name)["slots"].as_u64().unwrap_or(0);
    let shared = settled(&place, "both nodes", |status| {
        owns(status, "join") >= 24 && owns(status, "join-1") >= 24
    });
    assert_shared(&shared);
    let report = assert_all_ok(&ours);
    let found = findings(&report, "ok").join("\n");
    for word in ["join (", "join-1 (", "64 of 64 are owned", "noeviction", "1 of 1 can be reached"]
    {
        assert!(found.contains(word), "{word}: {found}");
    }

    place.services.kill("join").expect("it can be killed");
    assert_gone(&place);
    let moved = settled(&place, "its successor", |status| {
        // Who owns nothing is not missed.
        owns(status, "join-1") == 64 && status["unreachable"] == json!([])
    });
    let slots = moved["slots"].as_array().expect("slots");
    assert!(slots.iter().all(|slot| slot["node"] == "join-1"), "{moved}");
    let gone = node(&moved, "join");
    assert_eq!((&gone["lease"]["state"], &gone["slots"]), (&json!("fenced"), &json!(0)), "{gone}");
    let found = findings(&assert_all_ok(&ours), "ok").join("\n");
    assert!(found.contains("join-1 (64 slots"), "{found}");

    // Nothing of this touches anything: in the end all is as it was.
    assert_fails(&of("nowhere"), &["keyspace", "there is no keyspace nowhere", "--cql-keyspace"]);
    assert_fails(&of("nowhere"), &["there is no keyspace nowhere"]);
    assert_fails(&of("system_auth"), &["tables", "system_auth has no table", "--cql-keyspace"]);
    let other = [&ours[..], &["--cluster", "other", "--slots", "8"]].concat();
    assert_fails(&other, &["belongs to cluster", "--cluster", "made with 64 slots", "--slots"]);
    redis.kill().expect("it can be killed");
    assert_fails(&ours, &["redis", &url, "start Redis", "MILLRACE_REDIS"]);
    redis.start_again().expect("it starts again");
    assert_all_ok(&ours);
}

#[test]
fn a_database_that_lets_nobody_in_syncs_too_late_or_is_gone_is_told_with_the_setting() {
    let mut database = Cassandra::start(CassandraOptions {
        commit_log_sync: "commitlog_sync: periodic\ncommitlog_sync_period: 10s\n\
                          authenticator: PasswordAuthenticator",
        ..CassandraOptions::default()
    })
    .expect("a Cassandra");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (address, file) = (database.address(), folder.path().join("password"));
    let path = file.display().to_string();
    let known = ["--cql", &address, "--cql-user", "cassandra", "--cql-password-file", &path];
    std::fs::write(&file, "wrong\n").expect("a file can be written");
    let setting = ["database", "refuses user and password", "--cql-user", "--cql-password-file"];
    assert_fails(&known, &setting);
    assert_fails(&known[..2], &setting);
    let makes = [&known[..], &["--cql-create", "datacenter1=1"]].concat();
    let refused = store_writer(&makes);
    assert_refused(&refused, &["the database refuses user and password"]);
    assert!(!refused.stderr.contains("wrong"), "no password is shown: {refused:?}");
    std::fs::write(&file, "cassandra\n").expect("a file can be written");
    let (finished, report) = wait_until("the first role", ROLE_WITHIN, || {
        let (finished, report) = doctor(&known);
        (report["checks"][0]["check"] == "nodes").then_some((finished, report))
    });
    assert_eq!(finished.code, 1, "{finished:?}");
    let failed = findings(&report, "fail").join("\n");
    assert!(failed.contains("commitlog_sync = periodic"), "{failed}");
    assert!(failed.contains("there is no keyspace millrace"), "{failed}");
    assert!(!finished.stdout.contains("wrong"), "no password is shown: {finished:?}");
    assert_refused(&store_writer(&makes), &["commitlog_sync = periodic"]);
    assert_fails(&known, &["there is no keyspace millrace"]);
    database.kill().expect("it can be killed");
    assert_fails(&known, &["database", &address, "start the database", "MILLRACE_CQL"]);
}
