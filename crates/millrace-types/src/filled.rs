//! How far stored heads know the features of the catalog.

/// How far the stored heads of a slot know every feature, and how far a backfill has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filled {
    /// Every head of the slot knows the features of this catalog version.
    pub version: u32,
    /// A backfill goes on to this one; 0 or `version` when there is none.
    pub toward: u32,
    /// It has done the entities whose hash is smaller.
    pub below: u64,
}

impl Filled {
    /// What holds of a slot that nothing was stated of: a head was made under the first version or a
    /// later one, and knows what the first one had.
    pub const FIRST: Self = Self::whole(1);

    /// All is done up to this version.
    #[must_use]
    pub const fn whole(version: u32) -> Self {
        Self { version, toward: version, below: 0 }
    }

    /// How much of the slot a backfill has done, in thousandths, where the cluster has this many slots.
    /// Hashes are spread evenly, so that it is the share of entities.
    #[must_use]
    pub fn permille(&self, slots: u32) -> u32 {
        // A slot is the top bits of the hash: the rest says where in the slot it lies.
        let within = self.below.checked_shl(slots.trailing_zeros()).unwrap_or(0);
        ((u128::from(within) * 1_000) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Filled;

    #[test]
    fn a_share_is_within_the_slot() {
        let at = |below| Filled { version: 1, toward: 2, below };
        assert_eq!(at(0).permille(1), 0);
        assert_eq!(at(1 << 63).permille(1), 500);
        assert_eq!(at(u64::MAX).permille(1), 999);
        // Slot 3 of 4 begins at three quarters.
        assert_eq!(at(3 << 62).permille(4), 0);
        assert_eq!(at((3 << 62) + (1 << 60)).permille(4), 250);
    }
}
