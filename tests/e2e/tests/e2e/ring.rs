//! The services on a database of three nodes, of which one may be gone. Without two of them nothing is
//! acknowledged, which is told, and it goes on once they are back.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use millrace_e2e_tests::{Finished, PublishReport, Scrape, wait_until};
use millrace_test_servers::{CassandraOptions, Ring};

use crate::apart::Place;
use crate::crash::{clicks, expected_counts};
use crate::fixture::{CLICKS, pair};
use crate::owners::{doctor, findings};

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

/// What ingest counts now, all series of a metric together.
fn ingest(place: &Place, metric: &str) -> f64 {
    let admin = place.services.admin("ingest").expect("it has an admin port");
    Scrape::of(admin).expect("metrics").sum(metric, &[])
}

/// `millrace doctor` and the log of store-writer say that the quorum is missing, and the former what
/// to do about it; `millrace status` says who does not serve, and that of the slots nothing is known.
fn assert_quorum_is_missed(place: &Place, addresses: &str) {
    let (finished, report) = wait_until("a look that misses the quorum", GOES_ON_WITHIN, || {
        let (finished, report) = doctor(&["--cql", addresses, "--cql-keyspace", "ring"]);
        let failed = findings(&report, "fail").join("\n");
        // Until the node that is left has noticed, it waits for the others, and says so in other words.
        failed.contains("Not enough nodes are alive").then_some((finished, report))
    });
    assert_eq!(finished.code, 1, "{finished:?}");
    let failed = findings(&report, "fail").join("\n");
    for words in
        ["\"quorum\": ", "start the nodes that are gone", "a quorum of the copies must answer"]
    {
        assert!(failed.contains(words), "{words} is not in: {failed}");
    }
    let warned = findings(&report, "warn").join("\n");
    assert!(warned.contains("1 of 3 can be reached"), "{warned}");

    wait_until("store-writer to say what it waits for", GOES_ON_WITHIN, || {
        let log = place.services.log("store-writer");
        (log.contains("not serving") && log.contains("Not enough nodes are alive")).then_some(())
    });

    wait_until("a status that misses the store", GOES_ON_WITHIN, || {
        let finished = place.cli().run(["-o", "json", "status"]).expect("it ends");
        assert_eq!(finished.code, 1, "{finished:?}");
        let status = finished.json().expect("json");
        let is_missed = status["not_serving"]["store-writer"].is_string()
            && status["unknown_slots"].as_u64()? > 0;
        is_missed.then_some(())
    });
}

/// What became of a publish that met no quorum: it stood waiting and was done in the end, or was refused in
/// words that say what to do.
fn assert_done_or_refused(finished: &Finished) {
    match PublishReport::read(finished) {
        Ok(report) => {
            let settled = report.accepted + report.duplicate;
            assert_eq!((report.sent, settled), both(PART), "{report:?}");
        }
        Err(_) => {
            let is_refused = [1, 4].contains(&finished.code) && finished.stderr.contains("next: ");
            assert!(is_refused, "{finished:?}");
        }
    }
}

/// The second of three nodes dies where the third is gone: no fact gets a verdict until they are back, and
/// then every one counts once.
fn goes_on_after_a_quorum_was_missed(ring: &mut Ring, place: &Place, published: usize) {
    let (addresses, all) = (ring.addresses().join(","), published + PART);
    let file = place.clicks("waits.csv", published..all);
    let answered = || ingest(place, "millrace_ingest_facts_total");
    let before = answered();
    ring.node(1).kill().expect("it can be killed");
    let finished = thread::scope(|scope| {
        let (cli, source) = (place.cli(), pair("clicks", &file));
        let publishing = scope
            .spawn(move || cli.run(["-o", "json", "publish", source.as_str()]).expect("it ends"));
        wait_until("facts that wait in ingest", GOES_ON_WITHIN, || {
            let waits = ingest(place, "millrace_ingest_in_flight_facts") > 0.0;
            // Refused, they do not wait.
            (waits || publishing.is_finished()).then_some(())
        });
        assert_quorum_is_missed(place, &addresses);
        assert_eq!(answered(), before, "no fact has a verdict");
        for number in [1, 2] {
            ring.node(number).start_again().expect("it starts again");
        }
        publishing.join().expect("no panic")
    });
    assert_done_or_refused(&finished);

    // Started, the nodes still have to find each other before they are a quorum.
    let report = wait_until("a publish with a quorum", GOES_ON_WITHIN, || {
        place.cli().publish([pair("clicks", &file)]).ok()
    });
    assert_eq!((report.sent, report.accepted + report.duplicate), both(PART), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(all));
    let again = place.clicks("again.csv", 0..all);
    let report = place.cli().publish([pair("clicks", &again)]).expect("published");
    assert_eq!((report.sent, report.duplicate), both(all), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(all));
}

/// A node dies while facts are published: publishing and reads go on without it. It comes back, another one
/// goes, and join starts anew from what the two that are left have: every fact counts once. In the end one of
/// these two goes as well, and both come back.
#[test]
fn a_node_of_the_database_may_die_and_come_back_while_facts_are_published() {
    let mut ring = ring();
    let mut place = Place::made(|options| {
        options.admin = true;
        options.env = vec![
            ("MILLRACE_CQL", ring.addresses().join(",")),
            ("MILLRACE_CQL_KEYSPACE", "ring".to_owned()),
            ("MILLRACE_CQL_CREATE", "datacenter1=3".to_owned()),
        ];
    });
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
    goes_on_after_a_quorum_was_missed(&mut ring, &place, published + PART);
}
