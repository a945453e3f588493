//! `tail` across the end of calls: their age, a server that drains, a reader that does not read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_e2e_tests::{Apart, ApartOptions, JoinedRows, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::crash::clicks;
use crate::fixture::{CLICKS, PROFILES, Site, Topology, catalog, on_all, pair};
use crate::follower::Follower;

/// A machine that builds beside the tests is slow.
const SOON: Duration = Duration::from_secs(60);
const ROWS: usize = 2_000;

struct Place {
    folder: TempDir,
    services: Apart,
}

impl Place {
    /// Services with these settings.
    fn with(env: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = ApartOptions::on(&folder.path().join("data"));
        options.env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let services = Apart::start(&options).expect("the services start");
        let catalog = catalog("clickprofile.yaml");
        let apply = services.cli().run(["apply".as_ref(), catalog.as_os_str()]);
        apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
        Self { folder, services }
    }

    /// Publishes the clicks of a part.
    fn publish(&self, part: usize, rows: usize) {
        let path = self.folder.path().join(format!("part{part}.csv"));
        let clicks = clicks(part * rows..(part + 1) * rows);
        std::fs::write(&path, format!("{CLICKS}\n{}\n", clicks.join("\n"))).expect("written");
        let report = self.services.cli().publish([pair("clicks", &path)]).expect("published");
        // A call that ages before its answer came is repeated, and then says DUPLICATE.
        assert_eq!(report.accepted + report.duplicate, rows as u64, "{report:?}");
    }

    /// What a reader who begins now gets.
    fn sum(&self) -> JoinedRows {
        let whole = ["tail", "user_activity", "--from", "start", "--until-idle"];
        let whole = self.services.cli().run(whole).and_then(|tail| tail.expect_code(0));
        JoinedRows::sum(&whole.expect("a changelog").stdout).expect("in order")
    }
}

/// Calls live for a second here, and the server drains once: the reader notices neither.
#[test]
fn a_tail_goes_on_when_its_calls_age_and_its_server_drains() {
    let mut place = Place::with(&[("MILLRACE_STREAM_AGE", "1s")]);
    let follower = Follower::start(&place.services.cli());
    for part in 0..3 {
        place.publish(part, ROWS);
        let seen = follower.resumed();
        wait_until("a call that ends", SOON, || (follower.resumed() > seen).then_some(()));
    }
    assert_eq!(place.services.terminate("join").expect("it drains"), 0);
    place.services.start_again("join").expect("it starts again");
    place.publish(3, ROWS);
    let sum = place.sum();
    assert_eq!(sum.rows.len(), 4 * ROWS);
    assert_eq!(follower.stop_after(&sum, "at the end").rows, sum.rows);
}

/// Who reads nothing is cut off, so that nothing is kept for it; when it reads again it goes on
/// where it was.
#[test]
fn a_tail_that_reads_nothing_is_cut_off_and_goes_on_later() {
    let place =
        Place::with(&[("MILLRACE_RESPONSE_STALL", "1s"), ("RUST_LOG", "info,millrace_grpc=debug")]);
    // More than pipes and windows take.
    for part in 0..3 {
        place.publish(part, 10 * ROWS);
    }
    let gate: Arc<Mutex<()>> = Arc::default();
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let follower = Follower::behind(&place.services.cli(), &gate);
    wait_until("the end of its connection", SOON, || {
        place.services.log("join").contains("a response was not taken in time").then_some(())
    });
    // Others did not notice.
    let sum = place.sum();
    assert_eq!(sum.rows.len(), 30 * ROWS);
    drop(closed);
    assert_eq!(follower.stop_after(&sum, "at the end").rows, sum.rows);
}

