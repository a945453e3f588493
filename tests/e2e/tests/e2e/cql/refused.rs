//! A store-writer ends where a keyspace is not for it, with words that say why, and leaves all that is in it
//! as it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use millrace_e2e_tests::{Finished, SERVICES, millrace, run_bounded};
use millrace_test_servers::Cassandra;
use tokio::runtime::{Builder, Runtime};

use super::{env, wire};
use crate::apart::Place;
use crate::crash::expected_counts;
use crate::fixture::pair;

/// A start that is refused ends within; no look at a database takes longer.
const REFUSED_WITHIN: Duration = Duration::from_secs(120);

const OURS: &str = "refused";
const THEIRS: &str = "refused_theirs";
const NOWHERE: &str = "refused_nowhere";

/// Has store-writer make what is missing.
const CREATE: [&str; 2] = ["--cql-create", "datacenter1=1"];

/// `millrace serve store-writer` with these arguments, to its end.
pub(crate) fn store_writer(args: &[&str]) -> Finished {
    let mut command = millrace().expect("the binary");
    command.args(["serve", "store-writer", "--listen", "127.0.0.1:0"]).args(args);
    run_bounded(&mut command, b"", REFUSED_WITHIN).expect("it ends")
}

/// It ended as what could not start, and says all of these words.
#[track_caller]
pub(crate) fn assert_refused(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(!finished.stdout.contains("is ready"), "{finished:?}");
    for word in words {
        assert!(finished.stderr.contains(word), "{word} is not in: {finished:?}");
    }
}

/// A database that is asked directly.
struct Asked {
    runtime: Runtime,
    server: SocketAddr,
}

impl Asked {
    fn of(database: &Cassandra) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, server: database.address().parse().expect("an address") }
    }

    /// Has a statement done.
    fn does(&self, statement: &str) {
        self.runtime.block_on(wire::query(self.server, statement));
    }

    /// The texts in the rows of one column.
    fn texts(&self, statement: &str) -> Vec<String> {
        self.runtime.block_on(wire::texts(self.server, statement))
    }

    /// The rows of every table of a keyspace; nothing where there is no such keyspace.
    fn contents(&self, keyspace: &str) -> BTreeMap<String, Vec<u8>> {
        let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name";
        let tables = self.texts(&format!("{tables} = '{keyspace}'"));
        let rows = |table: String| {
            let all = format!("SELECT * FROM {keyspace}.{table}");
            let rows = self.runtime.block_on(wire::query(self.server, &all));
            (table, rows)
        };
        tables.into_iter().map(rows).collect()
    }

    /// States the version of the tables.
    fn state_schema(&self, version: &str) {
        self.does(&format!("UPDATE {OURS}.meta SET value = '{version}' WHERE name = 'schema'"));
    }
}

/// Data of ours whose services have ended: from then on nothing writes there.
fn left_alone(database: &Cassandra) -> Place {
    let mut place = Place::with(&env(database, OURS));
    let file = place.clicks("clicks.csv", 0..200);
    let report = place.cli().publish([pair("clicks", &file)]).expect("published");
    assert_eq!((report.sent, report.accepted), (200, 200), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(200));
    for service in SERVICES.into_iter().rev() {
        assert_eq!(place.services.terminate(service).expect("it drains"), 0, "{service}");
    }
    place
}

#[test]
fn a_store_writer_leaves_a_keyspace_that_is_not_for_it_as_it_was() {
    let database = Cassandra::shared();
    let (address, asked) = (database.address(), Asked::of(database));
    let mut place = left_alone(database);
    let replication = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}";
    asked.does(&format!("CREATE KEYSPACE {THEIRS} WITH replication = {replication}"));
    asked.does(&format!("CREATE TABLE {THEIRS}.orders (id int PRIMARY KEY)"));
    asked.does(&format!("INSERT INTO {THEIRS}.orders (id) VALUES (7)"));
    let known = asked.texts(&format!("SELECT value FROM {OURS}.meta WHERE name = 'schema'"));
    let later = format!("this program knows {}", known[0]);

    // The version that the tables are of, the keyspace, further arguments, and what is said of it.
    let cases: [(&str, &str, &[&str], &[&str]); 6] = [
        (&known[0], OURS, &["--cluster", "other"], &["belongs to cluster", "not to \"other\""]),
        (&known[0], OURS, &["--slots", "8"], &["was made with 64 slots, not with 8"]),
        ("999", OURS, &[], &["has schema version 999", &later]),
        (&known[0], THEIRS, &[], &["has no table meta", "name the right one"]),
        (&known[0], THEIRS, &CREATE, &["has a table orders", "nothing was made in it"]),
        (&known[0], NOWHERE, &[], &["keyspace refused_nowhere has no table meta"]),
    ];
    for (version, keyspace, more, words) in cases {
        asked.state_schema(version);
        let before = asked.contents(keyspace);
        assert_eq!(before.is_empty(), keyspace == NOWHERE, "{keyspace}");
        let args = [&["--cql", &address, "--cql-keyspace", keyspace][..], more].concat();
        assert_refused(&store_writer(&args), words);
        assert!(asked.contents(keyspace) == before, "{args:?} changed the tables");
    }

    asked.state_schema(&known[0]);
    for service in SERVICES {
        place.services.start_again(service).expect("it starts again");
    }
    assert_eq!(place.settled_counts(), expected_counts(200));
}
