//! Every file of a data folder, truncated, with flipped bits, or gone: opening and reading it then
//! gives what was written, or an error that names what is damaged. Nothing is left out silently.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millrace_store::memory::SplitMix64;
use millrace_store::{
    Append, CatalogStore, Incarnation, LogStore, Mark, NodeId, Part, ProducerWindows, Put, Retry,
    Seen, SnapshotStore, StoreError, take_over,
};
use millrace_types::chunk::encode_chunk;
use millrace_types::{ChunkHeader, Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};

use crate::{FjallStore, OpenError, Options};

const SLOTS: [SlotId; 2] = [SlotId(1), SlotId(2)];
/// Chunks of each slot, half of them in tables, half in the journal.
const CHUNKS: u64 = 16;
const USERS: i64 = 24;
/// Bits flipped in each file, over its first bytes, its last ones and anywhere.
const FLIPS: u64 = 9;

struct Never;

#[async_trait::async_trait]
impl Retry for Never {
    async fn again(&mut self, _: &StoreError) -> bool {
        false
    }
}

fn open(folder: &Path) -> Result<FjallStore, OpenError> {
    FjallStore::open(folder, &Options::default())
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = SplitMix64(seed);
    let words = std::iter::repeat_with(|| random.next_u64().to_le_bytes());
    words.take(bytes / 8).flatten().collect()
}

fn at(sequence: u64) -> Position {
    Position { epoch: 1, sequence }
}

fn chunk(slot: SlotId, sequence: u64) -> Bytes {
    let header =
        ChunkHeader { known_at: KnownAt(sequence.cast_signed()), ..ChunkHeader::default() };
    let noise = noise(u64::from(slot.0) << 32 | sequence, 3_000);
    Bytes::from(encode_chunk(&header, [noise.as_slice()]))
}

fn user(number: i64) -> Entity {
    let key = EntityKey::try_new(&[KeyPart::Int64(number)]).unwrap();
    Entity { kind: KindId(1), key }
}

/// The parts of a user: a head among the keys, a page apart from them.
fn parts(number: i64) -> Vec<Put> {
    let put = |part, bytes| Put {
        slot: SLOTS[0],
        entity: user(number),
        part,
        ver: KnownAt(7),
        bytes: Bytes::from(noise(number.cast_unsigned(), bytes)),
    };
    vec![put(Part::Page(KnownAt(7), 0), 9_000), put(Part::Head, 2_400)]
}

fn mark(sequence: u64) -> Mark {
    Mark {
        position: at(sequence),
        closed: KnownAt(sequence.cast_signed()),
        watermarks: vec![],
        incarnations: vec![],
        views: vec![],
        latest: vec![],
        oldest_waiting: None,
        erasures: 0,
        filled: millrace_types::Filled::FIRST,
        retained: millrace_types::Retained::default(),
    }
}

/// A folder whose log and snapshots lie partly in tables and blobs, partly in journals.
async fn make(folder: &Path) {
    let store = open(folder).unwrap();
    let (node, run) = (NodeId("join-0".into()), Incarnation(3));
    store.renew_node(&node, run, KnownAt(1_000)).await.unwrap();
    store.put_catalog(1, "entities: {}".into()).await.unwrap();
    ProducerWindows::mark(&store, "producer", 5, 9).await.unwrap();
    for slot in SLOTS {
        take_over(&store, slot, &node, run, &mut Never).await.unwrap();
    }
    for (half, sequences) in [1..=CHUNKS / 2, CHUNKS / 2 + 1..=CHUNKS].into_iter().enumerate() {
        let last = *sequences.end();
        for sequence in sequences {
            for slot in SLOTS {
                let known_at = KnownAt(sequence.cast_signed());
                let bytes = chunk(slot, sequence);
                let append = Append { slot, position: at(sequence), known_at, bytes };
                store.append(vec![append]).await.unwrap();
            }
        }
        for number in (0..USERS).filter(|number| (number % 2 == 0) == (half == 0)) {
            store.put(parts(number)).await.unwrap();
        }
        for slot in SLOTS {
            store.put_mark(slot, KnownAt(last.cast_signed()), mark(last)).await.unwrap();
        }
        if half == 0 {
            store.inner.log.rows.rotate_memtable_and_wait().unwrap();
            store.inner.snapshots.rows.rotate_memtable_and_wait().unwrap();
        }
    }
}

/// A folder in memory where the system has one: hundreds of them are opened.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// How a file is damaged.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(u64, u8),
    Truncate(u64),
    Remove,
}

/// A file of the folder: its path there, and its bytes; those of a journal up to the last that is not
/// zero, as it is after a restart.
struct Entry {
    path: PathBuf,
    bytes: Vec<u8>,
}

fn entries(folder: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            if path.extension().is_some_and(|extension| extension == "jnl") {
                while bytes.ends_with(&[0; 4_096]) {
                    bytes.truncate(bytes.len() - 4_096);
                }
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                bytes.truncate(used);
            }
            entries.push(Entry { path: path.strip_prefix(folder).unwrap().to_owned(), bytes });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    entries
}

fn damages(entry: &Entry, random: &mut SplitMix64) -> Vec<Damage> {
    let used = entry.bytes.len() as u64;
    let mut damages = vec![Damage::Remove];
    if used > 0 {
        damages.extend([0, used / 2, used - 1].map(Damage::Truncate));
        damages.extend((0..FLIPS).map(|nth| {
            let place = match nth % 3 {
                0 => random.below(used.min(40)),
                1 => used - 1 - random.below(used.min(40)),
                _ => random.below(used),
            };
            Damage::Flip(place, random.below(8) as u8)
        }));
    }
    damages
}

