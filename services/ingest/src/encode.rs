//! Turns the rows of a batch into fact records, sorted by slot, as chunks of the log hold them.
//!
//! Pure and synchronous: the clock is a parameter. One [`Encoder`] is used for many batches and
//! keeps its buffers; a batch is written once into them in the order of its rows, then copied once
//! more, slot by slot, into the one allocation that is handed on.

use std::sync::Arc;

use bytes::Bytes;
use millrace_catalog::{Catalog, Stream};
use millrace_placement::Slots;
use millrace_proto::v1::{TypedRow, Value};
use millrace_store::Seen;
use millrace_types::{KnownAt, Micros, SlotId};

use crate::arrow::{ArrowPayload, PayloadError};
use crate::batch::Sequences;
use crate::columns::Columns;
use crate::reject::{Refusal, Rule};
use crate::rows::RowSource;
use crate::typed::TypedRows;

mod encoded;
mod row;
#[cfg(test)]
mod tests;

pub use encoded::EncodedBatch;
pub(crate) use encoded::Piece;
use row::{Outcome, RowCoder};

/// Greatest size of the fact records that one slot gets in one request, in bytes: with its header
/// the chunk stays below `CHUNK_BYTES_MAX`.
pub const PIECE_BYTES_MAX: usize = 900 * 1024;

/// The facts of a batch, in one of the two forms of the protocol.
#[derive(Debug, Clone)]
pub enum Payload {
    /// No facts: a heartbeat.
    Empty,
    /// Arrow IPC.
    Arrow(ArrowPayload),
    /// Typed rows.
    Typed(Vec<TypedRow>),
}

impl Payload {
    /// The number of facts.
    #[must_use]
    pub fn facts(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Arrow(payload) => payload.rows(),
            Self::Typed(rows) => rows.len(),
        }
    }

    /// What its facts take in memory beside the bytes of the request, which they share, about.
    #[must_use]
    pub fn decoded_bytes(&self) -> usize {
        match self {
            Self::Empty | Self::Arrow(_) => 0,
            Self::Typed(rows) => {
                let entries: usize = rows.iter().map(|row| row.values.capacity()).sum();
                rows.len() * size_of::<TypedRow>() + entries * ENTRY_BYTES
            }
        }
    }
}

/// A value of a typed row, with its name: a place in a table that is at most seven eighths full, and the
/// least that a name takes elsewhere. Two bytes of a request may become one.
const ENTRY_BYTES: usize = (size_of::<(String, Value)>() + 1) * 8 / 7 + 16;

/// What to encode, and what it depends on.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The catalog to encode under.
    pub catalog: &'a Arc<Catalog>,
    /// The stream's name, which the catalog may not have.
    pub stream: &'a str,
    /// The producer, for ids it does not give itself.
    pub producer: &'a str,
    /// The numbers of the facts.
    pub sequences: &'a Sequences,
    /// The facts.
    pub payload: &'a Payload,
    /// What the producer's window says of each sequence from the first on; empty: nothing.
    pub seen: &'a [Seen],
    /// Since when each fact was known, in an import; empty where facts are published.
    pub known_at: &'a [KnownAt],
    /// Ingest's clock: nothing was known later.
    pub now: Micros,
    /// The latest event time allowed now.
    pub latest_at: Micros,
    /// What the records may take, in bytes, with what refused rows would have taken.
    pub bytes_max: usize,
}

/// What was decided of a fact before the join service saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in one or more pieces.
    Routed,
    /// The producer's window knows it: DUPLICATE.
    Seen,
    /// It is among the refusals: REJECTED.
    Refused,
}

/// Encodes batches. Keeps its buffers between them.
#[derive(Debug)]
pub struct Encoder {
    slots: Slots,
    scratch: row::Scratch,
    /// Records of a slot of this batch; all zero between batches.
    counts: Vec<u32>,
    touched: Vec<u32>,
    order: Vec<u32>,
}

/// What an encoder keeps of its buffers between batches, in bytes.
const KEEP_BYTES: usize = 4 << 20;

impl Encoder {
    /// An encoder for a cluster with this many slots.
    #[must_use]
    pub fn new(slots: Slots) -> Self {
        Self {
            slots,
            scratch: row::Scratch::default(),
            counts: vec![0; slots.count() as usize],
            touched: Vec::new(),
            order: Vec::new(),
        }
    }

