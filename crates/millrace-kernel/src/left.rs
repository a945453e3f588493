//! Ids that left the facts at hand, remembered by exact 64-bit hashes.
//!
//! A fact of a remembered id needs the log. Hash collisions only make an entity dirty for nothing.

use std::sync::Arc;

use millrace_types::DecodeError;

use crate::page::PageName;

/// Ids a part holds: 8 bytes each in at most 64 KiB.
const PART_IDS_MAX: usize = 8_000;
/// Up to this many recent ids are kept in the head itself.
pub(crate) const RECENT_IN_HEAD_MAX: usize = 256;

/// A sorted, immutable run of hashes.
#[derive(Debug, Clone)]
pub(crate) struct IdPart {
    pub(crate) hashes: Arc<[u64]>,
    /// Its name in the store, once it was put.
    pub(crate) stored: Option<PageName>,
}

/// The hashes of the ids of one stream that left.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeftIds {
    pub(crate) parts: Vec<IdPart>,
    /// Sorted.
    pub(crate) recent: Vec<u64>,
}

impl LeftIds {
    pub(crate) fn contains(&self, hash: u64) -> bool {
        self.recent.binary_search(&hash).is_ok()
            || self.parts.iter().any(|p| p.hashes.binary_search(&hash).is_ok())
    }

    /// Adds hashes; ones already there stay single.
    pub(crate) fn extend(&mut self, hashes: impl Iterator<Item = u64>) {
        self.recent.extend(hashes);
        self.recent.sort_unstable();
        self.recent.dedup();
        if self.recent.len() > PART_IDS_MAX {
            self.seal_recent();
        }
    }

    /// Turns the recent hashes into parts of their own.
    pub(crate) fn seal_recent(&mut self) {
        let recent = std::mem::take(&mut self.recent);
        self.parts.extend(
            recent.chunks(PART_IDS_MAX).map(|ids| IdPart { hashes: ids.into(), stored: None }),
        );
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.recent.capacity() * 8
            + self.parts.iter().map(|p| p.hashes.len() * 8 + 32).sum::<usize>()
    }
}

impl IdPart {
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(|h| h.to_le_bytes()).collect()
    }

    pub(crate) fn decode(bytes: &[u8], stored: PageName) -> Result<Self, DecodeError> {
        if !bytes.len().is_multiple_of(8) {
            return Err(DecodeError::Invalid { what: "id part size", found: bytes.len() as u64 });
        }
        let hashes: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|raw| {
                let mut word = [0; 8];
                word.copy_from_slice(raw);
                u64::from_le_bytes(word)
            })
            .collect();
        if !hashes.is_sorted() {
            return Err(DecodeError::Invalid { what: "id part order", found: 0 });
        }
        Ok(Self { hashes: hashes.into(), stored: Some(stored) })
    }
}
