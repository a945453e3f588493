//! `cargo xtask test`: the stages, one after another.

use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::args::TestOptions;
use crate::cluster;
use crate::command::{self, Failure};
use crate::compose;
use crate::fuzz;
use crate::stage::Stage;
use crate::summary::{Outcome, Totals, table};
use crate::tools::Tools;
use crate::workspace::Workspace;

/// What is said when cargo itself cannot be started.
const NO_CARGO: &str = "install Rust with rustup";
/// How the names of tests end that have the night to run.
const OVERNIGHT: &str = "overnight";
/// How many tests of a program run at a time.
const THREADS: &str = "RUST_TEST_THREADS";
/// How long the overload of the end-to-end tests lasts: a minute where everything is shown.
const OVERLOAD_SECONDS: &str = "MILLRACE_OVERLOAD_SECONDS";

/// Runs the stages and prints how they went; true when all passed.
///
/// # Errors
///
/// Only when nothing could be run at all.
pub(crate) fn run(options: &TestOptions) -> Result<bool, Failure> {
    let workspace = Workspace::find()?;
    let tools = Tools::of(&workspace);
    let mut bench = Bench { workspace, tools, options, totals: Totals::default(), jaeger: None };
    let started = Instant::now();
    let mut rows: Vec<(Stage, Outcome, Duration)> = Vec::new();
    for stage in wanted(options.only) {
        let failed = |need: &Stage| {
            rows.iter().any(|(done, how, _)| done == need && *how != Outcome::Passed)
        };
        if stage.needs().iter().any(failed) {
            rows.push((stage, Outcome::LeftOut, Duration::ZERO));
            continue;
        }
        println!("\n== {} ==", stage.name());
        let began = Instant::now();
        let outcome = match bench.run_stage(stage) {
            Ok(()) => Outcome::Passed,
            Err(failure) => {
                println!("error: {failure}");
                Outcome::Failed
            }
        };
        println!("== {} took {:.1} s ==", stage.name(), began.elapsed().as_secs_f64());
        rows.push((stage, outcome, began.elapsed()));
    }
    let passed = rows.iter().all(|(_, outcome, _)| *outcome == Outcome::Passed);
    println!("\n{}  all      {:>7.1} s", table(&rows), started.elapsed().as_secs_f64());
    if rows.iter().any(|(stage, ..)| matches!(stage, Stage::Test | Stage::DocTest | Stage::Fuzz)) {
        println!("\n{}", bench.totals.closing_lines(started.elapsed()));
    }
    Ok(passed)
}

/// The stages to run: all, or one and what it needs.
fn wanted(only: Option<Stage>) -> Vec<Stage> {
    let Some(only) = only else { return Stage::ALL.to_vec() };
    let mut stages = only.needs().to_vec();
    stages.push(only);
    stages
}

/// The state the stages share.
struct Bench<'a> {
    workspace: Workspace,
    tools: Tools,
    options: &'a TestOptions,
    totals: Totals,
    /// Jaeger's build, while stages run that do not need it.
    jaeger: Option<JoinHandle<Result<(), Failure>>>,
}

impl Bench<'_> {
    fn run_stage(&mut self, stage: Stage) -> Result<(), Failure> {
        match stage {
            Stage::Tools => self.install(),
            Stage::Format => self.cargo(&["fmt", "--all", "--check"]),
            Stage::Lint => {
                let all = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
                self.cargo(&all)
            }
            // The same packages and targets as the tests, so that cargo settles on the same
            // features and nothing is compiled a second time for them.
            Stage::Build => self.cargo(&["build", "--workspace", "--all-targets"]),
            Stage::Test => self.tests(),
            Stage::DocTest => self.counted(&["test", "--workspace", "--doc", "--no-fail-fast"]),
            Stage::Cluster => {
                self.wait_for_jaeger()?;
                cluster::check()
            }
            Stage::Compose => compose::check_files(&self.workspace),
            Stage::Doc => {
                let mut doc = self.workspace.cargo(&["doc", "--workspace", "--no-deps"]);
                command::run(doc.env("RUSTDOCFLAGS", "-D warnings"), NO_CARGO)
            }
            Stage::Fuzz => {
                let usual = match self.options.real_data {
                    true => fuzz::SECONDS,
                    false => fuzz::SECONDS_WHILE_WAITING,
                };
                let seconds = self.options.fuzz_seconds.unwrap_or(usual);
                let seed = self.options.seed.unwrap_or(1);
                fuzz::run(&self.workspace, seconds, seed, &mut self.totals)
            }
        }
    }

    /// Jaeger takes minutes where it is not there yet: unless the tools are all that is wanted, the
    /// compiler and the linker of the next stages leave it the time that they do not use.
    fn install(&mut self) -> Result<(), Failure> {
        self.tools.install(&self.workspace)?;
        let servers = self.tools.servers.clone();
        self.jaeger = Some(thread::spawn(move || servers.install_jaeger()));
        if self.options.only == Some(Stage::Tools) { self.wait_for_jaeger() } else { Ok(()) }
    }

    fn wait_for_jaeger(&mut self) -> Result<(), Failure> {
        let broke = |_| Err(Failure::Other("the thread that builds Jaeger panicked".to_owned()));
        self.jaeger.take().map_or(Ok(()), |build| build.join().unwrap_or_else(broke))
    }

    fn cargo(&self, args: &[&str]) -> Result<(), Failure> {
        command::run(&mut self.workspace.cargo(args), NO_CARGO)
    }

    /// Every target, so also the tests of binaries; one failing target does not hide the others.
    fn tests(&mut self) -> Result<(), Failure> {
        self.wait_for_jaeger()?;
        let mut test = vec!["test", "--workspace", "--all-targets", "--no-fail-fast"];
        if !self.options.overnight {
            test.extend(["--", "--skip", OVERNIGHT]);
        }
        self.counted(&test)
    }

    fn counted(&mut self, args: &[&str]) -> Result<(), Failure> {
        let mut test = self.workspace.cargo(args);
        self.set_environment(&mut test);
        command::run_reading(&mut test, NO_CARGO, |line| self.totals.add_line(line))
    }

    /// What tests learn through the environment; CONTRIBUTING.md lists it.
    fn set_environment(&self, command: &mut Command) {
        command
            .env("MILLRACE_BIN", self.workspace.binary())
            .env("MILLRACE_GRPCURL", &self.tools.grpcurl)
            .env("MILLRACE_PYTHON", &self.tools.python);
        self.tools.servers.set_environment(command);
        if std::env::var_os("MILLRACE_DATA").is_none() {
            command.env("MILLRACE_DATA", self.workspace.root.join("../shared/data"));
        }
        if std::env::var_os(THREADS).is_none() {
            // One more than cores: many a test waits for a lease to end, or for a server to start.
            let cores = thread::available_parallelism().map_or(1, usize::from);
            command.env(THREADS, (cores + 1).to_string());
        }
        if self.options.real_data {
            command.env("MILLRACE_REAL_DATA", "required");
            if std::env::var_os(OVERLOAD_SECONDS).is_none() {
                command.env(OVERLOAD_SECONDS, "60");
            }
        }
        let TestOptions { cases, kills, seed, .. } = self.options;
        for (name, value) in [("CASES", cases), ("KILLS", kills), ("SEED", seed)] {
            if let Some(value) = value {
                command.env(format!("MILLRACE_{name}"), value.to_string());
            }
        }
    }
}
