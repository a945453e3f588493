//! The slots of a cluster: a power of two, chosen when the cluster is made.

use millrace_types::SlotId;
use thiserror::Error;

/// Greatest number of slots of a cluster.
pub const SLOTS_MAX: u32 = 1 << 16;

/// How many slots there are. A slot is the top bits of an entity's hash, so doubling the number
/// splits each slot `s` into `2s` and `2s + 1` and moves no entity anywhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slots {
    bits: u32,
}

/// A number of slots that no cluster can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} slots: the number of slots is a power of two from 1 to {SLOTS_MAX}")]
pub struct SlotsError(pub u32);

impl Slots {
    /// Checks a number of slots.
    ///
    /// # Errors
    /// [`SlotsError`] when it is not a power of two from 1 to [`SLOTS_MAX`].
    pub fn try_new(count: u32) -> Result<Self, SlotsError> {
        if !count.is_power_of_two() || count > SLOTS_MAX {
            return Err(SlotsError(count));
        }
        Ok(Self { bits: count.trailing_zeros() })
    }

    /// The number of slots.
    #[inline]
    #[must_use]
    pub fn count(self) -> u32 {
        1 << self.bits
    }

    /// The slot of an entity with this hash: its top bits.
    #[inline]
    #[must_use]
    pub fn slot_of(self, entity_hash: u64) -> SlotId {
        // Two shifts, because one by all 64 bits, which a single slot asks for, is no shift at all.
        SlotId(((entity_hash >> 1) >> (63 - self.bits)) as u32)
    }

    /// Every slot, ascending.
    pub fn iter(self) -> impl ExactSizeIterator<Item = SlotId> {
        (0..self.count() as usize).map(|slot| SlotId(slot as u32))
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::entity::entity_hash;
    use millrace_types::{EntityKey, KeyPart};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_powers_of_two_are_numbers_of_slots() {
        for count in [1, 2, 64, 1024, SLOTS_MAX] {
            assert_eq!(Slots::try_new(count).unwrap().count(), count);
        }
        for count in [0, 3, 63, SLOTS_MAX * 2, u32::MAX] {
            assert_eq!(Slots::try_new(count), Err(SlotsError(count)));
        }
    }

    #[test]
    fn slot_vectors_never_change() {
        let user = EntityKey::try_new(&[KeyPart::Int64(42)]).unwrap();
        let item = EntityKey::try_new(&[KeyPart::String("85123A")]).unwrap();
        let slots_of = |kind: &str, key: &EntityKey| {
            let hash = entity_hash(kind, key.as_bytes());
            [1, 2, 64, 1024, SLOTS_MAX].map(|n| Slots::try_new(n).unwrap().slot_of(hash).0)
        };
        // The hashes are 0x708f_5897_a8f3_e8b2 and 0x6029_4731_30d4_98a2.
        assert_eq!(slots_of("user", &user), [0, 0, 28, 450, 0x708f]);
        assert_eq!(slots_of("item", &item), [0, 0, 24, 384, 0x6029]);
    }

    proptest! {
        #[test]
        fn doubling_splits_each_slot_in_two(hash: u64, bits in 0u32..16) {
            let slots = Slots::try_new(1 << bits).unwrap();
            let doubled = Slots::try_new(2 << bits).unwrap();
            let (slot, half) = (slots.slot_of(hash).0, doubled.slot_of(hash).0);
            prop_assert!(slot < slots.count());
            prop_assert_eq!(half / 2, slot);
        }
    }
}
