//! Heads that are read again and again.
//!
//! A read looks at its slot's mark first, and loads heads after that, so that everything up to the mark is in
//! them. A head that was loaded since this process first saw the mark has all of that too. What it may
//! lack is what was written since, which no mark covers yet: that time has a bound of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_types::{Entity, KnownAt, SlotId};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::StoredLimits;
use crate::metrics::{HEADS, HOT_HEAD_BYTES, HOT_HEAD_BYTES_LIMIT};

/// What a head takes, in bytes, about: how many there may be is guessed from it.
const HEAD_BYTES_ABOUT: u64 = 2 * 1024;
/// What keeping an entry takes beside its key and head, in bytes, about.
const ENTRY_BYTES: usize = 128;

/// A head, and when its load began; `None` where the store had none.
#[derive(Clone)]
struct Hot {
    began: Instant,
    head: Option<Bytes>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Entity, Hot> for ByBytes {
    fn weight(&self, entity: &Entity, hot: &Hot) -> u64 {
        let head = hot.head.as_ref().map_or(0, Bytes::len);
        (head + entity.key.as_bytes().len() + ENTRY_BYTES) as u64
    }
}

/// The heads loaded last.
pub(super) struct HotHeads {
    cache: Arc<Cache<Entity, Hot, ByBytes>>,
    kept_for: Duration,
    read: Counter<u64>,
}

impl HotHeads {
    pub(super) fn new(limits: StoredLimits) -> Self {
        let bytes = limits.hot_head_bytes;
        let items = usize::try_from(bytes / HEAD_BYTES_ABOUT).unwrap_or(usize::MAX).max(16);
        let cache = Arc::new(Cache::with_weighter(items, bytes, ByBytes));
        let shown = Arc::downgrade(&cache);
        HOT_HEAD_BYTES.set_to(move || Some(shown.upgrade()?.weight() as f64));
        HOT_HEAD_BYTES_LIMIT.set_to(move || Some(bytes as f64));
        Self { cache, kept_for: limits.hot_heads_for, read: HEADS.count() }
    }

    /// An entity's head, if a load of it that began since then is recent.
    #[expect(clippy::option_option, reason = "a head that is known not to be there is known, too")]
    pub(super) fn get(&self, entity: &Entity, since: Option<Instant>) -> Option<Option<Bytes>> {
        let hot = since.filter(|_| !self.kept_for.is_zero()).and_then(|since| {
            let hot = self.cache.get(entity)?;
            (hot.began >= since && hot.began.elapsed() <= self.kept_for).then_some(hot)
        });
        let from = if hot.is_some() { "cache" } else { "store" };
        self.read.add(1, &[KeyValue::new("from", from)]);
        hot.map(|hot| hot.head)
    }

    /// Keeps what a load found that began then. Loads of one entity must come in their order.
    pub(super) fn put(&self, entity: &Entity, began: Instant, head: &Option<Bytes>) {
        if !self.kept_for.is_zero() {
            self.cache.insert(entity.clone(), Hot { began, head: head.clone() });
        }
    }
}

/// When this process first saw the newest mark of each slot.
#[derive(Default)]
pub(super) struct MarksSeen(Mutex<HashMap<SlotId, (KnownAt, Instant)>>);

impl MarksSeen {
    /// Since when the mark written at this version is known: a head loaded since then has everything up to
    /// it. `None` when a newer one is known.
    pub(super) fn since(&self, slot: SlotId, ver: KnownAt) -> Option<Instant> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = seen.entry(slot).or_insert_with(|| (ver, Instant::now()));
        if ver > newest.0 {
            *newest = (ver, Instant::now());
        }
        (ver == newest.0).then_some(newest.1)
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::{EntityKey, KeyPart, KindId};

    use super::*;

    fn user(user: i64) -> Entity {
        let key = EntityKey::try_new(&[KeyPart::Int64(user)]).unwrap();
        Entity { kind: KindId(0), key }
    }

    fn hot(hot_heads_for: Duration, hot_head_bytes: u64) -> HotHeads {
        HotHeads::new(StoredLimits { hot_heads_for, hot_head_bytes, ..StoredLimits::default() })
    }

    #[test]
    fn a_head_loaded_before_a_mark_was_seen_is_not_used_for_it() {
        let (heads, marks) = (hot(Duration::MAX, 1 << 20), MarksSeen::default());
        let first = marks.since(SlotId(3), KnownAt(5)).unwrap();
        let head = Some(Bytes::from_static(b"head"));
        heads.put(&user(1), Instant::now(), &head);
        assert_eq!(heads.get(&user(1), marks.since(SlotId(3), KnownAt(5))), Some(head));
        assert_eq!(marks.since(SlotId(3), KnownAt(5)), Some(first), "since it was seen first");
        // A mark moved: what it covers may be missing in what was loaded before.
        let second = marks.since(SlotId(3), KnownAt(6));
        assert!(second > Some(first));
        assert_eq!(heads.get(&user(1), second), None);
        // A read that looked at the mark earlier than others must not use what it finds later.
        assert_eq!(marks.since(SlotId(3), KnownAt(5)), None);
        assert_eq!(heads.get(&user(1), None), None);
        // An entity that has no head is known not to have one.
        heads.put(&user(1), Instant::now(), &None);
        assert_eq!(heads.get(&user(1), second), Some(None));
        assert_eq!(heads.get(&user(2), second), None);
    }

    #[test]
    fn a_head_is_used_for_its_time_and_within_the_bytes() {
        let began = Instant::now();
        let head = Some(Bytes::from(vec![0; 1_000]));
        for (kept_for, found) in [(Duration::MAX, true), (Duration::ZERO, false)] {
            let heads = hot(kept_for, 1 << 20);
            heads.put(&user(1), began, &head);
            assert_eq!(heads.get(&user(1), Some(began)).is_some(), found);
        }
        let heads = hot(Duration::from_millis(50), 1 << 20);
        let Some(long_ago) = began.checked_sub(Duration::from_secs(1)) else { return };
        heads.put(&user(1), long_ago, &head);
        assert_eq!(heads.get(&user(1), Some(long_ago)), None, "its time is over");
        let heads = hot(Duration::MAX, 100_000);
        for number in 0..1_000 {
            heads.put(&user(number), began, &head);
        }
        assert!(heads.cache.weight() <= 100_000);
        assert!(heads.cache.weight() >= 50_000, "it is used");
    }
}
