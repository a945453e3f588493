//! The command line, run as scripts run it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::{Finished, HarnessError, PublishReport, binary, run_bounded, wait_until};

/// No command of the tests takes longer, but a machine that builds beside it is slow.
const LIMIT: Duration = Duration::from_secs(300);

/// The `millrace` binary, without the settings of the shell that runs the tests.
///
/// # Errors
///
/// [`HarnessError::Missing`] when there is no binary.
pub fn millrace() -> Result<Command, HarnessError> {
    Ok(client_command(&binary()?))
}

/// A program without the settings of the shell that runs the tests.
#[must_use]
pub fn client_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLRACE_") {
            command.env_remove(name);
        }
    }
    command
}

/// `millrace` pointed at a server.
#[derive(Debug, Clone)]
pub struct Cli {
    /// The flags that say where.
    place: Vec<String>,
}

impl Cli {
    /// Points it at this endpoint.
    #[must_use]
    pub fn at(endpoint: &str) -> Self {
        Self { place: vec!["--endpoint".to_owned(), endpoint.to_owned()] }
    }

    /// Points it at services that run apart.
    #[must_use]
    pub fn apart(ingest: &str, join: &str, serving: &str) -> Self {
        let flags = [("ingest", ingest), ("join", join), ("serving", serving)];
        let flag = |(role, url): (&str, &str)| [format!("--{role}-endpoint"), url.to_owned()];
        Self { place: flags.into_iter().flat_map(flag).collect() }
    }

    /// The same with flags that every command takes.
    #[must_use]
    pub fn with_flags<const N: usize>(mut self, flags: [&str; N]) -> Self {
        self.place.extend(flags.map(str::to_owned));
        self
    }

    /// Runs it with these arguments.
    ///
    /// # Errors
    ///
    /// When there is no binary or it does not end; any exit code is an answer.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Finished, HarnessError> {
        self.run_with_input(args, b"")
    }

    /// Runs it with these arguments and this standard input.
    ///
    /// # Errors
    ///
    /// As [`Cli::run`].
    pub fn run_with_input<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Result<Finished, HarnessError> {
        run_bounded(&mut self.command(args)?, input, LIMIT)
    }

    /// The command with these arguments, for who runs it differently.
    ///
    /// # Errors
    ///
    /// When there is no binary.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Command, HarnessError> {
        let mut command = millrace()?;
        command.args(&self.place).args(args);
        Ok(command)
    }

    /// Runs it with `-o json` and reads the answer of a call that must succeed.
    ///
    /// # Errors
    ///
    /// When it exits with another code than 0 or answers with something else than JSON.
    pub fn json<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Value, HarnessError> {
        self.run_json(args)?.expect_code(0)?.json()
    }

    /// Publishes `STREAM=FILE` pairs; refused and late facts are part of the report.
    ///
    /// # Errors
    ///
    /// When it exits with another code than 0 or 3, or its report does not have the agreed form.
    pub fn publish<S: AsRef<OsStr>>(
        &self,
        pairs: impl IntoIterator<Item = S>,
    ) -> Result<PublishReport, HarnessError> {
        let args = std::iter::once(OsStr::new("publish").to_owned());
        let pairs = pairs.into_iter().map(|pair| pair.as_ref().to_owned());
        PublishReport::read(&self.run_json(args.chain(pairs))?)
    }

    /// Waits until no entity waits for a rebuild any more.
    ///
    /// # Panics
    ///
    /// When some do after that time.
    pub fn wait_for_rebuilds(&self, within: Duration) {
        wait_until("the rebuilds", within, || {
            let status = self.json(["status"]).ok()?;
            (status["rebuild_queue"] == 0).then_some(())
        });
    }

    /// Imports `STREAM=FILE` pairs with the flags of `import`; refused and late facts are part of the
    /// report.
    ///
    /// # Errors
    ///
    /// As [`Cli::publish`].
    pub fn import<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<PublishReport, HarnessError> {
        let import = std::iter::once(OsStr::new("import").to_owned());
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        PublishReport::read(&self.run_json(import.chain(args))?)
    }

    /// Reads features with `get` and gives the rows of the answer.
    ///
    /// # Errors
    ///
    /// When it exits with another code than 0 or answers without rows.
    pub fn get<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Value>, HarnessError> {
        let args = std::iter::once(OsStr::new("get").to_owned())
            .chain(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        let answer = self.json(args)?;
        answer["rows"].as_array().cloned().ok_or_else(|| HarnessError::Answer {
            what: "get".to_owned(),
            problem: "no rows".to_owned(),
            output: answer.to_string(),
        })
    }

    fn run_json<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Finished, HarnessError> {
        let json = ["-o", "json"].map(|arg| OsStr::new(arg).to_owned());
        self.run(json.into_iter().chain(args.into_iter().map(|arg| arg.as_ref().to_owned())))
    }
}
