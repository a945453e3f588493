//! The `millrace` binary: reads the command line, runs it, and ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use millrace::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    millrace::run(Cli::parse()).into()
}
