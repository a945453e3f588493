//! The log: order, pages, ends.

use millrace_types::{Position, SlotId};

use super::{A, B, append, at, fill, positions, row};
use crate::port::{Applied, Store, StoreError};

/// Chunks come back as written, in log order, slot by slot, between the bounds asked for.
pub async fn chunks_are_read_back_in_log_order<S: Store + ?Sized>(store: &S) {
    for slot in [7, 8] {
        store.insert_epoch(SlotId(slot), row(1, A, 0)).await.unwrap();
        store.insert_epoch(SlotId(slot), row(2, B, 3)).await.unwrap();
        store.insert_epoch(SlotId(slot), row(300, A, 2)).await.unwrap();
    }
    // One flush over slots, and epochs out of order.
    fill(store, 7, 300, 1..=2).await;
    store.append(vec![append(8, at(1, 1)), append(7, at(1, 1))]).await.unwrap();
    fill(store, 7, 1, 2..=3).await;
    fill(store, 7, 2, 1..=2).await;

    let all = [at(1, 1), at(1, 2), at(1, 3), at(2, 1), at(2, 2), at(300, 1), at(300, 2)];
    let page = store.read_log(SlotId(7), Position::START, Position::END, usize::MAX).await.unwrap();
    assert!(page.complete);
    let expected: Vec<_> = all.iter().map(|p| (*p, append(7, *p).bytes)).collect();
    assert_eq!(page.chunks, expected);
    for (from, after) in [Position::START].iter().chain(&all).enumerate() {
        for (to, up_to) in all.iter().enumerate() {
            let expected = all.get(from..=to).unwrap_or_default();
            assert_eq!(positions(store, 7, *after, *up_to).await, expected, "{after}..={up_to}");
        }
    }
    assert_eq!(positions(store, 9, Position::START, Position::END).await, []);
}

/// A page holds at least one chunk, says when it is the last, and the next one goes on after it.
pub async fn a_log_is_read_in_pages<S: Store + ?Sized>(store: &S) {
    store.insert_epoch(SlotId(1), row(1, A, 0)).await.unwrap();
    store.insert_epoch(SlotId(1), row(2, B, 5)).await.unwrap();
    fill(store, 1, 1, 1..=7).await; // two beyond the end
    fill(store, 1, 2, 1..=5).await;
    let size = append(1, at(1, 1)).bytes.len();
    for (max_bytes, pages_at_most) in [(0, 11), (1, 11), (size * 3, 5), (usize::MAX, 1)] {
        let (mut found, mut after, mut pages) = (Vec::new(), Position::START, 0);
        loop {
            let page = store.read_log(SlotId(1), after, at(2, 5), max_bytes).await.unwrap();
            pages += 1;
            assert!(page.complete || !page.chunks.is_empty(), "a page without progress");
            found.extend(page.chunks.iter().map(|(position, _)| *position));
            if page.complete {
                break;
            }
            after = *found.last().unwrap();
        }
        let expected: Vec<_> = (1..=5).map(|s| at(1, s)).chain((1..=5).map(|s| at(2, s))).collect();
        assert_eq!(found, expected, "in pages of {max_bytes} bytes");
        assert!(pages <= pages_at_most, "{pages} pages of {max_bytes} bytes");
    }
}

/// The next epoch's row ends an epoch: rows beyond it are not the log, also when they land late.
pub async fn chunks_beyond_a_sealed_end_are_never_read<S: Store + ?Sized>(store: &S) {
    store.insert_epoch(SlotId(5), row(1, A, 0)).await.unwrap();
    fill(store, 5, 1, 1..=3).await;
    store.insert_epoch(SlotId(5), row(2, B, 2)).await.unwrap();
    fill(store, 5, 2, 1..=1).await;
    fill(store, 5, 1, 4..=5).await; // the zombie's
    let log = [at(1, 1), at(1, 2), at(2, 1)];
    assert_eq!(positions(store, 5, Position::START, Position::END).await, log);
    assert_eq!(positions(store, 5, Position::START, at(1, 5)).await, log[..2]);
    assert_eq!(positions(store, 5, at(1, 2), at(1, 5)).await, []);
    // An epoch that ended before its first chunk.
    store.insert_epoch(SlotId(6), row(1, A, 0)).await.unwrap();
    store.insert_epoch(SlotId(6), row(2, B, 0)).await.unwrap();
    fill(store, 6, 1, 1..=1).await;
    assert_eq!(positions(store, 6, Position::START, Position::END).await, []);
}

