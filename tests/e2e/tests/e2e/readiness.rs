//! Readiness on the admin ports: each service is ready while those that it needs are, and it does not
//! matter to it who else is gone.

use std::time::Duration;

use millrace_e2e_tests::{Apart, ApartOptions, SERVICES, http_get, wait_until};

use crate::fixture::catalog;

/// A machine that builds beside the tests is slow.
const SOON: Duration = Duration::from_secs(60);

/// Each service, and those that need it.
const NEEDED_BY: [(&str, &[&str]); 4] = [
    ("feature-serving", &[]),
    ("ingest", &[]),
    // Reads are answered from the store.
    ("join", &["ingest"]),
    ("store-writer", &["join", "ingest", "feature-serving"]),
];

/// What the admin port of a service answers to a path; 0 where nobody answers.
fn status(apart: &Apart, name: &str, path: &str) -> u16 {
    let admin = apart.admin(name).expect("it has an admin port");
    http_get(admin, path).map_or(0, |(status, _)| status)
}

/// Waits until the readiness of a service is this one.
fn wait_for(apart: &Apart, name: &str, readiness: u16) {
    wait_until(&format!("{readiness} of {name}"), SOON, || {
        (status(apart, name, "/readyz") == readiness).then_some(())
    });
}

/// How often a service that runs said that it is not ready because of another one.
fn missed(apart: &Apart, name: &str, gone: &str) -> usize {
    let log = apart.log(name);
    let lines = log.lines().filter(|line| line.contains("not serving: what is needed"));
    lines.filter(|line| line.contains(&format!("needs=\"{gone}\""))).count()
}

#[test]
fn a_service_is_ready_while_those_it_needs_are() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = ApartOptions { admin: true, ..ApartOptions::on(&folder.path().join("data")) };
    let mut apart = Apart::start(&options).expect("the services start");
    for (gone, needed_by) in NEEDED_BY {
        for name in SERVICES {
            wait_for(&apart, name, 200);
        }
        apart.kill(gone).expect("it is killed");
        for name in needed_by {
            wait_for(&apart, name, 503);
            assert_eq!(status(&apart, name, "/livez"), 200, "{name} lives without {gone}");
        }
        let others = SERVICES.into_iter().filter(|name| *name != gone);
        let others: Vec<&str> = others.filter(|name| !needed_by.contains(name)).collect();
        for name in &others {
            wait_for(&apart, name, 200);
        }
        apart.start_again(gone).expect("it starts again");
        for name in SERVICES {
            wait_for(&apart, name, 200);
        }
        // They look several times a second, and would have said so.
        for name in others {
            assert_eq!(missed(&apart, name, gone), 0, "{name} without {gone}");
        }
    }
}

/// Nothing but feature-serving knows that join and the store are gone, and says so. What is not known makes no
/// answer: of a read that has to know all slots nothing is told.
#[test]
fn status_tells_who_is_gone_without_the_store() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = ApartOptions { slots: Some(4), ..ApartOptions::on(&folder.path().join("data")) };
    let mut apart = Apart::start(&options).expect("the services start");
    let status = apart.cli().run(["-o", "json", "status"]).expect("a status");
    let status = status.expect_code(0).expect("it serves");
    assert_eq!(status.json().expect("json")["unknown_slots"], 0, "{status:?}");
    let file = catalog("clickprofile.yaml").display().to_string();
    let applied = apart.cli().run(["apply", file.as_str()]).expect("it ends");
    applied.expect_code(0).expect("the catalog is applied");
    let read = apart.cli().run(["get", "user_activity", "1"]).expect("a read");
    read.expect_code(0).expect("feature-serving knows the catalog");
    for gone in ["join", "store-writer"] {
        apart.kill(gone).expect("it is killed");
    }
    wait_until("a status without the store", SOON, || {
        let told = apart.cli().run(["-o", "json", "status"]).expect("a status");
        assert_eq!(told.code, 1, "{told:?}");
        let status = told.json().expect("json");
        let gone = |name: &str| status["services"][name] == false;
        let is_told = gone("join") && gone("store-writer") && status["unknown_slots"] == 4;
        is_told.then(|| assert_eq!(status["slots"], serde_json::json!([]), "{status}"))
    });
    let table = apart.cli().run(["-o", "table", "status"]).expect("a status");
    let told = ["store-writer: Connection refused", "4 of the slots: the store does not answer"];
    for words in told {
        assert!(table.stdout.contains(words), "{words}: {table:?}");
    }
    let latest = ["get", "user_activity", "1", "--at", "latest"];
    let read = apart.cli().run(latest).expect("a read");
    assert!(read.code != 0 && read.stderr.contains("does not answer"), "{read:?}");
}
