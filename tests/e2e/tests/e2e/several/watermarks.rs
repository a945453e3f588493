//! The watermark of a stream with producers at two ingest processes: it follows the one that is behind,
//! holds when that one stalls or its process dies, until it is idle for long enough, and never goes back.

mod producer;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use millrace_e2e_tests::{Apart, ApartOptions, wait_until};
use prost_types::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use producer::{Fact, Producer};

const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    fields: {event_id: string, user_id: int64, ts: timestamp, price: double}
views:
  user_clicks:
    entity: user
    events: clicks
    features:
      clicks: {count: {}}
      spend: {sum: price}
";

/// 2024-03-01T08:00:00Z in microseconds: second 0 of the facts.
const START: i64 = 1_709_280_000_000_000;
const SECOND: i64 = 1_000_000;
/// Enough to have some in slots of both join nodes.
const USERS: i64 = 12;
/// How long who is gone holds the watermark back.
const IDLE_AFTER: Duration = Duration::from_secs(3);
/// Marks follow within a second; a machine that builds beside the tests is slow.
const SOON: Duration = Duration::from_secs(60);

struct Scene {
    services: Apart,
    runtime: Runtime,
    facts: Vec<Fact>,
    /// Of each user what was read last.
    seen: RefCell<Vec<i64>>,
    _folder: TempDir,
}

impl Scene {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = ApartOptions::on(&folder.path().join("data"));
        options.slots = Some(8);
        options.more = vec!["join-1", "ingest-1"];
        options.env = vec![("MILLRACE_IDLE_AFTER", format!("{}s", IDLE_AFTER.as_secs()))];
        let services = Apart::start(&options).expect("the services start");
        // A slot that moves is told of watermarks by what is sent again, one process before the other.
        services.share_slots();
        let catalog = folder.path().join("clicks.yaml");
        std::fs::write(&catalog, CATALOG).expect("a file can be written");
        let applied = services.cli().run(["apply".as_ref(), catalog.as_os_str()]);
        applied.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let seen = RefCell::new(vec![i64::MIN; USERS as usize]);
        let runtime = runtime.expect("a runtime");
        Self { services, runtime, facts: Vec::new(), seen, _folder: folder }
    }

    /// A producer at this ingest process.
    fn producer(&self, name: &'static str, ingest: &str) -> Producer {
        self.runtime.block_on(Producer::connect(name, &self.services.endpoint(ingest)))
    }

    /// Sends a fact of every user at this second, and waits until they are acknowledged.
    fn send(&mut self, producer: &mut Producer, second: i64) {
        let facts = (0..USERS).map(|user| Fact { user, second, quarters: second % 7 + user });
        let facts: Vec<Fact> = facts.collect();
        let counts = self.runtime.block_on(producer.send(&facts));
        assert_eq!(counts.accepted + counts.repaired, USERS as u64, "{counts:?}");
        self.facts.extend(facts);
    }

    /// Every user's row as of an instant.
    fn rows(&self, at: i64) -> Vec<Value> {
        let keys: Vec<String> = (0..USERS).map(|user| user.to_string()).collect();
        let mut args = vec!["user_clicks"];
        args.extend(keys.iter().map(String::as_str));
        let at = at.to_string();
        args.extend(["--at", &at]);
        self.services.cli().get(args).expect("read")
    }

    /// Up to which second every user's stream is complete, where all say the same. None goes back.
    fn watermark(&self) -> Option<i64> {
        let rows = self.rows(START);
        let at = |row: &Value| {
            let at: Timestamp = row["watermark"].as_str()?.parse().expect("an instant");
            Some((at.seconds * SECOND + i64::from(at.nanos) / 1_000 - START) / SECOND)
        };
        let all: Vec<Option<i64>> = rows.iter().map(at).collect();
        for (at, seen) in all.iter().zip(self.seen.borrow_mut().iter_mut()) {
            let at = at.unwrap_or(i64::MIN);
            assert!(at >= *seen, "a watermark went back from {seen} to {at}");
            *seen = at;
        }
        all.iter().all(|at| *at == all[0]).then_some(all[0]).flatten()
    }

    /// Waits until the watermark is there, and looks at what is final then.
    #[track_caller]
    fn reaches(&self, second: i64) {
        wait_until(&format!("the watermark {second}"), SOON, || {
            (self.watermark() == Some(second)).then_some(())
        });
        self.compare(second);
    }

    /// The watermark stays there for longer than somebody who is gone would hold it.
    #[track_caller]
    fn stays(&self, second: i64) {
        let began = Instant::now();
        while began.elapsed() < IDLE_AFTER + Duration::from_secs(1) {
            assert_eq!(self.watermark(), Some(second));
        }
        self.compare(second);
    }

    /// Values are those of the facts before the instant, and final up to the watermark.
    fn compare(&self, watermark: i64) {
        self.services.settle();
        let watermark = START + watermark * SECOND;
        for at in [watermark - 1, watermark, watermark + 1, watermark + 1_000 * SECOND] {
            for (user, row) in self.rows(at).iter().enumerate() {
                let facts = self
                    .facts
                    .iter()
                    .filter(|fact| fact.user == user as i64 && START + fact.second * SECOND < at);
                let quarters: Vec<i64> = facts.map(|fact| fact.quarters).collect();
                let sum = quarters.iter().sum::<i64>() as f64 / 4.0;
                let sum = if quarters.is_empty() { Value::Null } else { json!(sum) };
                let value = |name: &str| &row["features"][name]["value"];
                assert_eq!(
                    (value("clicks"), value("spend")),
                    (&json!(quarters.len()), &sum),
                    "{row}"
                );
                assert_eq!(row["final"], at <= watermark, "at {at} with {watermark}: {row}");
            }
        }
    }

    /// The watermark goes on to this second, and not before who was gone since then is idle for long enough.
    #[track_caller]
    fn goes_on_after(&self, gone: Instant, second: i64) {
        self.reaches(second);
        let after = gone.elapsed();
        assert!(after >= IDLE_AFTER, "it went on {after:?} after somebody was gone");
    }
}

/// A producer that is behind stalls, its process dies, it goes on at the other one, is cut off there, and
/// comes back to a process that was started anew.
#[test]
fn the_watermark_across_two_ingest_processes_waits_for_who_is_behind_and_never_goes_back() {
    let mut scene = Scene::start();
    let mut ahead = scene.producer("ahead", "ingest");
    let mut behind = scene.producer("behind", "ingest-1");
    // Before the other one: what was told of a stream is never taken back for a producer that comes.
    scene.send(&mut behind, 10);
    scene.send(&mut ahead, 100);
    scene.reaches(10);

    // It is connected and says nothing: that is no sign of anything.
    scene.send(&mut ahead, 200);
    scene.stays(10);
    let killed = Instant::now();
    scene.services.kill("ingest-1").expect("it can be killed");
    scene.goes_on_after(killed, 200);

    // What it sends at the other one lies behind the watermark, which waits for it from here on.
    let mut behind = scene.producer("behind", "ingest").after(&behind);
    scene.send(&mut behind, 20);
    scene.send(&mut ahead, 400);
    scene.stays(200);
    scene.send(&mut behind, 300);
    scene.reaches(300);
    let gone = Instant::now();
    behind.cut_off();
    scene.goes_on_after(gone, 400);

    scene.services.start_again("ingest-1").expect("it starts again");
    let mut behind = scene.producer("behind", "ingest-1").after(&behind);
    scene.send(&mut behind, 350);
    scene.send(&mut ahead, 600);
    scene.send(&mut behind, 500);
    scene.reaches(500);
}
