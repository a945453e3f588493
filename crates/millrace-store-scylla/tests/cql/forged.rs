//! Requests that time out, are refused or lose their connection, before or after they are done: the
//! adapter says what it knows, and the same call repeated settles it.

use bytes::Bytes;
use futures::future::join_all;
use millrace_store::{
    Append, Applied, CatalogStore, Incarnation, LogStore, NodeId, Part, Put, SlotEpoch,
    SnapshotStore, StoreError, until_known,
};
use millrace_store_scylla::CqlStore;
use millrace_types::chunk::{ChunkHeader, encode_chunk};
use millrace_types::{Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};
use scylla::errors::{DbError, WriteType};
use scylla::statement::Consistency;

use super::open;
use super::proxied::{Answer, Fault, Proxied, Repeats, fresh, keyspace};

pub(crate) const RUN: Incarnation = Incarnation(7);
/// Eight bytes that stand in no other request.
const MARKED: i64 = 0x0000_0304_0506_0708;

fn timed_out(write_type: WriteType) -> DbError {
    let consistency = Consistency::LocalQuorum;
    DbError::WriteTimeout { consistency, received: 1, required: 2, write_type }
}

fn unavailable() -> DbError {
    DbError::Unavailable { consistency: Consistency::LocalQuorum, required: 2, alive: 1 }
}

fn unprepared() -> DbError {
    DbError::Unprepared { statement_id: Bytes::from_static(b"forgotten") }
}

/// A fault, what is to be said of a write and of a conditional one, and whether it is done.
fn faults(write: WriteType) -> Vec<(Fault, &'static str, &'static str, bool)> {
    vec![
        (Fault::RequestLost, "unknown", "unknown", false),
        (Fault::AnswerLost, "unknown", "unknown", true),
        (Fault::CutBefore, "unknown", "unknown", false),
        (Fault::CutAfter, "unknown", "unknown", true),
        (Fault::Told(timed_out(write.clone()), 1), "unknown", "unknown", false),
        (Fault::ToldAfter(timed_out(write)), "unknown", "unknown", true),
        (Fault::Told(DbError::Overloaded, 1), "unknown", "unknown", false),
        (Fault::ToldAfter(DbError::Overloaded), "unknown", "unknown", true),
        (Fault::Told(unavailable(), 1), "not done", "unknown", false),
        (Fault::Told(unprepared(), 1), "done", "done", true), // the driver prepares it again
        (Fault::Told(unprepared(), 2), "not done", "unknown", false),
    ]
}

fn kind<T>(outcome: &Result<T, StoreError>) -> &'static str {
    match outcome {
        Ok(_) => "done",
        Err(StoreError::Unknown { .. }) => "unknown",
        Err(StoreError::Unavailable { .. }) => "not done",
        Err(_) => "failed",
    }
}

/// A chunk without facts whose bytes hold `chunk N`.
pub(crate) fn chunk(slot: SlotId, sequence: u64) -> Append {
    let known_at = KnownAt(sequence.cast_signed());
    let header = ChunkHeader { known_at, ..ChunkHeader::default() };
    let bytes = Bytes::from(encode_chunk(&header, [format!("chunk {sequence}").as_bytes()]));
    Append { slot, position: Position { epoch: 1, sequence }, known_at, bytes }
}

pub(crate) fn epoch(epoch: u64, node: &NodeId, run: Incarnation, previous_end: u64) -> SlotEpoch {
    let (node, floor) = (node.clone(), KnownAt(0));
    SlotEpoch { epoch, node, incarnation: run, floor, previous_end, released: None }
}

pub(crate) async fn chunks(store: &CqlStore, slot: SlotId) -> Vec<(u64, Bytes)> {
    let read = || store.read_log(slot, Position::START, Position::END, usize::MAX);
    let page = until_known(&mut Repeats::new(), read).await.unwrap();
    page.chunks.into_iter().map(|(position, bytes)| (position.sequence, bytes)).collect()
}

/// What a log of the first two holds.
pub(crate) fn first_two() -> Vec<(u64, Bytes)> {
    (1..=2).map(|sequence| (sequence, chunk(SlotId(0), sequence).bytes)).collect()
}

#[tokio::test]
async fn an_append_that_fails_is_told_as_it_is_and_settled_by_the_same_append() {
    let direct = &open(keyspace().await).await.unwrap();
    let cases = faults(WriteType::Simple).into_iter().map(|(fault, said, _, done)| async move {
        let mut proxied = Proxied::open().await;
        let slot = SlotId(fresh());
        let node = NodeId("join-0".into());
        direct.insert_epoch(slot, epoch(1, &node, RUN, 0)).await.unwrap();
        let append = async |store: &CqlStore, sequence| {
            let append = || store.append(vec![chunk(slot, sequence)]);
            until_known(&mut Repeats::new(), append).await.unwrap();
        };
        append(&proxied.store, 1).await;

        let mut met = proxied.arm(&fault, b"chunk 2", Answer::Next);
        let outcome = proxied.store.append(vec![chunk(slot, 2)]).await;
        met.one();
        assert_eq!(kind(&outcome), said, "{fault:?}: {outcome:?}");
        assert_eq!(chunks(direct, slot).await.len(), 1 + usize::from(done), "{fault:?}");
        append(&proxied.store, 2).await;
        assert_eq!(chunks(direct, slot).await, first_two(), "{fault:?}");
    });
    join_all(cases).await;
}

