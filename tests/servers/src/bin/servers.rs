//! A Cassandra of as many nodes as is said, a Redis and a Jaeger for `cargo xtask cluster up --store cql`. It says where they are, and stays:
//! however it ends, they end with it and leave nothing behind.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: its output is what it is for"
)]

use std::error::Error as _;
use std::process::ExitCode;

use millrace_test_servers::{CassandraOptions, Jaeger, Redis, RedisOptions, Ring, ServerError};

fn main() -> ExitCode {
    let nodes = std::env::args().nth(1).map_or(Ok(1), |nodes| nodes.parse());
    let Some(nodes) = nodes.ok().filter(|nodes| *nodes > 0) else {
        eprintln!("error: the number of nodes is one at least");
        return ExitCode::FAILURE;
    };
    match start(nodes) {
        Ok((cassandra, redis, jaeger)) => {
            println!("cassandra {}", cassandra.addresses().join(","));
            println!("redis {}", redis.address());
            println!("jaeger {}", jaeger.url());
            println!("otlp {}", jaeger.otlp());
            println!("servers is ready on {}", redis.address());
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

fn start(nodes: u8) -> Result<(Ring, Redis, Jaeger), ServerError> {
    let redis = Redis::start(RedisOptions::default())?;
    let jaeger = Jaeger::start()?;
    Ok((Ring::start(nodes, &CassandraOptions::default())?, redis, jaeger))
}
