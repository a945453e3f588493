//! What becomes of each fact of an acknowledged batch.

use std::fmt;
use std::ops::AddAssign;

/// Why a fact was refused. A closed set: scripts and metrics rely on the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RejectReason {
    /// The catalog has no such stream.
    UnknownStream = 1,
    /// A value does not fit its field's type or rule.
    BadRow = 2,
    /// A key part is NULL or empty.
    MissingKey = 3,
    /// `at` lies more than `max_future` ahead of ingest's clock.
    AtOutOfBounds = 4,
    /// The fact exceeds a size limit.
    TooLarge = 5,
    /// The entity was erased.
    ErasedEntity = 6,
}

impl RejectReason {
    /// All reasons, in the order of their stable numbers.
    pub const ALL: [Self; 6] = [
        Self::UnknownStream,
        Self::BadRow,
        Self::MissingKey,
        Self::AtOutOfBounds,
        Self::TooLarge,
        Self::ErasedEntity,
    ];

    /// The name used in JSON and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownStream => "UNKNOWN_STREAM",
            Self::BadRow => "BAD_ROW",
            Self::MissingKey => "MISSING_KEY",
            Self::AtOutOfBounds => "AT_OUT_OF_BOUNDS",
            Self::TooLarge => "TOO_LARGE",
            Self::ErasedEntity => "ERASED_ENTITY",
        }
    }

    /// The reason with this stable number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|r| *r as u8 == number)
    }
}

/// The one verdict of a fact. Where a fact has several entities, the strongest of their verdicts is
/// acknowledged: REJECTED, LATE, REPAIRED, ACCEPTED, DUPLICATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// New, and changed no row emitted before.
    Accepted,
    /// New, and changed this many rows emitted before (`-` records over all views).
    Repaired {
        /// Logical count of retracted rows.
        rows: u64,
    },
    /// New or not, its entity is dirty: it takes effect when the entity is rebuilt. Acknowledged as
    /// REPAIRED{queued}.
    Queued,
    /// Known already.
    Duplicate,
    /// Behind the repair horizon of a stream with `beyond_repair: hold`, or before what its retention keeps.
    Late,
    /// Refused.
    Rejected(RejectReason),
}

impl Verdict {
    fn strength(self) -> u8 {
        match self {
            Self::Duplicate => 0,
            Self::Accepted => 1,
            Self::Repaired { .. } => 2,
            Self::Queued => 3,
            Self::Late => 4,
            Self::Rejected(_) => 5,
        }
    }

    /// The verdict of a fact that has both. Repaired rows add up.
    #[must_use]
    pub fn strongest(self, other: Self) -> Self {
        match (self, other) {
            (Self::Repaired { rows: a }, Self::Repaired { rows: b }) => {
                Self::Repaired { rows: a.saturating_add(b) }
            }
            (a, b) if a.strength() >= b.strength() => a,
            (_, b) => b,
        }
    }

    /// The name used on the wire: REPAIRED covers both repaired and queued facts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::Repaired { .. } | Self::Queued => "REPAIRED",
            Self::Duplicate => "DUPLICATE",
            Self::Late => "LATE",
            Self::Rejected(_) => "REJECTED",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A verdict, and whether the fact conflicts: the same id and revision came with another payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// True when a fact of the same id and revision has another payload; it is stored too.
    pub conflict: bool,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, conflict: false }
    }
}

/// How many facts had each verdict. The five counts add up to the facts sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerdictCounts {
    /// ACCEPTED
    pub accepted: u64,
    /// REPAIRED, queued ones included
    pub repaired: u64,
    /// Of those, the queued ones.
    pub queued: u64,
    /// DUPLICATE
    pub duplicate: u64,
    /// LATE
    pub late: u64,
    /// REJECTED
    pub rejected: u64,
    /// Rows retracted by the repaired facts.
    pub rows_repaired: u64,
}

impl VerdictCounts {
    /// Counts one more fact.
    pub fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accepted => self.accepted += 1,
            Verdict::Repaired { rows } => {
                self.repaired += 1;
                self.rows_repaired += rows;
            }
            Verdict::Queued => {
                self.repaired += 1;
                self.queued += 1;
            }
            Verdict::Duplicate => self.duplicate += 1,
            Verdict::Late => self.late += 1,
            Verdict::Rejected(_) => self.rejected += 1,
        }
    }

    /// The number of facts counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.accepted + self.repaired + self.duplicate + self.late + self.rejected
    }
}

impl AddAssign for VerdictCounts {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.repaired += other.repaired;
        self.queued += other.queued;
        self.duplicate += other.duplicate;
        self.late += other.late;
        self.rejected += other.rejected;
        self.rows_repaired += other.rows_repaired;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_verdict_wins_and_rows_add_up() {
        let repaired = |rows| Verdict::Repaired { rows };
        assert_eq!(Verdict::Duplicate.strongest(Verdict::Accepted), Verdict::Accepted);
        assert_eq!(repaired(2).strongest(repaired(3)), repaired(5));
        assert_eq!(repaired(2).strongest(Verdict::Late), Verdict::Late);
        assert_eq!(Verdict::Queued.strongest(repaired(2)), Verdict::Queued);
    }

    #[test]
    fn reasons_keep_their_numbers() {
        for reason in RejectReason::ALL {
            assert_eq!(RejectReason::from_number(reason as u8), Some(reason));
        }
        assert_eq!(RejectReason::from_number(0), None);
    }
}
