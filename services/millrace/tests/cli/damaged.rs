//! A chunk of the log whose bytes are damaged, met by `millrace dev`: whoever needs it is refused, the
//! log of the server names it, and nothing is made of the rest.

use std::fs;
use std::path::Path;

use millrace_placement::Slots;
use millrace_store::{Mark, SnapshotStore as _};
use millrace_store_fjall::FjallStore;
use millrace_types::entity::entity_hash;
use millrace_types::{EntityKey, KeyPart, KnownAt, Position, SlotId};

use crate::doctor::{folder, garbled_chunk, opened, slot_in_use};
use crate::process::{Ran, Served, millrace, run};

/// The slots of the folder.
const SLOTS: u32 = 4;
/// Its users are 0 to 19.
const USERS: i64 = 20;

/// How often the log named something. It does so before a call is answered.
fn named(served: &Served, what: &str) -> usize {
    served.logged().matches(what).count()
}

/// Runs a command against the server.
async fn ask(served: &Served, arguments: &[&str]) -> Ran {
    let mut command = millrace(arguments);
    command.env("MILLRACE_ENDPOINT", &served.address);
    run(command).await
}

/// The arguments that serve a folder.
fn dev(data: &Path) -> [&str; 7] {
    ["dev", "--data", data.to_str().unwrap(), "--slots", "4", "--listen", "127.0.0.1:0"]
}

/// A user whose facts are in a slot, and one whose facts are not.
fn users(slot: SlotId) -> (i64, i64) {
    let slots = Slots::try_new(SLOTS).unwrap();
    let is_inside = |user: &i64| {
        let key = EntityKey::try_new(&[KeyPart::Int64(*user)]).unwrap();
        slots.slot_of(entity_hash("user", key.as_bytes())) == slot
    };
    let (inside, outside): (Vec<i64>, Vec<i64>) = (0..USERS).partition(is_inside);
    (inside[0], outside[0])
}

/// The name of the first chunk of a slot, as one that is damaged.
fn first_chunk(slot: SlotId) -> String {
    format!("chunk 1.1 of slot {} is damaged", slot.0)
}

/// A mark as of before everything: a start follows the whole log of the slot.
async fn forget_mark(store: &FjallStore, slot: SlotId) {
    let (ver, mark) = store.load_mark(slot).await.unwrap().unwrap();
    let from_the_start = Mark { position: Position::START, ..mark };
    store.put_mark(slot, KnownAt(ver.0 + 1), from_the_start).await.unwrap();
}

/// Names of files in a folder that begin so, hidden or not.
fn beginning_with(folder: &Path, name: &str) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|found| found.into_string().unwrap());
    names.filter(|found| found.trim_start_matches('.').starts_with(name)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_a_damaged_chunk_is_refused_and_it_is_named() {
    let (parent, _) = folder().await;
    // Who left it may have it open for a moment more.
    let (data, store) = opened(&parent.path().join("data"));
    let slot = slot_in_use(&store).await;
    garbled_chunk(&store, slot).await;
    drop(store);
    // The mark of the slot covers the chunk, so a start does without it.
    let mut command = millrace(&dev(data.path()));
    command.env_remove("RUST_LOG");
    let served = Served::start(command, parent.path().join("log"));
    let chunk = first_chunk(slot);
    assert_eq!(named(&served, &chunk), 0, "{}", served.logged());

    let (inside, outside) = users(slot);
    let (inside, outside) = (inside.to_string(), outside.to_string());
    let set = parent.path().join("set.ndjson");
    let out = set.to_str().unwrap();
    // The slot is the first that has rows: a tail shows none before it comes to the chunk.
    for arguments in [
        vec!["explain", "user_activity", inside.as_str(), "clicks", "--at", "latest"],
        vec!["training", "user_activity", "--events", "--known-at", "latest", "--out", out],
        vec!["tail", "user_activity", "--from", "start", "--until-idle"],
    ] {
        let before = named(&served, &chunk);
        let ran = ask(&served, &arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{arguments:?} {ran:?}");
        assert!(ran.stderr.contains("stored bytes are damaged"), "{arguments:?} {ran:?}");
        assert!(ran.stderr.contains("millrace doctor"), "{arguments:?} {ran:?}");
        assert!(named(&served, &chunk) > before, "{arguments:?} {}", served.logged());
    }
    assert_eq!(beginning_with(parent.path(), "set.ndjson"), [""; 0], "a part of the set is left");

    // What does not need the chunk is answered.
    let explain = ["explain", "user_activity", outside.as_str(), "clicks", "--at", "latest"];
    let explained = ask(&served, &explain).await;
    assert_eq!(explained.code, 0, "{explained:?}");
    let get = ["get", "user_activity", inside.as_str(), outside.as_str(), "--at", "latest"];
    let got = ask(&served, &get).await;
    assert_eq!(got.code, 0, "{got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_needs_a_damaged_chunk_is_refused_and_it_is_named() {
    let (parent, _) = folder().await;
    // Who left it may have it open for a moment more.
    let (data, store) = opened(&parent.path().join("data"));
    let slot = slot_in_use(&store).await;
    garbled_chunk(&store, slot).await;
    forget_mark(&store, slot).await;
    drop(store);
    let ran = run(millrace(&dev(data.path()))).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains(&first_chunk(slot)), "{ran:?}");
}
