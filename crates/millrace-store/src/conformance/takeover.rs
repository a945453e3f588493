//! Taking slots over on the adapter itself, without faults; `tests/takeover.rs` has the faults.

use async_trait::async_trait;
use millrace_types::{KnownAt, Position, SlotId};

use super::{A, B, at, chunk, fill, node, positions};
use crate::ownership::{Fencing, TakeOverError, take_over, take_over_from};
use crate::port::{Append, Incarnation, Mark, Member, SlotEpoch, Store, StoreError};
use crate::retry::Retry;

const C: Incarnation = Incarnation(0xc);
const D: Incarnation = Incarnation(0xd);
const SLOT: SlotId = SlotId(5);

/// No call of these cases may fail.
struct Never;

#[async_trait]
impl Retry for Never {
    async fn again(&mut self, _: &StoreError) -> bool {
        false
    }
}

async fn take<S: Store + ?Sized>(store: &S, run: Incarnation) -> Result<SlotEpoch, TakeOverError> {
    take_over(store, SLOT, &node("join-0"), run, &mut Never).await
}

async fn lease<S: Store + ?Sized>(store: &S, run: Incarnation, ceiling: i64) {
    store.renew_node(&node("join-0"), run, KnownAt(ceiling)).await.unwrap();
}

/// A slot nobody owned starts with epoch 1 after nothing.
pub async fn a_first_epoch_is_opened<S: Store + ?Sized>(store: &S) {
    lease(store, A, 1_000).await;
    let row = take(store, A).await.unwrap();
    assert_eq!((row.epoch, row.previous_end, row.incarnation), (1, 0, A));
    assert_eq!(store.last_epoch(SLOT).await, Ok(Some(row)));
}

/// A release states the end, and its owner is not fenced.
pub async fn a_released_slot_is_taken_with_its_stated_end<S: Store + ?Sized>(store: &S) {
    lease(store, A, 9_000).await;
    take(store, A).await.unwrap();
    fill(store, 5, 1, 1..=3).await;
    store.release_epoch(SLOT, 1, A, 2, KnownAt(7_000)).await.unwrap();
    lease(store, B, 9_500).await;
    let row = take(store, B).await.unwrap();
    assert_eq!((row.epoch, row.previous_end, row.floor), (2, 2, KnownAt(7_001)));
    assert_eq!(store.confirm(&node("join-0"), A).await, Ok(true), "a release needs no fence");
    assert_eq!(positions(store, 5, Position::START, Position::END).await, [at(1, 1), at(1, 2)]);
}

/// Without a release the owner is fenced and the end is its last chunk, confirmed or not.
pub async fn a_fenced_slot_is_sealed_at_its_last_chunk<S: Store + ?Sized>(store: &S) {
    lease(store, A, 9_000).await;
    take(store, A).await.unwrap();
    fill(store, 5, 1, 1..=3).await;
    lease(store, B, 9_500).await;
    let row = take(store, B).await.unwrap();
    assert_eq!((row.epoch, row.previous_end), (2, 3));
    assert!(row.floor > KnownAt(9_000), "above what the fenced run may still stamp");
    assert_eq!(store.confirm(&node("join-0"), A).await, Ok(false));
    fill(store, 5, 1, 4..=4).await; // the zombie's append lands
    let log = positions(store, 5, Position::START, Position::END).await;
    assert_eq!(log, [at(1, 1), at(1, 2), at(1, 3)]);
}

/// The floor is kept by the slot: the second failover is above the first one's floor, above the
/// ceiling of a node whose clock is behind, and above a chunk that a leap of the clock stamped.
pub async fn floors_survive_two_failovers<S: Store + ?Sized>(store: &S) {
    lease(store, A, 50_000).await;
    take(store, A).await.unwrap();
    let far = Append {
        slot: SLOT,
        position: at(1, 1),
        known_at: KnownAt(60_000),
        bytes: chunk(60_000, b"far"),
    };
    store.append(vec![far]).await.unwrap();
    // Another node, whose clock and ceiling are far behind.
    store.renew_node(&node("join-1"), B, KnownAt(100)).await.unwrap();
    let second = take_over(store, SLOT, &node("join-1"), B, &mut Never).await.unwrap();
    assert!(second.floor > KnownAt(60_000));
    store.renew_node(&node("join-2"), C, KnownAt(200)).await.unwrap();
    let third = take_over(store, SLOT, &node("join-2"), C, &mut Never).await.unwrap();
    assert!(third.floor > second.floor);
    assert_eq!((third.epoch, third.previous_end), (3, 0));
}

