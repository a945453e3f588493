//! A Cassandra, a Redis and a Jaeger for `cargo xtask cluster up --store cql`. It says where they are, and stays:
//! however it ends, they end with it and leave nothing behind.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: its output is what it is for"
)]

use std::error::Error as _;
use std::process::ExitCode;

use millrace_test_servers::{
    Cassandra, CassandraOptions, Jaeger, Redis, RedisOptions, ServerError,
};

fn main() -> ExitCode {
    match start() {
        Ok((cassandra, redis, jaeger)) => {
            println!("cassandra {}", cassandra.address());
            println!("redis {}", redis.address());
            println!("jaeger {}", jaeger.url());
            println!("otlp {}", jaeger.otlp());
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

fn start() -> Result<(Cassandra, Redis, Jaeger), ServerError> {
    let redis = Redis::start(RedisOptions::default())?;
    let jaeger = Jaeger::start()?;
    Ok((Cassandra::start(CassandraOptions::default())?, redis, jaeger))
}
