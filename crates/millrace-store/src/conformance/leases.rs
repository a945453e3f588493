//! Leases, fences, epochs: what conditional writes decide.

use millrace_types::{KnownAt, SlotId};

use super::{A, B, node, row};
use crate::port::{Applied, Incarnation, LOOK_EPOCHS, LogStore, NodeLease, Store};

/// A lease is written, renewed, counted and read back.
pub async fn runs_have_leases_that_are_renewed<S: Store + ?Sized>(store: &S) {
    let n = node("join-0");
    assert_eq!(store.read_node(&n).await, Ok(None));
    for (renewals, ceiling) in [(1, KnownAt(100)), (2, KnownAt(200))] {
        assert_eq!(store.renew_node(&n, A, ceiling).await, Ok(Applied::Yes));
        let lease = NodeLease { incarnation: A, renewals, ceiling, fenced: false };
        assert_eq!(store.read_node(&n).await, Ok(Some(lease)));
    }
    assert_eq!(store.read_node(&node("join-1")).await, Ok(None), "nodes are apart");
}

/// Neither a renewal nor a later run lowers a ceiling.
pub async fn a_ceiling_never_goes_down<S: Store + ?Sized>(store: &S) {
    let n = node("join-0");
    for (run, asked, stands) in [(A, 500, 500), (A, 300, 500), (B, 400, 500), (B, 600, 600)] {
        assert_eq!(store.renew_node(&n, run, KnownAt(asked)).await, Ok(Applied::Yes));
        let lease = store.read_node(&n).await.unwrap().unwrap();
        assert_eq!((lease.incarnation, lease.ceiling), (run, KnownAt(stands)));
    }
}

/// A fence is for good: later runs, and renewals of the fenced one, change nothing about it.
pub async fn a_fenced_run_never_confirms_again<S: Store + ?Sized>(store: &S) {
    let n = node("join-0");
    assert_eq!(store.confirm(&n, A).await, Ok(false), "no lease yet");
    store.renew_node(&n, A, KnownAt(100)).await.unwrap();
    assert_eq!(store.confirm(&n, A).await, Ok(true));
    for _ in 0..2 {
        assert_eq!(store.fence_node(&n, A).await, Ok(Applied::Yes), "a fence may be repeated");
        assert_eq!(store.confirm(&n, A).await, Ok(false));
    }
    let lease = store.read_node(&n).await.unwrap().unwrap();
    assert!(lease.fenced);
    assert_eq!(lease.ceiling, KnownAt(100));

    refused(store, A).await;
    assert_eq!(store.renew_node(&n, B, KnownAt(300)).await, Ok(Applied::Yes), "a later run");
    // The paused run wakes up after its node came back: it must not get its lease back.
    refused(store, A).await;
    assert_eq!(store.confirm(&n, A).await, Ok(false));
    assert_eq!(store.confirm(&n, B).await, Ok(true));
    let lease = store.read_node(&n).await.unwrap().unwrap();
    assert_eq!((lease.incarnation, lease.fenced), (B, false));
}

async fn refused<S: LogStore + ?Sized>(store: &S, run: Incarnation) {
    match store.renew_node(&node("join-0"), run, KnownAt(900)).await {
        Ok(Applied::No(Some(lease))) => {
            assert!(lease.incarnation != run || lease.fenced);
        }
        other => panic!("a fenced run renewed its lease: {other:?}"),
    }
}

/// A confirmation and a fence mean one run, not the node.
pub async fn runs_of_one_node_are_told_apart<S: Store + ?Sized>(store: &S) {
    let n = node("join-0");
    store.renew_node(&n, A, KnownAt(100)).await.unwrap();
    assert_eq!(store.confirm(&n, B).await, Ok(false), "a run without a lease");
    store.renew_node(&n, B, KnownAt(200)).await.unwrap();
    store.fence_node(&n, A).await.unwrap();
    assert_eq!(store.confirm(&n, A).await, Ok(false));
    assert_eq!(store.confirm(&n, B).await, Ok(true), "fencing the old run fenced the new one");
    assert_eq!(store.confirm(&node("join-1"), B).await, Ok(false));
}

/// A fence that comes before the first lease keeps the run out.
pub async fn a_run_fenced_before_its_first_lease_never_gets_one<S: Store + ?Sized>(store: &S) {
    let n = node("join-0");
    assert_eq!(store.fence_node(&n, A).await, Ok(Applied::Yes));
    refused(store, A).await;
    assert_eq!(store.confirm(&n, A).await, Ok(false));
    assert_eq!(store.renew_node(&n, B, KnownAt(100)).await, Ok(Applied::Yes));
}

