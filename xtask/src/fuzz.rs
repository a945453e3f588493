//! The fuzz stage: each target of `tests/fuzz` under libFuzzer, as many at a time as there are cores.
//!
//! libFuzzer runs on the stable toolchain: this program stands between cargo and the compiler and has
//! our crates, and what they take in of others, count which edges ran. The crates they stand on are those
//! of the tests, so that little is compiled for this. The address sanitizer would need another toolchain,
//! and there is no unsafe code of ours for it to look at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use crate::command::{self, Failure, output};
use crate::summary::Totals;
use crate::workspace::Workspace;

/// How long each target runs unless told otherwise.
pub(crate) const SECONDS: u64 = 60;
/// The same where somebody waits: a whole run from nothing is to take less than 25 minutes.
pub(crate) const SECONDS_WHILE_WAITING: u64 = 5;

/// Makes the compiler count edges for libFuzzer.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Ccodegen-units=16",
];

/// Set while cargo builds the targets: this program is then called in the compiler's place.
pub(crate) const AS_COMPILER: &str = "MILLRACE_XTASK_COMPILES";

/// What every target runs with: inputs of 64 KiB at most, each done within ten seconds and a gigabyte.
const ARGS: [&str; 5] =
    ["-max_len=65536", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"];

/// The program and its folders.
struct Fuzzer {
    binary: PathBuf,
    folder: PathBuf,
    seconds: u64,
    seed: u64,
}

/// How a target went.
struct Ran {
    name: String,
    /// Inputs tried; `None` when it failed.
    inputs: Option<u64>,
    /// Its output, where it failed.
    said: String,
}

/// Builds the targets and runs each of them; every one counts as a test.
///
/// # Errors
///
/// When they do not build, or one of them found an input that its code does not withstand.
pub(crate) fn run(
    workspace: &Workspace,
    seconds: u64,
    seed: u64,
    totals: &mut Totals,
) -> Result<(), Failure> {
    let binary = build(workspace)?;
    let names = output(Command::new(&binary).env("MILLRACE_FUZZ_TARGET", "list"))
        .ok_or_else(|| Failure::Other("the fuzz program does not list its targets".to_owned()))?;
    let folder = workspace.target.join("fuzz-inputs");
    let fuzzer = Fuzzer { binary, folder, seconds, seed };
    let kept = fuzzer.folder.display();
    println!("each target runs for {seconds} s from seed {seed}; inputs are kept in {kept}");
    let waiting: Mutex<Vec<&str>> = Mutex::new(names.lines().rev().collect());
    let done: Mutex<Vec<Ran>> = Mutex::new(Vec::new());
    let next = || waiting.lock().ok().and_then(|mut names| names.pop());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(name) = next() {
                    let ran = fuzzer.run(name);
                    ran.print();
                    if let Ok(mut done) = done.lock() {
                        done.push(ran);
                    }
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_default();
    let failed: Vec<&str> =
        done.iter().filter(|ran| ran.inputs.is_none()).map(|ran| ran.name.as_str()).collect();
    totals.passed += (done.len() - failed.len()) as u64;
    totals.failed += failed.len() as u64;
    match failed.as_slice() {
        [] => Ok(()),
        some => Err(Failure::Other(format!("inputs were found that break {}", some.join(", ")))),
    }
}

fn build(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let ourselves = std::env::current_exe()
        .map_err(|cause| Failure::Other(format!("where this program is: {cause}")))?;
    // The whole workspace with a test, so that cargo settles on the features of the other stages and
    // compiles no dependency a second time.
    let args = ["build", "--workspace", "--bin", "fuzz", "--test", "workspace"];
    let mut cargo = workspace.cargo(&args);
    cargo.args(["--features", "millrace-fuzz-tests/libfuzzer"]);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", ourselves).env(AS_COMPILER, "1");
    command::run(&mut cargo, "install Rust with rustup and a C++ compiler")?;
    Ok(workspace.target.join("debug").join(format!("fuzz{}", std::env::consts::EXE_SUFFIX)))
}

/// Calls the compiler as cargo would, with the flags of libFuzzer where they belong: a build script, a
/// macro and the test beside the targets have no libFuzzer to count for.
///
/// # Errors
///
/// [`Failure`] when it cannot be started; its own exit code otherwise.
pub(crate) fn compile(mut args: impl Iterator<Item = String>) -> Result<Option<i32>, Failure> {
    let compiler = args.next().ok_or_else(|| Failure::Other("no compiler is named".to_owned()))?;
    let args: Vec<String> = args.collect();
    let named = |flag: &str, value: &str| {
        args.windows(2).any(|pair| pair[0] == flag && pair[1].starts_with(value))
    };
    let has_no_fuzzer = named("--crate-name", "build_script_")
        || named("--crate-type", "proc-macro")
        || named("--crate-name", "workspace")
        || named("--crate-name", "millrace_architecture");
    let counts = named("--crate-name", "") && !has_no_fuzzer;
    let mut command = Command::new(&compiler);
    command.args(&args).args(counts.then_some(FLAGS).into_iter().flatten());
    let status = command.status();
    let remedy = "install Rust with rustup";
    status.map(|status| status.code()).map_err(|cause| Failure::NotStarted {
        program: compiler,
        cause,
        remedy,
    })
}

impl Fuzzer {
    fn run(&self, name: &str) -> Ran {
        let (corpus, found) = (self.folder.join(name), self.folder.join("found"));
        let folders = fs::create_dir_all(&corpus).and_then(|()| fs::create_dir_all(&found));
        let mut ran = Ran { name: name.to_owned(), inputs: None, said: String::new() };
        if let Err(cause) = folders {
            ran.said = format!("make {}: {cause}", corpus.display());
            return ran;
        }
        match self.command(name, &corpus, &found).output() {
            Err(cause) => ran.said = format!("start {}: {cause}", self.binary.display()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                match output.status.success() {
                    true => ran.inputs = Some(executed(&said)),
                    false => ran.said = self.failure(name, &said),
                }
            }
        }
        ran
    }

    fn command(&self, name: &str, corpus: &Path, found: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(ARGS)
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-seed={}", self.seed))
            .arg(format!("-artifact_prefix={}/{name}-", found.display()))
            .arg(corpus)
            .env("MILLRACE_FUZZ_TARGET", name)
            .env("MILLRACE_FUZZ_SEEDS", corpus);
        command
    }

    /// The end of what it said, and how to see it again.
    fn failure(&self, name: &str, said: &str) -> String {
        let lines: Vec<&str> = said.lines().collect();
        let end = lines[lines.len().saturating_sub(40)..].join("\n");
        format!(
            "{end}\nto run it on that input again: MILLRACE_FUZZ_TARGET={name} {} FILE",
            self.binary.display()
        )
    }
}

impl Ran {
    /// Prints it as test runners print a test.
    fn print(&self) {
        match self.inputs {
            Some(inputs) => println!("fuzz {} ... ok ({inputs} inputs)", self.name),
            None => println!("fuzz {} ... FAILED\n{}", self.name, self.said),
        }
    }
}

/// The number of inputs tried, from libFuzzer's statistics.
fn executed(said: &str) -> u64 {
    let line = said.lines().find_map(|l| l.strip_prefix("stat::number_of_executed_units:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_counted_from_the_statistics() {
        let said = "INFO: Seed: 1\nstat::number_of_executed_units: 16400123\nstat::peak_rss_mb: 5";
        assert_eq!(executed(said), 16_400_123);
        assert_eq!(executed("nothing"), 0);
    }
}
