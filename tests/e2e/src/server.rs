//! `millrace dev` as a process that tests start, kill and start again.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Cli, HarnessError, client_command, millrace};

/// How long a server may take to be ready; a restart replays what its marks do not cover.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long a server may take to drain: its own limit is 10 s.
const DRAINED_WITHIN: Duration = Duration::from_secs(20);

/// How to start a server.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// The data folder.
    pub data: PathBuf,
    /// The port on the loopback address; 0 for any free one.
    pub port: u16,
    /// `--slots`, if given.
    pub slots: Option<u32>,
    /// `--at-hand-bytes`, if given: small values make rebuilds common.
    pub at_hand_bytes: Option<u64>,
    /// `--parity-sample`, if given: 1 has every answer compared with the log.
    pub parity_sample: Option<&'static str>,
    /// `--backfill-bytes-per-second`, if given.
    pub backfill_bytes_per_second: Option<u64>,
    /// `--catalog`, if given.
    pub catalog: Option<PathBuf>,
    /// Whether it has an admin port, on any free port.
    pub admin: bool,
    /// Files it may have open (`ulimit -n`), if not as many as the tests may.
    pub open_files: Option<u32>,
}

impl DevOptions {
    /// A server on this folder, on any free port, all else by default.
    #[must_use]
    pub fn on(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            port: 0,
            slots: None,
            at_hand_bytes: None,
            parity_sample: None,
            backfill_bytes_per_second: None,
            catalog: None,
            admin: false,
            open_files: None,
        }
    }

    /// The same server on a given port.
    #[must_use]
    pub fn at_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    fn command(&self) -> Result<Command, HarnessError> {
        let mut command = millrace()?;
        command.arg("dev").arg("--data").arg(&self.data);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        if let Some(slots) = self.slots {
            command.args(["--slots", &slots.to_string()]);
        }
        if let Some(bytes) = self.at_hand_bytes {
            command.args(["--at-hand-bytes", &bytes.to_string()]);
        }
        if let Some(share) = self.parity_sample {
            command.args(["--parity-sample", share]);
        }
        if let Some(bytes) = self.backfill_bytes_per_second {
            command.args(["--backfill-bytes-per-second", &bytes.to_string()]);
        }
        if let Some(catalog) = &self.catalog {
            command.arg("--catalog").arg(catalog);
        }
        if self.admin {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        let Some(files) = self.open_files else { return Ok(command) };
        let mut limited = client_command(Path::new("sh"));
        limited.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]);
        limited.arg(command.get_program()).args(command.get_args());
        Ok(limited)
    }
}

/// A running server. Dropped, it is killed; dropped by a failing test, it first shows what it said.
#[derive(Debug)]
pub struct Dev {
    child: Child,
    port: u16,
    ready_line: String,
    output: Output,
    ended: mpsc::Receiver<()>,
}

/// What the server printed so far.
#[derive(Debug, Clone, Default)]
struct Output {
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
}

/// A server that has begun and may not serve yet. Dropped, it is killed as [`Dev`] is.
pub(crate) struct Starting {
    program: String,
    lines: mpsc::Receiver<String>,
    server: Dev,
}

impl Starting {
    /// Starts a program as [`Dev::spawn`] does, and waits for nothing.
    pub(crate) fn begin(mut command: Command) -> Result<Self, HarnessError> {
        let program = crate::process::line_of(&command);
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let error = |cause| HarnessError::Process { program: program.clone(), cause };
        let mut child = piped.spawn().map_err(error)?;
        let output = Output::default();
        let lines = follow(child.stdout.take(), Arc::clone(&output.stdout));
        let ended = follow_to_end(child.stderr.take(), Arc::clone(&output.stderr));
        let server = Dev { child, port: 0, ready_line: String::new(), output, ended };
        Ok(Self { program, lines, server })
    }

