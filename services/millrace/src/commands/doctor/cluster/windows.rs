//! What the Redis of producer windows is like.

use millrace_store_redis::RedisConfig;
use millrace_store_redis::inspect::{InspectError, RedisSeen, WindowsSeen, inspect};

use super::report::Finding;

/// Looks at it. `store` is the identity of the store whose windows it holds, where that is known.
pub(super) async fn findings(config: &RedisConfig, store: Option<&str>) -> Vec<Finding> {
    match inspect(config, store).await {
        Ok(seen) => of_seen(&seen, store),
        Err(error) => {
            let next = match &error {
                InspectError::Setting(_) => {
                    "correct that setting: --redis, --redis-user, --redis-password-file, --redis-ca"
                }
                InspectError::Unusable(_) => {
                    "start Redis, or correct --redis (MILLRACE_REDIS, redis.url), --redis-user and \
                     --redis-password-file; meanwhile ingest sends facts on without asking it, and the \
                     log finds repeats"
                }
            };
            vec![Finding::fail("redis", format!("{}: {error}", config.url), next)]
        }
    }
}

fn of_seen(seen: &RedisSeen, store: Option<&str>) -> Vec<Finding> {
    let reached = match seen.is_replica {
        false => Finding::ok("redis", format!("version {} answers", seen.version)),
        true => Finding::warn(
            "redis",
            format!("version {} answers, and is a replica: it takes no marks", seen.version),
            "name the primary with --redis (MILLRACE_REDIS, redis.url)",
        ),
    };
    vec![reached, memory(seen), saving(seen), windows(&seen.windows, store)]
}

/// Windows that are evicted are forgotten without a word.
fn memory(seen: &RedisSeen) -> Finding {
    let check = "redis memory";
    let bound = match seen.memory_max {
        0 => "no bound".to_owned(),
        bytes => format!("{} MiB", bytes >> 20),
    };
    let found = format!("maxmemory {bound}, maxmemory-policy {}", seen.eviction);
    if seen.eviction != "noeviction" {
        let next = "set maxmemory-policy noeviction, on a Redis of its own: windows that are evicted are \
                    forgotten without a word, and repeats cost the log work";
        return Finding::warn(check, found, next);
    }
    if seen.memory_max == 0 {
        let next = "set maxmemory, so that it is Redis and not the machine that is full";
        return Finding::warn(check, found, next);
    }
    Finding::ok(check, found)
}

/// Windows may be forgotten, so nothing has to be saved; what is to be saved and cannot be makes Redis refuse
/// marks.
fn saving(seen: &RedisSeen) -> Finding {
    let check = "redis saving";
    if !seen.saves {
        return Finding::warn(
            check,
            "the last save failed: by its defaults Redis refuses marks then",
            "make room where it saves (dir), or turn saving off (save \"\"): windows may be forgotten",
        );
    }
    let how =
        if seen.appends { "each change is appended to a file" } else { "no append-only file" };
    Finding::ok(check, format!("{how}; windows that are lost only cost the log work"))
}

fn windows(windows: &Result<WindowsSeen, String>, store: Option<&str>) -> Finding {
    let check = "redis windows";
    let seen = match windows {
        Ok(seen) => seen,
        Err(reason) => {
            let next =
                "let the user run SCAN and HGET, or leave it: ingest needs neither SCAN nor this";
            return Finding::warn(check, format!("cannot be looked at: {reason}"), next);
        }
    };
    let WindowsSeen { of_store, of_others, other_layout, is_all } = *seen;
    let least = if is_all { "" } else { "at least " };
    let found = match store {
        Some(store) => format!(
            "{least}{of_store} of store {store}, {of_others} of other stores of this cluster's name"
        ),
        None => format!("{least}{of_store}; no ingest with Redis has asked which store it is yet"),
    };
    if other_layout > 0 {
        let found = format!("{found}; {other_layout} have another layout and are left alone");
        return Finding::warn(check, found, "run the same version of every ingest");
    }
    Finding::ok(check, found)
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    fn seen() -> RedisSeen {
        RedisSeen {
            version: "7.2.4".to_owned(),
            memory_max: 64 << 20,
            eviction: "noeviction".to_owned(),
            appends: false,
            saves: true,
            is_replica: false,
            windows: Ok(WindowsSeen { of_store: 2, is_all: true, ..WindowsSeen::default() }),
        }
    }

    #[test]
    fn what_makes_windows_vanish_or_refuses_marks_is_told_with_the_way_out() {
        assert!(of_seen(&seen(), Some("a1")).iter().all(|f| f.state == State::Ok));
        let warned = |seen: RedisSeen| {
            let findings = of_seen(&seen, Some("a1"));
            let mut warned = findings.into_iter().filter(|f| f.state == State::Warn);
            let one = warned.next().unwrap();
            assert_eq!(warned.next(), None);
            (one.check, one.next.unwrap())
        };
        let (check, next) = warned(RedisSeen { eviction: "allkeys-lru".to_owned(), ..seen() });
        assert!(check == "redis memory" && next.contains("noeviction"), "{next}");
        let (check, next) = warned(RedisSeen { memory_max: 0, ..seen() });
        assert!(check == "redis memory" && next.contains("maxmemory"), "{next}");
        let (check, next) = warned(RedisSeen { saves: false, ..seen() });
        assert!(check == "redis saving" && next.contains("make room"), "{next}");
        let (check, next) = warned(RedisSeen { is_replica: true, ..seen() });
        assert!(check == "redis" && next.contains("primary"), "{next}");
        let (check, next) = warned(RedisSeen { windows: Err("NOPERM".to_owned()), ..seen() });
        assert!(check == "redis windows" && next.contains("SCAN"), "{next}");
        let layout = WindowsSeen { other_layout: 1, ..WindowsSeen::default() };
        assert_eq!(warned(RedisSeen { windows: Ok(layout), ..seen() }).0, "redis windows");
    }
}
