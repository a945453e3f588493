//! Fact pages: the facts of one entity and stream at hand, sorted by `(at, seq, id)`.
//!
//! A page keeps the fact bodies as ingest encoded them, packed in one buffer, and a fixed-size
//! reference to each, sorted. Iterating touches only references until a row is needed.

use std::cmp::Ordering;

use millrace_types::codec::Reader;
use millrace_types::limits::PAGE_BYTES_MAX;
use millrace_types::{DecodeError, FactView, KnownAt, Micros, OrderKey, RowTypes};
use xxhash_rust::xxh3::xxh3_64;

use crate::aggregate::Partial;
use crate::folds::PageFolds;
use crate::page::absent::Absent;

pub(crate) mod absent;

/// The most facts a page holds. 1,024 references of 16 bytes are moved in under a microsecond when
/// a fact is inserted in the middle.
pub(crate) const PAGE_FACTS_MAX: usize = 1_024;

/// So many pages of one class that lie side by side, the last of them changed, become one.
pub(crate) const RUNS: usize = 4;

/// How large pages are. Any limits are right; others than the usual ones are for tests, which reach many
/// pages with few facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimits {
    /// Facts a page holds, 1,024 at most; at least 1.
    pub facts: usize,
    /// Bytes of facts that stand in the head itself, those of the last pages of its streams. They are put
    /// with each head, and most entities are read with one query.
    pub inline_bytes: usize,
}

impl PageLimits {
    /// How large so many bytes are: each class begins at [`RUNS`] times the one before, the first at what
    /// stands in a head.
    pub(crate) fn class(self, bytes: usize) -> u32 {
        (bytes / self.inline_bytes.max(1)).checked_ilog(RUNS).map_or(0, |class| class + 1)
    }
}

impl Default for PageLimits {
    fn default() -> Self {
        Self { facts: PAGE_FACTS_MAX, inline_bytes: 4 * 1024 }
    }
}

/// The name of a page in the store: the version it was written at, and a number among its pages.
pub type PageName = (KnownAt, u32);

#[derive(Debug, Clone, Copy)]
pub(crate) struct FactRef {
    pub(crate) at: i64,
    pub(crate) id_hash: u32,
    offset: u16,
    pub(crate) live: bool,
}

/// A page of facts that a read needs and that is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("page {}.{} is needed and was not read", .0.0.0, .0.1)]
pub struct MissingPage(pub PageName);

/// A sorted run of facts.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    refs: Vec<FactRef>,
    bytes: Vec<u8>,
    live: u32,
    /// The `at` of the first and last reference: looking for a page does not touch the references.
    bounds: (i64, i64),
    /// What is known of a page whose facts were not read.
    absent: Option<Box<Absent>>,
    /// The name under which the store holds exactly these facts; `None` after a change.
    pub(crate) stored: Option<PageName>,
    /// Partials that reads left.
    folds: Option<Box<PageFolds>>,
}

/// The hash by which ids are found: 64 bits for ids that left, its low half for those at hand.
#[inline]
pub(crate) fn id_hash(id: &[u8]) -> u64 {
    xxh3_64(id)
}

impl Default for Page {
    fn default() -> Self {
        Self {
            refs: Vec::new(),
            bytes: Vec::new(),
            live: 0,
            bounds: (i64::MIN, i64::MIN),
            absent: None,
            stored: None,
            folds: None,
        }
    }
}

