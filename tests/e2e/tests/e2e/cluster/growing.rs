//! A training set that is being written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use millrace_e2e_tests::{Cli, wait_until};
use serde_json::Value;

/// A `millrace training` under way.
pub(super) struct GrowingSet {
    command: Child,
    out: PathBuf,
}

impl GrowingSet {
    /// Starts it for these rows as known now.
    pub(super) fn start(cli: &Cli, view: &str, spine: &Path, out: &Path) -> Self {
        let [spine, file] = [spine, out].map(|path| path.display().to_string());
        let args = ["-o", "json", "training", view, "--spine", &spine, "--known-at", "latest"];
        let args = args.into_iter().chain(["--out", file.as_str()]);
        let mut command = cli.command(args).expect("the binary");
        let command = command.stdout(Stdio::piped()).spawn().expect("it starts");
        Self { command, out: out.to_owned() }
    }

    /// How much of it stands beside its place.
    fn written(&self) -> u64 {
        let named = self.out.file_name().expect("a file").to_string_lossy().into_owned();
        let folder = self.out.parent().expect("a folder");
        let files = fs::read_dir(folder).expect("a folder").flatten();
        let partial = files.filter(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.contains(&named) && name.ends_with("partial")
        });
        partial.filter_map(|file| Some(file.metadata().ok()?.len())).max().unwrap_or(0)
    }

    /// Waits until so many bytes of it are there. More are to come: it fails if its place is taken.
    pub(super) fn wait_for(&self, bytes: usize, limit: Duration) {
        wait_until("rows", limit, || (self.written() >= bytes as u64).then_some(()));
        assert!(!self.out.exists(), "it is whole already");
    }

    /// Waits for its end and gives what it says of itself.
    pub(super) fn finish(self) -> Value {
        let done = self.command.wait_with_output().expect("it ends");
        assert!(done.status.success(), "{done:?}");
        serde_json::from_slice(&done.stdout).expect("JSON")
    }

    /// Kills it, whatever it is about.
    pub(super) fn kill(mut self) {
        self.command.kill().expect("it can be killed");
        let ended = self.command.wait().expect("it ended");
        assert!(!ended.success(), "it was whole already");
    }
}
