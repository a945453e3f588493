//! The server of a benchmark: this binary again, as `millrace dev` in a temporary folder.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use millrace_client::{Client, ClientOptions, Endpoints};
use tempfile::TempDir;

use super::BenchError;
use super::usage;

/// How long the server may take to start, and to go down.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub(super) struct Child {
    process: std::process::Child,
    pid: u32,
    endpoint: String,
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
    pub(super) async fn restart(mut self) -> Result<Self, BenchError> {
        let failed = |e: std::io::Error| BenchError::Server(e.to_string());
        let ended = Command::new("kill").arg(self.pid.to_string()).status().map_err(failed)?;
        if ended.success() {
            self.process.wait().map_err(failed)?;
        }
        let folder = Arc::clone(&self.folder);
        drop(self);
        Self::on(folder).await
    }

    async fn on(folder: Arc<TempDir>) -> Result<Self, BenchError> {
        let bad = |why: String| BenchError::Server(why);
        let binary = std::env::current_exe().map_err(|e| bad(e.to_string()))?;
        let mut process = Command::new(binary)
            .args(["dev", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|e| bad(e.to_string()))?;
        let pid = process.id();
        let out = process.stdout.take().ok_or_else(|| bad("it has no output".to_owned()))?;
        // From here on an error ends the process.
        let mut child = Self { process, pid, endpoint: String::new(), folder };
        let read = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(PATIENCE, read)
            .await
            .map_err(|_| bad("it was not ready in time".to_owned()))?
            .map_err(|e| bad(e.to_string()))?
            .map_err(|e| bad(e.to_string()))?;
        if line.is_empty() {
            return Err(bad("it ended; what it said is above".to_owned()));
        }
        let endpoint = line
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
            .ok_or_else(|| bad(format!("its first line is {line:?}")))?
            .to_owned();
        child.endpoint = endpoint;
        Ok(child)
    }

    /// A client of it.
    pub(super) fn client(&self) -> Result<Client, BenchError> {
        let endpoints = Endpoints::single(&self.endpoint);
        Client::new(&endpoints, ClientOptions::default())
            .map_err(|e| BenchError::Server(e.to_string()))
    }

    /// Where it serves.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// CPU seconds of it and of this process.
    pub(super) fn cpu_seconds(&self) -> Result<f64, BenchError> {
        Ok(usage::cpu_seconds(self.pid)? + usage::cpu_seconds(std::process::id())?)
    }

    /// Waits until it does next to nothing: for a second it used less than a twentieth of a core.
    pub(super) async fn idle(&self) -> Result<(), BenchError> {
        const LOOK_EVERY: Duration = Duration::from_secs(1);
        for _ in 0..60 {
            let before = usage::cpu_seconds(self.pid)?;
            // Nothing announces that a process is idle: what it used within a second is what tells.
            tokio::time::sleep(LOOK_EVERY).await;
            if usage::cpu_seconds(self.pid)? - before < 0.05 {
                return Ok(());
            }
        }
        Err(BenchError::Server("it is still busy after a minute".to_owned()))
    }

    /// The most memory it has had.
    pub(super) fn peak_rss_bytes(&self) -> Result<u64, BenchError> {
        usage::peak_rss_bytes(self.pid)
    }

    /// What its folder takes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        usage::disk_bytes(self.folder.path())
    }
}

/// Its folder goes with it.
impl Drop for Child {
    fn drop(&mut self) {
        // A process that ended by itself cannot be killed, which is as well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
