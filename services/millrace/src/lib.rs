//! Millrace on the command line: `millrace dev` runs everything in one process, and the other
//! commands talk to it, or to services that run apart, over gRPC.
//!
//! Data goes to standard output, everything else to standard error. Names of commands, flags, JSON
//! fields and exit codes are an interface: scripts rely on them.

pub mod bench;
pub mod cli;
mod clock;
pub mod commands;
pub mod cql;
#[doc(hidden)]
pub mod decoders;
pub mod demo;
pub mod dev;
pub mod exit;
pub mod files;
mod going_down;
mod listen;
pub mod metrics;
mod open_files;
pub mod output;
pub mod redis;
pub mod security;
pub mod serve;

use std::error::Error;
use std::io::{self, IsTerminal, Write};

use clap::CommandFactory;
use tokio::runtime::{Builder, Runtime};

use cli::{Cli, Command};
use commands::Failure;
use exit::Exit;
use millrace_telemetry::Role;
use output::Printer;

/// Runs a command line to its end; failures are printed on standard error with what to do next.
#[must_use]
pub fn run(cli: Cli) -> Exit {
    match dispatch(cli) {
        Ok(exit) => exit,
        Err(failure) if failure.is_closed_output() => Exit::Done,
        Err(failure) => {
            // Nothing can be said where standard error is closed; the exit code still tells.
            let _ = report(&failure, &mut io::stderr().lock());
            failure.exit()
        }
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    let printer = Printer::on_stdout(global.output);
    match command {
        Command::Validate(args) => commands::validate::run(&args, printer),
        Command::Completions(args) => {
            clap_complete::generate(
                args.shell,
                &mut Cli::command(),
                "millrace",
                &mut io::stdout().lock(),
            );
            Ok(Exit::Done)
        }
        Command::Dev(args) => {
            telemetry(Role::Service)?;
            run_server(async { dev::run(&args).await.map_err(Failure::from) })
        }
        Command::Serve(args) => {
            telemetry(Role::Service)?;
            run_server(async { serve::run(&args, &global).await.map_err(Failure::from) })
        }
        Command::Demo(_) => {
            telemetry(Role::Command)?;
            server_runtime()?.block_on(demo::run()).map_err(Failure::from)
        }
        Command::Doctor(args) => client_runtime()?.block_on(commands::doctor::run(&args, printer)),
        Command::Bench(command) => server_runtime()?.block_on(bench::run(&command, printer)),
        Command::Apply(args) => {
            client_runtime()?.block_on(commands::apply::run(&args, &global, printer))
        }
        Command::Publish(args) => {
            let run = commands::publish::run(&args, &global, printer);
            client_runtime()?.block_on(traced(run))
        }
        Command::Import(args) => {
            let run = commands::import::run(&args, &global, printer);
            client_runtime()?.block_on(traced(run))
        }
        Command::Get(args) => {
            let run = commands::get::run(&args, &global, printer);
            client_runtime()?.block_on(traced(run))
        }
        Command::Explain(args) => {
            client_runtime()?.block_on(commands::explain::run(&args, &global, printer))
        }
        Command::Parity(args) => {
            client_runtime()?.block_on(commands::parity::run(&args, &global, printer))
        }
        Command::Training(args) => {
            client_runtime()?.block_on(commands::training::run(&args, &global, printer))
        }
        Command::Tail(args) => {
            telemetry(Role::Command)?;
            client_runtime()?.block_on(commands::tail::run(&args, &global))
        }
        Command::Late(command) => {
            client_runtime()?.block_on(commands::late::run(&command, &global, printer))
        }
        Command::Erase(args) => {
            client_runtime()?.block_on(commands::erase::run(&args, &global, printer))
        }
        Command::Status(args) => {
            client_runtime()?.block_on(commands::status::run(&args, &global, printer))
        }
    }
}

/// The threads of the services' calls: a thread for every two cores, since slots and the store have
/// threads of their own beside them. On two cores one was a quarter faster than two in reads
/// (docs/performance.md).
fn server_runtime() -> Result<Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads((cores / 2).max(1))
        .enable_all()
        .build()
        .map_err(|e| Failure::Runtime(e.to_string()))
}

/// Runs a server to its end. What blocks a thread then is not waited for any longer than its bound
/// allows.
fn run_server(run: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = server_runtime()?;
    let outcome = runtime.block_on(run);
    runtime.shutdown_timeout(going_down::CLOSE_WITHIN);
    outcome
}

/// Runs a command whose calls are the heads of traces, where the environment asks for them.
async fn traced(run: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let traces = dev::traces("cli").map_err(Failure::from)?;
    let outcome = run.await;
    if let Some(traces) = traces {
        traces.shut_down().await;
    }
    outcome
}

fn telemetry(role: Role) -> Result<(), Failure> {
    let filter = std::env::var("RUST_LOG").ok();
    millrace_telemetry::init(role, filter.as_deref()).map_err(|e| Failure::Runtime(e.to_string()))
}

/// One thread for the calls; files are read on blocking threads beside it.
fn client_runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(|e| Failure::Runtime(e.to_string()))
}

/// Writes what failed, with its causes on one line, and what to do next.
fn report(failure: &Failure, out: &mut dyn Write) -> io::Result<()> {
    let (bold, plain) = if in_colour() { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
    write!(out, "{bold}error{plain}: {failure}")?;
    let mut cause = failure.source();
    while let Some(error) = cause {
        write!(out, ": {error}")?;
        cause = error.source();
    }
    writeln!(out)?;
    match failure.next_step() {
        Some(next) => writeln!(out, "  next: {next}"),
        None => Ok(()),
    }
}

/// Colour only on a terminal, and not where `NO_COLOR` is set to anything.
fn in_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}
