//! What a slot forgot for the retention of its streams.

use crate::chunk::Boundaries;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::position::Position;

/// What a slot forgot up to a position of its log, and what of it was taken out of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retained {
    /// Facts before these are forgotten.
    pub boundaries: Boundaries,
    /// The last base chunk: the log before it may be rewritten.
    pub base: Option<Position>,
    /// Facts before these were taken out of the chunks before their base chunk.
    pub scrubbed: Boundaries,
}

impl Retained {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.boundaries.encode(out);
        let base = self.base.unwrap_or(Position::START);
        out.push(u8::from(self.base.is_some()));
        put_varint(out, base.epoch);
        put_varint(out, base.sequence);
        self.scrubbed.encode(out);
    }

    /// Reads what [`Retained::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when there is none.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let boundaries = Boundaries::decode(reader)?;
        let has_base = reader.u8("base chunk")? != 0;
        let base =
            Position { epoch: reader.varint("epoch")?, sequence: reader.varint("sequence")? };
        let scrubbed = Boundaries::decode(reader)?;
        Ok(Self { boundaries, base: has_base.then_some(base), scrubbed })
    }
}
