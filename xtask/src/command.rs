//! Running other programs: shown, checked, and tried again where the network may be at fault.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Why a stage failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The program is not on this machine, or could not be started.
    NotStarted {
        /// The program.
        program: String,
        /// What the system said.
        cause: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The program ended with another exit code than 0.
    Ended {
        /// The command line.
        line: String,
        /// How it ended, in words.
        status: String,
    },
    /// Anything else, in words that say what to do.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted { program, cause, remedy } => {
                write!(f, "`{program}` could not be started ({cause}): {remedy}")
            }
            Self::Ended { line, status } => write!(f, "`{line}` failed ({status})"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

/// Shows the command, runs it and waits for it; its output goes where ours goes.
///
/// # Errors
///
/// [`Failure::NotStarted`] with the remedy given, or [`Failure::Ended`].
pub(crate) fn run(command: &mut Command, remedy: &'static str) -> Result<(), Failure> {
    let line = shown(command);
    println!("$ {line}");
    let status = command.status().map_err(|cause| not_started(command, cause, remedy))?;
    if status.success() { Ok(()) } else { Err(Failure::Ended { line, status: status.to_string() }) }
}

/// Like [`run`], and hands each line of its standard output to `each` after printing it.
///
/// # Errors
///
/// As [`run`]; [`Failure::Other`] when its output could not be read.
pub(crate) fn run_reading(
    command: &mut Command,
    remedy: &'static str,
    mut each: impl FnMut(&str),
) -> Result<(), Failure> {
    let line = shown(command);
    println!("$ {line}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|cause| not_started(command, cause, remedy))?;
    let unreadable = |cause: io::Error| Failure::Other(format!("reading `{line}`: {cause}"));
    if let Some(stdout) = child.stdout.take() {
        // Bytes, not `lines()`: a test may print what is not UTF-8.
        let mut reader = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).map_err(unreadable)? > 0 {
            io::stdout().write_all(&bytes).map_err(unreadable)?;
            each(String::from_utf8_lossy(&bytes).trim_end());
            bytes.clear();
        }
    }
    let status = child.wait().map_err(unreadable)?;
    if status.success() { Ok(()) } else { Err(Failure::Ended { line, status: status.to_string() }) }
}

/// The standard output of a command that is expected to succeed, or `None`.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Pauses between the tries of [`with_retries`]: a registry that stumbles is usually back within
/// half a minute, and a machine without a network should be told soon.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(20)];

/// Tries something that needs the network up to four times.
///
/// # Errors
///
/// The last try's failure. A program that is not there is not tried again.
pub(crate) fn with_retries(
    what: &str,
    mut attempt: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let failure = match attempt() {
            Ok(()) => return Ok(()),
            Err(missing @ Failure::NotStarted { .. }) => return Err(missing),
            Err(failure) => failure,
        };
        let Some(pause) = pauses.next() else {
            return Err(Failure::Other(format!(
                "{what}: {failure}, {} times; is the package registry within reach?",
                PAUSES.len() + 1
            )));
        };
        println!("{what}: {failure}; trying again in {} s", pause.as_secs());
        thread::sleep(pause);
    }
}

fn not_started(command: &Command, cause: io::Error, remedy: &'static str) -> Failure {
    let program = command.get_program().to_string_lossy().into_owned();
    Failure::NotStarted { program, cause, remedy }
}

/// The command as one would type it, without the folders in front of the program.
fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_read_and_the_exit_code_checked() {
        let mut seen = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; exit 3"]);
        let failure = run_reading(&mut command, "", |line| seen.push(line.to_owned()))
            .expect_err("exit code 3");
        assert_eq!(seen, ["one", "two"]);
        assert!(matches!(failure, Failure::Ended { ref status, .. } if status.contains('3')));
    }

    #[test]
    fn a_missing_program_is_named_with_the_remedy_and_not_tried_again() {
        let mut tries = 0;
        let failure = with_retries("install", || {
            tries += 1;
            run(&mut Command::new("no-such-program-here"), "install it")
        })
        .expect_err("it is missing");
        assert_eq!(tries, 1);
        let text = failure.to_string();
        assert!(text.contains("no-such-program-here") && text.contains("install it"), "{text}");
    }
}
