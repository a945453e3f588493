//! The promises of the slot log over many histories, and what happens when a step is left out.
//!
//! `MILLRACE_CASES` sets how many histories are played, `MILLRACE_SEED` the first one's seed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_model_tests::Broken;
use millrace_model_tests::history::play;
use millrace_model_tests::world::Counts;

const CASES: u64 = 3_000;
/// Histories within which every control is found out; the rarest needs some 700.
const CONTROL_CASES: u64 = 6_000;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn every_history_keeps_what_was_promised() {
    let first = number("MILLRACE_SEED", 1);
    let mut sum = Counts::default();
    for seed in first..first + number("MILLRACE_CASES", CASES) {
        let outcome = play(seed, Broken::Nothing);
        assert_eq!(outcome.violations, Vec::<String>::new(), "run again with MILLRACE_SEED={seed}");
        let Counts { acknowledged, take_overs, releases, fenced, beyond, kills, deletes, late } =
            outcome.counts;
        sum.acknowledged += acknowledged;
        sum.take_overs += take_overs;
        sum.releases += releases;
        sum.fenced += fenced;
        sum.beyond += beyond;
        sum.kills += kills;
        sum.deletes += deletes;
        sum.late += late;
    }
    let Counts { acknowledged, take_overs, releases, fenced, beyond, kills, deletes, late } = sum;
    for met in [acknowledged, take_overs, releases, fenced, beyond, kills, deletes, late] {
        assert!(met > 0, "the search met too little: {sum:?}");
    }
}

/// A seed repeats, so that a failure can be looked at.
#[test]
fn a_seed_repeats() {
    for seed in 0..20 {
        let [a, b] = [(); 2].map(|()| play(seed, Broken::Nothing));
        assert_eq!((a.violations, a.counts), (b.violations, b.counts), "seed {seed}");
    }
}

/// Some history breaks the promise `named` when the step is left out.
#[track_caller]
fn is_found_out(broken: Broken, named: &str) {
    let found = (0..CONTROL_CASES).any(|seed| {
        play(seed, broken).violations.iter().any(|violation| violation.starts_with(named))
    });
    assert!(found, "{broken:?} went unnoticed");
}

macro_rules! controls {
    ($($name:ident: $broken:ident breaks $promise:literal,)*) => {
        $(
            #[test]
            fn $name() {
                is_found_out(Broken::$broken, $promise);
            }
        )*
    };
}

controls! {
    without_a_fence_something_is_lost: NoFence breaks "ACK",
    without_a_confirmation_something_is_lost: NoConfirmation breaks "ACK",
    without_comparing_the_run_something_is_lost: IncarnationNotCompared breaks "ACK",
    without_a_floor_per_slot_a_zombie_wins: FloorNotKept breaks "FENCE",
    with_an_end_from_memory_logs_differ: EndFromMemory breaks "LOG",
    a_mark_ahead_of_the_log_is_seen: MarkAhead breaks "MARK",
    a_page_written_in_place_is_seen: PageInPlace breaks "PAGE",
    a_page_deleted_without_confirmation_is_missed: DeleteUnconfirmed breaks "PAGE",
    a_release_under_an_append_loses_it: ReleaseEarly breaks "ACK",
}
