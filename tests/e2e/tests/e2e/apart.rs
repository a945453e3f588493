//! The four services in processes of their own, any of them killed at any moment.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use millrace_e2e_tests::{Apart, ApartOptions, Cli, SERVICES, wait_until};
use millrace_test_support::generate::Rng;
use serde_json::Value;
use tempfile::TempDir;

use crate::crash::{USERS, clicks, expected_counts};
use crate::fixture::{CLICKS, catalog, pair};

/// Kills unless `MILLRACE_KILLS` says otherwise.
const KILLS: u64 = 6;

struct Place {
    folder: TempDir,
    services: Apart,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let services = Apart::start(&ApartOptions::on(&data)).expect("the services start");
        let place = Self { folder, services };
        let catalog = catalog("clickprofile.yaml");
        let apply = place.cli().run(["apply".as_ref(), catalog.as_os_str()]);
        apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
        place
    }

    fn cli(&self) -> Cli {
        self.services.cli()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    fn clicks(&self, name: &str, range: std::ops::Range<usize>) -> PathBuf {
        let rows = clicks(range);
        let lines: Vec<&str> =
            std::iter::once(CLICKS).chain(rows.iter().map(String::as_str)).collect();
        self.write(name, &lines.join("\n"))
    }

    /// Every user's count and sum.
    fn counts(&self) -> Vec<(Value, Value)> {
        let keys: Vec<String> = (0..USERS).map(|user| user.to_string()).collect();
        let mut args: Vec<&str> = vec!["user_activity"];
        args.extend(keys.iter().map(String::as_str));
        args.extend(["--at", "2030-01-01T00:00:00Z", "--features", "clicks,spend"]);
        let rows = self.cli().get(args).expect("read");
        let feature = |row: &Value, name: &str| row["features"][name]["value"].clone();
        rows.iter().map(|row| (feature(row, "clicks"), feature(row, "spend"))).collect()
    }
}

/// The watermarks that `status` tells, when it answers.
fn watermarks(cli: &Cli) -> Option<Vec<(String, String)>> {
    let status = cli.json(["status"]).ok()?;
    let all = status["watermarks"].as_object()?;
    Some(all.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect())
}

/// Facts go on being published while one service after another is killed and started again: all
/// that was acknowledged is there before anything is sent again, a repeat changes nothing, no
/// watermark goes back, and the changelog sums up.
#[test]
fn any_service_may_be_killed_while_facts_are_published() {
    let number = |name: &str| std::env::var(name).ok()?.replace('_', "").parse::<u64>().ok();
    let kills = number("MILLRACE_KILLS").unwrap_or(KILLS);
    let seed = number("MILLRACE_SEED").unwrap_or(1);
    let mut rng = Rng::new(seed);
    let mut place = Place::new();
    let mut total = 0;
    let mut files = Vec::new();
    let mut seen: Vec<(String, String)> = Vec::new();
    for kill in 0..kills {
        let count = 5_000;
        let file = place.clicks(&format!("part{kill}.csv"), total..total + count);
        let publishing = {
            let (cli, pair) = (place.cli(), pair("clicks", &file));
            thread::spawn(move || cli.publish(["--rate", "5000", &pair]))
        };
        let service = *rng.pick(&SERVICES);
        // At a random moment of the second that publishing takes.
        let until = rng.below(1_000) as u64;
        let began = std::time::Instant::now();
        wait_until("the moment of the kill", Duration::from_secs(5), || {
            (began.elapsed() >= Duration::from_millis(until)).then_some(())
        });
        place.services.kill(service).expect("it can be killed");
        place.services.start_again(service).expect("it starts again");
        let report = publishing.join().expect("no panic");
        let report = report.unwrap_or_else(|e| panic!("seed {seed}, kill {kill}, {service}: {e}"));
        assert_eq!(report.sent, count as u64, "seed {seed}, kill {kill}, {service}: {report:?}");
        assert_eq!(report.rejected + report.late, 0, "{report:?}");
        total += count;
        files.push(file);
        place.services.settle();
        assert_eq!(place.counts(), expected_counts(total), "seed {seed}, kill {kill}, {service}");
        if let Some(now) = watermarks(&place.cli()) {
            for (stream, at) in &seen {
                let later = now.iter().find(|(s, _)| s == stream).map(|(_, at)| at);
                assert!(later.is_some_and(|l| l >= at), "{stream}: {at} went back to {later:?}");
            }
            seen = now;
        }
    }
    for file in &files {
        let report = place.cli().publish([pair("clicks", file)]).expect("published again");
        assert_eq!(report.duplicate, report.sent, "{report:?}");
    }
    place.services.settle();
    assert_eq!(place.counts(), expected_counts(total), "seed {seed}");
    let tail = ["tail", "user_activity", "--from", "start", "--until-idle"];
    let tail = place.cli().run(tail).and_then(|t| t.expect_code(0)).expect("a changelog");
    let ops = |op: &str| tail.stdout.lines().filter(|line| line.contains(op)).count();
    assert_eq!(ops(r#""op":"+""#) - ops(r#""op":"-""#), total, "seed {seed}");
}

/// Each service ends cleanly when asked, and what it held is there when it is back.
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
