//! The services on a database of three nodes, of which one may be gone.

use std::thread;
use std::time::Duration;

use millrace_e2e_tests::wait_until;
use millrace_test_servers::{CassandraOptions, Ring};

use crate::apart::Place;
use crate::crash::expected_counts;
use crate::fixture::pair;

/// Three Javas share the machine with the services and with other tests.
const GOES_ON_WITHIN: Duration = Duration::from_secs(120);

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
    let first = place.clicks("first.csv", 0..1_000);
    let report = place.cli().publish([pair("clicks", &first)]).expect("published");
    assert_eq!((report.sent, report.accepted), (1_000, 1_000), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(1_000));

    let second = place.clicks("second.csv", 1_000..7_000);
    let report = thread::scope(|scope| {
        let (cli, source) = (place.cli(), pair("clicks", &second));
        let publishing = scope.spawn(move || cli.publish([source, "--rate".into(), "500".into()]));
        let moves = |what: &str| {
            let before = place.counts();
            wait_until(what, GOES_ON_WITHIN, || {
                (place.counts() != before || publishing.is_finished()).then_some(())
            });
        };
        moves("the first of it");
        ring.node(1).kill().expect("it can be killed");
        moves("more of it without a node");
        if publishing.is_finished() {
            panic!("it ended without a node: {:?}", publishing.join());
        }
        ring.node(1).start_again().expect("it starts again");
        publishing.join().expect("no panic").expect("published")
    });
    assert_eq!((report.sent, report.accepted), (6_000, 6_000), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(7_000));

    ring.node(2).kill().expect("it can be killed");
    place.kill_and_start("join");
    assert_eq!(place.settled_counts(), expected_counts(7_000));
    for (file, sent) in [(&first, 1_000), (&second, 6_000)] {
        let report = place.cli().publish([pair("clicks", file)]).expect("published");
        assert_eq!((report.sent, report.duplicate), (sent, sent), "{report:?}");
    }
    let third = place.clicks("third.csv", 7_000..8_000);
    let report = place.cli().publish([pair("clicks", &third)]).expect("published");
    assert_eq!((report.sent, report.accepted), (1_000, 1_000), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(8_000));
}
