//! Snapshots of an entity: a head, and beside it pages of facts and parts of ids that left.
//!
//! Head layout (version 4, persisted): `version u8 · catalog version · applied position · known_at
//! · horizon · streams · sealed series · boundaries of retentions`. A stream is its number, whether a live
//! fact left, its pages, its id part names, the recent ids and [columns](columns) of partials of its
//! pages. A page is its place (its name, or its bytes where they are few) and a
//! [summary](crate::page::absent). Where a head would grow too large, pages are names alone. Pages and id
//! parts are immutable; a head lists the ones it stands on.
//!
//! Facts mostly come in order, so that the last page of a stream changes all the time. It stands in the
//! head until it grows large. Then it becomes a page of its own, or of one with those before it that are
//! of its size, as runs of a log-structured merge tree do (O'Neil et al., "The Log-Structured Merge-Tree",
//! 1996): beside heads a fact is put about once for each size, whatever the number of heads.
//!
//! Of older versions 1 has pages as names alone, 2 and 3 have no page in a head beside others, and only 3
//! has boundaries.

use millrace_types::KnownAt;
use millrace_types::chunk::put_list;
use millrace_types::codec::{put_bytes, put_signed, put_varint};
use millrace_types::limits::HEAD_BYTES_MAX;

use crate::entity::EntityState;
use crate::left::RECENT_IN_HEAD_MAX;
use crate::page::PageName;
use crate::page::absent::PageSummary;
use crate::series::{Keeping, SealedSeries};
use crate::snapshot::columns::Column;

mod columns;
mod head;

pub use head::Head;

/// Pages are names alone.
const VERSION_1: u8 = 1;
const VERSION_2: u8 = 2;
/// As version 2, and the boundaries before which facts are forgotten.
const VERSION_3: u8 = 3;
/// As version 3, and pages stand in the head beside others.
const VERSION_4: u8 = 4;

/// How the pages of a stream are listed.
const NAMES: u8 = 0;
const SUMMARIES: u8 = 1;

/// Where the facts of a page stand.
const STORED: u8 = 0;
const INLINE: u8 = 1;

/// The parts of a snapshot to be put, in an order that keeps readers safe: pages and id parts
/// before the head that lists them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotParts {
    /// New pages: number among the pages of this version, and bytes.
    pub pages: Vec<(u32, Vec<u8>)>,
    /// New id parts, likewise.
    pub ids: Vec<(u32, Vec<u8>)>,
    /// The head.
    pub head: Vec<u8>,
}

impl SnapshotParts {
    /// Bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let beside = self.pages.iter().chain(&self.ids).map(|(_, bytes)| bytes.len());
        self.head.len() + beside.sum::<usize>()
    }
}

/// What a head tells of pages; less where it would grow past its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Partials,
    Summaries,
    Names,
}

fn put_name(out: &mut Vec<u8>, (ver, number): &PageName) {
    put_signed(out, ver.0);
    put_varint(out, u64::from(*number));
}

impl EntityState {
    /// Makes the snapshot of this state at version `ver`. Pages and id parts that the store does
    /// not hold yet are named after `ver`; the state takes them as stored, so the parts must be
    /// put (or the state thrown away).
    ///
    /// What would take the head past its limit is given up: partials of pages first, then the summaries
    /// of pages (reads then need all pages), then partials of what left, largest first: reads of their
    /// features are then answered from the log.
    #[must_use]
    pub fn snapshot(&mut self, ver: KnownAt) -> SnapshotParts {
        let mut parts = SnapshotParts::default();
        self.name_pages(self.plan.pages.inline_bytes, ver, &mut parts);
        for left in &mut self.left {
            if left.recent.len() > RECENT_IN_HEAD_MAX {
                left.seal_recent();
            }
            for part in &mut left.parts {
                if part.stored.is_none() {
                    let number = parts.ids.len() as u32;
                    parts.ids.push((number, part.encode()));
                    part.stored = Some((ver, number));
                }
            }
        }
        let columns = self.columns();
        for detail in [Detail::Partials, Detail::Summaries, Detail::Names] {
            if detail == Detail::Names {
                self.name_pages(0, ver, &mut parts);
            }
            parts.head = self.encode_head(detail, &columns);
            if parts.head.len() <= HEAD_BYTES_MAX {
                return parts;
            }
        }
        while parts.head.len() > HEAD_BYTES_MAX {
            let Some(largest) = self
                .sealed
                .iter_mut()
                .filter(|s| s.keeping == Keeping::Kept)
                .max_by_key(|s| s.heap_bytes())
            else {
                break;
            };
            *largest = SealedSeries::without(largest.key, Keeping::TooLarge);
            parts.head = self.encode_head(Detail::Names, &columns);
        }
        parts
    }

