//! What the header of a chunk says about erasures.

use super::{put_entity, put_list, read_entity, read_list};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::entity::Entity;

/// An entity that is erased from this chunk on: its facts are refused, and those of earlier chunks are
/// taken out of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedEntity {
    /// The number of the erasure. In a slot they take effect in order.
    pub number: u64,
    /// The entity.
    pub entity: Entity,
    /// The slot had facts that were routed to the entity itself.
    pub is_here: bool,
    /// Facts of earlier chunks that name it, other entities' among them.
    pub facts: u64,
    /// Chunks they stand in.
    pub chunks: u64,
}

/// What a chunk says about erasures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErasureNotes {
    /// The entities that became dirty in this chunk had facts of an entity whose erasure stands in this
    /// chunk or in one soon after it.
    pub dirties: bool,
    /// What is erased from here on, by number, ascending.
    pub erased: Vec<ErasedEntity>,
    /// The erasures before this chunk are scrubbed: nothing of them is left in the slot.
    pub is_scrubbed: bool,
    /// The chunk held facts that were taken out of it.
    pub is_rewritten: bool,
}

impl ErasureNotes {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let said = [self.dirties, self.is_scrubbed, self.is_rewritten];
        let bits = said.iter().zip(0..).map(|(is, bit)| u8::from(*is) << bit);
        out.push(bits.sum());
        put_list(out, &self.erased, |out, erased| {
            put_varint(out, erased.number);
            put_entity(out, &erased.entity);
            out.push(u8::from(erased.is_here));
            put_varint(out, erased.facts);
            put_varint(out, erased.chunks);
        });
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let said = reader.u8("notes of erasures")?;
        let erased = read_list(reader, "erased entities", |r| {
            Ok(ErasedEntity {
                number: r.varint("erasure")?,
                entity: read_entity(r)?,
                is_here: r.u8("is here")? != 0,
                facts: r.varint("facts")?,
                chunks: r.varint("chunks")?,
            })
        })?;
        let bit = |bit: u8| said >> bit & 1 != 0;
        Ok(Self { dirties: bit(0), erased, is_scrubbed: bit(1), is_rewritten: bit(2) })
    }
}
