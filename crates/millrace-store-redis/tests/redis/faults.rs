//! Redis gone, frozen, emptied, rolled back, full, closed, shared: an answer at once, never a number
//! that was not marked, and windows again when it is back.

use std::time::{Duration, Instant};

use millrace_store::{ProducerWindows, Secret, Seen, StoreError};
use millrace_store_redis::{RedisConfig, RedisConfigError, RedisWindows};
use millrace_test_servers::{Redis, RedisOptions};
use tokio::time::sleep;

use super::{STORE, another, config, marked, redis, within};

/// Asks for a producer nobody knows until Redis answers.
async fn answers_again(windows: &RedisWindows) {
    within(async {
        while windows.seen("stranger", 0, 1).await.is_err() {
            // Redis tells nobody that it is back: it is asked again, within a bound.
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn mark(windows: &RedisWindows, producer: &str, first: u64, next: u64) {
    windows.mark(producer, first, next).await.unwrap();
    within(windows.written()).await;
}

#[tokio::test]
async fn a_killed_redis_costs_what_it_knew_and_nothing_else() {
    let mut redis = redis(&[]);
    let windows = another(&redis).await;
    mark(&windows, "p", 0, 10).await;
    redis.kill().unwrap();

    // Marks are taken in all the while, and what this process marked it knows.
    windows.mark("p", 10, 20).await.unwrap();
    assert_eq!(marked(&windows, "p").await, Vec::from_iter(0..20));
    let gone = windows.seen("stranger", 0, 5).await;
    assert!(matches!(gone, Err(StoreError::Unavailable { .. })), "{gone:?}");

    redis.start_again().unwrap();
    within(windows.written()).await;
    // It saved nothing, so what it was told before is forgotten; what waited is there.
    assert_eq!(marked(&another(&redis).await, "p").await, Vec::from_iter(10..20));
}

#[tokio::test]
async fn a_redis_that_is_not_there_yet_keeps_nobody_waiting() {
    let mut redis = redis(&[]);
    redis.kill().unwrap();
    let windows = another(&redis).await;
    let gone = windows.seen("p", 0, 5).await;
    assert!(matches!(gone, Err(StoreError::Unavailable { .. })), "{gone:?}");
    windows.mark("p", 0, 5).await.unwrap();
    redis.start_again().unwrap();
    within(windows.written()).await;
    assert_eq!(marked(&another(&redis).await, "p").await, Vec::from_iter(0..5));
}

#[tokio::test]
async fn a_frozen_redis_is_waited_for_once() {
    let redis = redis(&[]);
    let patience = Duration::from_millis(200);
    let config = RedisConfig { patience, ..config(&redis) };
    let windows = RedisWindows::start(config, STORE).await.unwrap();
    mark(&windows, "p", 0, 10).await;
    redis.freeze().unwrap();
    let gone = windows.seen("stranger", 0, 5).await;
    assert!(matches!(gone, Err(StoreError::Unavailable { .. })), "{gone:?}");
    // From now on nobody waits: a thousand questions take less than a few of them would have.
    let began = Instant::now();
    for _ in 0..1_000 {
        assert!(windows.seen("stranger", 0, 5).await.is_err());
    }
    assert!(began.elapsed() < 25 * patience, "{:?}", began.elapsed());
    windows.mark("p", 20, 30).await.unwrap();

    redis.thaw().unwrap();
    within(windows.written()).await;
    answers_again(&windows).await;
    let expected: Vec<_> = (0..10).chain(20..30).collect();
    assert_eq!(marked(&another(&redis).await, "p").await, expected);
}

#[tokio::test]
async fn an_emptied_redis_has_forgotten_and_begins_anew() {
    let redis = redis(&[]);
    let windows = another(&redis).await;
    mark(&windows, "p", 0, 10).await;
    redis.command(&["FLUSHALL"]).unwrap();
    redis.command(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(marked(&another(&redis).await, "p").await, []);
    mark(&windows, "p", 10, 20).await;
    // What lies below is unknown, never said to be marked or to be new for good.
    assert_eq!(marked(&another(&redis).await, "p").await, Vec::from_iter(10..20));
    mark(&windows, "p", 5, 12).await;
    assert_eq!(marked(&another(&redis).await, "p").await, Vec::from_iter(5..20));
}

#[tokio::test]
async fn a_redis_rolled_back_has_forgotten_what_came_after() {
    let mut redis = redis(&[]);
    let windows = another(&redis).await;
    mark(&windows, "p", 0, 10).await;
    mark(&windows, "q", 0, 10).await;
    let older = redis.save().unwrap();
    mark(&windows, "p", 10, 20).await;
    mark(&windows, "q", 50, 60).await;
    redis.roll_back(&older).unwrap();
    let stranger = another(&redis).await;
    assert_eq!(marked(&stranger, "p").await, Vec::from_iter(0..10));
    assert_eq!(marked(&stranger, "q").await, Vec::from_iter(0..10));
    // A hole that nobody marks stays one.
    mark(&windows, "p", 30, 40).await;
    let expected: Vec<_> = (0..10).chain(30..40).collect();
    assert_eq!(marked(&another(&redis).await, "p").await, expected);
}

#[tokio::test]
async fn a_full_redis_still_answers_and_takes_the_marks_when_there_is_room() {
    let redis = redis(&["--maxmemory-policy", "noeviction"]);
    let windows = another(&redis).await;
    mark(&windows, "p", 0, 10).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    windows.mark("p", 10, 20).await.unwrap();
    let stranger = another(&redis).await;
    within(async {
        // The mark was tried and refused.
        while !redis.command(&["INFO", "errorstats"]).unwrap().contains("errorstat_OOM") {
            // Nor what it refused.
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(marked(&stranger, "p").await, Vec::from_iter(0..10));
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    within(windows.written()).await;
    assert_eq!(marked(&another(&redis).await, "p").await, Vec::from_iter(0..20));
}

#[tokio::test]
async fn who_may_not_enter_is_told_so_and_forwards_everything() {
    let options = RedisOptions { password: Some("open sesame".into()), args: vec![] };
    let redis = Redis::start(options).unwrap();
    redis.command(&["ACL", "SETUSER", "mill", "on", ">grain", "~millrace:one:*", "+@all"]).unwrap();
    let with = async |user: Option<&str>, password: Option<&str>, cluster: &str| {
        let (user, password) = (user.map(Into::into), password.map(|p| Secret(p.into())));
        let cluster = cluster.into();
        RedisWindows::start(RedisConfig { user, password, cluster, ..config(&redis) }, STORE).await
    };
    for (user, password, cluster) in [
        (None, None, "one"),
        (None, Some("wrong"), "one"),
        (Some("mill"), Some("wrong"), "one"),
        (Some("mill"), Some("grain"), "another"), // keys it has no right to
    ] {
        let windows = with(user, password, cluster).await.unwrap();
        match windows.seen("p", 0, 5).await {
            Err(StoreError::Unavailable { reason, .. }) => {
                assert!(reason.contains("check user and password"), "{reason}");
            }
            other => panic!("{user:?} {password:?}: {other:?}"),
        }
    }
    for (user, password) in [(None, "open sesame"), (Some("mill"), "grain")] {
        let windows = with(user, Some(password), "one").await.unwrap();
        assert_eq!(windows.seen("p", 0, 1).await, Ok(vec![Seen::No]));
    }
}

#[tokio::test]
async fn clusters_that_share_a_redis_are_apart() {
    let redis = redis(&[]);
    mark(&another(&redis).await, "p", 0, 10).await;
    let config = RedisConfig { cluster: "two".into(), ..config(&redis) };
    let neighbour = RedisWindows::start(config, STORE).await.unwrap();
    assert_eq!(marked(&neighbour, "p").await, []);
}

/// A store that was emptied is another one: marks of the log that is gone make no fact of the new one a
/// repeat.
#[tokio::test]
async fn marks_of_another_store_are_not_looked_at() {
    let redis = redis(&[]);
    mark(&another(&redis).await, "p", 0, 10).await;
    let emptied = RedisWindows::start(config(&redis), "c3d4").await.unwrap();
    assert_eq!(marked(&emptied, "p").await, []);
    mark(&emptied, "p", 3, 5).await;
    assert_eq!(marked(&emptied, "p").await, [3, 4]);
    assert_eq!(marked(&another(&redis).await, "p").await, Vec::from_iter(0..10));
    let refused = RedisWindows::start(config(&redis), "a:b").await.map(drop);
    assert!(matches!(refused, Err(RedisConfigError::Store(_))), "{refused:?}");
}

#[tokio::test]
async fn a_window_expires_after_its_last_mark_and_a_newer_layout_is_left_alone() {
    let redis = redis(&[]);
    let windows = another(&redis).await;
    mark(&windows, "p", 0, 10).await;
    let key = "millrace:one:a1b2:window:p";
    let left = redis.command(&["PTTL", key]).unwrap();
    let left: u64 = left.trim_start_matches(':').parse().unwrap();
    assert!((1..=86_400_000).contains(&left), "{left}");
    redis.command(&["PEXPIRE", key, "1000"]).unwrap();
    mark(&windows, "p", 0, 10).await; // a repeat
    let left = redis.command(&["PTTL", key]).unwrap();
    assert!(left.trim_start_matches(':').parse::<u64>().unwrap() > 1_000, "{left}");

    redis.command(&["HSET", key, "e", "2"]).unwrap();
    mark(&windows, "p", 10, 20).await;
    assert_eq!(redis.command(&["HGET", key, "n"]).unwrap(), "10");
    assert_eq!(marked(&another(&redis).await, "p").await, []);
}

/// A batch that goes on in order costs one call, its mark.
#[tokio::test]
async fn a_batch_in_order_costs_one_call() {
    let redis = redis(&[]);
    let windows = another(&redis).await;
    let calls = || {
        let stats = redis.command(&["INFO", "commandstats"]).unwrap();
        let of = |name: &str| {
            let rest = stats.split(&format!("cmdstat_{name}:calls=")).nth(1);
            rest.and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        // The script's own HMGET counts as one, too.
        (of("hmget") - of("hset"), of("evalsha") + of("eval"))
    };
    for batch in 0..50 {
        windows.seen("p", batch * 10, batch * 10 + 10).await.unwrap();
        windows.mark("p", batch * 10, batch * 10 + 10).await.unwrap();
    }
    within(windows.written()).await;
    let (reads, marks) = calls();
    assert_eq!(reads, 1);
    assert!((1..=51).contains(&marks), "{marks}");
}
