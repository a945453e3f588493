//! What a power failure leaves of a commit under way, made by hand: pages that were never written
//! read as zeros.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millrace_store::{Append, Incarnation, LogStore, NodeId, SlotEpoch};
use millrace_store_fjall::{FjallStore, OpenError, Options};
use millrace_types::{KnownAt, Position, SlotId};

const SLOT: SlotId = SlotId(1);

fn open(folder: &Path) -> Result<FjallStore, OpenError> {
    FjallStore::open(folder, &Options::default())
}

fn chunk(sequence: u64) -> Bytes {
    Bytes::from(vec![sequence as u8; 40_000])
}

async fn append(store: &FjallStore, sequence: u64) {
    let position = Position { epoch: 1, sequence };
    let known_at = KnownAt(sequence.cast_signed());
    store
        .append(vec![Append { slot: SLOT, position, known_at, bytes: chunk(sequence) }])
        .await
        .unwrap();
}

async fn log(store: &FjallStore) -> Vec<Bytes> {
    let page = store.read_log(SLOT, Position::START, Position::END, usize::MAX).await.unwrap();
    page.chunks.into_iter().map(|(_, bytes)| bytes).collect()
}

/// A folder with four chunks, its journal, and where the bytes of the last chunk begin in it.
async fn four_chunks(folder: &Path) -> (PathBuf, Vec<u8>, usize) {
    let store = open(folder).unwrap();
    let epoch = SlotEpoch {
        epoch: 1,
        node: NodeId("join-0".into()),
        incarnation: Incarnation(1),
        floor: KnownAt(0),
        previous_end: 0,
        released: None,
    };
    store.insert_epoch(SLOT, epoch).await.unwrap();
    for sequence in 1..=4 {
        append(&store, sequence).await;
    }
    drop(store);
    let path = folder.join("log/0.jnl");
    let journal = fs::read(&path).unwrap();
    let last = journal.windows(64).position(|bytes| bytes == [4; 64]).unwrap();
    (path, journal, last)
}

#[tokio::test]
async fn a_commit_torn_by_a_power_failure_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut journal, last) = four_chunks(folder.path()).await;
    let page = last.next_multiple_of(4_096);
    journal[page..page + 4_096].fill(0);
    fs::write(&path, journal).unwrap();
    let store = open(folder.path()).unwrap();
    assert_eq!(log(&store).await, [chunk(1), chunk(2), chunk(3)]);
    append(&store, 4).await;
    drop(store);
    let store = open(folder.path()).unwrap();
    assert_eq!(log(&store).await, [chunk(1), chunk(2), chunk(3), chunk(4)]);
}

#[tokio::test]
async fn a_flipped_bit_is_damage_and_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut journal, last) = four_chunks(folder.path()).await;
    journal[last + 1_000] ^= 1;
    fs::write(&path, &journal).unwrap();
    for _ in 0..2 {
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("log"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap()[..last + 50_000], journal[..last + 50_000]);
}
