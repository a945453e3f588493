//! The services on a database of three nodes, of which one may be gone.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use millrace_test_servers::{CassandraOptions, Ring};

use crate::apart::Place;
use crate::crash::{clicks, expected_counts};
use crate::fixture::{CLICKS, pair};

/// Three Javas share the machine with the services and with other tests.
const GOES_ON_WITHIN: Duration = Duration::from_secs(120);

/// Facts that are there before.
const FIRST: usize = 1_000;
/// Facts of a part.
const PART: usize = 500;

fn both(facts: usize) -> (u64, u64) {
    (facts as u64, facts as u64)
}

fn ring() -> Ring {
    // A busy machine is no reason to say that a node is gone.
    let options = CassandraOptions { tries_for_s: Some(10), ..CassandraOptions::default() };
    Ring::start(3, &options).expect("three nodes")
}

/// A node dies while facts are published: publishing and reads go on without it. It comes back, another one
/// goes, and join starts anew from what the two that are left have: every fact counts once.
#[test]
fn a_node_of_the_database_may_die_and_come_back_while_facts_are_published() {
    let mut ring = ring();
    let mut place = Place::with(&[
        ("MILLRACE_CQL", ring.addresses().join(",")),
        ("MILLRACE_CQL_KEYSPACE", "ring".to_owned()),
        ("MILLRACE_CQL_CREATE", "datacenter1=3".to_owned()),
    ]);
    let first = place.clicks("first.csv", 0..FIRST);
    let report = place.cli().publish([pair("clicks", &first)]).expect("published");
    assert_eq!((report.sent, report.accepted), both(FIRST), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(FIRST));

    // Parts are published one after another, some before the node goes, some without it, some as it comes.
    let (done, parts) = mpsc::channel();
    let goes_on = AtomicBool::new(true);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (cli, goes_on, file) = (place.cli(), &goes_on, folder.path().join("part.csv"));
    let published = thread::scope(|scope| {
        let publishing = scope.spawn(move || {
            let mut published = FIRST;
            while goes_on.load(Ordering::Acquire) {
                let part = published..published + PART;
                let rows = [CLICKS.to_owned()].into_iter().chain(clicks(part.clone()));
                fs::write(&file, rows.collect::<Vec<_>>().join("\n")).expect("it is written");
                let report = cli.publish([pair("clicks", &file)]).expect("published");
                assert_eq!((report.sent, report.accepted), both(PART), "{report:?}");
                published = part.end;
                done.send(()).expect("somebody counts");
            }
            published
        });
        let another = |what: &str| {
            parts.recv_timeout(GOES_ON_WITHIN).unwrap_or_else(|_| panic!("{what}"));
        };
        another("a part with all nodes");
        ring.node(1).kill().expect("it can be killed");
        // What is told by now, and one part more, may have been acknowledged before.
        while parts.try_recv().is_ok() {}
        another("a part as the node goes");
        another("a part without the node");
        ring.node(1).start_again().expect("it starts again");
        another("a part as the node comes");
        goes_on.store(false, Ordering::Release);
        publishing.join().expect("no panic")
    });
    assert_eq!(place.settled_counts(), expected_counts(published));

    ring.node(2).kill().expect("it can be killed");
    place.kill_and_start("join");
    assert_eq!(place.settled_counts(), expected_counts(published));
    let again = place.clicks("again.csv", 0..published);
    let report = place.cli().publish([pair("clicks", &again)]).expect("published");
    assert_eq!((report.sent, report.duplicate), both(published), "{report:?}");
    let last = place.clicks("last.csv", published..published + PART);
    let report = place.cli().publish([pair("clicks", &last)]).expect("published");
    assert_eq!((report.sent, report.accepted), both(PART), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(published + PART));
}