    /// Waits until it serves.
    pub(crate) fn ready(self) -> Result<Dev, HarnessError> {
        let Self { program, lines, mut server } = self;
        // Later lines are kept by the thread that reads them; nobody waits for them.
        match wait_for_ready_line(&lines) {
            Ok(line) => match port_of(&line) {
                Some(port) => {
                    (server.port, server.ready_line) = (port, line);
                    Ok(server)
                }
                None => Err(HarnessError::Answer {
                    what: program,
                    problem: "its ready line names no endpoint".to_owned(),
                    output: line,
                }),
            },
            Err(Waiting::Ended) => {
                let ended = server.child.wait();
                let ended = ended.map_err(|cause| HarnessError::Process { program, cause })?;
                let _ = server.ended.recv_timeout(Duration::from_secs(5));
                let (stdout, stderr) = server.output.texts();
                Err(HarnessError::NotReady { status: ended.code().unwrap_or(-1), stdout, stderr })
            }
            Err(Waiting::TooLong) => {
                let (stdout, stderr) = server.output.texts();
                Err(HarnessError::TooSlow { program, limit: READY_WITHIN, stdout, stderr })
            }
        }
    }
}

impl Dev {
    /// Starts a server and waits for its ready line.
    ///
    /// # Errors
    ///
    /// [`HarnessError::NotReady`] with its exit code and output when it ends instead,
    /// [`HarnessError::TooSlow`] when it says nothing, [`HarnessError::Answer`] when the line has
    /// another form than `millrace dev is ready on http://ADDRESS:PORT (…)`.
    pub fn start(options: &DevOptions) -> Result<Self, HarnessError> {
        Self::spawn(options.command()?)
    }

    /// Starts a program that says `… is ready on http://ADDRESS:PORT`, or https, once it serves.
    pub(crate) fn spawn(command: Command) -> Result<Self, HarnessError> {
        Starting::begin(command)?.ready()
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The same without a scheme, as grpcurl and Python take it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The line it printed when it was ready.
    #[must_use]
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// Where its admin port listens, as its ready line says.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        admin_of(&self.ready_line)
    }

    /// What it printed on stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.output.texts().1
    }

    /// The command line pointed at this server.
    #[must_use]
    pub fn cli(&self) -> Cli {
        Cli::at(&self.endpoint())
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it has taken so far, in bytes, as the kernel counts what is resident.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Process`] when the system does not tell.
    pub fn peak_bytes(&self) -> Result<u64, HarnessError> {
        let path = format!("/proc/{}/status", self.child.id());
        let error = |cause| HarnessError::Process { program: path.clone(), cause };
        let status = std::fs::read_to_string(&path).map_err(error)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| error(std::io::ErrorKind::InvalidData.into()))
    }

    /// CPU time it has taken so far, in clock ticks of the system (100 a second).
    ///
    /// # Errors
    ///
    /// As [`Dev::peak_bytes`].
    pub fn cpu_ticks(&self) -> Result<u64, HarnessError> {
        let path = format!("/proc/{}/stat", self.child.id());
        let error = |cause| HarnessError::Process { program: path.clone(), cause };
        let stat = std::fs::read_to_string(&path).map_err(error)?;
        // The name in parentheses may hold anything; utime and stime are the 14th and 15th field.
        let numbers = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11));
        let times = numbers.map(|n| n.take(2).filter_map(|n| n.parse::<u64>().ok()));
        match times.map(|times| times.collect::<Vec<_>>()).as_deref() {
            Some([user, system]) => Ok(user + system),
            _ => Err(error(std::io::ErrorKind::InvalidData.into())),
        }
    }

    /// Ends it with SIGKILL, as a crash would.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Process`] when the system refuses.
    pub fn kill(mut self) -> Result<(), HarnessError> {
        self.end().map_err(|cause| HarnessError::Process { program: "kill".to_owned(), cause })
    }

    /// Asks it to end with SIGTERM and gives its exit code, −1 when it ended by a signal.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TooSlow`] when it is still there after it should have drained.
    pub fn terminate(mut self) -> Result<i32, HarnessError> {
        let error = |cause| HarnessError::Process { program: "kill".to_owned(), cause };
        // The shell's own `kill`: the standard library sends no other signal than SIGKILL.
        let script = format!("kill -s TERM {}", self.child.id());
        Command::new("sh").args(["-c", &script]).status().map_err(error)?;
        if let Err(mpsc::RecvTimeoutError::Timeout) = self.ended.recv_timeout(DRAINED_WITHIN) {
            let (stdout, stderr) = self.output.texts();
            let program = "millrace dev, after SIGTERM,".to_owned();
            return Err(HarnessError::TooSlow { program, limit: DRAINED_WITHIN, stdout, stderr });
        }
        Ok(self.child.wait().map_err(error)?.code().unwrap_or(-1))
    }

    /// Sends it a signal by its name, such as STOP.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Process`] when it cannot be sent.
    pub fn signal(&self, name: &str) -> Result<(), HarnessError> {
        let error = |cause| HarnessError::Process { program: "kill".to_owned(), cause };
        let script = format!("kill -s {name} {}", self.child.id());
        Command::new("sh").args(["-c", &script]).status().map(drop).map_err(error)
    }

    /// Waits until it ends by itself and gives its exit code.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TooSlow`] when it does not.
    pub fn wait(mut self, limit: Duration) -> Result<i32, HarnessError> {
        let error = |cause| HarnessError::Process { program: "wait".to_owned(), cause };
        if let Err(mpsc::RecvTimeoutError::Timeout) = self.ended.recv_timeout(limit) {
            let (stdout, stderr) = self.output.texts();
            let program = "millrace, which should have ended,".to_owned();
            return Err(HarnessError::TooSlow { program, limit, stdout, stderr });
        }
        Ok(self.child.wait().map_err(error)?.code().unwrap_or(-1))
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }
}

