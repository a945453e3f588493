//! A look at a Redis for people: whether it is there, how it keeps what it holds, and what the windows in
//! it are. Reads alone.

use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use thiserror::Error;

use crate::config::{RedisConfig, RedisConfigError};
use crate::link;
use crate::script::LAYOUT;

/// How long an answer may take: nobody waits behind a look.
const PATIENCE: Duration = Duration::from_secs(2);
/// Keys that one step of a scan goes over, about.
const SCANNED: usize = 1_000;
/// Steps of a scan: a Redis that is shared with others may hold millions of keys.
const STEPS: usize = 64;
/// Windows that are looked into.
const SAMPLED: usize = 256;

/// What was found in a Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSeen {
    /// The version it says it is.
    pub version: String,
    /// Its greatest memory, in bytes; 0 for as much as there is.
    pub memory_max: u64,
    /// What it does when that is used up.
    pub eviction: String,
    /// It writes each change to a file (AOF).
    pub appends: bool,
    /// The last time it saved keys to a file went well.
    pub saves: bool,
    /// It is a replica, and takes no marks.
    pub is_replica: bool,
    /// The windows, or why they cannot be looked at.
    pub windows: Result<WindowsSeen, String>,
}

/// What windows of the cluster there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WindowsSeen {
    /// Windows over the log of this store that were come across.
    pub of_store: u64,
    /// Windows over logs of other stores of the cluster's name.
    pub of_others: u64,
    /// Of those that were looked into, the ones with another layout than this program's.
    pub other_layout: u64,
    /// Every key was come across.
    pub is_all: bool,
}

/// Why a Redis cannot be looked at.
#[derive(Debug, Error)]
pub enum InspectError {
    /// A setting breaks a rule.
    #[error(transparent)]
    Setting(#[from] RedisConfigError),
    /// It is not there, does not answer, or does not let us in.
    #[error("{0}")]
    Unusable(String),
}

/// Looks at a Redis. `store` is the identity of the store whose windows it holds, where that is known.
///
/// # Errors
/// [`InspectError`].
pub async fn inspect(config: &RedisConfig, store: Option<&str>) -> Result<RedisSeen, InspectError> {
    let client = config.client()?;
    let connected = link::connect(&client, PATIENCE.max(config.patience)).await;
    let mut redis = connected.map_err(InspectError::Unusable)?;
    let info = info(&mut redis).await;
    let info = info.map_err(|error| InspectError::Unusable(link::explain(&error)))?;
    let windows = windows(&mut redis, config, store).await;
    Ok(seen(&info, windows.map_err(|error| link::explain(&error))))
}

async fn info(redis: &mut MultiplexedConnection) -> Result<String, RedisError> {
    let mut all = String::new();
    for section in ["server", "memory", "persistence", "replication"] {
        let text: String = redis::cmd("INFO").arg(section).query_async(redis).await?;
        all.push_str(&text);
    }
    Ok(all)
}

/// What the lines `name:value` say.
fn seen(info: &str, windows: Result<WindowsSeen, String>) -> RedisSeen {
    let value = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| *found == name).map_or("", |(_, value)| value.trim())
    };
    RedisSeen {
        version: value("redis_version").to_owned(),
        memory_max: value("maxmemory").parse().unwrap_or_default(),
        eviction: value("maxmemory_policy").to_owned(),
        appends: value("aof_enabled") == "1",
        saves: value("rdb_last_bgsave_status") != "err" && value("aof_last_write_status") != "err",
        is_replica: value("role") == "slave",
        windows,
    }
}

async fn windows(
    redis: &mut MultiplexedConnection,
    config: &RedisConfig,
    store: Option<&str>,
) -> Result<WindowsSeen, RedisError> {
    let (mut seen, mut cursor, mut sampled) = (WindowsSeen::default(), 0_u64, 0);
    for _ in 0..STEPS {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(config.pattern()).arg("COUNT").arg(SCANNED);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(redis).await?;
        let of_store = store.map(|store| config.key(store, ""));
        for key in keys {
            match &of_store {
                Some(prefix) if !key.starts_with(prefix.as_bytes()) => seen.of_others += 1,
                Some(_) | None => seen.of_store += 1,
            }
            if sampled < SAMPLED {
                sampled += 1;
                let layout = redis::cmd("HGET").arg(&key).arg("e").query_async(redis).await?;
                // One that expired meanwhile has none.
                let layout: Option<u64> = layout;
                seen.other_layout += u64::from(layout.is_some_and(|layout| layout != LAYOUT));
            }
        }
        cursor = next;
        if cursor == 0 {
            seen.is_all = true;
            break;
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_of_itself_is_read_line_by_line() {
        let info = "# Server\r\nredis_version:7.2.4\r\n# Memory\r\nmaxmemory:1048576\r\n\
                    maxmemory_human:1.00M\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\n\
                    rdb_last_bgsave_status:ok\r\naof_enabled:0\r\naof_last_write_status:ok\r\n\
                    role:master\r\n";
        let read = seen(info, Ok(WindowsSeen::default()));
        assert_eq!(
            (&*read.version, read.memory_max, &*read.eviction),
            ("7.2.4", 1 << 20, "noeviction")
        );
        assert_eq!((read.appends, read.saves, read.is_replica), (false, true, false));
        let info = "rdb_last_bgsave_status:err\r\naof_enabled:1\r\nrole:slave\r\n";
        let read = seen(info, Err("no".to_owned()));
        assert_eq!((read.appends, read.saves, read.is_replica), (true, false, true));
    }
}
