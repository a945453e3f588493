//! Chunks that landed in a call that failed for others. The call is repeated unchanged, and what landed need
//! not be written again: a database that takes only a part of what it is sent has enough to do.

use std::collections::HashMap;

use bytes::Bytes;
use millrace_store::Append;
use millrace_types::{KnownAt, Position, SlotId};

/// Bytes of chunks that are remembered at most. Calls that are given up leave theirs; beyond this all are
/// forgotten, and written again.
const BYTES_MAX: usize = 64 << 20;
/// What a chunk takes beside its own bytes, about.
const ENTRY_BYTES: usize = 128;

/// The chunks of failed calls that are in the log for good.
#[derive(Debug, Default)]
pub(crate) struct Landed {
    chunks: HashMap<(SlotId, Position), (KnownAt, Bytes)>,
    bytes: usize,
}

fn weight(chunk: &Append) -> usize {
    chunk.bytes.len() + ENTRY_BYTES
}

impl Landed {
    /// Whether this very chunk is among them.
    pub(crate) fn has(&self, chunk: &Append) -> bool {
        let known = self.chunks.get(&(chunk.slot, chunk.position));
        known.is_some_and(|(known_at, bytes)| *known_at == chunk.known_at && *bytes == chunk.bytes)
    }

    /// It landed, in a call that failed.
    pub(crate) fn add(&mut self, chunk: &Append) {
        if self.bytes + weight(chunk) > BYTES_MAX {
            *self = Self::default();
        }
        self.forget(chunk);
        self.bytes += weight(chunk);
        let (known_at, bytes) = (chunk.known_at, chunk.bytes.clone());
        self.chunks.insert((chunk.slot, chunk.position), (known_at, bytes));
    }

    /// Its call is over.
    pub(crate) fn forget(&mut self, chunk: &Append) {
        if let Some((_, bytes)) = self.chunks.remove(&(chunk.slot, chunk.position)) {
            self.bytes = self.bytes.saturating_sub(bytes.len() + ENTRY_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(sequence: u64, bytes: Bytes) -> Append {
        let position = Position { epoch: 1, sequence };
        Append { slot: SlotId(3), position, known_at: KnownAt(5), bytes }
    }

    #[test]
    fn only_the_very_chunk_is_known_until_its_call_is_over() {
        let mut landed = Landed::default();
        let one = chunk(1, Bytes::from_static(b"one"));
        assert!(!landed.has(&one));
        landed.add(&one);
        landed.add(&one);
        assert!(landed.has(&one));
        assert!(!landed.has(&chunk(1, Bytes::from_static(b"two"))));
        assert!(!landed.has(&chunk(2, Bytes::from_static(b"one"))));
        assert!(!landed.has(&Append { known_at: KnownAt(6), ..one.clone() }));
        assert!(!landed.has(&Append { slot: SlotId(4), ..one.clone() }));
        landed.forget(&one);
        assert!(!landed.has(&one));
        assert_eq!(landed.bytes, 0);
    }

    #[test]
    fn what_given_up_calls_leave_is_bounded() {
        let mut landed = Landed::default();
        let large = Bytes::from(vec![0; 1 << 20]);
        for sequence in 0..200 {
            landed.add(&chunk(sequence, large.clone()));
            assert!(landed.bytes <= BYTES_MAX);
            assert!(landed.has(&chunk(sequence, large.clone())));
        }
    }
}
