//! A database that is gone or frozen, and processes that race: outcomes are told as they are.

use std::time::Duration;

use bytes::Bytes;
use millrace_store::{
    Append, Applied, Incarnation, LogStore, NodeId, Part, Put, SlotEpoch, SnapshotStore, StoreError,
};
use millrace_store_scylla::CqlConfig;
use millrace_test_servers::{Cassandra, CassandraOptions};
use millrace_types::{Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};
use tokio::time::timeout;

use super::{config, open};

const RUN: Incarnation = Incarnation(u64::MAX - 3);

fn append(sequence: u64, known_at: i64) -> Append {
    let bytes = Bytes::from(format!("chunk {sequence}"));
    let position = Position { epoch: 1, sequence };
    Append { slot: SlotId(1), position, known_at: KnownAt(known_at), bytes }
}

fn first_epoch() -> SlotEpoch {
    SlotEpoch {
        epoch: 1,
        node: NodeId("join-0".into()),
        incarnation: RUN,
        floor: KnownAt(0),
        previous_end: 0,
        released: None,
    }
}

/// A chunk is found whatever hours lie between, from any place on.
#[tokio::test]
async fn a_log_goes_over_hours() {
    let store = open(&config(Cassandra::shared())).await.unwrap();
    store.insert_epoch(SlotId(1), first_epoch()).await.unwrap();
    let hour = 3_600_000_000;
    let hours = [0, 0, 1, 4, 4, 9];
    for (chunk, at) in hours.iter().enumerate() {
        store.append(vec![append(chunk as u64 + 1, at * hour + chunk as i64)]).await.unwrap();
    }
    for after in 0..6 {
        let after = Position { epoch: 1, sequence: after };
        let page = store.read_log(SlotId(1), after, Position::END, usize::MAX).await.unwrap();
        let found: Vec<u64> = page.chunks.iter().map(|(position, _)| position.sequence).collect();
        assert_eq!(found, Vec::from_iter(after.sequence + 1..=6));
        assert!(page.complete);
    }
    let (last, bytes) = store.last_chunk(SlotId(1), 1).await.unwrap().unwrap();
    assert_eq!((last.sequence, &bytes[..]), (6, &b"chunk 6"[..]));
}

/// Sixteen processes want the same epoch: one gets it, and all learn who.
#[tokio::test]
async fn one_of_many_gets_an_epoch() {
    let config = config(Cassandra::shared());
    let mut processes = Vec::new();
    for run in 0..4 {
        processes.push((run, open(&config).await.unwrap()));
    }
    let wants = processes.iter().map(|(run, store)| async move {
        let row = SlotEpoch { incarnation: Incarnation(*run), ..first_epoch() };
        loop {
            match store.insert_epoch(SlotId(1), row.clone()).await {
                Ok(Applied::Yes) => return (true, row.incarnation),
                Ok(Applied::No(Some(row))) => return (false, row.incarnation),
                // Contention: unknown is what it is, and settled by asking again.
                Ok(Applied::No(None)) | Err(_) => {}
            }
        }
    });
    let outcomes = futures::future::join_all(wants).await;
    let winner = outcomes[0].1;
    assert!(outcomes.iter().all(|(_, owner)| *owner == winner), "{outcomes:?}");
    assert!(outcomes.iter().filter(|(applied, _)| *applied).count() <= 1, "{outcomes:?}");
    assert_eq!(processes[0].1.last_epoch(SlotId(1)).await.unwrap().unwrap().incarnation, winner);
}

/// Renewals and a fence race: once the fence is known, no renewal is applied.
#[tokio::test]
async fn a_fence_stands_against_renewals() {
    let config = config(Cassandra::shared());
    let (owner, rival) = (open(&config).await.unwrap(), open(&config).await.unwrap());
    let node = NodeId("join-0".into());
    owner.renew_node(&node, RUN, KnownAt(1)).await.unwrap();
    let renewing = async {
        for ceiling in 2.. {
            match owner.renew_node(&node, RUN, KnownAt(ceiling)).await {
                Ok(Applied::No(Some(lease))) if lease.fenced => return,
                Ok(_) | Err(_) => {}
            }
        }
    };
    let fencing = async {
        while rival.fence_node(&node, RUN).await.is_err() {}
        assert!(!rival.confirm(&node, RUN).await.unwrap());
    };
    timeout(Duration::from_secs(60), async { tokio::join!(renewing, fencing) }).await.unwrap();
    assert!(!owner.confirm(&node, RUN).await.unwrap());
}

/// While the database is frozen a write is unknown; when it goes on, the same write is repeated and
/// is there once. While it is gone nothing is done, and it comes back by itself.
#[tokio::test]
async fn a_frozen_database_leaves_writes_unknown() {
    let mut server = Cassandra::start(CassandraOptions::default()).unwrap();
    let config = CqlConfig { patience: Duration::from_secs(3), ..config(&server) };
    let store = open(&config).await.unwrap();
    store.insert_epoch(SlotId(1), first_epoch()).await.unwrap();
    store.append(vec![append(1, 10)]).await.unwrap();

    assert_eq!(store.ready().await, Ok(()));

    server.freeze().unwrap();
    let outcome = store.append(vec![append(2, 20)]).await;
    assert!(matches!(outcome, Err(StoreError::Unknown { .. })), "{outcome:?}");
    let outcome = store.confirm(&NodeId("join-0".into()), RUN).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
    // The last answer is seconds old by now.
    let ready = store.ready().await;
    assert!(matches!(ready, Err(StoreError::Unavailable { .. })), "{ready:?}");
    server.thaw().unwrap();
    until_done(|| store.append(vec![append(2, 20)])).await;
    assert_eq!(store.ready().await, Ok(()));

    server.kill().unwrap();
    let key = EntityKey::try_new(&[KeyPart::Int64(1)]).unwrap();
    let entity = Entity { kind: KindId(1), key };
    let (ver, bytes) = (KnownAt(5), Bytes::from_static(b"head"));
    let head = Put { slot: SlotId(1), entity: entity.clone(), part: Part::Head, ver, bytes };
    let outcome = store.put(vec![head.clone()]).await;
    assert!(
        matches!(outcome, Err(StoreError::Unknown { .. } | StoreError::Unavailable { .. })),
        "{outcome:?}"
    );
    until_done(|| async { store.ready().await.map_or(Ok(()), |()| Err(still_there())) }).await;
    server.start_again().unwrap();
    until_done(|| store.ready()).await;
    until_done(|| store.put(vec![head.clone()])).await;
    let found = store.load(vec![(entity, Part::Head)]).await.unwrap();
    assert_eq!(found, [Some((KnownAt(5), Bytes::from_static(b"head")))]);
    // What was acknowledged before it was killed is there.
    let page = store.read_log(SlotId(1), Position::START, Position::END, usize::MAX).await;
    assert_eq!(page.unwrap().chunks.len(), 2);
}

fn still_there() -> StoreError {
    StoreError::Failed { reason: "it answered within the last second".into() }
}

async fn until_done<F: Future<Output = Result<(), StoreError>>>(call: impl Fn() -> F) {
    timeout(Duration::from_secs(60), async {
        while call().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
