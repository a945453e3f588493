//! Requests whose sender was told that they timed out, and that reach the database much later, when
//! somebody else has moved on: they change nothing that was acknowledged since.

use millrace_store::{Applied, Incarnation, LogStore, NodeId, SlotEpoch, StoreError, take_over};
use millrace_types::{KnownAt, SlotId};
use scylla::errors::{DbError, WriteType};
use scylla::statement::Consistency;
use scylla_proxy::RequestFrame;

use super::forged::{chunk, chunks, epoch, first_two};
use super::open;
use super::proxied::{Answer, Fault, Proxied, Repeats, fresh, keyspace};
use millrace_store_scylla::CqlStore;

const ZOMBIE: Incarnation = Incarnation(7);
const RIVAL: Incarnation = Incarnation(8);
/// Eight bytes that stand in no other request.
const FAR: KnownAt = KnownAt(0x0000_0304_0506_0708);

fn timed_out(write_type: WriteType) -> Fault {
    let consistency = Consistency::LocalQuorum;
    Fault::Told(DbError::WriteTimeout { consistency, received: 0, required: 1, write_type }, 1)
}

/// A call is told that it timed out; its request is held back.
async fn held_back<T: std::fmt::Debug>(
    proxied: &mut Proxied,
    write_type: WriteType,
    marked: &[u8],
    call: impl AsyncFnOnce(&CqlStore) -> Result<T, StoreError>,
) -> RequestFrame {
    let mut met = proxied.arm(&timed_out(write_type), marked, Answer::Next);
    let outcome = call(&proxied.store).await;
    assert!(matches!(outcome, Err(StoreError::Unknown { .. })), "{outcome:?}");
    met.one()
}

struct Case {
    direct: CqlStore,
    proxied: Proxied,
    slot: SlotId,
    node: NodeId,
    other: NodeId,
}

/// A slot of its own, and two nodes with leases.
async fn case() -> Case {
    let (direct, proxied) = (open(keyspace().await).await.unwrap(), Proxied::open().await);
    let number = fresh();
    let (node, other) = (NodeId(format!("zombie-{number}")), NodeId(format!("rival-{number}")));
    direct.renew_node(&node, ZOMBIE, KnownAt(1_000)).await.unwrap();
    direct.renew_node(&other, RIVAL, KnownAt(1_000)).await.unwrap();
    Case { direct, proxied, slot: SlotId(number), node, other }
}

/// Takes the slot over as a node does: fence, seal, open.
async fn taken_over(case: &Case, node: &NodeId, run: Incarnation) -> SlotEpoch {
    take_over(&case.direct, case.slot, node, run, &mut Repeats::new()).await.unwrap()
}

/// The slot has an owner and one chunk, and the second is on its way.
async fn second_held_back(case: &mut Case) -> RequestFrame {
    let slot = case.slot;
    taken_over(case, &case.node, ZOMBIE).await;
    case.proxied.store.append(vec![chunk(slot, 1)]).await.unwrap();
    let append = async |store: &CqlStore| store.append(vec![chunk(slot, 2)]).await;
    held_back(&mut case.proxied, WriteType::Simple, b"chunk 2", append).await
}

#[tokio::test]
async fn an_append_that_lands_after_its_epoch_was_sealed_is_read_by_nobody() {
    let mut case = case().await;
    let slot = case.slot;
    let late = second_held_back(&mut case).await;

    let row = taken_over(&case, &case.other, RIVAL).await;
    assert_eq!((row.epoch, row.previous_end), (2, 1));
    case.proxied.land(late).await;
    let (last, _) = case.direct.last_chunk(slot, 1).await.unwrap().unwrap();
    assert_eq!(last.sequence, 2, "it is there");
    assert_eq!(chunks(&case.direct, slot).await, first_two()[..1], "and not in the log");
    // Nor is it acknowledged by the one who wrote it, who repeats it until it is known.
    case.proxied.store.append(vec![chunk(slot, 2)]).await.unwrap();
    assert_eq!(case.proxied.store.confirm(&case.node, ZOMBIE).await, Ok(false));
    assert_eq!(chunks(&case.proxied.store, slot).await, first_two()[..1]);
}

#[tokio::test]
async fn an_append_that_lands_after_it_was_repeated_is_there_once() {
    let mut case = case().await;
    let slot = case.slot;
    let late = second_held_back(&mut case).await;
    case.proxied.store.append(vec![chunk(slot, 2)]).await.unwrap();
    let further = chunk(slot, 3);
    case.proxied.store.append(vec![further.clone()]).await.unwrap();
    case.proxied.land(late).await;
    let mut expected = first_two();
    expected.push((3, further.bytes));
    assert_eq!(chunks(&case.direct, slot).await, expected);
}

