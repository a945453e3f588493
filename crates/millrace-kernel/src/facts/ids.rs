//! Where facts are found by their ids.

use hashbrown::HashTable;

use super::StreamFacts;
use crate::page::Page;

/// Up to this many facts an id is found by scanning the references; beyond it by a table.
const SCAN_MAX: usize = 64;

#[derive(Debug, Clone, Copy)]
pub(super) struct IdAt {
    pub(super) at: i64,
    pub(super) id_hash: u32,
}

#[inline]
pub(super) fn spread(id_hash: u32) -> u64 {
    // The table wants entropy in the high bits too.
    u64::from(id_hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl StreamFacts {
    /// Reads a word of each place that finding this id or putting a fact behind all others reads first, and
    /// gives something of them.
    pub(crate) fn fetch(&self, id_hash: u64) -> i64 {
        let low = id_hash as u32;
        let entry = self.ids.as_ref().and_then(|table| {
            table.find(spread(low), |entry| entry.id_hash == low).map(|entry| entry.at)
        });
        self.pages.last().map_or(0, Page::fetch) ^ entry.unwrap_or(0)
    }

    pub(super) fn remember(&mut self, at: i64, id_hash: u32) {
        if let Some(table) = &mut self.ids {
            table.insert_unique(spread(id_hash), IdAt { at, id_hash }, |e| spread(e.id_hash));
        } else if self.len > SCAN_MAX {
            self.index_ids();
        }
    }

    pub(super) fn index_ids(&mut self) {
        self.ids = None;
        if self.len <= SCAN_MAX {
            return;
        }
        let mut table = HashTable::with_capacity(self.len);
        for r in self.pages.iter().flat_map(|p| p.refs()) {
            let entry = IdAt { at: r.at, id_hash: r.id_hash };
            table.insert_unique(spread(r.id_hash), entry, |e: &IdAt| spread(e.id_hash));
        }
        self.ids = Some(table);
    }
}
