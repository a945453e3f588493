//! Opening data folders: what is kept, who may, and what is said when it is not possible.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use millrace_store::{
    Append, Applied, CatalogStore, Incarnation, LogStore, Mark, NodeId, Part, ProducerWindows, Put,
    Seen, SlotEpoch, SnapshotStore,
};
use millrace_store_fjall::{FORMAT_VERSION, FjallStore, OpenError, Options};
use millrace_types::{Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};

fn open(path: &Path) -> Result<FjallStore, OpenError> {
    FjallStore::open(path, &Options::default())
}

fn with_slots(path: &Path, slots: u32) -> Result<FjallStore, OpenError> {
    FjallStore::open(path, &Options { slots: Some(slots), ..Options::default() })
}

/// The error's text, which must name the folder.
fn refused(path: &Path, result: Result<FjallStore, OpenError>) -> (OpenError, String) {
    let error = result.expect_err("the folder was opened");
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    (error, text)
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let (slot, node, run) = (SlotId(3), NodeId("join-0".into()), Incarnation(9));
    let position = Position { epoch: 1, sequence: 1 };
    let entity = Entity { kind: KindId(1), key: EntityKey::try_new(&[KeyPart::Int64(5)]).unwrap() };
    let epoch = SlotEpoch {
        epoch: 1,
        node: node.clone(),
        incarnation: run,
        floor: KnownAt(4),
        previous_end: 0,
        released: None,
    };
    let mark = Mark {
        position,
        closed: KnownAt(7),
        watermarks: vec![],
        incarnations: vec![],
        views: vec![],
        latest: vec![],
        oldest_waiting: None,
        erasures: 0,
        filled: millrace_types::Filled::FIRST,
        retained: millrace_types::Retained::default(),
    };
    let chunk = Bytes::from(vec![7; 40_000]);
    {
        let store = open(folder.path()).unwrap();
        store.renew_node(&node, run, KnownAt(50)).await.unwrap();
        store.insert_epoch(slot, epoch.clone()).await.unwrap();
        let append = Append { slot, position, known_at: KnownAt(5), bytes: chunk.clone() };
        store.append(vec![append]).await.unwrap();
        let head = Put {
            slot,
            entity: entity.clone(),
            part: Part::Head,
            ver: KnownAt(6),
            bytes: Bytes::from_static(b"head"),
        };
        store.put(vec![head]).await.unwrap();
        store.put_mark(slot, KnownAt(7), mark.clone()).await.unwrap();
        store.put_catalog(1, "entities: {}".into()).await.unwrap();
        ProducerWindows::mark(&store, "p", 5, 9).await.unwrap();
    }
    let store = open(folder.path()).unwrap();
    assert_eq!(store.confirm(&node, run).await, Ok(true));
    assert_eq!(store.last_epoch(slot).await, Ok(Some(epoch)));
    let page = store.read_log(slot, Position::START, Position::END, 1).await.unwrap();
    assert_eq!(page.chunks, [(position, chunk)]);
    let head = (KnownAt(6), Bytes::from_static(b"head"));
    assert_eq!(store.load(vec![(entity, Part::Head)]).await, Ok(vec![Some(head)]));
    assert_eq!(store.load_mark(slot).await, Ok(Some((KnownAt(7), mark))));
    assert_eq!(store.catalogs().await, Ok(vec![(1, "entities: {}".into())]));
    assert_eq!(store.seen("p", 8, 10).await, Ok(vec![Seen::Yes, Seen::No]));
    assert!(store.disk_use().unwrap().log_bytes > 0);
}

#[tokio::test]
async fn a_folder_is_opened_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    let (error, text) = refused(folder.path(), open(folder.path()));
    let OpenError::Locked { holder, .. } = error else { panic!("{error:?}") };
    assert_eq!(holder, Some(std::process::id()));
    assert!(text.contains("choose another folder"), "{text}");
    // It was not harmed by the attempt, and is free once it is closed.
    assert_eq!(first.put_catalog(1, "a".into()).await, Ok(Applied::Yes));
    let clone = first.clone();
    drop(first);
    assert!(matches!(open(folder.path()), Err(OpenError::Locked { .. })));
    drop(clone);
    open(folder.path()).unwrap();
}

