//! Running a program to its end, within a time limit.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::HarnessError;

/// What a program that ended left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The program with its arguments, for messages.
    pub program: String,
    /// Its exit code, or −1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Checks the exit code.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Answer`] with everything the program said when it is another one.
    pub fn expect_code(self, code: i32) -> Result<Self, HarnessError> {
        if self.code == code {
            return Ok(self);
        }
        Err(HarnessError::Answer {
            problem: format!("exit code {} instead of {code}", self.code),
            output: format!("--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr),
            what: self.program,
        })
    }

    /// Its standard output as one JSON document.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Answer`] when it is not JSON.
    pub fn json(&self) -> Result<serde_json::Value, HarnessError> {
        serde_json::from_str(&self.stdout).map_err(|cause| HarnessError::Answer {
            what: self.program.clone(),
            problem: format!("its standard output is not JSON ({cause})"),
            output: format!("--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr),
        })
    }
}

/// Runs a program with this standard input and waits until it ended and closed its output.
///
/// # Errors
///
/// [`HarnessError::Process`] when it cannot be started, [`HarnessError::TooSlow`] when it did not
/// end in time; it was ended then.
pub fn run_bounded(
    command: &mut Command,
    stdin: &[u8],
    limit: Duration,
) -> Result<Finished, HarnessError> {
    let program = line_of(command);
    let error = |cause| HarnessError::Process { program: program.clone(), cause };
    let deadline = Instant::now() + limit;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(error)?;
    feed(&mut child, stdin.to_vec());
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let mut texts = [String::new(), String::new()];
    let mut late = false;
    for (text, receiver) in texts.iter_mut().zip([stdout, stderr]) {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => *text = String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => {
                late = true;
                child.kill().map_err(error)?;
                // Killed, it closes its output, unless a child of its own holds it open.
                let bytes = receiver.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
                *text = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
    }
    let status = child.wait().map_err(error)?;
    let [stdout, stderr] = texts;
    if late {
        return Err(HarnessError::TooSlow { program, limit, stdout, stderr });
    }
    Ok(Finished { program, code: status.code().unwrap_or(-1), stdout, stderr })
}

/// The command as one would type it.
pub(crate) fn line_of(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn feed(child: &mut Child, bytes: Vec<u8>) {
    if let Some(mut stdin) = child.stdin.take() {
        // A program may end before it read everything; what it said then tells more than this.
        thread::spawn(move || stdin.write_all(&bytes).ok());
    }
}

/// Reads to the end in the background, so that a full pipe never blocks the program.
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read until an error is what there is to show.
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Finished, HarnessError> {
        run_bounded(Command::new("sh").args(["-c", script]), b"in", limit)
    }

    #[test]
    fn output_and_exit_code_are_told() {
        let finished =
            shell("cat; echo oops >&2; exit 3", Duration::from_secs(20)).expect("it ends");
        assert_eq!((finished.code, &*finished.stdout, &*finished.stderr), (3, "in", "oops\n"));
        assert!(finished.expect_code(0).is_err());
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let error = shell("echo begun; exec sleep 600", Duration::from_millis(300))
            .expect_err("it does not end");
        let HarnessError::TooSlow { stdout, .. } = error else { panic!("{error}") };
        assert_eq!(stdout, "begun\n");
    }
}
