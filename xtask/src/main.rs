//! The developer's commands. `cargo xtask help` lists them.
//!
//! It has no dependencies, so that it compiles in a second on a fresh machine, before anything
//! else has been fetched.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a command-line program: its output is what it is for"
)]

mod args;
mod cluster;
mod command;
mod compose;
mod fuzz;
mod probe;
mod servers;
mod stage;
mod summary;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use args::Request;

fn main() -> ExitCode {
    if std::env::var_os(fuzz::AS_COMPILER).is_some() {
        return as_compiler();
    }
    match args::parse(std::env::args().skip(1)) {
        Ok(Request::Help) => {
            println!("{}", args::USAGE);
            ExitCode::SUCCESS
        }
        Ok(Request::Test(options)) => match test::run(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(failure) => {
                eprintln!("error: {failure}");
                ExitCode::FAILURE
            }
        },
        Ok(Request::Cluster(action)) => told(cluster::run(&action)),
        Ok(Request::Compose) => told(compose::run_all()),
        Err(message) => {
            eprintln!("error: {message}\n\n{}", args::USAGE);
            ExitCode::from(2)
        }
    }
}

fn told(outcome: Result<(), command::Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Called by cargo in the compiler's place, while fuzz targets are built.
fn as_compiler() -> ExitCode {
    match fuzz::compile(std::env::args().skip(1)) {
        Ok(code) => {
            code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
