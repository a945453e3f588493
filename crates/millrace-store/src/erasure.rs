//! Erasures: which entities were erased, what each slot scrubbed for it, and the writes that scrub
//! (design §2). The list is the order in which slots come to know of them; in a slot an erasure takes
//! effect at its entry in the slot's log.

use async_trait::async_trait;
use millrace_types::chunk::{put_entity, read_entity};
use millrace_types::codec::{DecodeError, Reader, put_signed, put_varint};
use millrace_types::{Entity, KnownAt, Micros, Position, SlotId};

use crate::port::{Append, Applied, Part, StoreError};

/// Erasures that one call lists at most.
pub const ERASURES_LISTED: usize = 4_096;

const VERSION: u8 = 1;

/// An entity that is erased for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// The entity.
    pub entity: Entity,
    /// When it was asked for, by the clock of who took the request.
    pub asked_at: Micros,
}

/// What one slot did for an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The slot.
    pub slot: SlotId,
    /// The entry of the erasure in the slot's log.
    pub position: Position,
    /// Facts taken out of the slot's log.
    pub facts: u64,
    /// Chunks they stood in.
    pub chunks: u64,
    /// Other entities that had some of these facts and were rebuilt without them.
    pub entities: u64,
    /// Parts of snapshots deleted. Where the slot's owner changed meanwhile, those its last owner
    /// deleted.
    pub parts: u64,
}

/// The list of erasures, their receipts, and what scrubbing asks of a store.
#[async_trait]
pub trait ErasureStore: Send + Sync + 'static {
    /// Writes an erasure durably if none has its number. Numbers begin at 1 and have no gaps.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_erasure(
        &self,
        number: u64,
        erasure: Erasure,
    ) -> Result<Applied<Erasure>, StoreError>;

    /// Those after `number`, ascending, at most [`ERASURES_LISTED`] of them: none means that there are
    /// no more.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn erasures_after(&self, number: u64) -> Result<Vec<(u64, Erasure)>, StoreError>;

    /// Writes what a slot did for an erasure, durably, if `ver` is greater than that of what stands.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_receipt(
        &self,
        number: u64,
        ver: KnownAt,
        receipt: Receipt,
    ) -> Result<(), StoreError>;

    /// The receipts of an erasure, by slot.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn receipts(&self, number: u64) -> Result<Vec<Receipt>, StoreError>;

    /// Replaces chunks that are in the log by what is left of them, durably, each where `ver` is
    /// greater than the version it was written at last: its known_at, or that of an earlier rewrite.
    /// An append that lands late loses against it.
    ///
    /// # Errors
    /// [`StoreError`]; after [`StoreError::Unknown`] some may have been replaced.
    async fn rewrite(&self, ver: KnownAt, chunks: Vec<Append>) -> Result<(), StoreError>;

    /// The names of all parts of an entity's snapshot that are stored, those that no head lists too.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn parts(&self, entity: Entity) -> Result<Vec<Part>, StoreError>;

    /// Frees the room of what was overwritten and deleted, as far as this store can be told to: where
    /// it cannot, the bytes stay on its disks until it compacts by itself.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn compact(&self) -> Result<(), StoreError>;
}

/// Encodes an erasure.
#[must_use]
pub fn encode_erasure(erasure: &Erasure) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_entity(&mut out, &erasure.entity);
    put_signed(&mut out, erasure.asked_at.0);
    out
}

/// Decodes an erasure.
///
/// # Errors
/// [`DecodeError`] when the bytes are no erasure of a known version.
pub fn decode_erasure(bytes: &[u8]) -> Result<Erasure, DecodeError> {
    let mut reader = versioned(bytes)?;
    let entity = read_entity(&mut reader)?;
    Ok(Erasure { entity, asked_at: Micros(reader.signed("asked at")?) })
}

/// Encodes a receipt.
#[must_use]
pub fn encode_receipt(receipt: &Receipt) -> Vec<u8> {
    let Receipt { slot, position, facts, chunks, entities, parts } = *receipt;
    let mut out = vec![VERSION];
    put_varint(&mut out, u64::from(slot.0));
    for number in [position.epoch, position.sequence, facts, chunks, entities, parts] {
        put_varint(&mut out, number);
    }
    out
}

/// Decodes a receipt.
///
/// # Errors
/// [`DecodeError`] when the bytes are no receipt of a known version.
pub fn decode_receipt(bytes: &[u8]) -> Result<Receipt, DecodeError> {
    let mut reader = versioned(bytes)?;
    Ok(Receipt {
        slot: SlotId(reader.u32("slot")?),
        position: Position { epoch: reader.varint("epoch")?, sequence: reader.varint("sequence")? },
        facts: reader.varint("facts")?,
        chunks: reader.varint("chunks")?,
        entities: reader.varint("entities")?,
        parts: reader.varint("parts")?,
    })
}

fn versioned(bytes: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.u8("row version")? {
        VERSION => Ok(reader),
        other => Err(DecodeError::Invalid { what: "row version", found: u64::from(other) }),
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::{EntityKey, KeyPart, KindId};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip(user: i64, asked_at: i64, n: (u32, u64, u64, u64, u64, u64)) {
            let key = EntityKey::try_new(&[KeyPart::Int64(user)]).unwrap();
            let entity = Entity { kind: KindId(3), key };
            let erasure = Erasure { entity, asked_at: Micros(asked_at) };
            prop_assert_eq!(decode_erasure(&encode_erasure(&erasure)), Ok(erasure));
            let receipt = Receipt {
                slot: SlotId(n.0),
                position: Position { epoch: n.1, sequence: n.2 },
                facts: n.3,
                chunks: n.4,
                entities: n.5,
                parts: n.1,
            };
            prop_assert_eq!(decode_receipt(&encode_receipt(&receipt)), Ok(receipt));
        }

        #[test]
        fn any_bytes_are_a_row_or_refused(bytes: Vec<u8>) {
            let _ = (decode_erasure(&bytes), decode_receipt(&bytes));
        }
    }
}
