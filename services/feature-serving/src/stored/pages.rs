//! Pages for reads of stored heads. A page never changes and its name is never used again, so what is
//! kept here can be more than is needed, but never old.

use std::sync::Arc;

use millrace_client::port::StorePort;
use millrace_kernel::{PageName, StoredPage};
use millrace_store::{Part, StoreError};
use millrace_types::Entity;
use opentelemetry::metrics::Counter;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::StoredLimits;
use super::parts::Parts;
use crate::metrics::{PAGE_BYTES, PAGE_BYTES_LIMIT, PAGES};

/// What a page takes with its references, in bytes, about: how many there may be in the cache is
/// guessed from it.
const PAGE_BYTES_ABOUT: u64 = 64 * 1024;
/// What keeping an entry takes beside its key and page, in bytes, about.
const ENTRY_BYTES: usize = 128;

type Key = (Entity, PageName);

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<StoredPage>> for ByBytes {
    fn weight(&self, key: &Key, page: &Arc<StoredPage>) -> u64 {
        (page.heap_bytes() + key.0.key.as_bytes().len() + ENTRY_BYTES) as u64
    }
}

/// Loads pages, and keeps those that are read again and again.
pub(super) struct Pages {
    parts: Parts,
    cache: Arc<Cache<Key, Arc<StoredPage>, ByBytes>>,
    turns: Semaphore,
    at_once: u32,
    read: Counter<u64>,
}

impl Pages {
    pub(super) fn new(store: Arc<dyn StorePort>, limits: StoredLimits) -> Self {
        Self::over(Parts::of(store), limits)
    }

    fn over(parts: Parts, limits: StoredLimits) -> Self {
        let bytes = limits.page_cache_bytes;
        let items = usize::try_from(bytes / PAGE_BYTES_ABOUT).unwrap_or(usize::MAX).max(16);
        let cache = Arc::new(Cache::with_weighter(items, bytes, ByBytes));
        let shown = Arc::downgrade(&cache);
        PAGE_BYTES.set_to(move || Some(shown.upgrade()?.weight() as f64));
        PAGE_BYTES_LIMIT.set_to(move || Some(bytes as f64));
        let at_once = limits.pages_at_once.max(1);
        let turns = Semaphore::new(at_once as usize);
        Self { parts, cache, turns, at_once, read: PAGES.count() }
    }

    /// Waits until so many pages may be taken into memory. More than may be at once take all turns.
    pub(super) async fn turn(&self, pages: usize) -> Option<SemaphorePermit<'_>> {
        let pages = u32::try_from(pages).unwrap_or(u32::MAX).min(self.at_once);
        // It is never closed.
        self.turns.acquire_many(pages).await.ok()
    }

    /// The pages of these names, in order.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] when one is not there, or is no page.
    pub(super) async fn load(&self, wanted: &[Key]) -> Result<Vec<Arc<StoredPage>>, StoreError> {
        let mut pages: Vec<Option<Arc<StoredPage>>> =
            wanted.iter().map(|key| self.cache.get(key)).collect();
        let lacking = || (0..wanted.len()).filter(|i| pages[*i].is_none());
        let lacking: Vec<usize> = lacking().collect();
        let hits = (wanted.len() - lacking.len()) as u64;
        for (from, count) in [("cache", hits), ("store", lacking.len() as u64)] {
            if count > 0 {
                self.read.add(count, &[opentelemetry::KeyValue::new("from", from)]);
            }
        }
        if !lacking.is_empty() {
            let part = |(entity, (ver, number)): &Key| (entity.clone(), Part::Page(*ver, *number));
            let parts = lacking.iter().map(|i| part(&wanted[*i])).collect();
            let found = self.parts.load(parts).await?;
            for (index, found) in lacking.into_iter().zip(found) {
                let key = &wanted[index];
                let bytes = found.ok_or_else(|| damaged(key, "it is not in the store"))?.1;
                let page = StoredPage::decode(&bytes);
                let page = Arc::new(page.map_err(|error| damaged(key, &error.to_string()))?);
                self.cache.insert(key.clone(), page.clone());
                pages[index] = Some(page);
            }
        }
        let pages: Vec<_> = pages.into_iter().flatten().collect();
        match pages.len() == wanted.len() {
            true => Ok(pages),
            false => Err(StoreError::Damaged {
                what: "an answer of the store".to_owned(),
                reason: "it has fewer pages than were asked for".to_owned(),
            }),
        }
    }
}

pub(super) fn damaged((entity, (ver, number)): &Key, reason: &str) -> StoreError {
    StoreError::Damaged {
        what: format!("page {}.{number} of entity {}", ver.0, entity.key),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt as _;
    use millrace_types::{EntityKey, KeyPart, KindId, KnownAt};

    use super::*;

    fn key(user: i64, ver: i64) -> Key {
        let key = EntityKey::try_new(&[KeyPart::Int64(user)]).unwrap();
        (Entity { kind: KindId(0), key }, (KnownAt(ver), 0))
    }

    /// Pages of no facts, of entities with even keys alone; and what was asked of the store.
    fn pages(page_cache_bytes: u64) -> (Pages, Arc<Mutex<Vec<Entity>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let asks = asked.clone();
        let parts = Parts::fake(move |parts| {
            asks.lock().unwrap().extend(parts.iter().map(|(entity, _)| entity.clone()));
            let even = |entity: &Entity| entity.key.as_bytes().last().unwrap().is_multiple_of(2);
            let found = parts
                .iter()
                .map(|(entity, _)| even(entity).then(|| (KnownAt(1), bytes::Bytes::new())));
            let found: Vec<_> = found.collect();
            async move { Ok(found) }.boxed()
        });
        let limits = StoredLimits { page_cache_bytes, pages_at_once: 4, ..StoredLimits::default() };
        (Pages::over(parts, limits), asked)
    }

    #[tokio::test]
    async fn a_page_is_loaded_once_and_the_cache_keeps_its_bound() {
        let (kept, asked) = pages(1 << 20);
        for _ in 0..3 {
            assert_eq!(kept.load(&[key(2, 1), key(4, 1)]).await.unwrap().len(), 2);
        }
        assert_eq!(asked.lock().unwrap().len(), 2);
        // The same number under another version is another page.
        kept.load(&[key(2, 2)]).await.unwrap();
        assert_eq!(asked.lock().unwrap().len(), 3);

        let (kept, _) = pages(4 * 1024);
        for user in 0..500 {
            kept.load(&[key(user * 2, 1)]).await.unwrap();
            assert!(kept.cache.weight() <= 4 * 1024);
        }
        let (none, asked) = pages(0);
        for _ in 0..2 {
            none.load(&[key(2, 1)]).await.unwrap();
        }
        assert_eq!(asked.lock().unwrap().len(), 2, "a cache of nothing keeps nothing");
    }

    #[tokio::test]
    async fn a_page_that_is_gone_is_named() {
        let (pages, _) = pages(1 << 20);
        let error = pages.load(&[key(2, 1), key(3, 7)]).await.unwrap_err();
        assert_eq!(error.to_string(), "page 7.0 of entity 3 is damaged: it is not in the store");
        // More pages than there are turns take all of them.
        drop(pages.turn(1_000).await.unwrap());
        let all = pages.turn(4).await.unwrap();
        assert!(pages.turn(1).now_or_never().is_none());
        drop(all);
    }
}
