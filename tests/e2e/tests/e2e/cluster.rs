//! `kill -9` on the cluster: two of each service share a Cassandra and a Redis, and in the middle of an
//! import and of a training read one of each kind dies, and then the command itself.
//!
//! What comes of it is compared byte by byte with what comes where nothing dies: an import with the one into
//! the embedded store, a training read with the same read before.
//!
//! `MILLRACE_SEED` says which of two that share the work dies; a failure names it.

mod fed;
mod growing;

use std::fs;
use std::path::Path;
use std::time::Duration;

use millrace_e2e_tests::{Cli, SERVICES, Scrape, wait_until};
use millrace_test_servers::{Cassandra, Redis, RedisOptions};
use millrace_test_support::generate::Rng;
use serde_json::Value;

use crate::apart::Place;
use crate::crash::{USERS, expected_counts};
use crate::fixture::{CLICKS, PROFILES, Site, pair};
use fed::FedImport;
use growing::GrowingSet;

const VIEW: &str = "user_activity";
/// Something comes of what was begun; a machine that builds beside the tests is slow.
const SOON: Duration = Duration::from_secs(60);

/// Two of each service.
struct Cluster {
    place: Place,
    seed: u64,
    rng: Rng,
    _redis: Redis,
}

impl Cluster {
    fn start(keyspace: &str, env: &[(&'static str, String)]) -> Self {
        let redis = Redis::start(RedisOptions::default()).expect("a Redis");
        let place = Place::made(|options| {
            options.env = crate::cql::env(Cassandra::shared(), keyspace).to_vec();
            options.env.push(("MILLRACE_REDIS", redis.url()));
            options.env.extend(env.iter().cloned());
            options.more = vec!["store-writer-1", "join-1", "ingest-1", "feature-serving-1"];
            options.admin = true;
        });
        let seed = std::env::var("MILLRACE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(1);
        Self { place, seed, rng: Rng::new(seed), _redis: redis }
    }

    /// What this process counts; nothing where it does not run.
    fn counted(&self, name: &str, metric: &str) -> f64 {
        let scrape = self.place.services.admin(name).and_then(|at| Scrape::of(at).ok());
        scrape.map_or(0.0, |scrape| scrape.sum(metric, &[]))
    }

    /// Facts that both ingest processes answered since they were started.
    fn answered(&self) -> f64 {
        let of = |name| self.counted(name, "millrace_ingest_facts_total");
        of("ingest") + of("ingest-1")
    }

    /// The one of this kind that has the work; any where both have some.
    fn victim(&mut self, kind: &str) -> &'static str {
        let of_kind = |name: &&str| name.strip_suffix("-1").unwrap_or(name) == kind;
        let both: Vec<&'static str> =
            self.place.services.names().into_iter().filter(of_kind).collect();
        let work = match kind {
            "ingest" => Some("millrace_ingest_facts_total"),
            "feature-serving" => Some("millrace_training_sets"),
            _ => None,
        };
        let is_busy = |name: &&str| work.is_some_and(|work| self.counted(name, work) > 0.0);
        let busy: Vec<&'static str> = both.iter().copied().filter(is_busy).collect();
        let may_die = if busy.is_empty() { both } else { busy };
        may_die[self.rng.below(may_die.len())]
    }
}

/// Makes a set of a spine into a file beside it, and gives what is in it.
fn train(cli: &Cli, spine: &Path, known_at: &str, out: &Path) -> Vec<u8> {
    let [spine, file] = [spine, out].map(|path| path.display().to_string());
    let args = ["training", VIEW, "--spine", &spine, "--known-at", known_at, "--out", &file];
    cli.json(args).expect("a training set");
    fs::read(out).expect("the set")
}

fn text(header: &str, lines: &[String]) -> String {
    let lines = std::iter::once(header).chain(lines.iter().map(String::as_str));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Of clicks, in microseconds.
const START: u64 = 1_709_280_000_000_000;
/// Clicks that are fed between two kills: several batches.
const PIECE: usize = 8_000;
/// What the command that is killed is never fed.
const TAIL: usize = 500;
const CLICKS_ALL: usize = (SERVICES.len() + 1) * PIECE + TAIL;

/// A click of a user, one a second, each user in turn; wide, so that not many make a batch.
fn click(n: usize) -> String {
    let at = START + n as u64 * 1_000_000;
    format!("e{n},{},{at},0,,{},0.1,{:0>300}", n % USERS, n % 900, n % 7)
}

/// Of each user a version an hour, which the clicks meet.
fn profiles() -> Vec<String> {
    let version = |n: usize| {
        let (user, at) = (n % USERS, START + (n / USERS) as u64 * 3_600_000_000);
        let op = if n % 9 == 8 { "delete" } else { "" };
        format!("p{n},{user},{at},0,{op},c{},{}", n % 5, n % 4)
    };
    // In the order in which they were known.
    (0..10 * USERS).map(version).collect()
}

/// Users that are there and some that are not, over the time of the clicks and after it.
fn spine_lines(rows: usize) -> Vec<String> {
    let row = |n: usize| {
        let at = START + (n * 7_919 % (CLICKS_ALL + 9_000)) as u64 * 1_000_000;
        format!("{},{at}", n % (USERS + 3))
    };
    (0..rows).map(row).collect()
}

#[test]
fn an_import_goes_on_through_kills_on_the_cluster() {
    let mut cluster = Cluster::start("imports", &[]);
    let clicks: Vec<String> = (0..CLICKS_ALL).map(click).collect();
    let file = cluster.place.write("clicks.csv", &text(CLICKS, &clicks));
    let versions = cluster.place.write("profiles.csv", &text(PROFILES, &profiles()));
    let (cli, seed) = (cluster.place.cli(), cluster.seed);
    let report = cli.import([pair("profiles", &versions)]).expect("imported");
    assert_eq!(report.accepted, 10 * USERS as u64, "{report:?}");

    let again = [pair("clicks", &file), "--producer".into(), "history".into()];
    let import = FedImport::start(&cli, "clicks", "history");
    import.feed(format!("{CLICKS}\n"));
    let mut pieces = clicks.chunks(PIECE).map(|lines| lines.join("\n") + "\n");
    let mut feed_until_some_is_answered = |cluster: &Cluster| {
        let before = cluster.answered();
        import.feed(pieces.next().expect("a piece for each kill"));
        wait_until("the first of a piece", SOON, || (cluster.answered() > before).then_some(()));
    };
    for kind in SERVICES {
        feed_until_some_is_answered(&cluster);
        let victim = cluster.victim(kind);
        cluster.place.services.kill(victim).expect("it can be killed");
        cluster.place.services.start_again(victim).expect("it starts again");
    }
    feed_until_some_is_answered(&cluster);
    import.kill();

    let report = cli.import(&again).expect("imported");
    assert_eq!(report.sent, CLICKS_ALL as u64, "seed {seed}: {report:?}");
    assert_eq!(report.rejected + report.late, 0, "seed {seed}: {report:?}");
    assert!(report.accepted >= TAIL as u64, "seed {seed}: what was never sent: {report:?}");
    assert!(report.duplicate > 0, "seed {seed}: some were there: {report:?}");
    let report = cli.import(&again).expect("imported");
    assert_eq!(report.duplicate, CLICKS_ALL as u64, "seed {seed}: {report:?}");
    assert_eq!(cluster.place.settled_counts(), expected_counts(CLICKS_ALL), "seed {seed}");

    // The same files, and nobody dies.
    let site = Site::new();
    site.cli().import([pair("profiles", &versions)]).expect("imported");
    let report = site.cli().import(&again).expect("imported");
    assert_eq!(report.accepted, CLICKS_ALL as u64, "{report:?}");
    let spine = cluster.place.write("spine.csv", &text("user_id,at", &spine_lines(3_000)));
    for known_at in ["at-event", "latest"] {
        let undisturbed = train(&site.cli(), &spine, known_at, &site.path("set.csv"));
        let disturbed = train(&cli, &spine, known_at, &cluster.place.path("set.csv"));
        assert!(disturbed == undisturbed, "seed {seed}: the sets known at {known_at} differ");
    }
}

/// Rows of a set whose read takes as many sections as there are kills, and more.
const SPINE_ROWS: usize = 300_000;

#[test]
fn a_training_read_goes_on_through_kills_on_the_cluster() {
    let least = ("MILLRACE_TRAINING_BYTES", (16 << 20).to_string());
    let mut cluster = Cluster::start("trainings", &[least]);
    let file = cluster.place.clicks("clicks.csv", 0..5_000);
    let report = cluster.place.cli().import([pair("clicks", &file)]).expect("imported");
    assert_eq!(report.accepted, 5_000, "{report:?}");
    let spine = cluster.place.write("spine.csv", &text("user_id,at", &spine_lines(SPINE_ROWS)));
    let (cli, seed) = (cluster.place.cli(), cluster.seed);
    let whole = train(&cli, &spine, "latest", &cluster.place.path("whole.csv"));

    // One of each kind dies while rows come, and the other goes on alone.
    let out = cluster.place.path("disturbed.csv");
    let set = GrowingSet::start(&cli, VIEW, &spine, &out);
    let mut dead = Vec::new();
    for (number, kind) in SERVICES.into_iter().rev().enumerate() {
        set.wait_for(whole.len() * (number + 1) / 8, SOON);
        let victim = cluster.victim(kind);
        cluster.place.services.kill(victim).expect("it can be killed");
        dead.push(victim);
    }
    let told: Value = set.finish();
    assert_eq!(told["resumed"], true, "seed {seed}: {dead:?} were killed too late: {told}");
    assert_eq!(told["rows"], SPINE_ROWS, "seed {seed}: {told}");
    let same = fs::read(&out).expect("the set") == whole;
    assert!(same, "seed {seed}: the set that was read while {dead:?} died differs");
    for victim in dead {
        cluster.place.services.start_again(victim).expect("it starts again");
    }

    // The command itself dies: nothing is in the place of the set, until it is made again.
    let out = cluster.place.path("killed.csv");
    let set = GrowingSet::start(&cli, VIEW, &spine, &out);
    set.wait_for(whole.len() / 8, SOON);
    set.kill();
    assert!(!out.exists(), "a set that is not whole is in its place");
    let again = train(&cli, &spine, "latest", &out);
    assert!(again == whole, "seed {seed}: the set that was made after a kill differs");
}
