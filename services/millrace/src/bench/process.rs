//! A server of a benchmark: this binary again, as a child of this process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{BenchError, usage};

/// A running server. Dropped, it is ended with SIGKILL.
pub(super) struct Process {
    child: Child,
    pid: u32,
    endpoint: String,
    admin: Option<String>,
}

impl Process {
    /// This binary with no arguments yet.
    ///
    /// # Errors
    /// [`BenchError::Server`] where the system does not tell which one it is.
    pub(super) fn command() -> Result<Command, BenchError> {
        let binary = std::env::current_exe().map_err(|e| BenchError::Server(e.to_string()))?;
        Ok(Command::new(binary))
    }

    /// Starts it and waits, no longer than this, until it says that it serves.
    ///
    /// # Errors
    /// [`BenchError::Server`].
    pub(super) async fn start(mut command: Command, within: Duration) -> Result<Self, BenchError> {
        let bad = |why: String| BenchError::Server(why);
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|e| bad(e.to_string()))?;
        let pid = spawned.id();
        // From here on an error ends the process.
        let mut process = Self { child: spawned, pid, endpoint: String::new(), admin: None };
        let out = process.child.stdout.take().ok_or_else(|| bad("it has no output".to_owned()))?;
        let read = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(within, read)
            .await
            .map_err(|_| bad(format!("it was not ready within {} s", within.as_secs())))?
            .map_err(|e| bad(e.to_string()))?
            .map_err(|e| bad(e.to_string()))?;
        if line.is_empty() {
            return Err(bad("it ended; what it said is above".to_owned()));
        }
        let (endpoint, admin) =
            addresses(&line).ok_or_else(|| bad(format!("its first line is {line:?}")))?;
        (process.endpoint, process.admin) = (endpoint, admin);
        Ok(process)
    }

    /// Where it serves.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it tells its metrics, as `HOST:PORT`, if it was told to.
    pub(super) fn admin(&self) -> Option<&str> {
        self.admin.as_deref()
    }

    /// CPU seconds it has used.
    pub(super) fn cpu_seconds(&self) -> Result<f64, BenchError> {
        usage::cpu_seconds(self.pid)
    }

    /// The most memory it has had.
    pub(super) fn peak_rss_bytes(&self) -> Result<u64, BenchError> {
        usage::peak_rss_bytes(self.pid)
    }

    /// Ends it as an operator would, and waits until it is gone.
    pub(super) fn end(mut self) -> Result<(), BenchError> {
        let failed = |e: std::io::Error| BenchError::Server(e.to_string());
        let told = Command::new("kill").arg(self.pid.to_string()).status().map_err(failed)?;
        if told.success() {
            self.child.wait().map_err(failed)?;
        }
        Ok(())
    }
}

/// The addresses in the line that a server prints once it serves: of its calls, and of its metrics.
fn addresses(line: &str) -> Option<(String, Option<String>)> {
    let end = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | ')');
    let mut found = line.match_indices("http://").map(|(at, scheme)| {
        let rest = &line[at + scheme.len()..];
        &rest[..rest.find(end).unwrap_or(rest.len())]
    });
    let endpoint = format!("http://{}", found.next()?);
    Some((endpoint, found.next().map(str::to_owned)))
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that ended by itself cannot be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_where_it_is() {
        let here = |line: &str| addresses(line);
        let endpoint = || "http://127.0.0.1:7".to_owned();
        let line = "millrace join is ready on http://127.0.0.1:7 (admin: http://127.0.0.1:8)\n";
        assert_eq!(here(line), Some((endpoint(), Some("127.0.0.1:8".to_owned()))));
        let line = "millrace dev is ready on http://127.0.0.1:7 (data: /d, slots: 64); next: x\n";
        assert_eq!(here(line), Some((endpoint(), None)));
        assert_eq!(
            here("millrace join is ready on http://127.0.0.1:7\n"),
            Some((endpoint(), None))
        );
        assert_eq!(here("it is not\n"), None);
    }
}
