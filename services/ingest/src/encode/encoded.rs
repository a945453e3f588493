//! A batch that is encoded: its records slot by slot, cut into requests.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use millrace_catalog::{Catalog, Stream};
use millrace_client::port::SlotFacts;
use millrace_types::{Micros, SlotId};

use super::Fate;
use crate::reject::Refusal;

/// What one slot gets in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) slot: SlotId,
    /// Which of the batch's records, counted slot by slot.
    pub(crate) records: Range<usize>,
    /// Where they are in the batch's bytes.
    pub(crate) bytes: Range<usize>,
}

/// A batch ready to hand over.
#[derive(Debug, Clone)]
pub struct EncodedBatch {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) stream: Option<usize>,
    /// One a fact.
    pub(crate) fates: Vec<Fate>,
    /// The refused facts by index, ascending, with their ids where they could be read.
    pub(crate) refusals: Vec<(u32, Refusal, Box<[u8]>)>,
    /// The greatest event time of the facts that are or were routed; RETRACTs have none.
    pub(crate) max_at: Option<Micros>,
    pub(super) bytes: Bytes,
    /// The index of the fact of each record.
    pub(super) facts: Vec<u32>,
    pub(super) fingerprints: Vec<u32>,
    /// The pieces of each request, in the order in which the requests must be handed over.
    pub(super) requests: Vec<Vec<Piece>>,
}

impl EncodedBatch {
    pub(super) fn put_piece(&mut self, request: usize, piece: Piece) {
        if self.requests.len() == request {
            self.requests.push(Vec::new());
        }
        self.requests[request].push(piece);
    }

    /// The catalog it was encoded under.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The stream, unless the catalog has none of the name.
    #[must_use]
    pub fn stream(&self) -> Option<&Stream> {
        self.catalog.streams.get(self.stream?)
    }

    /// The number of facts.
    #[must_use]
    pub fn facts(&self) -> usize {
        self.fates.len()
    }

    /// The size of the records, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The number of requests it takes: more than one only where a slot gets more than a chunk.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// The facts of the request with this index, by slot.
    #[must_use]
    pub fn slot_facts(&self, request: usize) -> Vec<SlotFacts> {
        let pieces = self.pieces(request).iter();
        pieces
            .map(|piece| SlotFacts {
                slot: piece.slot,
                count: piece.records.len() as u32,
                facts: self.bytes.slice(piece.bytes.clone()),
                fingerprints: self.fingerprints[piece.records.clone()].to_vec(),
            })
            .collect()
    }

    pub(crate) fn pieces(&self, request: usize) -> &[Piece] {
        self.requests.get(request).map_or(&[], Vec::as_slice)
    }

    /// The indexes of the facts of a piece's records, in order.
    pub(crate) fn facts_of(&self, piece: &Piece) -> &[u32] {
        &self.facts[piece.records.clone()]
    }

    /// The records of a piece.
    pub(crate) fn bytes_of(&self, piece: &Piece) -> &[u8] {
        &self.bytes[piece.bytes.clone()]
    }
}
