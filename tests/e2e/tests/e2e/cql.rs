//! The four services apart on a real Cassandra in the place of the embedded store.

pub(crate) mod refused;
pub(crate) mod wire;

use std::path::Path;
use std::thread;
use std::time::Duration;

use millrace_e2e_tests::{Scrape, wait_until};
use millrace_test_servers::{Cassandra, CassandraOptions, Redis, RedisOptions};

use crate::apart::Place;
use crate::crash::expected_counts;
use crate::fixture::pair;

/// A publish that goes on beside other tests of the machine gets this far within.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(60);

/// What store-writer has to be told; the others take no notice.
pub(crate) fn env(database: &Cassandra, keyspace: &str) -> [(&'static str, String); 3] {
    [
        ("MILLRACE_CQL", database.address()),
        ("MILLRACE_CQL_KEYSPACE", keyspace.to_owned()),
        ("MILLRACE_CQL_CREATE", "datacenter1=1".to_owned()),
    ]
}

/// Each service dies by SIGKILL, and then the database does in the middle of a publish: what was
/// acknowledged is there before anything is sent again, a repeat is all DUPLICATE, and the features are
/// those of every fact counted once.
#[test]
fn services_and_the_database_may_die_and_every_fact_counts_once() {
    let mut database = Cassandra::start(CassandraOptions::default()).expect("a Cassandra");
    let mut place = Place::with(&env(&database, "crashes"));
    let publish = |place: &Place, file: &Path| {
        place.cli().publish([pair("clicks", file)]).expect("published")
    };
    let before = place.clicks("before.csv", 0..2_000);
    let report = publish(&place, &before);
    assert_eq!((report.sent, report.accepted), (2_000, 2_000), "{report:?}");
    for service in ["store-writer", "join", "ingest", "feature-serving"] {
        place.kill_and_start(service);
        assert_eq!(place.settled_counts(), expected_counts(2_000), "after {service}");
    }
    assert_eq!(publish(&place, &before).duplicate, 2_000);

    let during = place.clicks("during.csv", 2_000..6_000);
    let report = thread::scope(|scope| {
        let (cli, source) = (place.cli(), pair("clicks", &during));
        let publishing = scope.spawn(move || {
            let args = [source, "--rate".into(), "1000".into()];
            cli.publish(args).expect("published")
        });
        // A part of it is acknowledged; most of it is still to come.
        wait_until("the first of it", PUBLISHED_WITHIN, || {
            (place.counts() != expected_counts(2_000)).then_some(())
        });
        database.kill().expect("it can be killed");
        database.start_again().expect("it starts again");
        publishing.join().expect("no panic")
    });
    assert_eq!((report.sent, report.accepted), (4_000, 4_000), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(6_000));
    assert_eq!(publish(&place, &during).duplicate, 4_000);
    assert_eq!(place.settled_counts(), expected_counts(6_000));
}

/// Two of each on one database and one Redis: any of them dies while facts are published, and every fact
/// counts once.
#[test]
fn several_of_each_share_one_database() {
    let (database, redis) = (Cassandra::shared(), Redis::start(RedisOptions::default()));
    let redis = redis.expect("a Redis");
    let mut env = env(database, "several").to_vec();
    env.push(("MILLRACE_REDIS", redis.url()));
    let mut place = Place::made(|options| {
        options.env = env;
        options.more = vec!["store-writer-1", "join-1", "ingest-1", "feature-serving-1"];
    });
    let mut facts = 0;
    for service in ["store-writer", "join-1", "ingest", "feature-serving-1"] {
        let file = place.clicks("clicks.csv", facts..facts + 2_000);
        let report = thread::scope(|scope| {
            let (cli, source) = (place.cli(), pair("clicks", &file));
            let publishing = scope.spawn(move || {
                cli.publish([source, "--rate".into(), "2000".into()]).expect("published")
            });
            let before = expected_counts(facts);
            wait_until("the first of it", PUBLISHED_WITHIN, || {
                (place.counts() != before).then_some(())
            });
            place.services.kill(service).expect("it can be killed");
            publishing.join().expect("no panic")
        });
        assert_eq!(report.accepted + report.duplicate, 2_000, "{service}: {report:?}");
        facts += 2_000;
        // The other one of its kind does the work of both.
        assert_eq!(place.settled_counts(), expected_counts(facts), "without {service}");
        place.services.start_again(service).expect("it starts again");
    }
    assert_eq!(place.settled_counts(), expected_counts(facts));
}

/// What the databases were asked for so far, as the services count it and as Redis does.
struct Asked {
    facts: f64,
    batches: f64,
    chunks: f64,
    commits: f64,
    confirmations: f64,
    loads: f64,
    /// Pages among the loads: what windows cut of entities with many facts.
    pages: f64,
    marks: f64,
    writes_of_marks: f64,
    reads_of_windows: f64,
    /// The same two as ingest counts them.
    told: [f64; 2],
}

impl Asked {
    fn of(place: &Place, redis: &Redis) -> Self {
        let scrape = |name: &str| {
            let admin = place.services.admin(name).expect("it has an admin port");
            Scrape::of(admin).expect("metrics")
        };
        let (ingest, store) = (scrape("ingest"), scrape("store-writer"));
        let serving = scrape("feature-serving");
        let operations = |of: &str| store.sum("millrace_store_seconds_count", &[("operation", of)]);
        let commands = redis.command(&["INFO", "commandstats"]).expect("Redis counts");
        let calls = |of: &str| {
            let line =
                commands.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{of}:")));
            let calls = line.and_then(|line| line.strip_prefix("calls=")?.split(',').next());
            calls.map_or(0.0, |calls| calls.parse().expect("a number"))
        };
        Self {
            facts: ingest.sum("millrace_ingest_facts_total", &[]),
            batches: ingest.sum("millrace_ingest_batches_total", &[]),
            chunks: store.sum("millrace_store_chunks_total", &[]),
            commits: operations("commit"),
            confirmations: operations("confirm"),
            loads: store.sum("millrace_store_loads_total", &[]),
            pages: serving.sum("millrace_read_pages_total", &[("from", "store")]),
            marks: operations("load_mark"),
            writes_of_marks: calls("evalsha"),
            reads_of_windows: calls("hmget"),
            told: ["mark", "read"]
                .map(|call| ingest.sum("millrace_redis_calls_total", &[("call", call)])),
        }
    }
}

/// At full load many facts share a write of the log, all slots of a flush share one confirmation, and no
/// batch asks Redis more than once; a read is one query of its head, after one of its slot's mark.
#[test]
#[expect(clippy::print_stderr, reason = "the numbers are for people; what must hold is asserted")]
fn few_statements_serve_many_facts() {
    let (database, redis) = (Cassandra::shared(), Redis::start(RedisOptions::default()));
    let redis = redis.expect("a Redis");
    let mut env = env(database, "statements").to_vec();
    env.push(("MILLRACE_REDIS", redis.url()));
    let place = Place::made(|options| {
        options.env = env;
        options.admin = true;
    });
    let file = place.clicks("clicks.csv", 0..100_000);
    let before = Asked::of(&place, &redis);
    let report = place.cli().publish([pair("clicks", &file)]).expect("published");
    assert_eq!((report.sent, report.accepted), (100_000, 100_000), "{report:?}");
    let after = Asked::of(&place, &redis);
    let of = |count: fn(&Asked) -> f64| count(&after) - count(&before);
    eprintln!(
        "{:.0} facts in {:.0} batches: {:.0} writes of the log ({:.0} facts each) in {:.0} commits with \
         {:.0} confirmations, {:.0} writes of marks in Redis",
        of(|asked| asked.facts),
        of(|asked| asked.batches),
        of(|asked| asked.chunks),
        of(|asked| asked.facts) / of(|asked| asked.chunks),
        of(|asked| asked.commits),
        of(|asked| asked.confirmations),
        of(|asked| asked.writes_of_marks),
    );
    assert_eq!(of(|asked| asked.confirmations), of(|asked| asked.commits), "one node, one read");
    assert!(of(|asked| asked.chunks) > of(|asked| asked.commits), "slots share a commit");
    assert!(of(|asked| asked.writes_of_marks) <= of(|asked| asked.batches));
    // The last mark may be on its way; the first time Redis does not have the script yet.
    wait_until("the calls of Redis as it counts them", PUBLISHED_WITHIN, || {
        let Asked { told: [marks, reads], writes_of_marks, reads_of_windows, .. } =
            Asked::of(&place, &redis);
        let retried = writes_of_marks - marks;
        // The script reads the window too.
        let told = (0.0..=1.0).contains(&retried) && reads_of_windows == reads + marks;
        (told && marks > 0.0 && reads > 0.0).then_some(())
    });

    place.services.settle();
    let before = Asked::of(&place, &redis);
    let reads = 50;
    for user in 0..reads {
        let rows = place.cli().get(["user_activity", &user.to_string(), "--features", "clicks"]);
        assert_eq!(rows.expect("read").len(), 1);
    }
    let after = Asked::of(&place, &redis);
    let heads = (after.loads - after.pages) - (before.loads - before.pages);
    assert_eq!(heads, f64::from(reads));
    assert_eq!(after.marks - before.marks, f64::from(reads));
}