#[tokio::test]
async fn an_epoch_that_is_inserted_late_finds_the_one_who_was_faster() {
    for rival_is_faster in [true, false] {
        let mut case = case().await;
        let slot = case.slot;
        let mine = epoch(1, &case.node, ZOMBIE, 0);
        let theirs = epoch(1, &case.other, RIVAL, 0);
        let insert = async |store: &CqlStore| store.insert_epoch(slot, mine.clone()).await;
        let marked = case.node.0.clone().into_bytes();
        let late = held_back(&mut case.proxied, WriteType::Cas, &marked, insert).await;
        assert_eq!(case.direct.last_epoch(slot).await, Ok(None), "absent settles nothing");
        let stands = if rival_is_faster {
            let inserted = case.direct.insert_epoch(slot, theirs.clone()).await;
            assert_eq!(inserted, Ok(Applied::Yes));
            case.proxied.land(late).await;
            theirs
        } else {
            case.proxied.land(late).await;
            let inserted = case.direct.insert_epoch(slot, theirs).await;
            assert_eq!(inserted, Ok(Applied::No(Some(mine.clone()))));
            mine.clone()
        };
        // Both learn from the row who it was.
        let again = case.proxied.store.insert_epoch(slot, mine).await;
        assert_eq!(again, Ok(Applied::No(Some(stands.clone()))));
        assert_eq!(case.direct.last_epoch(slot).await, Ok(Some(stands)));
    }
}

#[tokio::test]
async fn a_renewal_that_lands_after_a_fence_brings_nobody_back() {
    let mut case = case().await;
    let node = case.node.clone();
    let renew = async |store: &CqlStore| store.renew_node(&node, ZOMBIE, FAR).await;
    let marked = FAR.0.to_be_bytes();
    let late = held_back(&mut case.proxied, WriteType::Cas, &marked, renew).await;
    assert_eq!(case.direct.fence_node(&node, ZOMBIE).await, Ok(Applied::Yes));
    case.proxied.land(late).await;
    assert_eq!(case.direct.confirm(&node, ZOMBIE).await, Ok(false));
    let lease = case.direct.read_node(&node).await.unwrap().unwrap();
    assert!(lease.fenced && lease.ceiling == KnownAt(1_000), "{lease:?}");
    let again = case.proxied.store.renew_node(&node, ZOMBIE, FAR).await;
    assert_eq!(again, Ok(Applied::No(Some(lease))));
}

#[tokio::test]
async fn a_fence_that_lands_late_stands_for_the_run_it_was_meant_for_alone() {
    let mut case = case().await;
    let node = case.node.clone();
    let fence = async |store: &CqlStore| store.fence_node(&node, ZOMBIE).await;
    // Its count of renewals, and the name behind it.
    let marked = [&[0, 0, 0, 8], &1_i64.to_be_bytes()[..], &[0, 0, 0]].concat();
    let late = held_back(&mut case.proxied, WriteType::Cas, &marked, fence).await;
    // The node was restarted meanwhile, and its new run has a lease.
    case.direct.renew_node(&node, RIVAL, KnownAt(2_000)).await.unwrap();
    case.proxied.land(late).await;
    assert_eq!(case.direct.confirm(&node, ZOMBIE).await, Ok(false));
    assert_eq!(case.direct.confirm(&node, RIVAL).await, Ok(true));
}

#[tokio::test]
async fn a_release_that_lands_after_the_next_epoch_changes_nothing() {
    let mut case = case().await;
    let slot = case.slot;
    taken_over(&case, &case.node, ZOMBIE).await;
    case.proxied.store.append(vec![chunk(slot, 1), chunk(slot, 2)]).await.unwrap();
    let release = async |store: &CqlStore| store.release_epoch(slot, 1, ZOMBIE, 1, FAR).await;
    let marked = FAR.0.to_be_bytes();
    let late = held_back(&mut case.proxied, WriteType::Cas, &marked, release).await;
    let row = taken_over(&case, &case.other, RIVAL).await;
    assert_eq!((row.epoch, row.previous_end), (2, 2));
    case.proxied.land(late).await;
    let rows = case.direct.epochs(slot).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.released).collect::<Vec<_>>(), [None, None]);
    let log = chunks(&case.direct, slot).await;
    assert_eq!(log, first_two());
    let again = case.proxied.store.release_epoch(slot, 1, ZOMBIE, 1, FAR).await;
    assert!(matches!(again, Ok(Applied::No(Some(_)))), "{again:?}");
}
