//! A `tail` that goes on, whatever is killed, itself included.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_e2e_tests::{Cli, JoinedRows, wait_until};
use serde_json::Value;

/// How long it may lag behind once everything is at rest.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(120);
/// It could not reach the service for as long as a command tries.
const NOT_REACHABLE: i32 = 4;

pub(crate) struct Follower {
    cli: Cli,
    /// Every whole line, over all runs.
    lines: Arc<Mutex<Vec<String>>>,
    run: Run,
    summed: usize,
    sum: JoinedRows,
}

/// One process.
struct Run {
    child: Child,
    threads: [JoinHandle<()>; 2],
    errors: Arc<Mutex<String>>,
}

impl Follower {
    /// Follows from the beginning.
    pub(crate) fn start(cli: &Cli) -> Self {
        Self::behind(cli, &Arc::default())
    }

    /// The same, but nothing it prints is read until the gate can be passed.
    pub(crate) fn behind(cli: &Cli, gate: &Arc<Mutex<()>>) -> Self {
        let lines = Arc::new(Mutex::default());
        let run = Run::start(cli, "start", &lines, gate);
        Self { cli: cli.clone(), lines, run, summed: 0, sum: JoinedRows::default() }
    }

    /// How often the process that runs begun a call anew.
    pub(crate) fn resumed(&self) -> usize {
        let said = self.run.errors.lock().unwrap_or_else(PoisonError::into_inner);
        said.matches("it is resumed").count()
    }

    /// Ends it in the middle of whatever it does, and goes on after the last whole line.
    pub(crate) fn kill_and_resume(&mut self) {
        self.run.child.kill().expect("it can be killed");
        self.resume();
    }

    /// It still runs, or gave up since nobody was there: then it goes on where it said.
    pub(crate) fn go_on(&mut self, place: &str) {
        if let Some(status) = self.run.child.try_wait().expect("a process") {
            let said = self.run.errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
            assert_eq!(status.code(), Some(NOT_REACHABLE), "{place}: the tail ended: {said}");
            self.resume();
        }
        self.add_up(place);
    }

    fn resume(&mut self) {
        self.run.child.wait().expect("it ends");
        for thread in &mut self.run.threads {
            let thread = std::mem::replace(thread, std::thread::spawn(|| ()));
            thread.join().expect("no panic");
        }
        let last = self.lines.lock().unwrap_or_else(PoisonError::into_inner).last().cloned();
        let last: Option<Value> = last.map(|line| serde_json::from_str(&line).expect("JSON"));
        let from = last.as_ref().and_then(|line| line["cursor"].as_str()).unwrap_or("start");
        self.run = Run::start(&self.cli, from, &self.lines, &Arc::default());
    }

    /// Adds what came to the sum, record by record.
    fn add_up(&mut self, place: &str) {
        let new: Vec<String> = {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines[self.summed..].to_vec()
        };
        for line in new {
            let added = self.sum.push(&line);
            added.unwrap_or_else(|problem| {
                panic!("{place}: line {}: {problem}: {line}", self.summed)
            });
            self.summed += 1;
        }
    }

    /// What it followed, once that is as much as another reader has.
    pub(crate) fn stop_after(mut self, other: &JoinedRows, place: &str) -> JoinedRows {
        self.go_on(place);
        wait_until("the tail", CAUGHT_UP_WITHIN, || {
            self.go_on(place);
            (self.sum.rows.len() == other.rows.len() && self.sum.retractions == other.retractions)
                .then_some(())
        });
        std::mem::take(&mut self.sum)
    }
}

impl Follower {
    /// Ends once what it followed comes to these rows, whatever it was told on the way: another reader's
    /// log may have been scrubbed since.
    pub(crate) fn stop_at(mut self, rows: &JoinedRows, place: &str) {
        wait_until("the tail", CAUGHT_UP_WITHIN, || {
            self.go_on(place);
            (self.sum.rows == rows.rows).then_some(())
        });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.run.child.kill().and_then(|()| self.run.child.wait());
    }
}

impl Run {
    fn start(
        cli: &Cli,
        from: &str,
        lines: &Arc<Mutex<Vec<String>>>,
        gate: &Arc<Mutex<()>>,
    ) -> Self {
        let mut command = cli.command(["tail", "user_activity", "--from", from]).expect("a binary");
        command.env("RUST_LOG", "warn,millrace_client=info");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (lines, gate) = (lines.clone(), gate.clone());
        let follow = std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout.expect("it is piped"));
            let mut line = String::new();
            drop(gate.lock().unwrap_or_else(PoisonError::into_inner));
            // A line cut short by a kill was not received.
            while stdout.read_line(&mut line).is_ok() && line.ends_with('\n') {
                let whole = std::mem::take(&mut line).trim_end().to_owned();
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(whole);
            }
        });
        let errors: Arc<Mutex<String>> = Arc::default();
        let keep = Arc::clone(&errors);
        let complain = std::thread::spawn(move || {
            for line in BufReader::new(stderr.expect("it is piped")).lines() {
                let Ok(line) = line else { break };
                let mut said = keep.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self { child, threads: [follow, complain], errors }
    }
}
