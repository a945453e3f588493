//! Snapshot parts, marks and catalog versions.

use bytes::Bytes;
use millrace_types::{
    Entity, IncarnationWatermarks, KnownAt, Micros, SlotId, StreamId, StreamWatermark,
};

use super::{at, node, user};
use crate::port::{
    Applied, Incarnation, Mark, Member, MemberSlot, Part, Put, SnapshotStore, Store,
};

fn put(entity: &Entity, part: Part, ver: i64, bytes: &'static [u8]) -> Put {
    let (entity, bytes) = (entity.clone(), Bytes::from_static(bytes));
    Put { slot: SlotId(1), entity, part, ver: KnownAt(ver), bytes }
}

async fn load<S: SnapshotStore + ?Sized>(
    store: &S,
    entity: &Entity,
    part: Part,
) -> Option<(i64, Vec<u8>)> {
    let found = store.load(vec![(entity.clone(), part)]).await.unwrap();
    assert_eq!(found.len(), 1);
    found[0].as_ref().map(|(ver, bytes)| (ver.0, bytes.to_vec()))
}

/// A zombie's head, or one that lands late, loses against a newer one.
pub async fn a_part_is_replaced_by_greater_versions_only<S: Store + ?Sized>(store: &S) {
    let u = user(1);
    assert_eq!(load(store, &u, Part::Head).await, None);
    let steps: [(i64, &'static [u8], i64, &[u8]); 5] = [
        (10, b"ten", 10, b"ten"),
        (9, b"zombie", 10, b"ten"),
        (10, b"ten", 10, b"ten"),
        (11, b"eleven", 11, b"eleven"),
        (-5, b"long ago", 11, b"eleven"),
    ];
    for (ver, bytes, stands, holds) in steps {
        store.put(vec![put(&u, Part::Head, ver, bytes)]).await.unwrap();
        assert_eq!(load(store, &u, Part::Head).await, Some((stands, holds.to_vec())));
    }
}

/// Entities, kinds of parts, versions and numbers are all part of the name; `load` keeps the order.
pub async fn parts_are_kept_by_name<S: Store + ?Sized>(store: &S) {
    let entities = [user(1), user(-1), user(256)];
    let parts = [
        Part::Head,
        Part::RebuiltHead(KnownAt(7)),
        Part::Page(KnownAt(7), 0),
        Part::Page(KnownAt(7), 1),
        Part::Page(KnownAt(8), 0),
        Part::Ids(KnownAt(7), 0),
    ];
    let names: Vec<_> =
        entities.iter().flat_map(|e| parts.iter().map(move |p| (e.clone(), *p))).collect();
    let bytes = |index: usize| Bytes::from(vec![index as u8; 1 + index * 700]);
    let ver = |part: Part| match part {
        Part::Head => KnownAt(9),
        Part::RebuiltHead(ver) | Part::Page(ver, _) | Part::Ids(ver, _) => ver,
    };
    let puts = names.iter().enumerate().map(|(index, (entity, part))| Put {
        slot: SlotId(1),
        entity: entity.clone(),
        part: *part,
        ver: ver(*part),
        bytes: bytes(index),
    });
    store.put(puts.collect()).await.unwrap();
    let mut asked: Vec<_> = names.clone();
    asked.reverse();
    asked.insert(1, (user(77), Part::Head));
    let mut expected: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, (_, part))| Some((ver(*part), bytes(index))))
        .collect();
    expected.reverse();
    expected.insert(1, None);
    assert_eq!(store.load(asked).await, Ok(expected));
}

/// Pages that no head lists any more go away, alone.
pub async fn an_immutable_part_is_deleted_by_empty_bytes<S: Store + ?Sized>(store: &S) {
    let u = user(1);
    let gone = [Part::Page(KnownAt(7), 0), Part::Ids(KnownAt(7), 0), Part::RebuiltHead(KnownAt(7))];
    let stays = Part::Page(KnownAt(7), 1);
    for part in gone.into_iter().chain([stays]) {
        store.put(vec![put(&u, part, 7, b"page")]).await.unwrap();
    }
    store.put(gone.map(|part| put(&u, part, 20, b"")).to_vec()).await.unwrap();
    for part in gone {
        assert_eq!(load(store, &u, part).await, None);
    }
    assert_eq!(load(store, &u, stays).await, Some((7, b"page".to_vec())));
    store.put(vec![put(&u, gone[0], 21, b"")]).await.unwrap(); // deleting again is no error
}