/// The first row of an epoch stands, and is what a later insert is told.
pub async fn an_epoch_is_inserted_once<S: Store + ?Sized>(store: &S) {
    let (slot, other) = (SlotId(3), SlotId(4));
    assert_eq!(store.last_epoch(slot).await, Ok(None));
    assert_eq!(store.epochs(slot).await, Ok(vec![]));
    let (one, two, rival) = (row(1, A, 0), row(2, B, 7), row(2, A, 9));
    assert_eq!(store.insert_epoch(slot, one.clone()).await, Ok(Applied::Yes));
    assert_eq!(store.insert_epoch(slot, two.clone()).await, Ok(Applied::Yes));
    assert_eq!(store.insert_epoch(slot, rival).await, Ok(Applied::No(Some(two.clone()))));
    assert_eq!(store.insert_epoch(slot, two.clone()).await, Ok(Applied::No(Some(two.clone()))));
    assert_eq!(store.last_epoch(slot).await, Ok(Some(two.clone())));
    assert_eq!(store.epochs(slot).await, Ok(vec![one, two]));
    assert_eq!(store.last_epoch(other).await, Ok(None), "slots are apart");
}

/// Only its owner releases an epoch, and the first statement stands.
pub async fn an_epoch_is_released_once_and_by_its_owner<S: Store + ?Sized>(store: &S) {
    let slot = SlotId(3);
    let open = row(1, A, 0);
    let absent = store.release_epoch(slot, 1, A, 5, KnownAt(50)).await;
    assert_eq!(absent, Ok(Applied::No(None)));
    store.insert_epoch(slot, open.clone()).await.unwrap();
    let stranger = store.release_epoch(slot, 1, B, 5, KnownAt(50)).await;
    assert_eq!(stranger, Ok(Applied::No(Some(open.clone()))));
    assert_eq!(store.release_epoch(slot, 1, A, 5, KnownAt(50)).await, Ok(Applied::Yes));
    let released = crate::port::SlotEpoch { released: Some((5, KnownAt(50))), ..open };
    let again = store.release_epoch(slot, 1, A, 6, KnownAt(60)).await;
    assert_eq!(again, Ok(Applied::No(Some(released.clone()))));
    assert_eq!(store.last_epoch(slot).await, Ok(Some(released)));
}

/// A release that lands after the next epoch was opened is not applied.
pub async fn a_sealed_epoch_is_not_released<S: Store + ?Sized>(store: &S) {
    let slot = SlotId(3);
    let (one, two) = (row(1, A, 0), row(2, B, 4));
    store.insert_epoch(slot, one.clone()).await.unwrap();
    store.insert_epoch(slot, two.clone()).await.unwrap();
    let late = store.release_epoch(slot, 1, A, 5, KnownAt(50)).await;
    assert_eq!(late, Ok(Applied::No(Some(one.clone()))));
    assert_eq!(store.epochs(slot).await, Ok(vec![one, two]));
}

/// A look tells of every node and slot that it was asked for, in that order, and of long histories the end.
pub async fn a_look_shows_leases_and_the_newest_epochs<S: Store + ?Sized>(store: &S) {
    let (old, new, none) = (node("join-0"), node("join-1"), node("join-2"));
    store.renew_node(&old, A, KnownAt(100)).await.unwrap();
    store.fence_node(&old, A).await.unwrap();
    store.renew_node(&new, A, KnownAt(150)).await.unwrap();
    store.renew_node(&new, B, KnownAt(200)).await.unwrap();
    let rows: Vec<_> = (1..=LOOK_EPOCHS as u64 + 3).map(|epoch| row(epoch, B, 0)).collect();
    for row in &rows {
        store.insert_epoch(SlotId(3), row.clone()).await.unwrap();
    }
    let released = row(1, A, 0);
    store.insert_epoch(SlotId(1), released.clone()).await.unwrap();
    store.release_epoch(SlotId(1), 1, A, 5, KnownAt(50)).await.unwrap();
    let released = crate::port::SlotEpoch { released: Some((5, KnownAt(50))), ..released };

    let nodes = vec![new, none, old];
    let found = store.look(nodes, vec![SlotId(3), SlotId(2), SlotId(1)]).await.unwrap();
    let lease = |incarnation, ceiling, fenced| {
        Some(NodeLease { incarnation, renewals: 1, ceiling: KnownAt(ceiling), fenced })
    };
    assert_eq!(found.leases, [lease(B, 200, false), None, lease(A, 100, true)]);
    assert_eq!(found.epochs, [rows[3..].to_vec(), vec![], vec![released]]);
    let nothing = store.look(vec![], vec![]).await.unwrap();
    assert_eq!(nothing, crate::port::Ownership::default());
}
