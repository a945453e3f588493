//! Two processes of any two kinds killed at once, each pair of kinds for certain: two of one kind leave
//! nobody who could stand in. Redis is one of the kinds, and comes back empty.

use std::time::Duration;

use millrace_e2e_tests::SERVICES;
use millrace_test_servers::{Cassandra, Redis, RedisOptions};

use super::{Run, number};

/// Up to as long as a node is taken for dead after, about.
const AWAY_AT_MOST_MS: usize = 1_500;

/// There is one.
const REDIS: &str = "redis";

/// Every pair of kinds, each kind of which there are two with itself too.
fn pairs() -> Vec<[&'static str; 2]> {
    let mut pairs = Vec::new();
    for (index, first) in SERVICES.into_iter().enumerate() {
        pairs.extend(SERVICES[index..].iter().map(|second| [first, *second]));
        pairs.push([first, REDIS]);
    }
    pairs
}

/// `MILLRACE_SEED` says which of two of a kind, when, and for how long.
#[test]
fn any_two_kinds_of_processes_may_be_killed_at_once() {
    let mut redis = Redis::start(RedisOptions::default()).expect("a Redis");
    let mut run = Run::start(number("MILLRACE_SEED").unwrap_or(1), |options| {
        options.env.extend(crate::cql::env(Cassandra::shared(), "pairs"));
        options.env.push(("MILLRACE_REDIS", redis.url()));
        options.more = vec!["store-writer-1", "join-1", "ingest-1", "feature-serving-1"];
    });
    let pairs = pairs();
    assert_eq!(pairs.len(), 14);
    for (round, kinds) in (0..).zip(pairs) {
        let victims = run.victims(kinds);
        let what = format!("{} and {} killed", victims[0], victims[1]);
        run.under_fire(round, &what, |run| {
            for name in victims {
                match name {
                    REDIS => redis.kill().expect("it can be killed"),
                    service => run.services.kill(service).expect("it can be killed"),
                }
            }
            let away = run.rng.below(AWAY_AT_MOST_MS) as u64;
            run.let_pass(Duration::from_millis(away));
            if victims.contains(&REDIS) {
                redis.start_again().expect("it starts again");
            }
            run.services.start_in_order(&victims).expect("they start again");
        });
    }
    run.end();
}

impl Run {
    /// One of each of two kinds; both, where it is the same kind.
    fn victims(&mut self, kinds: [&'static str; 2]) -> [&'static str; 2] {
        let of_kind = |kind| match kind {
            REDIS => vec![REDIS],
            service => self.services.of_kind(service),
        };
        let [first, second] = kinds.map(of_kind);
        let one = self.rng.below(first.len());
        let other = if kinds[0] == kinds[1] { 1 - one } else { self.rng.below(second.len()) };
        [first[one], second[other]]
    }
}
