//! Two processes of any two kinds killed at once, each pair of kinds for certain: two of one kind leave
//! nobody who could stand in.

use std::time::Duration;

use millrace_e2e_tests::SERVICES;
use millrace_test_servers::{Cassandra, Redis, RedisOptions};

use super::{Run, number};

/// Up to as long as a node is taken for dead after, about.
const AWAY_AT_MOST_MS: usize = 1_500;

/// Every pair of kinds, each kind with itself too.
fn pairs() -> Vec<[&'static str; 2]> {
    let mut pairs = Vec::new();
    for (index, first) in SERVICES.into_iter().enumerate() {
        pairs.extend(SERVICES[index..].iter().map(|second| [first, *second]));
    }
    pairs
}

/// `MILLRACE_SEED` says which of two of a kind, when, and for how long.
#[test]
fn any_two_kinds_of_processes_may_be_killed_at_once() {
    let redis = Redis::start(RedisOptions::default()).expect("a Redis");
    let mut run = Run::start(number("MILLRACE_SEED").unwrap_or(1), |options| {
        options.env.extend(crate::cql::env(Cassandra::shared(), "pairs"));
        options.env.push(("MILLRACE_REDIS", redis.url()));
        options.more = vec!["store-writer-1", "join-1", "ingest-1", "feature-serving-1"];
    });
    let pairs = pairs();
    assert_eq!(pairs.len(), 10);
    for (round, kinds) in (0..).zip(pairs) {
        let victims = run.victims(kinds);
        let what = format!("{} and {} killed", victims[0], victims[1]);
        run.under_fire(round, &what, |run| {
            for name in victims {
                run.services.kill(name).expect("it can be killed");
            }
            let away = run.rng.below(AWAY_AT_MOST_MS) as u64;
            run.let_pass(Duration::from_millis(away));
            run.services.start_in_order(&victims).expect("they start again");
        });
    }
    run.end();
}

impl Run {
    /// One of each of two kinds; both, where it is the same kind.
    fn victims(&mut self, kinds: [&str; 2]) -> [&'static str; 2] {
        let [first, second] = kinds.map(|kind| self.services.of_kind(kind));
        let one = self.rng.below(first.len());
        let other = if kinds[0] == kinds[1] { 1 - one } else { self.rng.below(second.len()) };
        [first[one], second[other]]
    }
}
