//! A Cassandra and a Redis for `cargo xtask cluster up --store cql`. It says where they are, and stays:
//! however it ends, they end with it and leave nothing behind.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: its output is what it is for"
)]

use std::error::Error as _;
use std::process::ExitCode;

use millrace_test_servers::{Cassandra, CassandraOptions, Redis, RedisOptions, ServerError};

fn main() -> ExitCode {
    match start() {
        Ok((cassandra, redis)) => {
            println!("cassandra {}", cassandra.address());
            println!("redis {}", redis.address());
            println!("servers is ready on {}", cassandra.address());
            loop {
                // It may wake up without a reason.
                std::thread::park();
            }
        }
        Err(error) => {
            let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
            eprintln!("error: {error}{why}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(Cassandra, Redis), ServerError> {
    let redis = Redis::start(RedisOptions::default())?;
    Ok((Cassandra::start(CassandraOptions::default())?, redis))
}