impl Page {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match &self.absent {
            None => self.refs.len(),
            Some(absent) => absent.len,
        }
    }

    #[inline]
    pub(crate) fn live_len(&self) -> u64 {
        u64::from(self.live)
    }

    #[inline]
    pub(crate) fn refs(&self) -> &[FactRef] {
        &self.refs
    }

    #[inline]
    pub(crate) fn first_at(&self) -> i64 {
        self.bounds.0
    }

    #[inline]
    pub(crate) fn last_at(&self) -> i64 {
        self.bounds.1
    }

    /// Reads the ends of what it holds.
    pub(crate) fn fetch(&self) -> i64 {
        let last = self.refs.last().map_or(0, |r| r.at);
        last ^ self.bytes.last().map_or(0, |byte| i64::from(*byte))
    }

    /// The `at` of the first live fact.
    pub(crate) fn first_live_at(&self) -> Option<i64> {
        match &self.absent {
            None => self.refs.iter().find(|r| r.live).map(|r| r.at),
            Some(absent) => (self.live > 0).then_some(absent.first_live),
        }
    }

    /// The last live fact with `at ≤ at`.
    pub(crate) fn last_live_until(&self, at: Micros) -> Option<FactView<'_>> {
        let end = match at.0.checked_add(1) {
            Some(next) => self.lower_bound_at(Micros(next)),
            None => self.refs.len(),
        };
        self.refs[..end].iter().rposition(|r| r.live).map(|i| self.fact(i))
    }

    /// The bytes of its facts.
    pub(crate) fn fact_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Memory held, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.refs.capacity() * size_of::<FactRef>()
            + self.bytes.capacity()
            + self.folds.as_ref().map_or(0, |f| f.heap_bytes())
    }

    /// The fact of the reference with this index.
    #[inline]
    pub(crate) fn fact(&self, index: usize) -> FactView<'_> {
        let start = usize::from(self.refs[index].offset);
        FactView::read(&mut Reader::new(&self.bytes[start..]))
            .expect("pages hold only bodies that decoded when they were inserted")
    }

    /// Where a fact with this order key belongs: after every smaller or equal one.
    pub(crate) fn upper_bound(&self, key: &OrderKey<'_>) -> usize {
        let (mut low, mut high) = (0, self.refs.len());
        while low < high {
            let middle = (low + high) / 2;
            let order = match self.refs[middle].at.cmp(&key.at.0) {
                Ordering::Equal => self.fact(middle).order_key().cmp(key),
                order @ (Ordering::Less | Ordering::Greater) => order,
            };
            match order {
                Ordering::Greater => high = middle,
                Ordering::Less | Ordering::Equal => low = middle + 1,
            }
        }
        low
    }

    /// The index of the first reference with `at` not before `at`.
    #[inline]
    pub(crate) fn lower_bound_at(&self, at: Micros) -> usize {
        self.refs.partition_point(|r| r.at < at.0)
    }

    /// True when a body of this size no longer fits.
    pub(crate) fn is_full_for(&self, body: usize, limits: PageLimits) -> bool {
        self.refs.len() >= limits.facts.min(PAGE_FACTS_MAX)
            || self.bytes.len() + body > PAGE_BYTES_MAX - 1
    }

    /// True when the page after this one has room here.
    pub(crate) fn has_room_for(&self, after: &Self, limits: PageLimits) -> bool {
        let facts = self.refs.len() + after.refs.len();
        let bytes = self.bytes.len() + after.bytes.len();
        facts <= limits.facts.min(PAGE_FACTS_MAX) && bytes < PAGE_BYTES_MAX
    }

    /// Takes the facts of the page after this one, for which there is room.
    pub(crate) fn append(&mut self, after: &Self) {
        let (len, start) = (self.refs.len(), self.bytes.len());
        self.bytes.extend_from_slice(&after.bytes);
        self.refs.extend(after.refs.iter().map(|entry| {
            let offset = u16::try_from(start + usize::from(entry.offset));
            FactRef { offset: offset.expect("a page holds less than 64 KiB"), ..*entry }
        }));
        if let Some(folds) = &mut self.folds {
            folds.moved_from(len);
        }
        self.bounds = (self.refs[0].at, self.refs[self.refs.len() - 1].at);
        self.live += after.live;
        self.stored = None;
    }

    /// Inserts a body at this index. The page must not be full for it.
    pub(crate) fn insert(&mut self, index: usize, fact: &FactView<'_>, id_hash: u32, live: bool) {
        let offset = u16::try_from(self.bytes.len()).expect("a page holds less than 64 KiB");
        self.bytes.extend_from_slice(fact.bytes);
        self.refs.insert(index, FactRef { at: fact.at.0, id_hash, offset, live });
        if let Some(folds) = &mut self.folds {
            folds.moved_from(index);
        }
        self.bounds = (self.refs[0].at, self.refs[self.refs.len() - 1].at);
        self.live += u32::from(live);
        self.stored = None;
    }

    /// Sets whether the fact at this index is its id's live one. Not a change of the stored page:
    /// liveness follows from the facts.
    pub(crate) fn set_live(&mut self, index: usize, live: bool) {
        let entry = &mut self.refs[index];
        if entry.live != live {
            entry.live = live;
            if live {
                self.live += 1;
            } else {
                self.live -= 1;
            }
            if let Some(folds) = &mut self.folds {
                folds.changed(index);
            }
        }
    }

    /// What is kept of a fold beside a run of the page, or beside all of it.
    #[inline]
    pub(crate) fn fold_of(&self, run: Option<usize>, fold: u32) -> Option<&Partial> {
        self.folds.as_ref().and_then(|f| f.get(run, fold))
    }

    /// Keeps a partial beside a run of the page, or beside all of it.
    pub(crate) fn keep_fold(&mut self, run: Option<usize>, fold: u32, partial: Partial) {
        self.folds.get_or_insert_default().keep(run, fold, partial);
    }

    /// Forgets some partials over facts with `from ≤ at < to`.
    pub(crate) fn forget_between(
        &mut self,
        from: Micros,
        to: Micros,
        forgets: &impl Fn(u32) -> bool,
    ) {
        let (first, end) = (self.lower_bound_at(from), self.lower_bound_at(to));
        if let Some(folds) = &mut self.folds {
            folds.forget(first, end, forgets);
        }
    }

    /// Forgets all partials.
    pub(crate) fn forget(&mut self) {
        self.folds = None;
    }

    /// Keeps the facts for which `keep` is true and packs their bytes anew.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize, &FactView<'_>) -> bool) {
        let old = std::mem::take(self);
        for index in 0..old.len() {
            let fact = old.fact(index);
            if keep(index, &fact) {
                let entry = old.refs[index];
                self.insert(self.len(), &fact, entry.id_hash, entry.live);
            }
        }
        if self.len() == old.len() {
            (self.stored, self.folds) = (old.stored, old.folds);
        }
    }

    /// Splits off the upper half of the facts.
    pub(crate) fn split(&mut self) -> Self {
        let old = std::mem::take(self);
        let mut upper = Self::default();
        let half = old.len() / 2;
        for index in 0..old.len() {
            let target = if index < half { &mut *self } else { &mut upper };
            let entry = old.refs[index];
            target.insert(target.len(), &old.fact(index), entry.id_hash, entry.live);
        }
        upper
    }

    /// The page as the store holds it: bodies in order.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len());
        for index in 0..self.len() {
            out.extend_from_slice(self.fact(index).bytes);
        }
        out
    }

    /// Reads a page as [`Page::encode`] wrote it, and of which types its values are. No fact is live yet.
    pub(crate) fn decode(
        bytes: &[u8],
        stored: Option<PageName>,
    ) -> Result<(Self, RowTypes), DecodeError> {
        if bytes.len() >= PAGE_BYTES_MAX {
            return Err(DecodeError::Invalid { what: "page size", found: bytes.len() as u64 });
        }
        let mut page = Self { bytes: bytes.to_vec(), ..Self::default() };
        let (mut reader, mut types) = (Reader::new(bytes), RowTypes::default());
        while !reader.is_empty() {
            let offset = (bytes.len() - reader.rest().len()) as u16;
            let fact = FactView::read(&mut reader)?;
            types.add(fact.row.as_bytes())?;
            let id_hash = id_hash(fact.id) as u32;
            page.refs.push(FactRef { at: fact.at.0, id_hash, offset, live: false });
        }
        if !page.refs.is_sorted_by_key(|r| r.at) {
            return Err(DecodeError::Invalid { what: "page order", found: 0 });
        }
        if let (Some(first), Some(last)) = (page.refs.first(), page.refs.last()) {
            page.bounds = (first.at, last.at);
        }
        page.stored = stored;
        Ok((page, types))
    }
}
