//! What a message of a hop takes of its credits, counted alike by both ends.

use millrace_proto::v1;
use millrace_types::chunk::fact_count;

/// Facts and bytes under way on a hop, or allowed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Facts; parts and marks where snapshots are put.
    pub facts: u64,
    /// Bytes of chunks, parts and marks.
    pub bytes: u64,
}

impl Load {
    /// Whether one more message may go while this much is under way: where nothing is, every message
    /// may, so that one larger than the credits goes alone.
    #[must_use]
    pub fn admits(self, message: Self, credits: Self) -> bool {
        let fits = self.facts.saturating_add(message.facts) <= credits.facts
            && self.bytes.saturating_add(message.bytes) <= credits.bytes;
        fits || self == Self::default()
    }

    /// One more message is under way.
    pub fn add(&mut self, message: Self) {
        self.facts = self.facts.saturating_add(message.facts);
        self.bytes = self.bytes.saturating_add(message.bytes);
    }

    /// A message is answered.
    pub fn remove(&mut self, message: Self) {
        self.facts = self.facts.saturating_sub(message.facts);
        self.bytes = self.bytes.saturating_sub(message.bytes);
    }

    /// An equal part for each of so many calls, never nothing.
    #[must_use]
    pub fn share(self, calls: usize) -> Self {
        let calls = (calls as u64).max(1);
        Self { facts: (self.facts / calls).max(1), bytes: (self.bytes / calls).max(1) }
    }
}

impl From<Load> for v1::Credits {
    fn from(load: Load) -> Self {
        Self { facts: load.facts, bytes: load.bytes }
    }
}

impl From<v1::Credits> for Load {
    fn from(credits: v1::Credits) -> Self {
        Self { facts: credits.facts, bytes: credits.bytes }
    }
}

/// A message that takes credits.
pub trait Loaded {
    /// What it takes; nothing for messages that only control, which always go.
    fn load(&self) -> Load;
}

impl Loaded for v1::AppendRequest {
    fn load(&self) -> Load {
        let mut load = Load::default();
        for chunk in &self.chunks {
            // What is no chunk counts as its bytes; the store says what is wrong with it.
            let facts = u64::from(fact_count(&chunk.chunk).unwrap_or(0));
            load.add(Load { facts, bytes: chunk.chunk.len() as u64 });
        }
        load
    }
}

impl Loaded for v1::PutRequest {
    fn load(&self) -> Load {
        let parts = self.parts.iter().map(|part| part.bytes.len());
        let marks = self.marks.iter().map(|mark| mark.mark.len());
        let mut load = Load::default();
        for bytes in parts.chain(marks) {
            load.add(Load { facts: 1, bytes: bytes as u64 });
        }
        load
    }
}

impl Loaded for v1::ProcessRequest {
    // Its facts take credits of their slots, before they are handed over.
    fn load(&self) -> Load {
        Load::default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millrace_types::chunk::{ChunkHeader, encode_chunk};

    use super::*;

    #[test]
    fn a_message_larger_than_the_credits_goes_alone() {
        let credits = Load { facts: 10, bytes: 100 };
        let mut under_way = Load::default();
        let large = Load { facts: 1, bytes: 1_000 };
        assert!(under_way.admits(large, credits));
        under_way.add(large);
        let small = Load { facts: 1, bytes: 1 };
        assert!(!under_way.admits(small, credits));
        under_way.remove(large);
        under_way.add(Load { facts: 9, bytes: 9 });
        assert!(under_way.admits(small, credits));
        assert!(!under_way.admits(Load { facts: 2, bytes: 1 }, credits));
        assert_eq!(credits.share(3), Load { facts: 3, bytes: 33 });
        assert_eq!(credits.share(1_000), Load { facts: 1, bytes: 1 });
    }

    #[test]
    fn appends_count_the_facts_of_their_chunks() {
        let header = ChunkHeader { facts: 300, catalog_version: 7, ..ChunkHeader::default() };
        let chunk = Bytes::from(encode_chunk(&header, []));
        let append = |chunk| v1::ChunkAppend { chunk, ..v1::ChunkAppend::default() };
        let chunks = vec![append(chunk.clone()), append(Bytes::from_static(b"none"))];
        let request = v1::AppendRequest { chunks, ..v1::AppendRequest::default() };
        assert_eq!(request.load(), Load { facts: 300, bytes: chunk.len() as u64 + 4 });
    }
}
