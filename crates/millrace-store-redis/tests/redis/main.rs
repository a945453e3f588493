//! Producer windows on a real Redis: the suite, and everything that can go wrong with a Redis.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod inspect;
mod suite;

use std::future::Future;
use std::time::Duration;

use millrace_store::{ProducerWindows, Seen};
use millrace_store_redis::{RedisConfig, RedisWindows};
use millrace_test_servers::{Redis, RedisOptions};
use tokio::time::timeout;

/// Anything that is waited for comes within this, also on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

/// The store whose log the windows are about.
const STORE: &str = "a1b2";

fn redis(args: &[&str]) -> Redis {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Redis::start(RedisOptions { args, password: None }).unwrap()
}

fn config(redis: &Redis) -> RedisConfig {
    RedisConfig { patience: Duration::from_secs(5), ..RedisConfig::new(redis.url(), "one") }
}

/// Another process, which knows nothing yet.
async fn another(redis: &Redis) -> RedisWindows {
    RedisWindows::start(config(redis), STORE).await.unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(WITHIN, future).await.unwrap()
}

/// The numbers of `0..100` that are said to be marked.
async fn marked(windows: &RedisWindows, producer: &str) -> Vec<u64> {
    let seen = windows.seen(producer, 0, 100).await.unwrap();
    (0..100).zip(seen).filter(|(_, seen)| *seen == Seen::Yes).map(|(number, _)| number).collect()
}
