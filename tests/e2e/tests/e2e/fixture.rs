//! What the tests start from: a folder, services on it in one process or apart, and the click and
//! profile catalog.

mod held;
mod topology;

use std::fs;
use std::path::{Path, PathBuf};

use millrace_e2e_tests::{Cli, Dev, DevOptions, PublishReport};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use held::in_files;
use topology::Running;
pub(crate) use topology::{Topology, on, on_all, on_both, on_both_overnight};

/// The header of files of clicks.
pub(crate) const CLICKS: &str = "event_id,user_id,ts,revision,op,dwell_ms,price,category";

/// The header of files of profiles.
pub(crate) const PROFILES: &str = "version_id,user_id,valid_from,revision,op,country,tier";

/// A catalog of these tests.
pub(crate) fn catalog(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogs").join(name)
}

/// A folder with a data folder and input files in it, and the services that run on it.
pub(crate) struct Site {
    folder: TempDir,
    running: Running,
    options: DevOptions,
}

impl Site {
    /// A server on a new folder, with the click and profile catalog.
    pub(crate) fn new() -> Self {
        Topology::OneProcess.site()
    }

    /// The same with other options.
    pub(crate) fn with(change: impl FnOnce(&mut DevOptions)) -> Self {
        Topology::OneProcess.site_with(change)
    }

    /// A server on a new folder, without a catalog.
    pub(crate) fn bare(change: impl FnOnce(&mut DevOptions)) -> Self {
        Topology::OneProcess.bare_site(change)
    }

    fn start(topology: Topology, change: impl FnOnce(&mut DevOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = DevOptions::on(&folder.path().join("data"));
        change(&mut options);
        let running = Running::start(topology, &options);
        Self { folder, running, options }
    }

    fn with_catalog(self) -> Self {
        self.apply(&catalog("clickprofile.yaml"));
        self
    }

    /// The server, of a site of one process.
    pub(crate) fn server(&self) -> &Dev {
        self.running.process()
    }

    /// Where one of the services listens; all in one place in one process.
    pub(crate) fn endpoint(&self, service: &str) -> String {
        self.running.endpoint(service)
    }

    pub(crate) fn cli(&self) -> Cli {
        self.running.cli()
    }

    /// Waits until what is read has all that was acknowledged.
    pub(crate) fn settle(&self) {
        self.running.settle();
    }

    /// Waits until slots have the owners that they keep, on a cluster where there are many. While a slot
    /// moves, a fact behind its watermark may be taken in: its new owner has yet to be told.
    pub(crate) fn share_slots(&self) {
        self.running.share_slots();
    }

    /// The command line, once what it reads has all that was acknowledged.
    pub(crate) fn settled(&self) -> Cli {
        self.settle();
        self.cli()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data(&self) -> &Path {
        &self.options.data
    }

    /// Where these bytes stand in what is stored: files of the data folder, or rows of the database.
    pub(crate) fn holding(&self, bytes: &[u8]) -> Vec<String> {
        self.running.holding(self.data(), bytes)
    }

    /// Kills the services, as a crash would, and starts them on the same folder and ports.
    pub(crate) fn crash_and_restart(&mut self) {
        self.options.port = self.running.port();
        self.running.kill();
        self.start_again();
    }

    /// Ends the services as an operator would; gives the exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        self.options.port = self.running.port();
        self.running.stop()
    }

    /// Starts the services on the same folder and ports.
    pub(crate) fn start_again(&mut self) {
        self.running.start_again(&self.options);
    }

    /// Applies a catalog.
    pub(crate) fn apply(&self, catalog: &Path) {
        let applied = self.cli().run([Path::new("apply"), catalog]);
        applied.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    }

    /// Writes an input file of these lines.
    pub(crate) fn file(&self, name: &str, lines: &[&str]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, lines.join("\n") + "\n").expect("a file can be written");
        path
    }

    /// Publishes lines of CSV, header first, as a file of their own.
    pub(crate) fn publish(&self, stream: &str, lines: &[&str]) -> PublishReport {
        let path = self.file(&format!("{stream}.csv"), lines);
        self.cli().publish([pair(stream, &path)]).expect("published")
    }

    /// The features of entities of the view at an instant, by key, as name and (value, status), with all
    /// that was acknowledged.
    pub(crate) fn features(&self, args: &[&str]) -> Vec<Value> {
        let args = std::iter::once("user_activity").chain(args.iter().copied());
        let rows = self.settled().get(args).expect("read");
        rows.into_iter().map(|row| row["features"].clone()).collect()
    }
}

/// `STREAM=FILE`.
pub(crate) fn pair(stream: &str, file: &Path) -> String {
    format!("{stream}={}", file.display())
}

/// Checks the value and status of features, given as `(name, value, status)`.
#[track_caller]
pub(crate) fn assert_features(features: &Value, expected: &[(&str, Value, &str)]) {
    for (name, value, status) in expected {
        let answer = &features[name];
        assert_eq!(&answer["value"], value, "value of {name} in {features}");
        assert_eq!(&answer["status"], status, "status of {name} in {features}");
    }
}
