//! `kill -9` of any process at random moments, while facts are published, read and followed.
//!
//! A publisher sends clicks, corrections, retractions, late profile versions, logins that are LATE and lines
//! that break a rule; a reader asks for every user all the time; a `tail` follows. Whatever is killed, and
//! whenever:
//!
//! - what was acknowledged is there before anything is sent again, and a repeat is all DUPLICATE;
//! - what is to be LATE or REJECTED is, nothing else is, each time it is sent, and it changes no value;
//! - each answer equals the facts that its version names, as the changelog has them, and those that are
//!   audited what the log says;
//! - for a reader neither watermarks nor versions go back;
//! - the changelog that was resumed across all kills is, record by record, a right one, and sums up
//!   to that of a reader who begins now and to the oracle.
//!
//! `MILLRACE_KILLS` says how many, `MILLRACE_SEED` which; a failure names its seed and kill. Every pair of
//! kinds of processes is killed once (`pairs.rs`), the way between any two cut once (`cuts.rs`), and every
//! kind of wrong answer of the database given (`statements.rs`), whatever that says.

mod cuts;
mod faults;
mod history;
mod pairs;
mod proxied;
mod reader;
mod statements;

use std::fmt::Display;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use millrace_e2e_tests::{Apart, ApartOptions, JoinedRows, Scrape, wait_until};
use millrace_test_support::generate::Rng;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{catalog, pair};
use crate::follower::Follower;
use history::{ACTIVITY, AFTER_ALL, History, Lines, USERS};
use reader::Reader;

/// Kills unless `MILLRACE_KILLS` says otherwise; each test makes half as many.
const KILLS: u64 = 8;
/// Facts a second while a kill may come, and about how many come between two.
const RATE: usize = 2_000;
const BETWEEN: usize = 1_500;
/// Audits rest most of the time, on a machine that builds beside the tests.
const AUDITED_WITHIN: Duration = Duration::from_secs(60);
/// Slots are told of watermarks within seconds; a machine that builds beside the tests is slow.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// Asks the follower itself to be killed.
const FOLLOWER: &str = "tail";

#[test]
fn any_process_may_be_killed_while_facts_are_published_and_read() {
    kill_some(|_| ());
}

/// The same with so little at hand that much of the disorder is rebuilt from the log.
#[test]
fn any_process_may_be_killed_while_entities_are_rebuilt() {
    kill_some(|options| options.at_hand_bytes = Some(32 * 1024));
}

/// The same with two nodes that share the slots, and two that take facts in.
#[test]
fn any_of_several_processes_may_be_killed() {
    kill_some(|options| options.more = vec!["join-1", "ingest-1"]);
}

fn kill_some(change: impl FnOnce(&mut ApartOptions)) {
    let mut run = Run::start(number("MILLRACE_SEED").unwrap_or(1), change);
    for kill in 0..number("MILLRACE_KILLS").unwrap_or(KILLS).div_ceil(2) {
        run.kill(kill);
    }
    run.end();
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.replace('_', "").parse().ok()
}

/// A file that was published, and how much of it has no effect.
#[derive(Debug)]
struct Sent {
    stream: &'static str,
    file: PathBuf,
    rejected: u64,
    late: u64,
}

/// Services under fire.
struct Run {
    seed: u64,
    is_tight: bool,
    rng: Rng,
    history: History,
    files: Vec<Sent>,
    reader: Reader,
    follower: Follower,
    watermarks: Vec<(String, String)>,
    services: Apart,
    folder: TempDir,
}