/// A copy of the folder with one file damaged.
fn copy(entries: &[Entry], damaged: usize, damage: Damage, folder: &Path) {
    for (index, entry) in entries.iter().enumerate() {
        let path = folder.join(&entry.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = entry.bytes.clone();
        if index == damaged {
            match damage {
                Damage::Flip(place, bit) => bytes[usize::try_from(place).unwrap()] ^= 1 << bit,
                Damage::Truncate(to) => bytes.truncate(usize::try_from(to).unwrap()),
                Damage::Remove => continue,
            }
        }
        fs::write(&path, bytes).unwrap();
    }
}

/// What reading everything found: errors, and what is missing without one.
#[derive(Debug, Default)]
struct Found {
    errors: Vec<String>,
    missing: Vec<String>,
}

impl Found {
    fn take<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        found: Result<T, StoreError>,
        expected: &T,
    ) {
        match found {
            Ok(found) if found == *expected => {}
            Ok(_) => self.missing.push(what.into()),
            Err(error) => self.errors.push(error.to_string()),
        }
    }
}

async fn read(store: &FjallStore) -> Found {
    let mut found = Found::default();
    for slot in SLOTS {
        let page = store.read_log(slot, Position::START, Position::END, usize::MAX).await;
        let expected: Vec<_> = (1..=CHUNKS).map(|s| (at(s), chunk(slot, s))).collect();
        found.take(&format!("log of {}", slot.0), page.map(|page| page.chunks), &expected);
        let stands = store.load_mark(slot).await.map(|mark| mark.map(|(_, mark)| mark));
        found.take(&format!("mark of {}", slot.0), stands, &Some(mark(CHUNKS)));
        let epoch = store.last_epoch(slot).await.map(|row| row.map(|row| row.node));
        found.take(&format!("epoch of {}", slot.0), epoch, &Some(NodeId("join-0".into())));
    }
    for number in 0..USERS {
        for put in parts(number) {
            let part = store.load(vec![(put.entity, put.part)]).await;
            let part = part.map(|mut parts| parts.remove(0).map(|(_, bytes)| bytes));
            found.take(&format!("{:?} of {number}", put.part), part, &Some(put.bytes));
        }
    }
    let catalogs = store.catalogs().await;
    found.take("catalog", catalogs, &vec![(1, "entities: {}".to_owned())]);
    let confirmed = store.confirm(&NodeId("join-0".into()), Incarnation(3)).await;
    found.take("lease", confirmed, &true);
    let seen = store.seen("producer", 8, 10).await;
    found.take("window", seen, &vec![Seen::Yes, Seen::No]);
    found
}

/// A journal that ends earlier looks like the commits of a killed process. Of the log, the marks
/// tell when the slots are taken over; of the snapshots, marks end with the parts they cover, and the
/// log makes them again.
async fn is_told_or_made_again(store: &FjallStore, entry: &Path) -> bool {
    let mut told = false;
    for slot in SLOTS {
        let page = store.read_log(slot, Position::START, Position::END, usize::MAX).await.unwrap();
        let last = page.chunks.last().map_or(Position::START, |(position, _)| *position);
        let mark = store.load_mark(slot).await.unwrap();
        let marked = mark.map_or(Position::START, |(_, mark)| mark.position);
        let taken =
            take_over(store, slot, &NodeId("join-1".into()), Incarnation(4), &mut Never).await;
        assert_eq!(taken.is_err(), marked > last, "{marked} {last} {taken:?}");
        told |= taken.is_err();
    }
    told != entry.starts_with("snapshots")
}

/// Opens a damaged copy and reads it: what is not as it should be, and whether damage was told.
async fn examine(folder: &Path, entry: &Path, damage: Damage) -> (bool, Option<String>) {
    let shown = format!("{} {damage:?}", entry.display());
    let store = match open(folder) {
        Ok(store) => store,
        Err(error) => {
            let text = error.to_string();
            let top = entry.iter().next().unwrap().to_str().unwrap();
            let named = text.contains(folder.to_str().unwrap()) && text.contains(top);
            let damaged = matches!(error, OpenError::Damaged { .. });
            return (true, (!named || !damaged).then(|| format!("{shown}: says {error:?}")));
        }
    };
    let found = read(&store).await;
    let cut = entry.extension().is_some_and(|extension| extension == "jnl")
        && matches!(damage, Damage::Truncate(_));
    let wrong =
        if cut { !is_told_or_made_again(&store, entry).await } else { !found.missing.is_empty() };
    (!found.errors.is_empty(), wrong.then(|| format!("{shown}: {found:?}")))
}

#[tokio::test]
async fn damage_is_named_and_never_skipped() {
    let made = tempfile::tempdir().unwrap();
    make(made.path()).await;
    let entries = entries(made.path());
    let mut random = SplitMix64(11);
    let mut wrong = Vec::new();
    let mut told = BTreeSet::new();
    for (index, entry) in entries.iter().enumerate() {
        for damage in damages(entry, &mut random) {
            let folder = in_memory();
            copy(&entries, index, damage, folder.path());
            let (was_told, problem) = examine(folder.path(), &entry.path, damage).await;
            wrong.extend(problem);
            if was_told {
                told.insert(entry.path.to_str().unwrap());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Every file but the lock, and manifests that were replaced, holds something that is missed.
    let replaced = |path: &&str| path.ends_with("/v0") || path.ends_with("/v1");
    let paths = entries.iter().map(|entry| entry.path.to_str().unwrap());
    let silent: Vec<_> = paths.filter(|path| !told.contains(path) && !replaced(path)).collect();
    assert_eq!(silent, ["millrace.lock"]);
}