/// A log that ends before the slot's mark lost chunks: it is left as it is, and the alarm raised.
pub async fn a_slot_behind_its_mark_is_not_sealed<S: Store + ?Sized>(store: &S) {
    lease(store, A, 9_000).await;
    let first = take(store, A).await.unwrap();
    fill(store, 5, 1, 1..=3).await;
    let mark = Mark {
        position: at(1, 4),
        closed: KnownAt(0),
        watermarks: vec![],
        incarnations: vec![],
        views: vec![],
        latest: vec![],
        oldest_waiting: None,
        erasures: 0,
        filled: millrace_types::Filled::FIRST,
        retained: millrace_types::Retained::default(),
    };
    store.put_mark(SLOT, KnownAt(5_000), mark).await.unwrap();
    lease(store, B, 9_500).await;
    let behind = TakeOverError::BehindMark { slot: SLOT, end: at(1, 3), mark: at(1, 4) };
    assert_eq!(take(store, B).await, Err(behind));
    assert_eq!(store.last_epoch(SLOT).await, Ok(Some(first)));
}

/// The answer to a take-over may be lost: asking again neither fences the asker nor opens another
/// epoch. Once it appended, it must release first.
pub async fn taking_over_again_gives_the_same_epoch<S: Store + ?Sized>(store: &S) {
    lease(store, A, 9_000).await;
    let row = take(store, A).await.unwrap();
    assert_eq!(take(store, A).await, Ok(row));
    assert_eq!(store.confirm(&node("join-0"), A).await, Ok(true));
    fill(store, 5, 1, 1..=1).await;
    assert_eq!(take(store, A).await, Err(TakeOverError::InUse { slot: SLOT, epoch: 1 }));
    store.release_epoch(SLOT, 1, A, 1, KnownAt(2_000)).await.unwrap();
    let next = take(store, A).await.unwrap();
    assert_eq!((next.epoch, next.previous_end), (2, 1));
}

/// Beside other nodes a slot is left to an owner who is alive: the newest run of its node that is not
/// among the dead. Nobody else is.
pub async fn a_member_that_is_alive_keeps_its_slot<S: Store + ?Sized>(store: &S) {
    let told = |incarnation| Member {
        node: node("join-0"),
        incarnation,
        endpoint: String::new(),
        weight: 1,
        beat: 1,
        leaving: false,
        slots: vec![],
    };
    let from = async |run, dead: &[Incarnation]| {
        let fencing = Fencing::Dead(dead.to_vec());
        take_over_from(store, SLOT, &node("join-1"), run, &fencing, &mut Never).await
    };
    lease(store, A, 9_000).await;
    store.put_member(KnownAt(1), told(A)).await.unwrap();
    let first = take(store, A).await.unwrap();
    store.renew_node(&node("join-1"), B, KnownAt(9_000)).await.unwrap();
    assert_eq!(from(B, &[C]).await, Err(TakeOverError::Alive { slot: SLOT, by: first }));
    assert_eq!(store.confirm(&node("join-0"), A).await, Ok(true));
    // Dead, as the taker has seen.
    assert_eq!(from(B, &[A]).await.unwrap().epoch, 2);
    assert_eq!(store.confirm(&node("join-0"), A).await, Ok(false));
    // B is no member; and then a run that another one of its node has replaced.
    store.renew_node(&node("join-1"), C, KnownAt(9_000)).await.unwrap();
    assert_eq!(from(C, &[]).await.unwrap().epoch, 3);
    let replaced = Member { node: node("join-1"), ..told(A) };
    store.put_member(KnownAt(1), replaced).await.unwrap();
    store.renew_node(&node("join-1"), A, KnownAt(9_000)).await.unwrap();
    let last = from(A, &[]).await.unwrap();
    assert_eq!((last.epoch, last.incarnation), (4, A));
    // What was released belongs to nobody.
    store.release_epoch(SLOT, 4, A, 0, KnownAt(9_000)).await.unwrap();
    store.renew_node(&node("join-1"), D, KnownAt(9_900)).await.unwrap();
    assert_eq!(from(D, &[]).await.unwrap().epoch, 5);
}
