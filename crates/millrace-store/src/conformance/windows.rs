//! Producer windows: they may forget, never invent.

use std::collections::BTreeSet;

use crate::memory::SplitMix64;
use crate::port::{ProducerWindows, Seen};
use crate::window::{ProducerWindow, WINDOW_NUMBERS};

/// What a producer sends in order is remembered, whatever the size of its batches; producers are
/// apart; below the first number everything is unknown.
pub async fn a_window_remembers_what_comes_in_order<S: ProducerWindows + ?Sized>(store: &S) {
    let mut next = 1_000;
    for length in [1, 7, 300, 5_000, 2] {
        store.mark("a", next, next + length).await.unwrap();
        store.mark("a", next, next + length).await.unwrap(); // a repeat
        next += length;
    }
    let seen = store.seen("a", 990, next + 10).await.unwrap();
    let expected: Vec<_> = (990..next + 10)
        .map(|n| if (1_000..next).contains(&n) { Seen::Yes } else { Seen::No })
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(store.seen("b", 1_000, 1_003).await, Ok(vec![Seen::No; 3]));
}

/// Whatever the order of batches and the holes between them: only marked numbers are said seen.
pub async fn a_window_never_invents<S: ProducerWindows + ?Sized>(store: &S) {
    for seed in 0..20 {
        let mut random = SplitMix64(seed);
        let producer = format!("producer/{seed}");
        let start = [0, 1 << 40][(seed % 2) as usize];
        // Some far apart, so that windows overflow.
        let spread = [200, 20_000, 400_000][(seed % 3) as usize];
        let mut marked = BTreeSet::new();
        for _ in 0..12 {
            let first = start + random.below(spread);
            let next = first + 1 + random.below(300);
            store.mark(&producer, first, next).await.unwrap();
            marked.extend(first..next);
            let around = first.saturating_sub(200)..next + 200;
            let seen = store.seen(&producer, around.start, around.end).await.unwrap();
            assert_eq!(seen.len() as u64, around.end - around.start);
            for (number, seen) in around.zip(seen) {
                assert!(seen == Seen::No || marked.contains(&number), "{number} was invented");
            }
        }
    }
}

/// Bit for bit what [`ProducerWindow`] says, also where windows overflow and batches overtake each
/// other: the adapters forget alike.
pub async fn a_window_does_what_the_shared_one_does<S: ProducerWindows + ?Sized>(store: &S) {
    for seed in 0..6 {
        let mut random = SplitMix64(seed);
        let producer = format!("producer/{seed}");
        let start = [0, (1 << 40) + 5][(seed % 2) as usize];
        let spread = [300, 4 * WINDOW_NUMBERS][(seed / 2 % 2) as usize];
        let mut shared = ProducerWindow::default();
        for step in 0..25 {
            let first = start + random.below(spread);
            let next = first + 1 + random.below([9, 400][(step % 2) as usize]);
            store.mark(&producer, first, next).await.unwrap();
            shared.mark(first, next);
            let end = shared.end();
            for around in [first.saturating_sub(70)..next + 70, end.saturating_sub(70)..end + 70] {
                let seen = store.seen(&producer, around.start, around.end).await.unwrap();
                let expected = shared.seen_range(around.start, around.end);
                assert_eq!(seen, expected, "seed {seed}, step {step}, {around:?}");
            }
        }
    }
}

/// No number, no answer, no mark.
pub async fn an_empty_range_of_numbers_is_no_work<S: ProducerWindows + ?Sized>(store: &S) {
    assert_eq!(store.seen("p", 5, 5).await, Ok(vec![]));
    assert_eq!(store.mark("p", 5, 5).await, Ok(()));
    assert_eq!(store.seen("p", 5, 6).await, Ok(vec![Seen::No]));
}
