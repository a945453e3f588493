//! What a look at a Redis tells.

use millrace_store::{ProducerWindows, Secret};
use millrace_store_redis::RedisConfig;
use millrace_store_redis::inspect::{InspectError, WindowsSeen, inspect};
use millrace_test_servers::{Redis, RedisOptions};

use super::{STORE, another, config, redis, within};

#[tokio::test]
async fn a_look_tells_how_redis_keeps_what_it_holds_and_counts_windows() {
    let redis = redis(&["--maxmemory", "32mb", "--maxmemory-policy", "allkeys-lru"]);
    let mine = another(&redis).await;
    for producer in ["p", "q"] {
        mine.mark(producer, 0, 5).await.unwrap();
    }
    within(mine.written()).await;
    let key = |store: &str| format!("millrace:one:{store}:window:p");
    redis.command(&["HSET", &key("other"), "e", "9"]).unwrap();
    redis.command(&["SET", "of-somebody-else", "x"]).unwrap();
    let before = redis.command(&["DBSIZE"]).unwrap();

    let seen = inspect(&config(&redis), Some(STORE)).await.unwrap();
    assert_eq!((seen.memory_max, &*seen.eviction), (32 << 20, "allkeys-lru"));
    assert_eq!((seen.appends, seen.saves, seen.is_replica), (false, true, false));
    let windows = WindowsSeen { of_store: 2, of_others: 1, other_layout: 1, is_all: true };
    assert_eq!(seen.windows, Ok(windows));
    // Of no store that is known they are not told apart.
    let seen = inspect(&config(&redis), None).await.unwrap();
    assert_eq!(seen.windows.unwrap().of_store, 3);
    assert_eq!(redis.command(&["DBSIZE"]).unwrap(), before);
}

#[tokio::test]
async fn a_redis_that_is_gone_or_refuses_the_password_is_told() {
    let options = RedisOptions { args: Vec::new(), password: Some("hunter2".to_owned()) };
    let mut redis = Redis::start(options).unwrap();
    let known = |password: &str| RedisConfig {
        password: Some(Secret(password.to_owned())),
        ..config(&redis)
    };
    let (right, wrong) = (known("hunter2"), known("wrong"));
    assert!(inspect(&right, None).await.is_ok());
    for refused in [wrong, config(&redis)] {
        let error = inspect(&refused, None).await.unwrap_err();
        assert!(error.to_string().contains("check user and password"), "{error}");
    }
    redis.kill().unwrap();
    let error = inspect(&right, None).await.unwrap_err();
    assert!(matches!(error, InspectError::Unusable(_)), "{error}");
    let broken = RedisConfig { url: "http://h".to_owned(), ..right };
    let error = inspect(&broken, None).await.unwrap_err();
    assert!(matches!(error, InspectError::Setting(_)), "{error}");
}
