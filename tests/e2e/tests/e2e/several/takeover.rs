//! How long the slots of a node that dies are served by nobody: from the kill to the acknowledgement of
//! facts of these slots, and of that what comes after the lease that the store has on record.
//!
//! The numbers are for people. On a machine that builds beside the tests no number of seconds can be
//! relied upon: what is asserted is their order, and a bound that a node which waits for something else
//! than the lease does not hold. What the node itself adds to the lease is held in virtual time, by the
//! tests of `millrace-placement`.

use std::time::Duration;

use millrace_e2e_tests::hours_from_now;
use millrace_test_servers::Cassandra;
use prost_types::Timestamp;

use super::{owned, wait_for_owners};
use crate::apart::Place;
use crate::cql::{env, wire};
use crate::crash::expected_counts;
use crate::fixture::pair;

/// Six times what is promised: the lease of 4 s and a second.
const GUARD: Duration = Duration::from_secs(30);
const KEYSPACE: &str = "takeover";

/// Microseconds from `earlier` to `later`, in milliseconds.
fn millis(earlier: i64, later: i64) -> i64 {
    (later - earlier) / 1_000
}

/// When the node wrote that it owns a slot, each time, in microseconds.
fn owned_at(log: &str) -> Vec<i64> {
    let lines = log.lines().filter(|line| line.contains("owns a slot"));
    let at = lines.map(|line| {
        let instant = line.split_whitespace().next().unwrap_or_default();
        let at: Timestamp = instant.parse().unwrap_or_else(|_| panic!("no instant: {line}"));
        at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000
    });
    at.collect()
}

#[test]
#[expect(clippy::print_stderr, reason = "the numbers are for people; what must hold is asserted")]
fn the_slots_of_a_dead_node_are_served_again_soon_after_its_lease() {
    let database = Cassandra::shared();
    let mut place = Place::made(|options| {
        options.env = env(database, KEYSPACE).to_vec();
        options.admin = true;
        options.more = vec!["join-1"];
    });
    wait_for_owners(&place, "both nodes", || owned(&place, "join-1") >= 24);
    let (its, before) = (owned(&place, "join"), owned_at(&place.services.log("join-1")));
    let first = place.clicks("first.csv", 0..500);
    assert_eq!(place.cli().publish([pair("clicks", &first)]).expect("published").accepted, 500);

    // Of every user, and so of slots of both nodes.
    let second = place.clicks("second.csv", 500..1_000);
    let killed = hours_from_now(0);
    place.services.kill("join").expect("it can be killed");
    let report = place.cli().publish([pair("clicks", &second)]).expect("published");
    let acknowledged = hours_from_now(0);
    assert_eq!(report.accepted + report.duplicate, 500, "{report:?}");

    let address = database.address().parse().expect("an address");
    let query = format!("SELECT ceiling FROM {KEYSPACE}.node WHERE name = 'join' LIMIT 1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let lease_ended = runtime.expect("a runtime").block_on(wire::number(address, &query));
    let owned_at = owned_at(&place.services.log("join-1")).split_off(before.len());
    assert_eq!(owned_at.len() as u64, its, "each slot was taken over once");
    let (first, last) = (owned_at.iter().min(), owned_at.iter().max());
    let (first, last) = (*first.expect("slots"), *last.expect("slots"));
    eprintln!(
        "from the kill: the lease on record ended after {} ms, the first slot had an owner after {}, the \
         last after {}, facts of all were acknowledged after {}",
        millis(killed, lease_ended),
        millis(killed, first),
        millis(killed, last),
        millis(killed, acknowledged),
    );
    // Nobody owned it before, and nobody was acknowledged before all slots had owners.
    assert!(killed < first && last <= acknowledged);
    let after_lease = Duration::from_micros((acknowledged - lease_ended).max(0) as u64);
    assert!(after_lease < GUARD, "{after_lease:?} after the lease ended");
    assert_eq!(place.settled_counts(), expected_counts(1_000));
}