    /// Encodes a batch. Facts that break a rule are refused one by one and never fail the rest.
    ///
    /// # Errors
    /// [`PayloadError`] when the payload as a whole cannot be read; nothing is encoded then.
    pub fn encode(&mut self, job: Job<'_>) -> Result<EncodedBatch, PayloadError> {
        let mut batch = EncodedBatch {
            catalog: Arc::clone(job.catalog),
            stream: None,
            fates: Vec::with_capacity(job.payload.facts()),
            refusals: Vec::new(),
            max_at: None,
            bytes: Bytes::new(),
            facts: Vec::new(),
            fingerprints: Vec::new(),
            requests: Vec::new(),
        };
        let Some(stream) = job.catalog.stream(job.stream) else {
            let refusal = Refusal { rule: Rule::UnknownStream, field: None };
            batch.fates.resize(job.payload.facts(), Fate::Refused);
            batch.refusals = (0..job.payload.facts())
                .map(|index| (index as u32, refusal, Box::default()))
                .collect();
            return Ok(batch);
        };
        batch.stream = Some(usize::from(stream.id.0));
        self.scratch.clear();
        match job.payload {
            Payload::Empty => {}
            Payload::Arrow(payload) => {
                for columns in payload.columns(stream)? {
                    self.rows(&job, stream, &Columns::new(stream, &columns), &mut batch)?;
                }
            }
            Payload::Typed(rows) => {
                self.rows(&job, stream, &TypedRows::new(stream, rows), &mut batch)?;
            }
        }
        self.sort_by_slot(&mut batch);
        if self.scratch.records.capacity() > KEEP_BYTES {
            self.scratch = row::Scratch::default();
        }
        Ok(batch)
    }

    fn rows(
        &mut self,
        job: &Job<'_>,
        stream: &Stream,
        rows: &impl RowSource,
        batch: &mut EncodedBatch,
    ) -> Result<(), PayloadError> {
        let first = batch.fates.len();
        // Records are found by 32-bit offsets.
        let bytes_max = job.bytes_max.min(u32::MAX as usize / 2);
        let mut coder = RowCoder::new(job, stream, self.slots, &mut self.scratch);
        for row in 0..rows.rows() {
            let index = first + row;
            let sequence = job.sequences.get(index);
            let seen = job.seen.get((sequence - job.sequences.first()) as usize);
            let outcome = coder.row(rows, row, index as u32, sequence, seen == Some(&Seen::Yes));
            let (fate, at) = match outcome {
                Ok(Outcome { routed: true, at }) => (Fate::Routed, at),
                Ok(Outcome { routed: false, at }) => (Fate::Seen, at),
                Err(refusal) => {
                    let id = coder.refused_id(rows, row, sequence);
                    batch.refusals.push((index as u32, refusal, id));
                    (Fate::Refused, None)
                }
            };
            batch.fates.push(fate);
            // `None` is least, so that RETRACTs do not count.
            batch.max_at = batch.max_at.max(at);
            if coder.scratch.spent > bytes_max {
                return Err(PayloadError::TooLarge(job.bytes_max));
            }
        }
        Ok(())
    }

    /// Copies the records slot by slot, keeping their order within a slot, and cuts the run of each
    /// slot into pieces.
    fn sort_by_slot(&mut self, batch: &mut EncodedBatch) {
        let records = &self.scratch.index;
        for record in records {
            let count = &mut self.counts[record.slot as usize];
            if *count == 0 {
                self.touched.push(record.slot);
            }
            *count += 1;
        }
        self.touched.sort_unstable();
        // A counting sort: first where each slot's run starts, then each record to its place.
        let mut start = 0;
        for &slot in &self.touched {
            let count = std::mem::replace(&mut self.counts[slot as usize], start);
            start += count;
        }
        self.order.clear();
        self.order.resize(records.len(), 0);
        for (number, record) in records.iter().enumerate() {
            let place = &mut self.counts[record.slot as usize];
            self.order[*place as usize] = number as u32;
            *place += 1;
        }
        for slot in self.touched.drain(..) {
            self.counts[slot as usize] = 0;
        }
        self.copy_in_order(batch);
    }

    fn copy_in_order(&self, batch: &mut EncodedBatch) {
        let mut bytes = Vec::with_capacity(self.scratch.records.len());
        batch.facts.reserve_exact(self.order.len());
        batch.fingerprints.reserve_exact(self.order.len());
        // The piece being filled, and which request of its slot it is for.
        let mut open: Option<(usize, Piece)> = None;
        for (place, &number) in self.order.iter().enumerate() {
            let record = &self.scratch.index[number as usize];
            let start = bytes.len();
            bytes.extend_from_slice(&self.scratch.records[record.bytes()]);
            batch.facts.push(record.fact);
            batch.fingerprints.push(record.fingerprint);
            let mut request = 0;
            if let Some((at, mut piece)) = open.take() {
                let same_slot = piece.slot.0 == record.slot;
                if same_slot && bytes.len() - piece.bytes.start <= PIECE_BYTES_MAX {
                    piece.records.end = place + 1;
                    piece.bytes.end = bytes.len();
                    open = Some((at, piece));
                    continue;
                }
                request = if same_slot { at + 1 } else { 0 };
                batch.put_piece(at, piece);
            }
            let piece = Piece {
                slot: SlotId(record.slot),
                records: place..place + 1,
                bytes: start..bytes.len(),
            };
            open = Some((request, piece));
        }
        if let Some((request, piece)) = open {
            batch.put_piece(request, piece);
        }
        batch.bytes = Bytes::from(bytes);
    }
}