    /// Names the pages that are to be put. A few facts, `inline` bytes, stand in the head and have no
    /// name: the last pages of streams, small ones first.
    pub(crate) fn name_pages(
        &mut self,
        mut inline: usize,
        ver: KnownAt,
        parts: &mut SnapshotParts,
    ) {
        let (mut lasts, limits) = (Vec::new(), self.plan.pages);
        let mut in_head = vec![false; self.streams.len()];
        for (index, facts) in self.streams.iter().enumerate() {
            // A last page that the store has costs nothing there, but a read of it; the only one is read
            // with every read.
            if let [before @ .., last] = facts.pages()
                && (last.stored.is_none() || before.is_empty())
            {
                lasts.push((last.fact_bytes(), index));
            }
        }
        lasts.sort_unstable();
        for (bytes, index) in lasts {
            let facts = &mut self.streams[index];
            if bytes > inline {
                facts.merge_last(limits);
            } else if let Some(last) = facts.pages_mut().last_mut() {
                inline -= bytes;
                last.stored = None;
                in_head[index] = true;
            }
        }
        for (facts, in_head) in self.streams.iter_mut().zip(in_head) {
            let beside = facts.pages().len() - usize::from(in_head);
            for page in facts.pages_mut()[..beside].iter_mut().filter(|p| p.stored.is_none()) {
                let number = parts.pages.len() as u32;
                parts.pages.push((number, page.encode()));
                page.stored = Some((ver, number));
            }
        }
    }

    fn encode_head(&self, detail: Detail, columns: &[(usize, Column)]) -> Vec<u8> {
        let mut out = vec![VERSION_4];
        put_varint(&mut out, u64::from(self.plan.catalog_version));
        put_varint(&mut out, self.applied.epoch);
        put_varint(&mut out, self.applied.sequence);
        put_signed(&mut out, self.known_at.0);
        put_signed(&mut out, self.horizon.0);
        put_varint(&mut out, self.streams.len() as u64);
        for (index, stream) in self.plan.streams.iter().enumerate() {
            put_varint(&mut out, u64::from(stream.id.0));
            out.push(u8::from(self.live_left[index]));
            self.encode_pages(index, detail, &mut out);
            let ids: Vec<PageName> =
                self.left[index].parts.iter().filter_map(|p| p.stored).collect();
            put_list(&mut out, &ids, put_name);
            put_list(&mut out, &self.left[index].recent, |out, hash| {
                out.extend_from_slice(&hash.to_le_bytes());
            });
            let told = |c: &&(usize, Column)| c.0 == index && detail == Detail::Partials;
            let columns: Vec<&Column> = columns.iter().filter(told).map(|(_, c)| c).collect();
            put_list(&mut out, &columns, |out, column| column.encode(out));
        }
        put_varint(&mut out, self.sealed.len() as u64);
        for sealed in &self.sealed {
            sealed.encode(&mut out);
        }
        self.boundaries.encode(&mut out);
        out
    }

    fn encode_pages(&self, stream: usize, detail: Detail, out: &mut Vec<u8>) {
        let pages = self.streams[stream].pages();
        let names: Option<Vec<PageName>> = pages.iter().map(|p| p.stored).collect();
        if let (Detail::Names, Some(names)) = (detail, names) {
            out.push(NAMES);
            put_list(out, &names, put_name);
            return;
        }
        out.push(SUMMARIES);
        let mut after = None;
        put_list(out, pages, |out, page| {
            match &page.stored {
                Some(name) => {
                    out.push(STORED);
                    put_name(out, name);
                }
                None => {
                    out.push(INLINE);
                    put_bytes(out, &page.encode());
                }
            }
            PageSummary::of(page).encode(&mut after, out);
        });
    }

    /// The names of the pages and of the id parts the last snapshot stands on.
    #[must_use]
    pub fn stored_parts(&self) -> (Vec<PageName>, Vec<PageName>) {
        let pages = self.streams.iter().flat_map(|s| s.pages()).filter_map(|p| p.stored);
        let ids = self.left.iter().flat_map(|l| &l.parts).filter_map(|p| p.stored);
        (pages.collect(), ids.collect())
    }
}
