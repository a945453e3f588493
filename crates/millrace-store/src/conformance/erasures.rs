//! Erasures: the list, the receipts, rewritten chunks, the parts there are.

use bytes::Bytes;
use millrace_types::{KnownAt, Micros, Position, SlotId};

use super::{A, B, append, at, chunk, fill, row, user};
use crate::erasure::{Erasure, Receipt};
use crate::port::{Append, Applied, Part, Put, Store};

fn erasure(id: i64) -> Erasure {
    Erasure { entity: user(id), asked_at: Micros(id * 1_000) }
}

/// An erasure is written once; what is listed comes in order, from after any number.
pub async fn an_erasure_is_written_once<S: Store + ?Sized>(store: &S) {
    assert_eq!(store.erasures_after(0).await, Ok(Vec::new()));
    for number in [1, 2, 3] {
        let put = store.put_erasure(number, erasure(number.cast_signed())).await;
        assert_eq!(put, Ok(Applied::Yes));
    }
    let again = store.put_erasure(2, erasure(77)).await;
    assert_eq!(again, Ok(Applied::No(Some(erasure(2)))));
    let after = |number| store.erasures_after(number);
    let all: Vec<_> = [1, 2, 3].map(|n: u64| (n, erasure(n.cast_signed()))).into();
    assert_eq!(after(0).await.unwrap(), all);
    assert_eq!(after(2).await.unwrap(), all[2..]);
    assert_eq!(after(3).await.unwrap(), []);
    assert_eq!(after(u64::MAX >> 1).await.unwrap(), []);
}

/// Receipts stand by erasure and slot; a smaller version changes nothing.
pub async fn a_receipt_is_replaced_by_greater_versions_only<S: Store + ?Sized>(store: &S) {
    let receipt = |slot, facts| Receipt {
        slot: SlotId(slot),
        position: at(1, 7),
        facts,
        chunks: 2,
        entities: 3,
        parts: 4,
    };
    store.put_receipt(1, KnownAt(10), receipt(5, 1)).await.unwrap();
    store.put_receipt(1, KnownAt(12), receipt(5, 2)).await.unwrap();
    store.put_receipt(1, KnownAt(11), receipt(5, 3)).await.unwrap();
    store.put_receipt(1, KnownAt(10), receipt(300, 9)).await.unwrap();
    store.put_receipt(2, KnownAt(10), receipt(5, 4)).await.unwrap();
    assert_eq!(store.receipts(1).await.unwrap(), [receipt(5, 2), receipt(300, 9)]);
    assert_eq!(store.receipts(2).await.unwrap(), [receipt(5, 4)]);
    assert_eq!(store.receipts(3).await.unwrap(), []);
}

/// A chunk is replaced at a greater version, and neither its append, sent once more, nor an older
/// rewrite brings back what it held.
pub async fn a_rewritten_chunk_stays_rewritten<S: Store + ?Sized>(store: &S) {
    store.insert_epoch(SlotId(5), row(1, A, 0)).await.unwrap();
    fill(store, 5, 1, 1..=3).await;
    let rewritten = |bytes: &[u8]| Append {
        bytes: chunk(append(5, at(1, 2)).known_at.0, bytes),
        ..append(5, at(1, 2))
    };
    store.rewrite(KnownAt(9_000), vec![rewritten(b"left")]).await.unwrap();
    store.rewrite(KnownAt(8_000), vec![rewritten(b"older")]).await.unwrap();
    let original = append(5, at(1, 2));
    // Late copies of an append come only while its outcome is unknown: its row is not in the log
    // then, and no rewrite is. What a store promises all the same it keeps by versions.
    store.rewrite(original.known_at, vec![original]).await.unwrap();
    let page = store.read_log(SlotId(5), Position::START, Position::END, usize::MAX).await.unwrap();
    let expected = [append(5, at(1, 1)), rewritten(b"left"), append(5, at(1, 3))];
    let expected: Vec<_> = expected.into_iter().map(|c| (c.position, c.bytes)).collect();
    assert_eq!(page.chunks, expected);
    store.rewrite(KnownAt(9_001), vec![rewritten(b"less")]).await.unwrap();
    // A sealed epoch is rewritten like an open one.
    store.insert_epoch(SlotId(5), row(2, B, 2)).await.unwrap();
    store.rewrite(KnownAt(9_002), vec![rewritten(b"least")]).await.unwrap();
    let page = store.read_log(SlotId(5), at(1, 1), Position::END, usize::MAX).await.unwrap();
    assert_eq!(page.chunks, [(at(1, 2), rewritten(b"least").bytes)]);
    store.compact().await.unwrap();
    let page = store.read_log(SlotId(5), at(1, 1), Position::END, usize::MAX).await.unwrap();
    assert_eq!(page.chunks, [(at(1, 2), rewritten(b"least").bytes)]);
}

/// Every part of an entity is found, and none of another one.
pub async fn the_parts_of_an_entity_are_found<S: Store + ?Sized>(store: &S) {
    let ver = KnownAt(50);
    let put = |id, part, bytes: &'static [u8]| Put {
        slot: SlotId(1),
        entity: user(id),
        part,
        ver,
        bytes: Bytes::from_static(bytes),
    };
    let parts = [
        Part::Head,
        Part::RebuiltHead(ver),
        Part::Page(ver, 0),
        Part::Page(ver, 1),
        Part::Ids(ver, 0),
    ];
    let of = |id| parts.map(|part| put(id, part, b"x"));
    store.put(of(1).into_iter().chain(of(256)).collect()).await.unwrap();
    let gone = Put { ver: KnownAt(51), ..put(1, Part::Page(ver, 1), b"") };
    store.put(vec![gone]).await.unwrap();
    let mut found = store.parts(user(1)).await.unwrap();
    found.sort_unstable();
    assert_eq!(found, [parts[0], parts[1], parts[2], parts[4]]);
    assert_eq!(store.parts(user(256)).await.unwrap().len(), parts.len());
    assert_eq!(store.parts(user(2)).await.unwrap(), []);
}
