//! Whatever else may happen to several of each service on Cassandra and Redis, while facts are published,
//! read and followed: everything that is asked of them after a kill is asked of them after that, too.

use std::time::Duration;

use millrace_e2e_tests::wait_until;
use millrace_test_servers::{Cassandra, CassandraOptions, Redis, RedisOptions};
use serde_json::Value;

use super::{Run, number};

/// A node is taken for dead after 4 s; a machine that builds beside the tests is slow.
const MOVED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Two processes at once, of any kinds.
    TwoKilled,
    /// A join node is frozen past its lease, and wakes up when others have its slots.
    Zombie,
    /// The same, and the one who got its slots dies before that.
    ZombieAfterTwoFailovers,
    /// A join node reaches no store-writer, nor is anything heard of that, past its lease.
    JoinApart,
    /// A join node goes down in order, and comes back.
    JoinGoesAndComes,
    /// The way between two services breaks, for a while.
    Cut,
    /// Nothing gets through between two services, for a while.
    Silence,
    Redis(OfRedis),
    Database(OfDatabase),
}

#[derive(Debug, Clone, Copy)]
enum OfRedis {
    /// It comes back empty.
    Killed,
    /// It forgets everything.
    Flushed,
    /// It comes back as it was before.
    RolledBack,
    /// It answers nothing, for a while.
    Frozen,
    /// It takes nothing more, for a while.
    Full,
}

#[derive(Debug, Clone, Copy)]
enum OfDatabase {
    /// It answers nothing for longer than a statement waits: what becomes of it is not known.
    Frozen,
    /// It comes back with what was acknowledged.
    Killed,
    /// The same, and a process of ours and Redis with it.
    KilledWithOthers,
}

/// Longer than a statement waits for its answer.
const FROZEN: Duration = Duration::from_secs(3);

const FAULTS: [Fault; 15] = [
    Fault::TwoKilled,
    Fault::Zombie,
    Fault::ZombieAfterTwoFailovers,
    Fault::JoinApart,
    Fault::JoinGoesAndComes,
    Fault::Cut,
    Fault::Silence,
    Fault::Redis(OfRedis::Killed),
    Fault::Redis(OfRedis::Flushed),
    Fault::Redis(OfRedis::RolledBack),
    Fault::Redis(OfRedis::Frozen),
    Fault::Redis(OfRedis::Full),
    Fault::Database(OfDatabase::Frozen),
    Fault::Database(OfDatabase::Killed),
    Fault::Database(OfDatabase::KilledWithOthers),
];

/// What the services rely on, of this test alone.
struct Databases {
    cassandra: Cassandra,
    redis: Redis,
    /// What Redis held some time ago.
    saved: Vec<u8>,
}

/// Every fault once, or half as many as `MILLRACE_KILLS` says; `MILLRACE_SEED` says which processes they
/// meet, and when.
#[test]
fn every_fault_of_a_cluster_leaves_every_fact_counted_once() {
    let cassandra = Cassandra::start(CassandraOptions::default()).expect("a Cassandra");
    let redis = Redis::start(RedisOptions::default()).expect("a Redis");
    let saved = redis.save().expect("Redis saves");
    let mut databases = Databases { cassandra, redis, saved };
    let mut run = Run::start(number("MILLRACE_SEED").unwrap_or(1), |options| {
        options.env.extend(crate::cql::env(&databases.cassandra, "faults"));
        options.env.push(("MILLRACE_REDIS", databases.redis.url()));
        options.more = vec!["store-writer-1", "join-1", "join-2", "ingest-1", "feature-serving-1"];
        options.can_be_cut = true;
    });
    let rounds = number("MILLRACE_KILLS").map_or(FAULTS.len() as u64, |kills| kills.div_ceil(2));
    for (round, fault) in (0..rounds).zip(FAULTS.into_iter().cycle()) {
        let saved = databases.redis.save().expect("Redis saves");
        run.under_fire(round, &format!("{fault:?}"), |run| run.suffer(fault, &mut databases));
        databases.saved = saved;
    }
    run.end();
}

impl Databases {
    fn of_redis(&mut self, fault: OfRedis, wait: impl FnOnce()) {
        let Self { redis, saved, .. } = self;
        match fault {
            OfRedis::Killed => {
                redis.kill().expect("it can be killed");
                wait();
                redis.start_again().expect("it starts again");
            }
            OfRedis::Flushed => {
                redis.command(&["FLUSHALL"]).expect("it forgets");
            }
            OfRedis::RolledBack => redis.roll_back(saved).expect("it starts again"),
            OfRedis::Frozen => {
                redis.freeze().expect("it can be frozen");
                wait();
                redis.thaw().expect("it can go on");
            }
            OfRedis::Full => {
                let limit = |bytes| redis.command(&["CONFIG", "SET", "maxmemory", bytes]);
                limit("1").expect("it has a limit");
                wait();
                limit("0").expect("it has none");
            }
        }
    }

