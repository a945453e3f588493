//! Several join nodes share the slots: they come, go, die, and wake up as zombies.

mod frozen;
mod redirects;
mod takeover;
mod watermarks;

use std::path::Path;
use std::thread;
use std::time::Duration;

use millrace_e2e_tests::{PublishReport, Scrape, wait_until};

use crate::apart::Place;
use crate::crash::expected_counts;
use crate::fixture::pair;

/// A node is taken for dead after 4 s; a machine that builds beside the tests is slow.
const MOVED_WITHIN: Duration = Duration::from_secs(60);

fn with(more: &[&'static str]) -> Place {
    Place::made(|options| {
        options.admin = true;
        options.more = more.to_vec();
    })
}

/// How many slots a node says it owns.
fn owned(place: &Place, node: &str) -> u64 {
    let admin = place.services.admin(node).expect("it has an admin port");
    Scrape::of(admin).expect("metrics").sum("millrace_join_slots", &[]) as u64
}

fn wait_for_owners(place: &Place, what: &str, owners: impl Fn() -> bool) {
    wait_until(what, MOVED_WITHIN, || {
        let status = place.cli().json(["status"]).ok()?;
        (status["unowned_slots"] == 0 && owners()).then_some(())
    });
}

/// Publishes, and does something once some of it is acknowledged and most is still to come.
fn while_publishing(
    place: &mut Place,
    file: &Path,
    before: usize,
    act: impl FnOnce(&mut Place),
) -> PublishReport {
    let (cli, source) = (place.cli(), pair("clicks", file));
    let publishing = thread::spawn(move || cli.publish([source, "--rate".into(), "1000".into()]));
    wait_until("the first of it", MOVED_WITHIN, || {
        (place.counts() != expected_counts(before)).then_some(())
    });
    act(place);
    publishing.join().expect("no panic").expect("published")
}

/// A node that comes takes its share under load, and one that goes down hands its slots over: every
/// fact is ACCEPTED once.
#[test]
fn join_nodes_come_and_go_under_load() {
    let mut place = with(&[]);
    let first = place.clicks("first.csv", 0..500);
    assert_eq!(place.cli().publish([pair("clicks", &first)]).expect("published").accepted, 500);
    assert_eq!(owned(&place, "join"), 64);

    let second = place.clicks("second.csv", 500..5_500);
    let report = while_publishing(&mut place, &second, 500, |place| {
        place.services.add("join-1").expect("it starts");
        wait_for_owners(place, "a share for the new node", || owned(place, "join-1") >= 24);
    });
    assert_eq!((report.sent, report.accepted), (5_000, 5_000), "{report:?}");
    assert_eq!(owned(&place, "join") + owned(&place, "join-1"), 64);
    // Between two owners a slot is served by nobody, and a status that says so is no success.
    let status = wait_until("a status with all slots served", MOVED_WITHIN, || {
        place.cli().json(["status"]).ok()
    });
    for (index, name) in ["join", "join-1"].into_iter().enumerate() {
        let node = &status["join_nodes"][index];
        assert_eq!(
            (node["node"].as_str(), node["slots"].as_u64()),
            (Some(name), Some(owned(&place, name)))
        );
    }
    assert_eq!(place.settled_counts(), expected_counts(5_500));

    let third = place.clicks("third.csv", 5_500..10_500);
    let report = while_publishing(&mut place, &third, 5_500, |place| {
        assert_eq!(place.services.terminate("join").expect("it drains"), 0);
        wait_for_owners(place, "all slots for the other", || owned(place, "join-1") == 64);
    });
    assert_eq!((report.sent, report.accepted), (5_000, 5_000), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(10_500));
    for (file, sent) in [(&first, 500), (&second, 5_000), (&third, 5_000)] {
        let report = place.cli().publish([pair("clicks", file)]).expect("published");
        assert_eq!((report.sent, report.duplicate), (sent, sent), "{report:?}");
    }
    place.services.start_again("join").expect("it starts again");
    wait_for_owners(&place, "a share for who comes back", || owned(&place, "join") >= 24);
    assert_eq!(place.settled_counts(), expected_counts(10_500));
}

/// A third node takes at most 1.25 times an equal share of slots that cost the same, all of them at once,
/// and between the others no slot moves.
#[test]
fn a_join_node_that_comes_takes_its_share_and_moves_nothing_else() {
    let mut place = with(&["join-1"]);
    wait_for_owners(&place, "both nodes", || owned(&place, "join-1") >= 24);
    let before = ["join", "join-1"].map(|node| owned(&place, node));
    assert_eq!(before.iter().sum::<u64>(), 64);
    // What nodes say whenever they give a slot away.
    let given = |place: &Place| -> usize {
        let logs = ["join", "join-1", "join-2"].map(|node| place.services.log(node));
        logs.iter().map(|log| log.matches("a slot goes to another node").count()).sum()
    };
    let given_before = given(&place);
    place.services.add("join-2").expect("it starts");
    let of_all = |place: &Place| ["join", "join-1", "join-2"].map(|node| owned(place, node));
    wait_for_owners(&place, "a share for the third node", || {
        let now = of_all(&place);
        6 * now[2] >= 64 && now.iter().sum::<u64>() == 64
    });
    let now = of_all(&place);
    let moved = now[2];
    assert!(12 * moved <= 5 * 64, "{moved} of 64 slots moved: more than 1.25 / 3; {now:?}");
    assert!(now[0] <= before[0] && now[1] <= before[1], "{before:?} became {now:?}");
    assert_eq!((given(&place) - given_before) as u64, moved, "each slot moved once");
    redirects::assert_told(&place, &["join", "join-1", "join-2"], 64);
}

/// The slots of a node that dies are served by the other one, which replays what it confirmed; and
/// reads go on all the while.
#[test]
fn the_slots_of_a_join_node_that_dies_are_taken_over() {
    let mut place = with(&["join-1"]);
    wait_for_owners(&place, "both nodes", || owned(&place, "join-1") >= 24);
    let file = place.clicks("clicks.csv", 0..6_000);
    let report = while_publishing(&mut place, &file, 0, |place| {
        place.services.kill("join").expect("it can be killed");
        assert_eq!(place.counts().len(), expected_counts(0).len(), "reads need no join node");
        wait_for_owners(place, "all slots for the other", || owned(place, "join-1") == 64);
    });
    assert_eq!(report.accepted + report.duplicate, 6_000, "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(6_000));
    let report = place.cli().publish([pair("clicks", &file)]).expect("published");
    assert_eq!(report.duplicate, 6_000, "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(6_000));
}

/// A node that is frozen past its lease wakes up as a zombie: it confirms nothing, ends, and what it
/// still had in hand is counted once.
#[test]
fn a_zombie_confirms_nothing() {
    let mut place = with(&["join-1"]);
    wait_for_owners(&place, "both nodes", || owned(&place, "join-1") >= 24);
    let file = place.clicks("clicks.csv", 0..8_000);
    let report = while_publishing(&mut place, &file, 0, |place| {
        place.services.signal("join", "STOP").expect("it can be frozen");
        wait_for_owners(place, "all slots for the other", || owned(place, "join-1") == 64);
        place.services.signal("join", "CONT").expect("it can go on");
        let code = place.services.wait("join", MOVED_WITHIN).expect("it ends by itself");
        assert_ne!(code, 0);
    });
    assert_eq!(report.accepted + report.duplicate, 8_000, "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(8_000));
    place.services.start_again("join").expect("it starts again");
    wait_for_owners(&place, "a share for who comes back", || owned(&place, "join") >= 24);
    let report = place.cli().publish([pair("clicks", &file)]).expect("published");
    assert_eq!(report.duplicate, 8_000, "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(8_000));
}
