//! A Redis of a test: `redis-server` of Debian or from `MILLRACE_REDIS_SERVER`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::kept::Kept;
use crate::process::{ServerError, free_port};

/// It takes a few milliseconds; a machine that builds beside the tests is slow.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long one answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Somebody else may take the port first.
const TRIES: usize = 5;
const HINT: &str = "install Debian's redis-server, or let MILLRACE_REDIS_SERVER name the program; \
                    `cargo xtask test --only tools` does the former";

/// How a Redis is started.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// Further arguments, such as `--maxmemory 1mb`.
    pub args: Vec<String>,
    /// What clients have to say to it before anything else, if anything.
    pub password: Option<String>,
}

/// A running Redis that saves nothing unless told to. It ends, and its folder goes, when this is dropped
/// and also when the process that started it ends in any way.
#[derive(Debug)]
pub struct Redis {
    folder: TempDir,
    port: u16,
    options: RedisOptions,
    process: Option<Kept>,
}

impl Redis {
    /// Starts an empty one.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(options: RedisOptions) -> Result<Self, ServerError> {
        let folder = tempfile::tempdir().map_err(ServerError::io("make a folder"))?;
        let mut redis = Self { folder, port: 0, options, process: None };
        let mut tries = 1;
        loop {
            redis.port = free_port()?;
            match redis.start_again() {
                Err(ServerError::Ended { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(redis),
            }
        }
    }

    /// Starts it on the same port and folder; it reads the `dump.rdb` there, if there is one.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start_again(&mut self) -> Result<(), ServerError> {
        self.process = None;
        let program = std::env::var_os("MILLRACE_REDIS_SERVER")
            .map_or_else(|| PathBuf::from("redis-server"), PathBuf::from);
        let folder = self.folder.path();
        // One that ended before it was ready took its folder with it.
        fs::create_dir_all(folder).map_err(ServerError::io("make a folder"))?;
        let port = self.port.to_string();
        let mut words: Vec<String> =
            [&*program.to_string_lossy(), "--bind", "127.0.0.1", "--port", &port, "--save", ""]
                .map(str::to_owned)
                .to_vec();
        words.extend(["--appendonly", "no", "--daemonize", "no", "--dir"].map(str::to_owned));
        words.push(folder.display().to_string());
        if let Some(password) = &self.options.password {
            words.extend(["--requirepass".to_owned(), password.clone()]);
        }
        words.extend(self.options.args.iter().cloned());
        let mut process = Kept::start(&words, folder, HINT)?;
        let ping = || self.command(&["PING"]).is_ok_and(|answer| answer == "+PONG");
        process.wait_ready(READY_WITHIN, ping)?;
        self.process = Some(process);
        Ok(())
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `redis://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Its folder, where `SAVE` leaves `dump.rdb`.
    #[must_use]
    pub fn dump(&self) -> PathBuf {
        self.folder.path().join("dump.rdb")
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn kill(&mut self) -> Result<(), ServerError> {
        self.process.take().map_or(Ok(()), Kept::kill)
    }

    /// Freezes it: connections are made, and nothing is answered.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn freeze(&self) -> Result<(), ServerError> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal("STOP"))
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn thaw(&self) -> Result<(), ServerError> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal("CONT"))
    }

    /// Keeps what it holds now in a file, to be given to [`Redis::roll_back`].
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn save(&self) -> Result<Vec<u8>, ServerError> {
        self.command(&["SAVE"])?;
        fs::read(self.dump()).map_err(ServerError::io("read what Redis saved"))
    }

    /// Kills it and starts it with an older state.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn roll_back(&mut self, saved: &[u8]) -> Result<(), ServerError> {
        self.kill()?;
        fs::write(self.dump(), saved).map_err(ServerError::io("write an older state"))?;
        self.start_again()
    }

    /// Runs a command on a connection of its own. Gives the first line of the answer, and of a
    /// bulk string its bytes as text.
    ///
    /// # Errors
    /// [`ServerError::Io`] when nobody answers, or with an error.
    pub fn command(&self, words: &[&str]) -> Result<String, ServerError> {
        let what = words.join(" ");
        self.ask(words).map_err(ServerError::io(what))
    }

    fn ask(&self, words: &[&str]) -> std::io::Result<String> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        let mut request = Vec::new();
        if let Some(password) = &self.options.password {
            encode(&mut request, &["AUTH", password]);
        }
        encode(&mut request, words);
        (&stream).write_all(&request)?;
        let mut answers = BufReader::new(stream);
        if self.options.password.is_some() {
            read_answer(&mut answers)?;
        }
        read_answer(&mut answers)
    }
}

fn encode(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

fn read_answer(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.trim_end().to_owned();
    if let Some(error) = line.strip_prefix('-') {
        return Err(std::io::Error::other(error.to_owned()));
    }
    let Some(length) = line.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) else {
        return Ok(line);
    };
    let mut bytes = vec![0; length + 2];
    from.read_exact(&mut bytes)?;
    bytes.truncate(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
