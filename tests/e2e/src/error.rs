//! Why the harness could not do what a test asked for.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// A failure of the harness or of the program it runs. Its text holds what the program said, since
/// it ends up in the output of a failed test.
#[derive(Error)]
pub enum HarnessError {
    /// A program that the tests need is not there.
    #[error("{what} is not at {}: run `cargo xtask test`, which builds or installs it", path.display())]
    Missing {
        /// What it is.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A program could not be started or waited for.
    #[error("run {program}: {cause}")]
    Process {
        /// The program.
        program: String,
        /// What the system said.
        cause: io::Error,
    },
    /// A program did not end, or did not say what was expected, in time.
    #[error("{program} took longer than {limit:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")]
    TooSlow {
        /// The program with its arguments.
        program: String,
        /// How long it was given.
        limit: Duration,
        /// Its standard output so far.
        stdout: String,
        /// Its standard error so far.
        stderr: String,
    },
    /// The server ended before it was ready.
    #[error(
        "millrace dev ended with {status} before it was ready\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
    )]
    NotReady {
        /// Its exit code, or −1 when a signal ended it.
        status: i32,
        /// Its standard output.
        stdout: String,
        /// Its standard error.
        stderr: String,
    },
    /// The program said something else than what the contract says.
    #[error("{what}: {problem}\n{output}")]
    Answer {
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        problem: String,
        /// The answer.
        output: String,
    },
    /// A file could not be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// As its text: this is what `expect` shows, and output is of no use with escaped lines.
impl fmt::Debug for HarnessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl HarnessError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, cause }
    }
}
