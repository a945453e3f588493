use std::future::Future;
use std::pin::Pin;

use futures::FutureExt as _;

use super::*;

const GRANT: SlotGrant = SlotGrant { facts: 10, bytes: 100 };

fn need(slot: u32, facts: u64) -> Need {
    Need { slot: SlotId(slot), facts, bytes: facts * 10 }
}

type Acquiring<'a> = Pin<Box<dyn Future<Output = Held> + 'a>>;

fn ask<'a>(credits: &'a SlotCredits, needs: &[Need]) -> Acquiring<'a> {
    let mut asked: Acquiring<'a> = Box::pin(credits.acquire(needs.to_vec(), GRANT));
    // Polled once, so that it has its place; what it took must not be lost.
    match asked.as_mut().now_or_never() {
        Some(held) => Box::pin(std::future::ready(held)),
        None => asked,
    }
}

fn had(asked: &mut Acquiring<'_>) -> Option<Held> {
    asked.as_mut().now_or_never()
}

fn idle(credits: &SlotCredits) -> bool {
    let ledger = credits.lock();
    ledger.slots.is_empty() && ledger.waiting.is_empty()
}

#[test]
fn a_slot_that_stalls_stalls_only_what_waits_for_it() {
    let credits = SlotCredits::default();
    let stalled = had(&mut ask(&credits, &[need(1, 10)])).unwrap();
    let mut both = ask(&credits, &[need(1, 1), need(2, 1)]);
    assert!(had(&mut both).is_none());
    // The one that waits for slot 1 holds nothing of slot 2.
    let all_of_two = had(&mut ask(&credits, &[need(2, 10)])).unwrap();
    drop(stalled);
    assert!(had(&mut both).is_none(), "slot 2 is full now");
    let one = had(&mut ask(&credits, &[need(1, 10)])).unwrap();
    drop(all_of_two);
    assert!(had(&mut both).is_none(), "and now slot 1");
    drop(one);
    drop(had(&mut both).unwrap());
    drop(both);
    assert!(idle(&credits));
}

#[test]
fn callers_take_turns() {
    let credits = SlotCredits::default();
    let first = had(&mut ask(&credits, &[need(1, 9)])).unwrap();
    let mut large = ask(&credits, &[need(1, 6)]);
    let mut small = ask(&credits, &[need(1, 1)]);
    assert!(had(&mut large).is_none());
    assert!(had(&mut small).is_none(), "it would fit, and came later");
    assert_eq!(credits.waiting(), 2);
    assert_eq!(credits.try_acquire(vec![need(1, 1)], GRANT).unwrap_err(), SlotId(1));
    drop(first);
    let (large, small) = (had(&mut large).unwrap(), had(&mut small).unwrap());
    drop(credits.try_acquire(vec![need(1, 3)], GRANT).unwrap());
    drop((large, small));
    assert!(idle(&credits));
}

#[test]
fn what_is_larger_than_the_grant_goes_through_alone() {
    let credits = SlotCredits::default();
    let large = had(&mut ask(&credits, &[need(1, 1_000)])).unwrap();
    let mut next = ask(&credits, &[need(1, 1)]);
    assert!(had(&mut next).is_none());
    drop(large);
    let next = had(&mut next).unwrap();
    let nothing = SlotGrant::default();
    assert!(credits.try_acquire(vec![need(1, 1)], nothing).is_err());
    drop(next);
    drop(credits.try_acquire(vec![need(1, 1)], nothing).unwrap());
    assert!(idle(&credits));
}

#[test]
fn a_wait_that_is_given_up_takes_nothing() {
    let credits = SlotCredits::default();
    let first = had(&mut ask(&credits, &[need(1, 10)])).unwrap();
    let gone = ask(&credits, &[need(1, 10), need(2, 10)]);
    let mut next = ask(&credits, &[need(1, 1), need(2, 1)]);
    drop(gone);
    drop(first);
    drop(had(&mut next).unwrap());
    drop(next);
    assert!(idle(&credits));
}

/// Batches of one slot each keep slots 1 and 2 full in turn: without a place in both queues the batch
/// that needs both would wait for ever.
#[test]
fn a_batch_of_many_slots_is_not_overtaken_for_ever() {
    let credits = SlotCredits::default();
    let mut full = [1, 2].map(|slot| had(&mut ask(&credits, &[need(slot, 10)])));
    let mut both = ask(&credits, &[need(1, 10), need(2, 10)]);
    for turn in 0..=2 * MOVES_MAX as usize + 2 {
        let slot = turn % 2;
        // The next one of the slot asks before the last one ends, as a busy producer does.
        let mut next = ask(&credits, &[need(slot as u32 + 1, 10)]);
        full[slot] = None;
        if let Some(held) = had(&mut both) {
            drop(held);
            return;
        }
        full[slot] = had(&mut next);
        if full[slot].is_none() {
            // It waits behind the one that keeps its place: the slots run empty for that one.
            drop(full);
            drop(had(&mut both).unwrap());
            return;
        }
    }
    panic!("overtaken every time");
}

#[test]
fn a_batch_that_is_encoded_anew_does_not_wait_for_those_behind_it() {
    let credits = SlotCredits::default();
    let first = had(&mut ask(&credits, &[need(1, 6), need(2, 6)])).unwrap();
    let behind = had(&mut ask(&credits, &[need(1, 4)])).unwrap();
    let mut next = ask(&credits, &[need(2, 6)]);
    assert!(had(&mut next).is_none());
    let first = credits.exchange(first, vec![need(1, 8)]);
    let next = had(&mut next).expect("slot 2 was given back");
    assert!(had(&mut ask(&credits, &[need(1, 1)])).is_none(), "slot 1 has more than its grant");
    drop((behind, first, next));
    assert!(idle(&credits));
}