    fn of_database(&mut self, fault: OfDatabase, run: &mut Run) {
        match fault {
            OfDatabase::Frozen => {
                self.cassandra.freeze().expect("it can be frozen");
                run.let_pass(FROZEN);
                self.cassandra.thaw().expect("it can go on");
            }
            OfDatabase::Killed => {
                self.cassandra.kill().expect("it can be killed");
                self.cassandra.start_again().expect("it starts again");
            }
            OfDatabase::KilledWithOthers => {
                let names = run.services.names();
                let name = *run.rng.pick(&names);
                self.cassandra.kill().expect("it can be killed");
                self.redis.kill().expect("it can be killed");
                run.services.kill(name).expect("it can be killed");
                self.redis.start_again().expect("it starts again");
                self.cassandra.start_again().expect("it starts again");
                run.services.start_again(name).expect("it starts again");
            }
        }
    }
}

impl Run {
    fn suffer(&mut self, fault: Fault, databases: &mut Databases) {
        let node = *self.rng.pick(&["join", "join-1", "join-2"]);
        // Up to as long as a lease lasts, about.
        let time = Duration::from_millis(100 + self.rng.below(4_000) as u64);
        match fault {
            Fault::TwoKilled => self.kill_two(),
            Fault::Zombie => {
                self.wait_for_slots(node);
                self.services.signal(node, "STOP").expect("it can be frozen");
                self.wait_for_others(node);
                self.services.signal(node, "CONT").expect("it can go on");
                self.is_no_longer(node);
            }
            Fault::ZombieAfterTwoFailovers => self.freeze_and_kill(),
            Fault::JoinApart => {
                self.wait_for_slots(node);
                let ways = ["store-writer", "store-writer-1"];
                for writer in ways {
                    self.services.way(node, writer).expect("a way").silence();
                }
                self.wait_for_others(node);
                for writer in ways {
                    self.services.way(node, writer).expect("a way").mend();
                }
                self.is_no_longer(node);
            }
            Fault::JoinGoesAndComes => {
                assert_eq!(self.services.terminate(node).expect("it drains"), 0, "{node}");
                self.wait_for_others(node);
                self.services.start_again(node).expect("it starts again");
            }
            Fault::Cut | Fault::Silence => {
                let (from, to) = *self.rng.pick(&self.services.ways());
                let way = self.services.way(from.unwrap_or_default(), to).expect("a way");
                if matches!(fault, Fault::Cut) {
                    way.cut()
                } else {
                    way.silence()
                }
                self.let_pass(time);
                way.mend();
            }
            Fault::Redis(fault) => databases.of_redis(fault, || self.let_pass(time)),
            Fault::Database(fault) => databases.of_database(fault, self),
        }
    }

    fn kill_two(&mut self) {
        let names = self.services.names();
        let first = self.rng.below(names.len());
        let second = (first + 1 + self.rng.below(names.len() - 1)) % names.len();
        // Those that others wait for come first.
        let both = [first.min(second), first.max(second)].map(|index| names[index]);
        for name in both {
            self.services.kill(name).expect("it can be killed");
        }
        for name in both {
            self.services.start_again(name).expect("it starts again");
        }
    }

    fn freeze_and_kill(&mut self) {
        let [frozen, killed] = *self.rng.pick(&[["join", "join-1"], ["join-2", "join"]]);
        self.wait_for_slots(frozen);
        self.services.signal(frozen, "STOP").expect("it can be frozen");
        self.wait_for_others(frozen);
        self.services.kill(killed).expect("it can be killed");
        self.wait_for_others(killed);
        self.services.signal(frozen, "CONT").expect("it can go on");
        self.is_no_longer(frozen);
        self.services.start_again(killed).expect("it starts again");
    }

    /// Waits until every slot is served, and none by this node.
    fn wait_for_others(&self, node: &str) {
        wait_until("others to serve the slots", MOVED_WITHIN, || {
            let (unowned, its) = self.shares(node)?;
            (unowned == 0 && its == 0).then_some(())
        });
    }

    /// Waits until the node has something to lose: one that was started just now has no slots yet.
    fn wait_for_slots(&self, node: &str) {
        wait_until("slots for a node", MOVED_WITHIN, || {
            let (_, its) = self.shares(node)?;
            (its > 0).then_some(())
        });
    }

    /// How many slots nobody serves, and how many this node does.
    fn shares(&self, node: &str) -> Option<(u64, u64)> {
        let status = self.services.cli().json(["status"]).ok()?;
        let of_node = |of: &&Value| of["node"] == node;
        let its = status["join_nodes"].as_array()?.iter().find(of_node);
        let its = its.map_or(Some(0), |of| of["slots"].as_u64())?;
        Some((status["unowned_slots"].as_u64()?, its))
    }

    /// A node whose lease went to others ends by itself; it is started anew.
    fn is_no_longer(&mut self, node: &str) {
        let code = self.services.wait(node, MOVED_WITHIN).expect("it ends by itself");
        assert_ne!(code, 0, "{node}");
        self.services.start_again(node).expect("it starts again");
    }
}
