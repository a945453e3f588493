//! What the tests start from: a folder, a server on it, and the click and profile catalog.

use std::fs;
use std::path::{Path, PathBuf};

use millrace_e2e_tests::{Cli, Dev, DevOptions, PublishReport};
use serde_json::Value;
use tempfile::TempDir;

/// The header of files of clicks.
pub(crate) const CLICKS: &str = "event_id,user_id,ts,revision,op,dwell_ms,price,category";

/// The header of files of profiles.
pub(crate) const PROFILES: &str = "version_id,user_id,valid_from,revision,op,country,tier";

/// A catalog of these tests.
pub(crate) fn catalog(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogs").join(name)
}

/// A folder with a data folder and input files in it, and the server that runs on it.
pub(crate) struct Site {
    folder: TempDir,
    server: Option<Dev>,
    options: DevOptions,
}

impl Site {
    /// A server on a new folder, with the click and profile catalog.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with other options.
    pub(crate) fn with(change: impl FnOnce(&mut DevOptions)) -> Self {
        let site = Self::bare(change);
        let applied = site.cli().run([Path::new("apply"), &catalog("clickprofile.yaml")]);
        applied.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
        site
    }

    /// A server on a new folder, without a catalog.
    pub(crate) fn bare(change: impl FnOnce(&mut DevOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = DevOptions::on(&folder.path().join("data"));
        change(&mut options);
        let server = Some(Dev::start(&options).expect("the server starts"));
        Self { folder, server, options }
    }

    pub(crate) fn server(&self) -> &Dev {
        self.server.as_ref().expect("it runs between starts")
    }

    pub(crate) fn cli(&self) -> Cli {
        self.server().cli()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data(&self) -> &Path {
        &self.options.data
    }

    /// Kills the server, as a crash would, and starts it on the same folder and port.
    pub(crate) fn crash_and_restart(&mut self) {
        let port = self.server().port();
        self.server.take().expect("it runs").kill().expect("it can be killed");
        self.start_again(port);
    }

    /// Ends the server as an operator would; gives its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        self.server.take().expect("it runs").terminate().expect("it ends in time")
    }

    /// Starts the server on the same folder.
    pub(crate) fn start_again(&mut self, port: u16) {
        let options = self.options.clone().at_port(port);
        self.server = Some(Dev::start(&options).expect("the server starts again"));
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

    /// The features of entities of the view at an instant, by key, as name and (value, status).
    pub(crate) fn features(&self, args: &[&str]) -> Vec<Value> {
        let args = std::iter::once("user_activity").chain(args.iter().copied());
        let rows = self.cli().get(args).expect("read");
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