/// What a subscription holds of facts is bounded in bytes: it ends with the reason, and once there is more
/// room it goes on from its last cursor.
#[test]
fn a_tail_that_holds_too_much_is_cut_off_with_a_cursor() {
    let mut place = Place::with(&[("MILLRACE_SUBSCRIBE_BYTES", "1048576")]);
    place.publish(0, 10 * ROWS);
    let cut = place.services.cli().run(["tail", "user_activity", "--from", "start"]);
    let cut = cut.expect("it ends by itself");
    assert_ne!(cut.code, 0, "{}", cut.stderr);
    assert!(cut.stderr.contains("1048576 bytes of facts"), "{}", cut.stderr);
    let first = JoinedRows::sum(&cut.stdout).expect("in order");
    assert!((1..10 * ROWS).contains(&first.rows.len()), "{} rows", first.rows.len());

    place.services.kill("join").expect("it can be killed");
    place.services.start_again_with("join", Vec::new()).expect("it starts again");
    let cursor = first.cursors.last().expect("a cursor");
    let rest = ["tail", "user_activity", "--from", cursor.as_str(), "--until-idle"];
    let rest = place.services.cli().run(rest).and_then(|tail| tail.expect_code(0));
    let whole = [cut.stdout, rest.expect("it goes on").stdout].concat();
    let whole = JoinedRows::sum(&whole).expect("in order");
    assert_eq!(whole.rows, place.sum().rows);
    assert_eq!(whole.rows.len(), 10 * ROWS);
}

on_all!(a_tail_goes_on_after_any_record);
/// Records of one chunk have cursors of their own: whoever was killed in its middle goes on right
/// there, also on a server that was killed too.
fn a_tail_goes_on_after_any_record(on: Topology) {
    let mut site = on.site();
    let rows = clicks(0..300);
    let lines: Vec<&str> = std::iter::once(CLICKS).chain(rows.iter().map(String::as_str)).collect();
    site.publish("clicks", &lines);
    // A version that holds from before all of it: each click of the user comes anew, in one chunk.
    site.publish("profiles", &[PROFILES, "p1,7,2024-01-01T00:00:00Z,0,,CH,2"]);
    let whole = records(&site, "start");
    assert_eq!(whole.len(), 300 + 2 * 6, "{whole:#?}");
    site.crash_and_restart();
    let step = match on {
        Topology::OneProcess | Topology::Apart => 9,
        // Every tail reads the logs of all slots, and a database takes longer than a folder.
        Topology::Cluster => 39,
    };
    for from in (0..whole.len()).step_by(step).chain([whole.len() - 2, whole.len() - 1]) {
        let cursor = whole[from]["cursor"].as_str().expect("a cursor");
        let (rest, expected) = (records(&site, cursor), &whole[from + 1..]);
        match on {
            Topology::OneProcess | Topology::Apart => {
                let rows = |records: &[Value]| -> Vec<Value> {
                    records.iter().map(without_cursor).collect()
                };
                assert_eq!(rows(&rest), rows(expected), "after {cursor}");
            }
            // What the other node confirmed comes when its mark tells of it: among slots no order is kept.
            Topology::Cluster => {
                assert_eq!(of_entities(&rest), of_entities(expected), "after {cursor}");
            }
        }
    }
}

/// A record without its cursor, which tells of all slots: also of those that wrote a chunk without rows
/// meanwhile, about a watermark.
fn without_cursor(record: &Value) -> Value {
    let mut told = record.clone();
    told["cursor"].take();
    told
}

/// Each entity's records in their order.
fn of_entities(records: &[Value]) -> BTreeMap<String, Vec<Value>> {
    let mut entities = BTreeMap::<String, Vec<Value>>::new();
    for record in records {
        entities.entry(record["key"].to_string()).or_default().push(without_cursor(record));
    }
    entities
}

/// The rows of a changelog.
fn records(site: &Site, from: &str) -> Vec<Value> {
    let tail = site.cli().run(["tail", "user_activity", "--from", from, "--until-idle"]);
    let tail = tail.and_then(|tail| tail.expect_code(0)).expect("a changelog").stdout;
    let records = tail.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    records.filter(|record: &Value| record["op"] != "w").collect()
}