impl Drop for Dev {
    #[expect(clippy::print_stderr, reason = "what a server said explains why its test failed")]
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.end();
        if thread::panicking() {
            let (_, stderr) = self.output.texts();
            let lines: Vec<_> = stderr.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- the last lines of millrace dev on {}\n{last}", self.address());
        }
    }
}

impl Output {
    fn texts(&self) -> (String, String) {
        let text = |lines: &Mutex<Vec<String>>| {
            lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
        };
        (text(&self.stdout), text(&self.stderr))
    }
}

/// Why there is no ready line.
enum Waiting {
    Ended,
    TooLong,
}

fn wait_for_ready_line(lines: &mpsc::Receiver<String>) -> Result<String, Waiting> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(" is ready on http") => return Ok(line),
            Ok(_) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Waiting::Ended),
            Err(mpsc::RecvTimeoutError::Timeout) => return Err(Waiting::TooLong),
        }
    }
}

/// Keeps every line and hands it on for as long as somebody waits for it.
fn follow(
    pipe: Option<impl Read + Send + 'static>,
    kept: Arc<Mutex<Vec<String>>>,
) -> mpsc::Receiver<String> {
    // The first lines of a server fit easily; when nobody takes them they are only kept.
    let (sender, receiver) = mpsc::sync_channel(1024);
    thread::spawn(move || {
        for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
            let Ok(line) = line else { break };
            let _ = sender.try_send(line.clone());
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
    receiver
}

/// Keeps every line and tells when there are no more.
fn follow_to_end(
    pipe: Option<impl Read + Send + 'static>,
    kept: Arc<Mutex<Vec<String>>>,
) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::sync_channel::<()>(1);
    thread::spawn(move || {
        for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
            let Ok(line) = line else { break };
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
        drop(sender);
    });
    receiver
}

fn port_of(ready_line: &str) -> Option<u16> {
    let (_, rest) = ready_line.split_once("://")?;
    let address = rest.split_whitespace().next()?;
    address.trim_end_matches([',', ';']).rsplit_once(':')?.1.parse().ok()
}

fn admin_of(ready_line: &str) -> Option<SocketAddr> {
    let (_, rest) = ready_line.split_once("admin: http://")?;
    rest.split([')', ';', ',', ' ']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{admin_of, port_of};

    #[test]
    fn the_port_is_read_from_the_ready_line() {
        let line =
            "millrace dev is ready on http://127.0.0.1:40123 (data: x:1, slots: 64); next: y";
        assert_eq!(port_of(line), Some(40123));
        assert_eq!(port_of("millrace dev is ready on a socket"), None);
        assert_eq!(admin_of(line), None);
        let line = "millrace dev is ready on http://127.0.0.1:1 (slots: 2, admin: \
                    http://127.0.0.1:40124); next: y";
        assert_eq!((port_of(line), admin_of(line).map(|a| a.port())), (Some(1), Some(40124)));
        let line = "millrace join is ready on https://[::1]:2 (admin: http://[::1]:3)";
        assert_eq!((port_of(line), admin_of(line).map(|a| a.port())), (Some(2), Some(3)));
    }
}
