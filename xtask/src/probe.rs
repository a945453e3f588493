//! What is asked of services that run apart, from outside: by their endpoints alone.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{Failure, output, run, run_reading};

/// Spans leave a process every 5 s, and Prometheus scrapes every 15 s.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// How often a program or a page is asked again, within a bound: neither tells by itself what it learns.
const ASK_EVERY: Duration = Duration::from_millis(200);
const NOT_BUILT: &str = "build it with `cargo build`";

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
  user_activity:
    entity: user
    events: clicks
    features:
      clicks_1h: {count: {}, window: 1h}
      spend_24h: {sum: price, window: 24h}
";
/// Out of order, and one of them twice.
const CLICKS: &str = "\
event_id,user_id,ts,price
c1,42,2026-03-01T10:00:00Z,9.5
c3,42,2026-03-01T10:40:00Z,20
c2,42,2026-03-01T10:20:00Z,0.25
c1,42,2026-03-01T10:00:00Z,9.5
";
/// What `publish` says of them at first,
const NEW: &str = "\"sent\":4,\"accepted\":3,\"repaired\":0,\"duplicate\":1,";
/// what where several join nodes begin to share the slots: those of a slot that moves are sent once more,
const SENT: &str = "\"sent\":4,";
/// what when they are there,
const REPEATED: &str = "\"sent\":4,\"accepted\":0,\"repaired\":0,\"duplicate\":4,";
/// and what `get` does.
const FEATURES: [&str; 2] = ["42,clicks_1h,3,PRESENT,", "42,spend_24h,29.75,PRESENT,"];

/// Where they are: variables of the command line's environment.
#[derive(Debug)]
pub(crate) struct Endpoints(pub(crate) Vec<(String, String)>);

impl Endpoints {
    /// Services at these addresses.
    pub(crate) fn at(ingest: String, join: String, serving: String) -> Self {
        let named = |name: &str, endpoint| (name.to_owned(), endpoint);
        Self(vec![
            named("MILLRACE_INGEST_ENDPOINT", ingest),
            named("MILLRACE_JOIN_ENDPOINT", join),
            named("MILLRACE_SERVING_ENDPOINT", serving),
        ])
    }

    /// Puts facts in and reads features back, with the program given, on an empty store. What it needs
    /// for that goes into a folder.
    ///
    /// # Errors
    ///
    /// What was expected and what came instead.
    pub(crate) fn probe(&self, program: &Path, folder: &Path) -> Result<(), Failure> {
        self.probe_for(program, folder, NEW)
    }

    /// The same of services of which there are several each, and then once more.
    ///
    /// # Errors
    ///
    /// As [`Endpoints::probe`].
    pub(crate) fn probe_several(&self, program: &Path, folder: &Path) -> Result<(), Failure> {
        self.probe_for(program, folder, SENT)?;
        self.probe_again(program, folder)
    }

    fn probe_for(&self, program: &Path, folder: &Path, counts: &str) -> Result<(), Failure> {
        let failed = |cause| Failure::Other(format!("write in {}: {cause}", folder.display()));
        fs::create_dir_all(folder).map_err(failed)?;
        fs::write(folder.join("catalog.yaml"), CATALOG).map_err(failed)?;
        fs::write(folder.join("clicks.csv"), CLICKS).map_err(failed)?;
        run(&mut self.millrace(program, folder, &["apply", "catalog.yaml"]), NOT_BUILT)?;
        self.publish(program, folder, counts)?;
        self.read(program, folder)
    }

    /// Finds what a probe of this folder put in, and that it does not count once more.
    ///
    /// # Errors
    ///
    /// As [`Endpoints::probe`].
    pub(crate) fn probe_again(&self, program: &Path, folder: &Path) -> Result<(), Failure> {
        self.read(program, folder)?;
        self.publish(program, folder, REPEATED)?;
        self.read(program, folder)
    }

    fn publish(&self, program: &Path, folder: &Path, counts: &str) -> Result<(), Failure> {
        let mut said = String::new();
        let publish = ["publish", "clicks=clicks.csv", "-o", "json"];
        let mut publish = self.millrace(program, folder, &publish);
        run_reading(&mut publish, NOT_BUILT, |line| said.push_str(line))?;
        if said.contains(counts) {
            return Ok(());
        }
        Err(Failure::Other(format!("publish: expected {counts} got:\n{said}")))
    }

    fn read(&self, program: &Path, folder: &Path) -> Result<(), Failure> {
        // Stored heads follow what is acknowledged within a second.
        let get = ["get", "user_activity", "42", "--at", "2026-03-01T11:00:00Z", "-o", "csv"];
        let read = || output(&mut self.millrace(program, folder, &get)).unwrap_or_default();
        until("the features of user 42", read, |said| {
            FEATURES.iter().all(|feature| said.lines().any(|line| line.starts_with(feature)))
        })?;
        let status = ["status", "-o", "json"];
        let status = || output(&mut self.millrace(program, folder, &status)).unwrap_or_default();
        until("status", status, |said| said.starts_with("{\"serving\":true,"))
    }

    fn millrace(&self, program: &Path, folder: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).args(args);
        command.envs(self.0.iter().map(|(name, endpoint)| (name, endpoint)));
        command
    }
}

/// Jaeger, at an `ADDRESS:PORT`, has spans of every service.
///
/// # Errors
///
/// What it has instead.
pub(crate) fn jaeger(address: &str) -> Result<(), Failure> {
    let services = ["ingest", "join", "store-writer", "feature-serving"];
    let has = |page: &str, name| page.contains(&format!("\"millrace-{name}\""));
    let page = || page(address, "/api/services");
    until("Jaeger", page, |page| services.iter().all(|name| has(page, name)))
}

/// Prometheus, at an `ADDRESS:PORT`, scrapes every service and knows the rules.
///
/// # Errors
///
/// What it says instead.
pub(crate) fn prometheus(address: &str) -> Result<(), Failure> {
    let up = || page(address, "/api/v1/query?query=sum(up)");
    until("Prometheus' targets", up, |page| page.contains(",\"4\"]"))?;
    until(
        "Prometheus' rules",
        || page(address, "/api/v1/rules"),
        |page| page.contains("\"MillraceDown\"") && !page.contains("\"health\":\"err\""),
    )
}

/// Asks again until it says what it should.
fn until(
    what: &str,
    ask: impl Fn() -> String,
    holds: impl Fn(&str) -> bool,
) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        let said = ask();
        if holds(&said) {
            println!("{what}: as it should be");
            return Ok(());
        }
        if started.elapsed() > TOLD_WITHIN {
            return Err(Failure::Other(format!("{what}: not as it should be:\n{said}")));
        }
        thread::sleep(ASK_EVERY);
    }
}

/// A page with its head, or why it is not there.
fn page(address: &str, path: &str) -> String {
    fetch(address, path).unwrap_or_else(|cause| cause.to_string())
}

fn fetch(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
    // HTTP/1.0: the answer comes in one piece, and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
