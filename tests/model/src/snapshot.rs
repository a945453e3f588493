//! The model's entity: one a slot, whose value is a hash of the chunks in effect. Its head says up
//! to where it covers the log, and stands on a page: that of its own hash, or an older one kept.

use millrace_store::Part;
use millrace_types::{Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};

/// The entity of a slot.
///
/// # Panics
/// Never: the key is a number.
#[must_use]
pub fn entity(slot: SlotId) -> Entity {
    let key = EntityKey::try_new(&[KeyPart::Int64(i64::from(slot.0))]);
    Entity { kind: KindId(0), key: key.expect("one number is a key") }
}

/// The hash after one more chunk (FNV-1a): it depends on every chunk and on their order.
#[must_use]
pub fn fold(hash: u64, chunk: &[u8]) -> u64 {
    chunk.iter().fold(hash ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last chunk in effect.
    pub applied: Position,
    /// The hash of the chunks up to there.
    pub hash: u64,
    /// The name of its page.
    pub page: KnownAt,
    /// What that page holds: the hash when it was written.
    pub page_hash: u64,
}

impl Head {
    /// Its page.
    #[must_use]
    pub fn part(&self) -> Part {
        Part::Page(self.page, 0)
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Position { epoch, sequence } = self.applied;
        [epoch, sequence, self.hash, self.page.0.cast_unsigned(), self.page_hash]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    /// Reads [`Head::encode`] back.
    ///
    /// # Panics
    /// When the bytes are no head.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let number = |index: usize| {
            let bytes = bytes[index * 8..].first_chunk();
            u64::from_le_bytes(*bytes.expect("heads of the model are five numbers"))
        };
        Self {
            applied: Position { epoch: number(0), sequence: number(1) },
            hash: number(2),
            page: KnownAt(number(3).cast_signed()),
            page_hash: number(4),
        }
    }
}
