//! The shell in which a document's commands are typed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command as Process, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Command;
use crate::{
    Finished, HarnessError, binary, client_command, grpcurl, mentions, python, repository_root,
    wait_until,
};

/// How long one command of a document may take.
const LIMIT: Duration = Duration::from_secs(240);

/// What stands in a clone and documents refer to, so that an empty folder looks like one.
const OF_A_CLONE: [&str; 2] = ["proto", "examples"];

/// Says on the shell's own output that a command ended; commands write to files.
const ENDED: &str = "command ended with";

/// A bash in an empty folder. Dropped, it is killed with everything it started.
#[derive(Debug)]
pub struct Walk {
    child: Child,
    stdin: ChildStdin,
    ended: mpsc::Receiver<i32>,
    outputs: PathBuf,
    count: usize,
}

/// Turns a command as documented into one that runs the binary under test: in a clone, `cargo run
/// --release -- demo` builds and runs it, which here was done before.
#[must_use]
pub fn prepare(text: &str) -> String {
    ["cargo run --release --quiet -- ", "cargo run --release -- ", "cargo run -- "]
        .into_iter()
        .fold(text.to_owned(), |text, cargo| text.replace(cargo, "millrace "))
}

impl Walk {
    /// Starts a shell in `folder`, with `millrace`, grpcurl and the Python of the tests on its
    /// search path; `scratch` takes what it needs for itself.
    ///
    /// # Errors
    ///
    /// When a program is missing or a folder cannot be written.
    pub fn start(folder: &Path, scratch: &Path) -> Result<Self, HarnessError> {
        let programs = scratch.join("programs");
        let outputs = scratch.join("outputs");
        for made in [&programs, &outputs] {
            fs::create_dir_all(made).map_err(HarnessError::file(made))?;
        }
        let mut links = vec![(binary()?, programs.join("millrace"))];
        if let Some(grpcurl) = Some(grpcurl()?).filter(|path| path.is_absolute()) {
            links.push((grpcurl, programs.join("grpcurl")));
        }
        for name in OF_A_CLONE.map(|name| (repository_root().join(name), folder.join(name))) {
            links.push(name);
        }
        for (original, link) in links {
            symlink(original, &link).map_err(HarnessError::file(&link))?;
        }
        let mut path = programs.into_os_string();
        if let Some(environment) = python()?.parent().filter(|folder| folder.is_absolute()) {
            path.push(":");
            path.push(environment);
        }
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());

        let error = |cause| HarnessError::Process { program: "bash".to_owned(), cause };
        let mut child = client_command(Path::new("bash"))
            .args(["--noprofile", "--norc"])
            .current_dir(folder)
            .env("PATH", path)
            .env("HOME", scratch)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(error)?;
        let no_pipe = || error(std::io::ErrorKind::BrokenPipe.into());
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let stdout = child.stdout.take().ok_or_else(no_pipe)?;
        let (sender, ended) = mpsc::sync_channel(1);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let code = line.strip_prefix(ENDED).and_then(|code| code.trim().parse().ok());
                if sender.send(code.unwrap_or(-1)).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, stdin, ended, outputs, count: 0 })
    }

    /// Types a command and waits until it ended, or, for one in the background, until it has
    /// printed what it is shown to print.
    ///
    /// # Errors
    ///
    /// When it ends with another code or does not print what is shown.
    pub fn follow(&mut self, command: &Command) -> Result<(), HarnessError> {
        self.count += 1;
        let output = self.outputs.join(format!("{}.txt", self.count));
        let finished = self.type_in(&prepare(&command.text), &output)?.expect_code(command.code)?;
        let read = || fs::read_to_string(&output).unwrap_or_default();
        if command.text.trim_end().ends_with('&') {
            // It goes on printing after the shell came back.
            wait_until(&format!("the output of `{}`", command.text), LIMIT, || {
                mentions(&read(), &command.shown).ok()
            });
            return Ok(());
        }
        mentions(&finished.stdout, &command.shown).map_err(|line| HarnessError::Answer {
            what: finished.program,
            problem: format!("does not print `{line}`, which the document shows"),
            output: finished.stdout,
        })
    }

    fn type_in(&mut self, text: &str, output: &Path) -> Result<Finished, HarnessError> {
        let error = |cause| HarnessError::Process { program: text.to_owned(), cause };
        let typed =
            format!("{{ {text}\n}} >'{}' 2>&1 </dev/null\necho {ENDED} $?\n", output.display());
        self.stdin.write_all(typed.as_bytes()).and_then(|()| self.stdin.flush()).map_err(error)?;
        let code = self.ended.recv_timeout(LIMIT);
        let stdout = fs::read_to_string(output).unwrap_or_default();
        match code {
            Ok(code) => {
                Ok(Finished { program: text.to_owned(), code, stdout, stderr: String::new() })
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Err(HarnessError::TooSlow {
                program: text.to_owned(),
                limit: LIMIT,
                stdout,
                stderr: String::new(),
            }),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(HarnessError::Answer {
                what: text.to_owned(),
                problem: "it ended the shell".to_owned(),
                output: stdout,
            }),
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        // The group: also what runs in the background. It may be gone already.
        let script = format!("kill -s KILL -- -{}", self.child.id());
        let _ = Process::new("sh").args(["-c", &script]).status();
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn cargo_run_means_the_binary_under_test() {
        assert_eq!(prepare("cargo run --release -- demo"), "millrace demo");
        assert_eq!(prepare("millrace get v 1 | head -n 1"), "millrace get v 1 | head -n 1");
    }
}
