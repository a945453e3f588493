//! Rings of samples.

use bytes::Bytes;
use millrace_types::KnownAt;

use super::node;
use crate::audit::{AUDIT_PLACES_MAX, AuditSample};
use crate::port::Store;

fn sample(place: u32, ver: i64, bytes: &'static [u8]) -> AuditSample {
    AuditSample { place, ver: KnownAt(ver), bytes: Bytes::from_static(bytes) }
}

async fn vers<S: Store + ?Sized>(store: &S, name: &str, after: i64, max: usize) -> Vec<i64> {
    let samples = store.samples(&node(name), KnownAt(after), max).await.unwrap();
    samples.into_iter().map(|sample| sample.ver.0).collect()
}

/// They come back after a cursor, so many at a time, whole, and each node has its own.
pub async fn samples_are_read_in_the_order_they_were_taken<S: Store + ?Sized>(store: &S) {
    assert_eq!(vers(store, "serving-1", i64::MIN, 10).await, Vec::<i64>::new());
    let last = AUDIT_PLACES_MAX - 1;
    let taken = vec![sample(last, 10, b"a"), sample(0, 11, b"\0b"), sample(256, 12, b"c")];
    store.put_samples(&node("serving-1"), taken.clone()).await.unwrap();
    // A name that begins like another one.
    store.put_samples(&node("serving-10"), vec![sample(7, 5, b"other")]).await.unwrap();
    let read = store.samples(&node("serving-1"), KnownAt(9), 10).await;
    assert_eq!(read, Ok(taken));
    assert_eq!(vers(store, "serving-1", 9, 2).await, [10, 11]);
    assert_eq!(vers(store, "serving-1", 11, 2).await, [12]);
    assert_eq!(vers(store, "serving-1", 12, 2).await, Vec::<i64>::new());
    assert_eq!(vers(store, "serving-10", i64::MIN, 2).await, [5]);
    store.put_samples(&node("serving-1"), Vec::new()).await.unwrap();
}

/// A place holds one sample, the greatest; one that was looked at is not read again.
pub async fn a_ring_of_samples_is_bounded_by_its_places<S: Store + ?Sized>(store: &S) {
    let name = node("serving-0");
    for round in 0..5 {
        let round = round * 10;
        let taken = (0..3).map(|place| sample(place, round + i64::from(place) + 1, b"x"));
        store.put_samples(&name, taken.collect()).await.unwrap();
    }
    assert_eq!(vers(store, "serving-0", 0, 100).await, [41, 42, 43]);
    // What is late does not bring an older one back; the same once more changes nothing.
    for late in [sample(0, 31, b"late"), sample(1, 42, b"x")] {
        store.put_samples(&name, vec![late]).await.unwrap();
    }
    assert_eq!(vers(store, "serving-0", 0, 100).await, [41, 42, 43]);
    store.put_samples(&name, vec![sample(1, 43, b"")]).await.unwrap();
    assert_eq!(vers(store, "serving-0", 0, 100).await, [41, 43]);
}

/// What was taken up to a version is gone, of every node, and places can be taken again.
pub async fn samples_are_forgotten_whosever_they_are<S: Store + ?Sized>(store: &S) {
    let forget = |up_to| store.forget_samples(KnownAt(up_to));
    assert_eq!(forget(10).await, Ok(()), "there is nothing");
    for name in ["serving-0", "serving-1"] {
        let taken = vec![sample(0, 10, b"a"), sample(1, 11, b"b"), sample(2, 12, b"")];
        store.put_samples(&node(name), taken).await.unwrap();
    }
    assert_eq!(forget(10).await, Ok(()));
    for name in ["serving-0", "serving-1"] {
        assert_eq!(vers(store, name, i64::MIN, 10).await, [11]);
    }
    assert_eq!(forget(12).await, Ok(()));
    assert_eq!(forget(12).await, Ok(()));
    store.put_samples(&node("serving-1"), vec![sample(1, 20, b"c")]).await.unwrap();
    assert_eq!(vers(store, "serving-0", i64::MIN, 10).await, Vec::<i64>::new());
    assert_eq!(vers(store, "serving-1", i64::MIN, 10).await, [20]);
}