/// Of a call with many chunks those that failed are written again, and no others.
#[tokio::test]
async fn a_repeated_append_writes_only_what_did_not_land() {
    let (direct, mut proxied) = (open(keyspace().await).await.unwrap(), Proxied::open().await);
    let slot = SlotId(fresh());
    direct.insert_epoch(slot, epoch(1, &NodeId("join-0".into()), RUN, 0)).await.unwrap();
    let both = || vec![chunk(slot, 1), chunk(slot, 2)];
    let fault = Fault::Told(timed_out(WriteType::Simple), 1);
    let mut met = proxied.arm(&fault, b"chunk 2", Answer::Next);
    let outcome = proxied.store.append(both()).await;
    assert_eq!(kind(&outcome), "unknown", "{outcome:?}");
    met.one();
    // Whatever would be said of the first one now: it is not asked about.
    let mut met = proxied.arm(&fault, b"chunk 1", Answer::Next);
    proxied.store.append(both()).await.unwrap();
    assert!(met.is_none());
    assert_eq!(chunks(&direct, slot).await, first_two());
    // The call is over: the same chunk once more is a write, as takeovers need it.
    let outcome = proxied.store.append(both()).await;
    assert_eq!(kind(&outcome), "unknown", "{outcome:?}");
    met.one();
}

/// Nobody finds a chunk whose hour is not there, so the hour goes first.
#[tokio::test]
async fn a_chunk_is_not_written_before_its_hour_is_known() {
    let (direct, mut proxied) = (open(keyspace().await).await.unwrap(), Proxied::open().await);
    let slot = SlotId(fresh());
    direct.insert_epoch(slot, epoch(1, &NodeId("join-0".into()), RUN, 0)).await.unwrap();
    let fault = Fault::Told(timed_out(WriteType::Simple), 1);
    let mut met = proxied.arm(&fault, &slot.0.to_be_bytes(), Answer::Next);
    let outcome = proxied.store.append(vec![chunk(slot, 1)]).await;
    assert_eq!(kind(&outcome), "unknown", "{outcome:?}");
    assert!(!met.one().body.windows(7).any(|bytes| bytes == b"chunk 1"));
    assert_eq!(direct.last_chunk(slot, 1).await, Ok(None));
    proxied.store.append(vec![chunk(slot, 1)]).await.unwrap();
    assert_eq!(chunks(&direct, slot).await, first_two()[..1]);
}

/// A head stands only where its pages do.
#[tokio::test]
async fn a_head_is_not_put_before_its_pages_are_known() {
    let (direct, mut proxied) = (open(keyspace().await).await.unwrap(), Proxied::open().await);
    let key = EntityKey::try_new(&[KeyPart::Int64(i64::from(fresh()))]).unwrap();
    let entity = Entity { kind: KindId(1), key };
    let put = |part, bytes: &'static [u8]| Put {
        slot: SlotId(1),
        entity: entity.clone(),
        part,
        ver: KnownAt(5),
        bytes: Bytes::from_static(bytes),
    };
    let page = Part::Page(KnownAt(5), 0);
    let puts = vec![put(page, b"the page"), put(Part::Head, b"the head")];
    let fault = Fault::ToldAfter(timed_out(WriteType::Simple));
    let mut met = proxied.arm(&fault, b"the page", Answer::Next);
    let outcome = proxied.store.put(puts.clone()).await;
    met.one();
    assert_eq!(kind(&outcome), "unknown", "{outcome:?}");
    let parts = || vec![(entity.clone(), page), (entity.clone(), Part::Head)];
    let there = |bytes: &'static [u8]| Some((KnownAt(5), Bytes::from_static(bytes)));
    assert_eq!(direct.load(parts()).await.unwrap(), [there(b"the page"), None]);
    proxied.store.put(puts).await.unwrap();
    assert_eq!(direct.load(parts()).await.unwrap(), [there(b"the page"), there(b"the head")]);
}

/// A conditional write.
#[derive(Debug, Clone, Copy)]
enum Op {
    InsertEpoch,
    Release,
    Renew,
    Fence,
    PutCatalog,
}

const OPS: [Op; 5] = [Op::InsertEpoch, Op::Release, Op::Renew, Op::Fence, Op::PutCatalog];

#[tokio::test]
async fn a_conditional_write_that_fails_is_told_as_it_is_and_settled_by_the_same_write() {
    let direct = &open(keyspace().await).await.unwrap();
    let mut cases = Vec::new();
    for (fault, _, said, done) in faults(WriteType::Cas) {
        // Where an answer is waited for, side by side.
        let at_once = matches!(fault, Fault::RequestLost | Fault::AnswerLost);
        for ops in OPS.chunks(if at_once { 1 } else { OPS.len() }) {
            let fault = fault.clone();
            cases.push(async move {
                let mut proxied = Proxied::open().await;
                for op in ops {
                    conditional(direct, &mut proxied, *op, &fault, (said, done)).await;
                }
            });
        }
    }
    join_all(cases).await;
}

