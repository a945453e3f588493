//! A server as a process: started, looked at, paused, ended.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

/// How often a server that is not ready is asked again.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Why a server is not there.
#[derive(Debug, Error)]
pub enum ServerError {
    /// A program cannot be started.
    #[error("cannot start {program}: {hint}")]
    Start {
        /// The program.
        program: String,
        /// What to do about it.
        hint: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It ended instead of becoming ready.
    #[error("{program} ended with {status} before it was ready:\n{said}")]
    Ended {
        /// The program.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// What it printed.
        said: String,
    },
    /// It was not ready in time.
    #[error("{program} was not ready within {limit:?}:\n{said}")]
    TooSlow {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
        /// What it printed.
        said: String,
    },
    /// A file, port or signal.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl ServerError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// A port of the loopback address that nobody listens on. Somebody else may take it meanwhile: who
/// starts a server there tries again with another one.
///
/// # Errors
/// [`ServerError::Io`].
pub fn free_port() -> Result<u16, ServerError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(ServerError::io("take a port"))?;
    let address = listener.local_addr().map_err(ServerError::io("take a port"))?;
    Ok(address.port())
}

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    program: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to the end of `log`.
    pub(crate) fn start(
        command: &mut Command,
        log: &Path,
        hint: &'static str,
    ) -> Result<Self, ServerError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let opened = File::options().create(true).append(true).open(log);
        let output = opened.map_err(ServerError::io(format!("open {}", log.display())))?;
        let errors = output.try_clone().map_err(ServerError::io("open the log twice"))?;
        let child = command
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|source| ServerError::Start { program: program.clone(), hint, source })?;
        Ok(Self { program, child, log: log.to_owned() })
    }

    /// Waits until `ready` says so.
    pub(crate) fn wait_ready(
        &mut self,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), ServerError> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.child.try_wait().map_err(ServerError::io("look at a process"))?;
            if let Some(status) = status {
                let said = self.said();
                return Err(ServerError::Ended { program: self.program.clone(), status, said });
            }
            if ready() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let said = self.said();
                return Err(ServerError::TooSlow { program: self.program.clone(), limit, said });
            }
            // A server tells nobody when it is ready: it is asked again, within the limit.
            thread::sleep(ASK_EVERY);
        }
    }

    /// Everything it printed so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|error| format!("(no output: {error})"))
    }

    /// Its standard input, where that is a pipe.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits until it is gone.
    pub(crate) fn wait(&mut self) -> Result<(), ServerError> {
        self.child.wait().map(drop).map_err(ServerError::io(format!("wait for {}", self.program)))
    }

    /// Ends it with SIGKILL, as a crash would, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<(), ServerError> {
        // A process that ended already cannot be killed, which is as good.
        let _ = self.child.kill();
        self.wait()
    }
}

/// Sends a process a signal by its name. Signals need no unsafe code this way.
pub(crate) fn signal(pid: &str, name: &str) -> Result<(), ServerError> {
    let what = format!("send SIG{name} to process {pid}");
    let sent = Command::new("kill").args(["-s", name, pid]).status();
    match sent.map_err(ServerError::io(what.clone()))?.success() {
        true => Ok(()),
        false => Err(ServerError::Io { what, source: io::ErrorKind::NotFound.into() }),
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
