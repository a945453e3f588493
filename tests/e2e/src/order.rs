//! Orders of arrival.

/// An order in which rows arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they stand.
    Given,
    /// The last one first.
    Reversed,
    /// Any, the same for the same seed.
    Shuffled(u64),
}

impl Order {
    /// What it is called, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Reversed => "reversed",
            Self::Shuffled(_) => "shuffled",
        }
    }

    /// The rows in this order.
    #[must_use]
    pub fn of<T>(self, mut rows: Vec<T>) -> Vec<T> {
        match self {
            Self::Given => rows,
            Self::Reversed => {
                rows.reverse();
                rows
            }
            Self::Shuffled(seed) => shuffled(rows, seed),
        }
    }
}

/// Shuffles by Fisher and Yates with SplitMix64, which needs no dependency and never changes.
#[must_use]
pub fn shuffled<T>(mut rows: Vec<T>, seed: u64) -> Vec<T> {
    let mut state = seed;
    for last in (1..rows.len()).rev() {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        // The bias of a remainder is far below what a test of orders could notice.
        let bound = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
        rows.swap(last, usize::try_from(word % bound).unwrap_or(0));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_keep_every_row() {
        let rows: Vec<u32> = (0..1000).collect();
        for order in [Order::Given, Order::Reversed, Order::Shuffled(1)] {
            let mut ordered = order.of(rows.clone());
            assert_eq!(ordered == rows, order == Order::Given, "{order:?}");
            ordered.sort_unstable();
            assert_eq!(ordered, rows, "{order:?}");
        }
        assert_eq!(shuffled(rows.clone(), 7), shuffled(rows.clone(), 7));
        assert_ne!(shuffled(rows.clone(), 7), shuffled(rows, 8));
    }
}