impl Run {
    fn start(seed: u64, change: impl FnOnce(&mut ApartOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = ApartOptions::on(&folder.path().join("data"));
        options.slots = Some(8);
        // As many answers as may be in a second are compared with the log.
        options.env.push(("MILLRACE_PARITY_SAMPLE", "1".to_owned()));
        options.admin = true;
        change(&mut options);
        let services = Apart::start(&options).expect("the services start");
        let catalog = catalog("kills.yaml");
        let apply = services.cli().run(["apply".as_ref(), catalog.as_os_str()]);
        apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
        let reader = Reader::start(&services.endpoint("feature-serving"));
        let follower = Follower::start(&services.cli());
        let rng = Rng::new(seed);
        let (history, files, watermarks) = (History::default(), Vec::new(), Vec::new());
        let is_tight = options.at_hand_bytes.is_some();
        let mut run = Self {
            seed,
            is_tight,
            rng,
            history,
            files,
            reader,
            follower,
            watermarks,
            services,
            folder,
        };
        run.first_logins();
        run
    }

    /// Before anything is killed every slot is told of logins, so that the same ones are LATE whatever happens:
    /// later watermarks may be held up, but none goes back.
    fn first_logins(&mut self) {
        let lines = self.history.first_logins();
        let first = self.write("first", &lines);
        let report = self.services.cli().publish([pair(first.stream, &first.file)]);
        let report = report.expect("published");
        assert_eq!((report.rejected, report.late), (0, 0), "{report:?}");
        self.files.push(first);
        wait_until("a watermark of every slot", TOLD_WITHIN, || {
            let status = self.services.cli().json(["status", "--slots"]).ok()?;
            let slots = status["slots"].as_array()?;
            let is_told = |slot: &Value| slot["watermarks"]["logins"].is_string();
            (status["slot_count"] == slots.len() && slots.iter().all(is_told)).then_some(())
        });
    }

    /// Kills something while facts are published.
    fn kill(&mut self, kill: u64) {
        let targets: Vec<&str> = self.services.names().into_iter().chain([FOLLOWER]).collect();
        let target = *self.rng.pick(&targets);
        self.under_fire(kill, &format!("kill of {target}"), |run| {
            if target == FOLLOWER {
                run.follower.kill_and_resume();
            } else {
                run.services.kill(target).expect("it can be killed");
                run.services.start_again(target).expect("it starts again");
            }
        });
    }

    /// Publishes some facts, does something meanwhile, and looks at what is there.
    fn under_fire(&mut self, round: u64, what: &str, act: impl FnOnce(&mut Self)) {
        let lines = self.history.next(BETWEEN, &mut self.rng);
        let sent = lines.each_ref().map(|lines| self.write(round, lines));
        let pairs = sent.each_ref().map(|sent| pair(sent.stream, &sent.file));
        let rows: usize = lines.iter().map(|lines| lines.rows.len()).sum();
        let rejected: u64 = lines.iter().map(|lines| lines.rejected).sum();
        let late: u64 = lines.iter().map(|lines| lines.late).sum();
        self.files.extend(sent);
        let publishing = {
            let cli = self.services.cli();
            let rate = ["--rate".to_owned(), RATE.to_string()];
            thread::spawn(move || cli.publish(rate.into_iter().chain(pairs)))
        };
        let place = format!("seed {}, round {round}, {what}", self.seed);
        // At a random moment of the time that publishing takes.
        let moment = self.rng.below(1_000 * rows / RATE) as u64;
        self.let_pass(Duration::from_millis(moment));
        act(self);
        let report = publishing.join().expect("no panic");
        let report = report.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!((report.rejected, report.late), (rejected, late), "{place}: {report:?}");
        assert_eq!(report.sent, rows as u64, "{place}: {report:?}");
        self.services.settle();
        self.compare(&place);
        self.look_at_watermarks(&place);
        self.reader.check(&place);
        self.audit(&place);
        self.follower.go_on(&place);
    }

    /// Lets as much time pass: when and for how long something happens is part of the history.
    fn let_pass(&self, time: Duration) {
        let began = Instant::now();
        wait_until("a moment", 2 * time + Duration::from_secs(5), || {
            (began.elapsed() >= time).then_some(())
        });
    }

    /// Answers were compared with the log since feature-serving was started last, and are what it says.
    fn audit(&self, place: &str) {
        let admin = self.services.admin("feature-serving").expect("it has an admin port");
        let outcome = |scrape: &Scrape, outcome| {
            scrape.sum("millrace_parity_samples_total", &[("outcome", outcome)])
        };
        let scrape = wait_until("the audit of an answer", AUDITED_WITHIN, || {
            let scrape = Scrape::of(admin).ok()?;
            (outcome(&scrape, "equal") + outcome(&scrape, "mismatch") > 0.0).then_some(scrape)
        });
        assert_eq!(
            outcome(&scrape, "mismatch"),
            0.0,
            "{place}: an answer is not what the log says"
        );
    }

    /// Everything at rest: repeats, and the changelog against answers and oracle.
    fn end(self) {
        let place = format!("seed {}, at the end", self.seed);
        for Sent { stream, file, rejected, late } in &self.files {
            let report = self.services.cli().publish([pair(stream, file)]).expect("published");
            let (of, told) = (file.display(), (report.rejected, report.late));
            assert_eq!(told, (*rejected, *late), "{place}: {of}: {report:?}");
            // A repeat of what is not at hand may say REPAIRED, queued: it still changes nothing.
            let queued = if self.is_tight { report.repaired } else { 0 };
            let same = report.duplicate + queued + rejected + late;
            assert_eq!(same, report.sent, "{place}: {of}: {report:?}");
        }
        self.services.settle();
        self.compare(&place);
        self.audit(&place);
        let answers = self.reader.stop(&place);
        let whole = ["tail", "user_activity", "--from", "start", "--until-idle"];
        let whole = self.services.cli().run(whole).and_then(|tail| tail.expect_code(0));
        let whole = whole.expect("a changelog").stdout;
        let sum = JoinedRows::sum(&whole).unwrap_or_else(|error| panic!("{place}: {error}"));
        let followed = self.follower.stop_after(&sum, &place);
        assert_eq!(followed.rows, sum.rows, "{place}");
        assert!(sum.retractions > 0, "{place}: nothing was repaired");
        self.history.compare_rows(&sum).unwrap_or_else(|error| panic!("{place}: {error}"));
        let checked = reader::compare(&answers, &whole);
        let checked = checked.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(checked > USERS, "{place}: only {checked} answers");
    }

    /// Every user's features equal the oracle's.
    fn compare(&self, place: &str) {
        for at in self.history.instants() {
            let told = self.read("user_activity", at, &ACTIVITY);
            assert_eq!(told, self.history.activity(at), "{place}: at {at}");
        }
        let told = self.read("user_logins", AFTER_ALL, &["logins"]);
        assert_eq!(told, self.history.logins(), "{place}");
    }

    /// Features of every user at an instant.
    fn read(&self, view: &str, at: u64, features: &[&str]) -> Vec<Vec<Value>> {
        let keys = (0..USERS).map(|user| user.to_string());
        let flags =
            ["--at".to_owned(), at.to_string(), "--features".to_owned(), features.join(",")];
        let args = std::iter::once(view.to_owned()).chain(keys).chain(flags);
        let rows = self.services.cli().get(args).expect("read");
        let value = |row: &Value, name: &str| row["features"][name]["value"].clone();
        rows.iter().map(|row| features.iter().map(|name| value(row, name)).collect()).collect()
    }

    fn look_at_watermarks(&mut self, place: &str) {
        let Ok(status) = self.services.cli().json(["status"]) else { return };
        let Some(all) = status["watermarks"].as_object() else { return };
        for (stream, at) in &self.watermarks {
            let later = all.get(stream).and_then(Value::as_str);
            assert!(
                later.is_some_and(|later| later >= at.as_str()),
                "{place}: the watermark of {stream} went back from {at} to {later:?}"
            );
        }
        let text =
            |(stream, at): (&String, &Value)| (stream.clone(), at.as_str()?.to_owned()).into();
        self.watermarks = all.iter().filter_map(text).collect();
    }

    fn write(&self, round: impl Display, lines: &Lines) -> Sent {
        let Lines { stream, header, rows, rejected, late } = lines;
        let file = self.folder.path().join(format!("{stream}{round}.csv"));
        let text: Vec<&str> =
            std::iter::once(*header).chain(rows.iter().map(String::as_str)).collect();
        std::fs::write(&file, text.join("\n") + "\n").expect("a file can be written");
        Sent { stream, file, rejected: *rejected, late: *late }
    }
}