/// So does a release, until the next epoch is opened and ever after.
pub async fn chunks_beyond_a_released_end_are_never_read<S: Store + ?Sized>(store: &S) {
    store.insert_epoch(SlotId(5), row(1, A, 0)).await.unwrap();
    fill(store, 5, 1, 1..=3).await;
    let released = store.release_epoch(SlotId(5), 1, A, 2, millrace_types::KnownAt(9)).await;
    assert_eq!(released, Ok(Applied::Yes));
    assert_eq!(positions(store, 5, Position::START, Position::END).await, [at(1, 1), at(1, 2)]);
}

/// Epochs are what the conditional writes say, not what rows claim.
pub async fn chunks_of_an_epoch_without_a_row_are_not_read<S: Store + ?Sized>(store: &S) {
    store.insert_epoch(SlotId(5), row(1, A, 0)).await.unwrap();
    fill(store, 5, 1, 1..=1).await;
    fill(store, 5, 2, 1..=1).await;
    assert_eq!(positions(store, 5, Position::START, Position::END).await, [at(1, 1)]);
}

/// Of an open epoch a reader gets what it asks for; that it is confirmed is the reader's business.
pub async fn an_open_epoch_is_read_as_far_as_asked<S: Store + ?Sized>(store: &S) {
    store.insert_epoch(SlotId(5), row(1, A, 0)).await.unwrap();
    fill(store, 5, 1, 1..=4).await;
    assert_eq!(positions(store, 5, at(1, 1), at(1, 3)).await, [at(1, 2), at(1, 3)]);
    assert_eq!(positions(store, 5, at(1, 3), Position::END).await, [at(1, 4)]);
    assert_eq!(positions(store, 5, at(1, 4), at(1, 4)).await, []);
    assert_eq!(positions(store, 5, at(1, 4), at(1, 2)).await, []);
}

/// A hole before the end is damage, never a shorter log.
pub async fn a_missing_chunk_is_damage<S: Store + ?Sized>(store: &S) {
    store.insert_epoch(SlotId(5), row(1, A, 0)).await.unwrap();
    store.insert_epoch(SlotId(5), row(2, B, 4)).await.unwrap();
    store.append(vec![append(5, at(1, 1)), append(5, at(1, 3))]).await.unwrap();
    fill(store, 5, 2, 1..=1).await;
    for after in [Position::START, at(1, 3)] {
        let read = store.read_log(SlotId(5), after, Position::END, usize::MAX).await;
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "after {after}: {read:?}");
    }
}

/// The last chunk of an epoch is found whether or not it is confirmed, sealed or late.
pub async fn the_last_chunk_of_an_epoch_is_found<S: Store + ?Sized>(store: &S) {
    let slot = SlotId(5);
    assert_eq!(store.last_chunk(slot, 1).await, Ok(None));
    store.insert_epoch(slot, row(1, A, 0)).await.unwrap();
    fill(store, 5, 1, 1..=300).await;
    fill(store, 5, 3, 1..=1).await;
    fill(store, 6, 1, 1..=400).await;
    for (epoch, last) in [(1, Some(at(1, 300))), (2, None), (3, Some(at(3, 1)))] {
        let expected = last.map(|p| (p, append(5, p).bytes));
        assert_eq!(store.last_chunk(slot, epoch).await, Ok(expected));
    }
}

/// A take-over writes the last chunk once more; a retry writes all of them.
pub async fn a_chunk_written_again_changes_nothing<S: Store + ?Sized>(store: &S) {
    store.insert_epoch(SlotId(5), row(1, A, 0)).await.unwrap();
    for _ in 0..3 {
        fill(store, 5, 1, 1..=3).await;
        let log = positions(store, 5, Position::START, Position::END).await;
        assert_eq!(log, [at(1, 1), at(1, 2), at(1, 3)]);
    }
}

/// Nothing to do is no error.
pub async fn empty_calls_do_nothing<S: Store + ?Sized>(store: &S) {
    assert_eq!(store.append(vec![]).await, Ok(()));
    assert_eq!(store.put(vec![]).await, Ok(()));
    assert_eq!(store.load(vec![]).await, Ok(vec![]));
    assert_eq!(store.catalogs().await, Ok(vec![]));
}
