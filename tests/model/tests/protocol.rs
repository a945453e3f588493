//! Every state of the protocol within bounds, and what is found where a step is left out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_model_tests::protocol::{Bounds, Without, search};

const SMALL: Bounds =
    Bounds { runs: 2, epochs: 2, chunks: 1, unknown: 0, marks: 0, releases: false };
/// Two fail-overs in a row, one of them perhaps back to the node that had the slot first.
const TWICE: Bounds = Bounds { runs: 3, epochs: 3, ..SMALL };

#[track_caller]
fn every_promise_holds(bounds: Bounds) -> [usize; 4] {
    let found = search(&bounds, Without::Nothing);
    assert_eq!(found.broken, None, "of {} states", found.states);
    found.met
}

/// Take-over and double fail-over while an LWT is unknown and releases happen: nothing that was
/// acknowledged is lost, and every reader reads one log.
#[test]
fn take_overs_and_releases_lose_nothing() {
    let met = every_promise_holds(Bounds { unknown: 1, releases: true, ..TWICE });
    assert!(met.iter().all(|met| *met > 0), "the search met too little: {met:?}");
}

/// Marks of zombies land late, also after two fail-overs: none goes back, none is ahead of the log.
#[test]
fn marks_never_go_back() {
    let [acknowledged, zombies, beyond, _] = every_promise_holds(Bounds { marks: 1, ..TWICE });
    assert!(acknowledged > 0 && zombies > 0 && beyond > 0, "the search met too little");
}

/// Everything at once, of two runs with two chunks and two marks each.
#[test]
fn all_of_it_together_keeps_every_promise() {
    let bounds = Bounds { chunks: 2, unknown: 1, marks: 2, releases: true, ..SMALL };
    let met = every_promise_holds(bounds);
    assert!(met.iter().all(|met| *met > 0), "the search met too little: {met:?}");
}

/// The promise `named` is broken somewhere when the step is left out.
#[track_caller]
fn is_found_out(without: Without, bounds: Bounds, named: &str) {
    let (promise, way) = search(&bounds, without).broken.unwrap();
    assert!(promise.starts_with(named), "{promise} by {way:#?}");
    assert!(!way.is_empty());
}

macro_rules! controls {
    ($($name:ident: $without:ident within $bounds:expr, breaks $promise:literal;)*) => {
        $(
            #[test]
            fn $name() {
                is_found_out(Without::$without, $bounds, $promise);
            }
        )*
    };
}

controls! {
    without_a_fence: Fence within SMALL, breaks "ACK";
    without_a_confirmation: Confirmation within SMALL, breaks "ACK";
    with_a_confirmation_begun_too_early: ConfirmationAfterAppend within SMALL, breaks "ACK";
    without_comparing_the_run: Incarnation within TWICE, breaks "ACK";
    without_writing_the_last_chunk_once_more: RewriteOfLast within SMALL, breaks "LOG";
    with_an_end_from_memory: EndOfRow within Bounds { unknown: 1, ..SMALL }, breaks "LOG";
    without_a_floor_per_slot: Floor within Bounds { marks: 1, ..SMALL }, breaks "FENCE";
    with_marks_of_what_is_not_confirmed: ConfirmedMarks within Bounds { marks: 1, ..SMALL },
        breaks "MARK";
    with_appends_after_a_release: SilenceAfterRelease within Bounds { releases: true, ..SMALL },
        breaks "ACK";
    with_a_release_under_an_append: QuietRelease within Bounds { releases: true, ..SMALL },
        breaks "ACK";
}
