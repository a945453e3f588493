//! Where something stands in the slot log, and the log's clock.

use std::fmt;
use std::str::FromStr;

/// A position in one slot's log: epoch by epoch, chunk by chunk. A total order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// The ownership epoch, from 1; 0 is before everything.
    pub epoch: u64,
    /// The chunk within the epoch, from 1 without gaps; 0 is before the epoch's first.
    pub sequence: u64,
}

impl Position {
    /// Before the first chunk of every log.
    pub const START: Self = Self { epoch: 0, sequence: 0 };
    /// After the last chunk of every log.
    pub const END: Self = Self { epoch: u64::MAX, sequence: u64::MAX };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

impl FromStr for Position {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, sequence) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { epoch: epoch.parse()?, sequence: sequence.parse()? })
    }
}

/// The log's clock: when Millrace learned a fact. Microseconds since the epoch, strictly increasing
/// within a slot; also the version of snapshots and marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KnownAt(pub i64);

impl KnownAt {
    /// Later than every chunk: "everything confirmed".
    pub const MAX: Self = Self(i64::MAX);
}

/// The number a producer gave a fact. Each producer numbers from where it likes, upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Sequence(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_order_by_epoch_first_and_read_back() {
        let early = Position { epoch: 1, sequence: 900 };
        let late = Position { epoch: 2, sequence: 1 };
        assert!(Position::START < early && early < late && late < Position::END);
        assert_eq!("2.1".parse(), Ok(late));
        assert!("2".parse::<Position>().is_err());
    }
}
