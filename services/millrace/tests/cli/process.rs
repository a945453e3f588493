//! Running the binary.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// The binary with no environment of Millrace's own.
pub(crate) fn millrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    for name in ["", "_INGEST", "_JOIN", "_SERVING"] {
        command.env_remove(format!("MILLRACE{name}_ENDPOINT"));
    }
    for name in ["CA", "CERT", "KEY", "TOKEN", "ACCESS", "INSECURE"] {
        command.env_remove(format!("MILLRACE_{name}"));
    }
    for name in ["CERT", "KEY", "CLIENT_CA"] {
        command.env_remove(format!("MILLRACE_TLS_{name}"));
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end on a thread of its own, so that a server of the test can answer.
pub(crate) async fn run(mut command: Command) -> Ran {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs it against a server.
pub(crate) async fn run_at(address: SocketAddr, arguments: &[&str]) -> Ran {
    let mut command = millrace(arguments);
    command.env("MILLRACE_ENDPOINT", format!("http://{address}"));
    run(command).await
}

/// A server that is killed when the test ends, whatever its end.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: String,
    log: PathBuf,
}

impl Served {
    /// Starts it with its log in a file, and waits until it says where it listens.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let address = ready.split_whitespace().find(|word| word.contains("://"));
        let mut served = Self { child, address: String::new(), log };
        served.address =
            address.unwrap_or_else(|| panic!("{ready:?} {}", served.logged())).to_owned();
        served
    }

    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