/// One conditional write under a fault.
async fn conditional(
    direct: &CqlStore,
    proxied: &mut Proxied,
    op: Op,
    fault: &Fault,
    (said, done): (&str, bool),
) {
    let number = fresh();
    let (slot, node) = (SlotId(number), NodeId(format!("join-{number}")));
    let text = format!("entities: {{}} # {number}");
    let row = epoch(1, &node, RUN, 0);
    let (low, high) = (KnownAt(MARKED - 1), KnownAt(MARKED));
    let marked: Vec<u8> = match op {
        Op::InsertEpoch => node.0.clone().into_bytes(),
        Op::Release | Op::Renew => MARKED.to_be_bytes().to_vec(),
        // Its count of renewals, and the name behind it.
        Op::Fence => [&[0, 0, 0, 8], &1_i64.to_be_bytes()[..], &[0, 0, 0]].concat(),
        Op::PutCatalog => text.clone().into_bytes(),
    };
    match op {
        Op::InsertEpoch | Op::PutCatalog => {}
        Op::Release => drop(direct.insert_epoch(slot, row.clone()).await.unwrap()),
        Op::Renew | Op::Fence => drop(direct.renew_node(&node, RUN, low).await.unwrap()),
    }
    // The answer, as "applied, or another one's row".
    let run = async |store: &CqlStore| match op {
        Op::InsertEpoch => store.insert_epoch(slot, row.clone()).await.map(mine(&row)),
        Op::Release => {
            let released = SlotEpoch { released: Some((3, high)), ..row.clone() };
            store.release_epoch(slot, 1, RUN, 3, high).await.map(mine(&released))
        }
        Op::Renew => {
            store.renew_node(&node, RUN, high).await.map(|applied| applied == Applied::Yes)
        }
        Op::Fence => store.fence_node(&node, RUN).await.map(|applied| applied == Applied::Yes),
        Op::PutCatalog => store.put_catalog(number, text.clone()).await.map(mine(&text)),
    };
    let is_done = async || match op {
        Op::InsertEpoch => direct.last_epoch(slot).await.unwrap() == Some(row.clone()),
        Op::Release => direct.last_epoch(slot).await.unwrap().unwrap().released == Some((3, high)),
        Op::Renew => direct.read_node(&node).await.unwrap().unwrap().ceiling == high,
        Op::Fence => !direct.confirm(&node, RUN).await.unwrap(),
        Op::PutCatalog => {
            let versions = direct.catalogs_after(number - 1).await.unwrap();
            versions.first() == Some(&(number, text.clone()))
        }
    };
    let mut met = proxied.arm(fault, &marked, Answer::Conditional);
    let outcome = run(&proxied.store).await;
    met.one();
    assert_eq!(kind(&outcome), said, "{op:?} {fault:?}: {outcome:?}");
    assert_eq!(is_done().await, done, "{op:?} {fault:?}");
    // Whoever repeats it finds it done, by this call or the one before.
    let again = until_known(&mut Repeats::new(), || run(&proxied.store)).await;
    assert_eq!(again, Ok(true), "{op:?} {fault:?}");
    assert!(is_done().await, "{op:?} {fault:?}");
}

/// Whether it is applied, now or before.
fn mine<T: PartialEq>(ours: &T) -> impl FnOnce(Applied<T>) -> bool {
    move |applied| match applied {
        Applied::Yes => true,
        Applied::No(there) => there.as_ref() == Some(ours),
    }
}

/// Reads change nothing: whatever happens to one, it is not available, and can be read again.
#[tokio::test]
async fn a_read_that_fails_is_not_available() {
    let mut proxied = Proxied::open().await;
    let slot = SlotId(fresh());
    let store = &open(keyspace().await).await.unwrap();
    let row = epoch(1, &NodeId("join-0".into()), RUN, 0);
    store.insert_epoch(slot, row.clone()).await.unwrap();
    let consistency = Consistency::Serial;
    let late = DbError::ReadTimeout { consistency, received: 0, required: 1, data_present: false };
    for (fault, said) in [
        (Fault::Told(late, 1), "not done"),
        (Fault::Told(DbError::Overloaded, 1), "not done"),
        (Fault::Told(unprepared(), 1), "done"),
        (Fault::CutBefore, "not done"),
        (Fault::CutAfter, "not done"),
    ] {
        let mut met = proxied.arm(&fault, &slot.0.to_be_bytes(), Answer::Next);
        let outcome = proxied.store.last_epoch(slot).await;
        met.one();
        assert_eq!(kind(&outcome), said, "{fault:?}: {outcome:?}");
        let read = || proxied.store.last_epoch(slot);
        let found = until_known(&mut Repeats::new(), read).await;
        assert_eq!(found, Ok(Some(row.clone())), "{fault:?}");
    }
}
