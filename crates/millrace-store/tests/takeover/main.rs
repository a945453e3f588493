//! Taking slots over under scripted faults. `tests/model` searches the interleavings.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_store::{NodeId, Retry, StoreError};
use millrace_types::chunk::encode_chunk;
use millrace_types::{ChunkHeader, KnownAt, Position, SlotId};

const SLOT: SlotId = SlotId(5);

/// Tries again so many times in a row.
struct Attempts(u32);

#[async_trait]
impl Retry for Attempts {
    async fn again(&mut self, _: &StoreError) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

fn at(epoch: u64, sequence: u64) -> Position {
    Position { epoch, sequence }
}

fn chunk(known_at: KnownAt, payload: &str) -> Bytes {
    let header = ChunkHeader { known_at, ..ChunkHeader::default() };
    Bytes::from(encode_chunk(&header, [payload.as_bytes()]))
}
