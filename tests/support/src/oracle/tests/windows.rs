//! Window bounds, to the microsecond.

use millrace_catalog::Window;
use millrace_types::{KnownAt, Micros};

use super::fixture::*;
use crate::oracle::as_known::window_start;

fn counts(window: Window, at: i64, reads: &[(i64, i64)]) {
    let oracle =
        oracle(vec![within(window)], vec![fact(0, "old", -HOUR, &[]), fact(0, "e", at, &[])]);
    for (t, expected) in reads {
        assert_eq!(read(&oracle, *t), count(*expected), "{window:?}, event at {at}, read at {t}");
    }
}

#[test]
fn an_exact_window_holds_its_lower_edge_and_not_its_upper_one() {
    let window = Window::Exact { width_us: 10 };
    counts(window, 100, &[(100, 0), (101, 1), (110, 1), (111, 0)]);
}

#[test]
fn a_hop_rounds_the_lower_edge_down() {
    // One hour with its hop of one minute; the event lies in the minute 600 s to 660 s.
    let window = Window::Sliding { width_us: HOUR, hop_us: MINUTE };
    let at = 11 * MINUTE - 1;
    counts(
        window,
        at,
        &[
            (at, 0),
            (at + 1, 1),
            (at + HOUR, 1),
            (11 * MINUTE + HOUR - 1, 1),
            (11 * MINUTE + HOUR, 0),
        ],
    );
    // On the first instant of a minute it stays for as long.
    let at = 10 * MINUTE;
    counts(window, at, &[(at + HOUR, 1), (at + HOUR + MINUTE - 1, 1), (at + HOUR + MINUTE, 0)]);
}

#[test]
fn a_hop_rounds_down_before_the_epoch_too() {
    let window = Window::Sliding { width_us: 10, hop_us: 10 };
    // At −5 the window starts at floor(−15, 10) = −20.
    assert_eq!(window_start(window, Micros(-5)), -20);
    assert_eq!(window_start(window, Micros(-10)), -20);
    assert_eq!(window_start(window, Micros(-11)), -30);
    counts(window, -20, &[(-20, 0), (-19, 1), (-1, 1), (0, 0)]);
    // Nothing wraps at the edge of time.
    assert!(window_start(window, Micros::MIN) < i128::from(i64::MIN));
}

#[test]
fn a_hop_need_not_divide_the_width() {
    let window = Window::Sliding { width_us: 10, hop_us: 7 };
    // The event at 13 lies in the tile 7..14: it leaves when floor(t − 10, 7) = 14.
    counts(window, 13, &[(13, 0), (14, 1), (23, 1), (24, 0)]);
}

#[test]
fn without_a_window_everything_before_the_read_counts() {
    counts(Window::Unbounded, 100, &[(99, 1), (100, 1), (101, 2), (i64::MAX, 2)]);
}

#[test]
fn interesting_instants_hold_every_edge() {
    let window = Window::Sliding { width_us: HOUR, hop_us: MINUTE };
    let at = 11 * MINUTE - 1;
    let oracle = oracle(vec![within(window)], vec![fact(0, "e", at, &[])]);
    let instants = oracle.interesting_instants("v", &user());
    for edge in [at, at + 1, at + HOUR, 10 * MINUTE, 11 * MINUTE, 11 * MINUTE + HOUR] {
        assert!(instants.contains(&Micros(edge)), "{edge}");
        assert!(instants.contains(&Micros(edge - 1)), "{edge} − 1");
    }
    // Read in order, the count goes from 0 to 1 and back to 0, and nothing else.
    let as_known = oracle.as_known("v", &user(), KnownAt::MAX);
    let mut counts: Vec<_> = instants.iter().map(|t| as_known.read(*t).remove(0).0).collect();
    counts.dedup();
    assert_eq!(counts, [count(0).0, count(1).0, count(0).0]);
}