#[test]
fn the_number_of_slots_is_fixed_when_the_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/on/the/way");
    assert_eq!(with_slots(&path, 8).unwrap().slots(), 8);
    assert_eq!(open(&path).unwrap().slots(), 8);
    assert_eq!(with_slots(&path, 8).unwrap().slots(), 8);
    let (error, text) = refused(&path, with_slots(&path, 16));
    assert!(matches!(error, OpenError::OtherSlots { stored: 8, wanted: 16, .. }), "{error:?}");
    assert!(text.contains("has 8 slots, not 16"), "{text}");
    for slots in [0, 3, 1 << 17] {
        assert!(matches!(with_slots(&path, slots), Err(OpenError::BadSlots(_))));
    }
    let default = folder.path().join("default");
    assert_eq!(open(&default).unwrap().slots(), Options::DEFAULT_SLOTS);
}

#[test]
fn a_folder_of_another_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let format = folder.path().join("millrace.format");
    let text = fs::read_to_string(&format).unwrap();
    let text_of_64_slots = text.clone();
    assert!(text.contains(&format!("version {FORMAT_VERSION}\n")), "{text}");
    let newer = text.replace(&format!("version {FORMAT_VERSION}"), "version 99");
    let newer = format!("{}more\n", newer.split("sum ").next().unwrap());
    fs::write(&format, newer).unwrap();
    let (error, text) = refused(folder.path(), open(folder.path()));
    assert!(matches!(error, OpenError::OtherVersion { found: 99, .. }), "{error:?}");
    assert!(text.contains("layout version 99"), "{text}");

    for damage in ["", "something else\n", "millrace data folder\nversion x\n", "\u{0}\n"] {
        fs::write(&format, damage).unwrap();
        let (error, text) = refused(folder.path(), open(folder.path()));
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        assert!(text.contains("millrace.format"), "{text}");
    }
    fs::write(&format, text_of_64_slots.replace("slots 64", "slots 32")).unwrap();
    let (_, text) = refused(folder.path(), open(folder.path()));
    assert!(text.contains("checksum"), "{text}");
    fs::write(&format, [0xff, 0xfe]).unwrap();
    refused(folder.path(), open(folder.path()));
}

#[test]
fn a_damaged_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    fs::write(folder.path().join("log/version"), b"nonsense").unwrap();
    let (error, text) = refused(folder.path(), open(folder.path()));
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(text.contains("log"), "{text}");
}

#[test]
fn nothing_strange_is_taken_for_a_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    fs::write(&file, "mine").unwrap();
    let (error, _) = refused(&file, open(&file));
    assert!(matches!(error, OpenError::NotAFolder(_)), "{error:?}");
    let (error, _) = refused(folder.path(), open(folder.path()));
    assert!(matches!(error, OpenError::NotADataFolder(_)), "{error:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was left there");
    let below = file.join("data");
    let (error, _) = refused(&below, open(&below));
    assert!(matches!(error, OpenError::Access { .. }), "{error:?}");
    // Folders of these names may be anybody's.
    let theirs = folder.path().join("theirs");
    fs::create_dir_all(theirs.join("log")).unwrap();
    assert!(matches!(open(&theirs), Err(OpenError::NotADataFolder(_))));
    assert!(theirs.join("log").exists());
}

#[test]
fn a_folder_whose_making_was_cut_short_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    // As a crash before the last step leaves it, and one in the middle of making a database.
    fs::rename(folder.path().join("millrace.format"), folder.path().join("millrace.creating"))
        .unwrap();
    fs::remove_file(folder.path().join("log/version")).unwrap();
    assert_eq!(with_slots(folder.path(), 4).unwrap().slots(), 4);
    assert_eq!(open(folder.path()).unwrap().slots(), 4);
}
