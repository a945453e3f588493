//! The server of a benchmark: `millrace dev` in a temporary folder.

use std::sync::Arc;
use std::time::Duration;

use millrace_client::{Client, ClientOptions, Endpoints};
use tempfile::TempDir;

use super::process::Process;
use super::{BenchError, usage};

/// How long the server may take to start.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running server.
pub(super) struct Child {
    process: Process,
    folder: Arc<TempDir>,
}

impl Child {
    /// Starts the server and waits until it serves.
    pub(super) async fn start() -> Result<Self, BenchError> {
        let folder = tempfile::tempdir().map_err(|e| BenchError::Server(e.to_string()))?;
        Self::on(Arc::new(folder)).await
    }

    /// Ends the server as an operator would, and starts another on the same folder: what it answers
    /// from then on comes from what is durable.
    pub(super) async fn restart(self) -> Result<Self, BenchError> {
        let Self { process, folder } = self;
        process.end()?;
        Self::on(folder).await
    }

    async fn on(folder: Arc<TempDir>) -> Result<Self, BenchError> {
        let mut command = Process::command()?;
        command.args(["dev", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(folder.path().join("data"));
        Ok(Self { process: Process::start(command, READY_WITHIN).await?, folder })
    }

    /// A client of it.
    pub(super) fn client(&self) -> Result<Client, BenchError> {
        let endpoints = Endpoints::single(self.endpoint());
        Client::new(&endpoints, ClientOptions::default())
            .map_err(|e| BenchError::Server(e.to_string()))
    }

    /// So many of them, each with connections of its own.
    pub(super) fn clients(&self, count: usize) -> Result<Vec<Client>, BenchError> {
        (0..count).map(|_| self.client()).collect()
    }

    /// Where it serves.
    pub(super) fn endpoint(&self) -> &str {
        self.process.endpoint()
    }

    /// CPU seconds of it and of this process.
    pub(super) fn cpu_seconds(&self) -> Result<f64, BenchError> {
        Ok(self.process.cpu_seconds()? + usage::cpu_seconds(std::process::id())?)
    }

    /// Waits until it does next to nothing: for a second it used less than a twentieth of a core.
    pub(super) async fn idle(&self) -> Result<(), BenchError> {
        const LOOK_EVERY: Duration = Duration::from_secs(1);
        for _ in 0..60 {
            let before = self.process.cpu_seconds()?;
            // Nothing announces that a process is idle: what it used within a second is what tells.
            tokio::time::sleep(LOOK_EVERY).await;
            if self.process.cpu_seconds()? - before < 0.05 {
                return Ok(());
            }
        }
        Err(BenchError::Server("it is still busy after a minute".to_owned()))
    }

    /// The most memory it has had.
    pub(super) fn peak_rss_bytes(&self) -> Result<u64, BenchError> {
        self.process.peak_rss_bytes()
    }

    /// What its folder takes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        usage::disk_bytes(self.folder.path())
    }
}
