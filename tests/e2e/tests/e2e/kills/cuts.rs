//! The way between any two cut, each way for certain: services, the producer, the database and Redis.

use std::time::Duration;

use millrace_e2e_tests::Forwarder;
use millrace_test_servers::{Cassandra, Redis, RedisOptions};

use super::{Run, number};

/// How long a way stays cut at most: no node is taken for dead meanwhile, nor is any statement given up.
const CUT_AT_MOST_MS: usize = 1_500;

/// The ways between the processes that are ours: nobody else calls anybody.
const INSIDE: [&str; 8] = [
    "join to store-writer",
    "any to join",
    "join-1 to store-writer",
    "any to join-1",
    "ingest to store-writer",
    "producer to ingest",
    "feature-serving to store-writer",
    "feature-serving to ingest",
];

/// The port of `HOST:PORT`.
fn port(address: &str) -> u16 {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("an address")
}

/// `MILLRACE_SEED` says when, for how long, and which ways break and which fall silent.
#[test]
fn a_cut_between_any_two_leaves_every_fact_counted_once() {
    let (cassandra, redis) =
        (Cassandra::shared(), Redis::start(RedisOptions::default()).expect("a Redis"));
    let to = |address: String| Forwarder::to(port(&address)).expect("a port");
    let (to_cassandra, to_redis) = (to(cassandra.address()), to(redis.address()));
    let mut run = Run::start(number("MILLRACE_SEED").unwrap_or(1), |options| {
        let [_, keyspace, create] = crate::cql::env(cassandra, "cuts");
        let address = |way: &Forwarder| format!("127.0.0.1:{}", way.port());
        options.env.extend([("MILLRACE_CQL", address(&to_cassandra)), keyspace, create]);
        options.env.push(("MILLRACE_REDIS", format!("redis://{}", address(&to_redis))));
        options.more = vec!["join-1"];
        options.can_be_cut = true;
    });
    let outside = [("store-writer to Cassandra", &to_cassandra), ("ingest to Redis", &to_redis)];
    let named = |from: Option<&str>, to: &str| format!("{} to {to}", from.unwrap_or("any"));
    let ways = run.services.ways();
    let names: Vec<String> = ways.iter().map(|(from, to)| named(*from, to)).collect();
    assert_eq!(names, INSIDE);
    let breaks_first = run.rng.below(2);
    let names = INSIDE.into_iter().chain(outside.map(|(name, _)| name));
    for (round, name) in names.enumerate() {
        let breaks = round % 2 == breaks_first;
        let what = format!("{name} {}", if breaks { "broken" } else { "silent" });
        run.under_fire(round as u64, &what, |run| {
            let cut_for = Duration::from_millis(100 + run.rng.below(CUT_AT_MOST_MS) as u64);
            let way = match ways.get(round) {
                Some((from, to)) => run.services.way(from.unwrap_or_default(), to).expect("a way"),
                None => outside[round - ways.len()].1,
            };
            assert!(way.carried() > 0, "{name} takes another way");
            if breaks {
                way.cut();
            } else {
                way.silence();
            }
            run.let_pass(cut_for);
            way.mend();
        });
    }
    run.end();
}