/// Pages stand before the head that lists them; of two heads in one call the greater stays.
pub async fn parts_of_one_call_are_written_in_order<S: Store + ?Sized>(store: &S) {
    let u = user(1);
    let page = Part::Page(KnownAt(3), 0);
    store
        .put(vec![
            put(&u, page, 3, b"page"),
            put(&u, Part::Head, 3, b"three"),
            put(&u, Part::Head, 5, b"five"),
            put(&u, Part::Head, 4, b"four"),
        ])
        .await
        .unwrap();
    assert_eq!(load(store, &u, page).await, Some((3, b"page".to_vec())));
    assert_eq!(load(store, &u, Part::Head).await, Some((5, b"five".to_vec())));
}

fn mark(sequence: u64) -> Mark {
    Mark {
        position: at(2, sequence),
        closed: KnownAt(40),
        watermarks: vec![(StreamId(1), Micros(5)), (StreamId(2), Micros(-6))],
        incarnations: vec![IncarnationWatermarks {
            incarnation: u64::MAX,
            streams: vec![StreamWatermark { stream: StreamId(1), at: Micros(5), idle: true }],
        }],
        views: vec![(9, Micros(4))],
        latest: vec![(StreamId(1), Micros(99))],
        oldest_waiting: sequence.is_multiple_of(2).then_some(at(1, 1)),
        erasures: sequence,
        filled: millrace_types::Filled { version: 1, toward: 2, below: sequence << 40 },
        retained: millrace_types::Retained {
            base: Some(millrace_types::Position { epoch: 1, sequence }),
            ..Default::default()
        },
    }
}

/// A mark never goes back, whoever writes it, and comes back whole.
pub async fn a_mark_is_replaced_by_greater_versions_only<S: Store + ?Sized>(store: &S) {
    let slot = SlotId(1);
    assert_eq!(store.load_mark(slot).await, Ok(None));
    for (ver, sequence, stands) in [(10, 1, 1), (9, 2, 1), (10, 1, 1), (11, 4, 4)] {
        store.put_mark(slot, KnownAt(ver), mark(sequence)).await.unwrap();
        let expected = (KnownAt(ver.max(10)), mark(stands));
        assert_eq!(store.load_mark(slot).await, Ok(Some(expected)));
    }
    assert_eq!(store.load_mark(SlotId(2)).await, Ok(None), "slots are apart");
}

fn member(name: &str, beat: u64) -> Member {
    let slot = |slot, epoch, to: Option<&str>| {
        let offered_to = to.map(node);
        MemberSlot { slot: SlotId(slot), epoch, load: beat, offered_to }
    };
    Member {
        node: node(name),
        incarnation: Incarnation(u64::MAX),
        endpoint: "http://127.0.0.1:7402".into(),
        weight: 2,
        beat,
        leaving: beat.is_multiple_of(2),
        slots: vec![slot(0, 1, None), slot(65_535, 1 << 40, Some("join-2"))],
    }
}

/// Of what a node tells of itself the newest stands, and all nodes are found by name.
pub async fn a_member_is_replaced_by_greater_versions_only<S: Store + ?Sized>(store: &S) {
    assert_eq!(store.members().await, Ok(vec![]));
    for (ver, beat, stands) in [(10, 1, 1), (9, 2, 1), (10, 1, 1), (11, 4, 4)] {
        store.put_member(KnownAt(ver), member("join-1", beat)).await.unwrap();
        assert_eq!(store.members().await, Ok(vec![member("join-1", stands)]));
    }
    store.put_member(KnownAt(1), member("join-0", 7)).await.unwrap();
    let both = vec![member("join-0", 7), member("join-1", 4)];
    assert_eq!(store.members().await, Ok(both));
}

/// A catalog version keeps its first text; versions come back ascending.
pub async fn a_catalog_version_is_written_once<S: Store + ?Sized>(store: &S) {
    let text = |version: u32| format!("version {version}");
    for version in 1..=300 {
        assert_eq!(store.put_catalog(version, text(version)).await, Ok(Applied::Yes));
    }
    let again = store.put_catalog(2, "other".into()).await;
    assert_eq!(again, Ok(Applied::No(Some(text(2)))));
    let all: Vec<_> = (1..=300).map(|version| (version, text(version))).collect();
    // The identity is written once, too, and is no version.
    for proposed in ["first", "second"] {
        assert_eq!(store.identity(proposed.to_owned()).await, Ok("first".to_owned()));
    }
    assert_eq!(store.catalogs().await, Ok(all));
}
