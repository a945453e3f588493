//! The four services in processes of their own: what each does while others are gone.

use std::path::PathBuf;

use millrace_e2e_tests::{Apart, ApartOptions, Cli, SERVICES};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::crash::{USERS, clicks, expected_counts};
use crate::fixture::{CLICKS, catalog, pair};

/// The services on a folder of their own, with the click and profile catalog.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) services: Apart,
}

impl Place {
    fn new() -> Self {
        Self::with(&[])
    }

    /// The same with these variables in the environment of the services.
    pub(crate) fn with(env: &[(&'static str, String)]) -> Self {
        Self::made(|options| options.env = env.to_vec())
    }

    /// The same with other options.
    pub(crate) fn made(change: impl FnOnce(&mut ApartOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let mut options = ApartOptions::on(&data);
        change(&mut options);
        let services = Apart::start(&options).expect("the services start");
        let place = Self { folder, services };
        let catalog = catalog("clickprofile.yaml");
        let apply = place.cli().run(["apply".as_ref(), catalog.as_os_str()]);
        apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
        place
    }

    pub(crate) fn cli(&self) -> Cli {
        self.services.cli()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    pub(crate) fn clicks(&self, name: &str, range: std::ops::Range<usize>) -> PathBuf {
        let rows = clicks(range);
        let lines: Vec<&str> =
            std::iter::once(CLICKS).chain(rows.iter().map(String::as_str)).collect();
        self.write(name, &lines.join("\n"))
    }

    /// Kills a service, as a crash would, and starts it again.
    pub(crate) fn kill_and_start(&mut self, service: &str) {
        self.services.kill(service).expect("it can be killed");
        self.services.start_again(service).expect("it starts again");
    }

    /// Every user's count and sum, once stored heads have everything that was acknowledged.
    pub(crate) fn settled_counts(&self) -> Vec<(Value, Value)> {
        self.services.settle();
        self.counts()
    }

    /// Every user's count and sum.
    pub(crate) fn counts(&self) -> Vec<(Value, Value)> {
        self.counts_with(&[])
    }

    /// The same with further arguments of the read.
    fn counts_with(&self, more: &[&str]) -> Vec<(Value, Value)> {
        let keys: Vec<String> = (0..USERS).map(|user| user.to_string()).collect();
        let mut args: Vec<&str> = vec!["user_activity"];
        args.extend(keys.iter().map(String::as_str));
        args.extend(["--at", "2030-01-01T00:00:00Z", "--features", "clicks,spend"]);
        args.extend(more);
        let rows = self.cli().get(args).expect("read");
        let feature = |row: &Value, name: &str| row["features"][name]["value"].clone();
        rows.iter().map(|row| (feature(row, "clicks"), feature(row, "spend"))).collect()
    }
}

/// Each service ends cleanly when asked, and what it held is there when it is back.
#[test]
fn an_import_is_read_as_of_the_past_beside_stored_heads() {
    let mut place = Place::new();
    let total = 2_000;
    let file = pair("clicks", &place.clicks("clicks.csv", 0..total));
    let report = place.cli().publish([&file]).expect("published");
    assert_eq!(report.accepted, total as u64, "{report:?}");
    // A click a second from 2024-03-01T08:00:00Z on; half of them happened by then.
    let half = ((1_709_280_000 + 1_000 - 1) * 1_000_000_i64).to_string();
    let known = ["--known-at", half.as_str()];
    assert_eq!(place.settled_counts(), expected_counts(total));
    let nothing = vec![(json!(0), Value::Null); USERS];
    assert_eq!(place.counts_with(&known), nothing);
    let report = place.cli().import([&file]).expect("imported");
    assert_eq!(report.duplicate, total as u64, "what was published: {report:?}");
    assert_eq!(place.settled_counts(), expected_counts(total));
    assert_eq!(place.counts_with(&known), expected_counts(total / 2));
    for service in ["join", "feature-serving"] {
        place.kill_and_start(service);
        assert_eq!(place.settled_counts(), expected_counts(total));
        assert_eq!(place.counts_with(&known), expected_counts(total / 2));
    }
}

#[test]
fn services_drain_one_by_one() {
    let mut place = Place::new();
    let file = place.clicks("clicks.csv", 0..2_000);
    let report = place.cli().publish([pair("clicks", &file)]).expect("published");
    assert_eq!(report.accepted, 2_000, "{report:?}");
    for service in ["ingest", "feature-serving", "join", "store-writer"] {
        assert_eq!(place.services.terminate(service).expect("it drains"), 0, "{service}");
    }
    for service in SERVICES {
        place.services.start_again(service).expect("it starts again");
    }
    assert_eq!(place.counts(), expected_counts(2_000));
}

/// Whoever is there first waits for those it needs, and serves once they do.
#[test]
fn services_start_in_any_order() {
    let mut place = Place::new();
    let file = place.clicks("clicks.csv", 0..1_000);
    place.cli().publish([pair("clicks", &file)]).expect("published");
    for order in [
        ["feature-serving", "ingest", "join", "store-writer"],
        ["join", "feature-serving", "store-writer", "ingest"],
        ["ingest", "store-writer", "feature-serving", "join"],
    ] {
        for service in SERVICES {
            place.services.kill(service).expect("it can be killed");
        }
        place.services.start_in_order(&order).expect("all of them serve");
        assert_eq!(place.settled_counts(), expected_counts(1_000), "{order:?}");
        let again = place.cli().publish([pair("clicks", &file)]).expect("published");
        assert_eq!(again.duplicate, 1_000, "{order:?}: {again:?}");
    }
}

/// Reads go on while the owner of the slots is down: they need the store alone.
#[test]
fn reads_do_not_need_the_join_service() {
    let mut place = Place::new();
    let file = place.clicks("clicks.csv", 0..1_000);
    place.cli().publish([pair("clicks", &file)]).expect("published");
    place.services.settle();
    place.services.kill("join").expect("it can be killed");
    assert_eq!(place.counts(), expected_counts(1_000));
    let status = place.cli().run(["-o", "json", "status"]).expect("a status");
    assert_eq!(status.code, 1, "{status:?}");
    let status = status.json().expect("json");
    assert_eq!(status["services"]["join"], false, "{status}");
    assert_eq!(status["services"]["store-writer"], true, "{status}");
}
