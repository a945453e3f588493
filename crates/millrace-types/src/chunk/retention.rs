//! What the header of a chunk says about the retention of streams.

use std::collections::BTreeMap;

use super::{put_list, put_watermark, read_list, read_watermark};
use crate::codec::{DecodeError, Reader};
use crate::fact::StreamId;
use crate::time::Micros;

/// By stream: the instant before which its facts are forgotten. A boundary never goes back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boundaries(BTreeMap<StreamId, Micros>);

impl Boundaries {
    /// The boundary of a stream; the earliest instant without one.
    #[must_use]
    pub fn of(&self, stream: StreamId) -> Micros {
        self.0.get(&stream).copied().unwrap_or(Micros::MIN)
    }

    /// True when no stream has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves the boundary of a stream forward; true when it moves.
    pub fn raise(&mut self, stream: StreamId, at: Micros) -> bool {
        let moves = at > self.of(stream);
        if moves {
            self.0.insert(stream, at);
        }
        moves
    }

    /// Moves each boundary forward to the one of `other`; true when one moves.
    pub fn raise_all(&mut self, other: &Self) -> bool {
        other.iter().fold(false, |moves, (stream, at)| self.raise(stream, at) | moves)
    }

    /// True when each boundary is at least as far as that of `other`.
    #[must_use]
    pub fn reach(&self, other: &Self) -> bool {
        other.iter().all(|(stream, at)| self.of(stream) >= at)
    }

    /// Those there are, by stream.
    pub fn iter(&self) -> impl Iterator<Item = (StreamId, Micros)> + '_ {
        self.0.iter().map(|(stream, at)| (*stream, *at))
    }

    /// Appends them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let listed: Vec<(StreamId, Micros)> = self.iter().collect();
        put_list(out, &listed, put_watermark);
    }

    /// Reads what [`Boundaries::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when there is none.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(read_list(reader, "boundaries", read_watermark)?.into_iter().collect())
    }
}

impl FromIterator<(StreamId, Micros)> for Boundaries {
    fn from_iter<T: IntoIterator<Item = (StreamId, Micros)>>(iter: T) -> Self {
        let mut all = Self::default();
        for (stream, at) in iter {
            all.raise(stream, at);
        }
        all
    }
}

/// What a chunk says about the retention of streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionNotes {
    /// The chunk is a base chunk: where the ASSERTs of an id in the chunks before it all lie before its
    /// stream's boundary, they are forgotten here, and an ASSERT that comes after it with an `at` before
    /// the boundary is LATE for good. The `at` of a RETRACT never matters.
    pub base: Boundaries,
    /// The chunk held facts before these boundaries that were forgotten by a later base chunk and taken
    /// out of it.
    pub scrubbed: Boundaries,
}

impl RetentionNotes {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.base.encode(out);
        self.scrubbed.encode(out);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { base: Boundaries::decode(reader)?, scrubbed: Boundaries::decode(reader)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_never_go_back() {
        let mut all = Boundaries::default();
        assert_eq!((all.is_empty(), all.of(StreamId(1))), (true, Micros::MIN));
        assert!(all.raise(StreamId(1), Micros(7)));
        assert!(!all.raise(StreamId(1), Micros(6)));
        let other: Boundaries =
            [(StreamId(1), Micros(5)), (StreamId(2), Micros(3))].into_iter().collect();
        assert!(!all.reach(&other));
        assert!(all.raise_all(&other));
        assert!(!all.raise_all(&other));
        assert!(all.reach(&other));
        assert_eq!(
            all.iter().collect::<Vec<_>>(),
            [(StreamId(1), Micros(7)), (StreamId(2), Micros(3))]
        );
    }
}
