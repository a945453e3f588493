//! Verdicts, reasons and their counts.

use millrace_types::{RejectReason, Verdict, VerdictCounts};

use super::error::{ConvertError, Rule};
use crate::v1;

/// The verdict's name; rows, queued and the reason travel beside it.
impl From<Verdict> for v1::Verdict {
    fn from(from: Verdict) -> Self {
        match from {
            Verdict::Accepted => Self::Accepted,
            Verdict::Repaired { .. } | Verdict::Queued => Self::Repaired,
            Verdict::Duplicate => Self::Duplicate,
            Verdict::Late => Self::Late,
            Verdict::Rejected(_) => Self::Rejected,
        }
    }
}

impl From<RejectReason> for v1::RejectReason {
    fn from(from: RejectReason) -> Self {
        match from {
            RejectReason::UnknownStream => Self::UnknownStream,
            RejectReason::BadRow => Self::BadRow,
            RejectReason::MissingKey => Self::MissingKey,
            RejectReason::AtOutOfBounds => Self::AtOutOfBounds,
            RejectReason::TooLarge => Self::TooLarge,
            RejectReason::ErasedEntity => Self::ErasedEntity,
        }
    }
}

/// # Errors
/// [`Rule::UnknownEnum`] for the unspecified reason.
impl TryFrom<v1::RejectReason> for RejectReason {
    type Error = ConvertError;

    fn try_from(from: v1::RejectReason) -> Result<Self, ConvertError> {
        Ok(match from {
            v1::RejectReason::Unspecified => {
                return Err(ConvertError::new(Rule::UnknownEnum(from as i32)));
            }
            v1::RejectReason::UnknownStream => Self::UnknownStream,
            v1::RejectReason::BadRow => Self::BadRow,
            v1::RejectReason::MissingKey => Self::MissingKey,
            v1::RejectReason::AtOutOfBounds => Self::AtOutOfBounds,
            v1::RejectReason::TooLarge => Self::TooLarge,
            v1::RejectReason::ErasedEntity => Self::ErasedEntity,
        })
    }
}

impl From<VerdictCounts> for v1::VerdictCounts {
    fn from(from: VerdictCounts) -> Self {
        Self {
            accepted: from.accepted,
            repaired: from.repaired,
            duplicate: from.duplicate,
            late: from.late,
            rejected: from.rejected,
            queued: from.queued,
            rows_repaired: from.rows_repaired,
        }
    }
}

impl From<v1::VerdictCounts> for VerdictCounts {
    fn from(from: v1::VerdictCounts) -> Self {
        Self {
            accepted: from.accepted,
            repaired: from.repaired,
            queued: from.queued,
            duplicate: from.duplicate,
            late: from.late,
            rejected: from.rejected,
            rows_repaired: from.rows_repaired,
        }
    }
}

impl v1::VerdictCounts {
    /// The number of facts counted. Saturates: the counts came over the wire.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.accepted, self.repaired, self.duplicate, self.late, self.rejected]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_and_reasons_have_the_names_of_the_types_crate() {
        let verdicts = [
            Verdict::Accepted,
            Verdict::Repaired { rows: 1 },
            Verdict::Queued,
            Verdict::Duplicate,
            Verdict::Late,
            Verdict::Rejected(RejectReason::BadRow),
        ];
        for verdict in verdicts {
            let wire = v1::Verdict::from(verdict);
            assert_eq!(wire.as_str_name(), format!("VERDICT_{}", verdict.name()));
        }
        for reason in RejectReason::ALL {
            let wire = v1::RejectReason::from(reason);
            assert_eq!(wire.as_str_name(), format!("REJECT_REASON_{}", reason.name()));
            assert_eq!(wire as i32, reason as i32);
            assert_eq!(RejectReason::try_from(wire), Ok(reason));
        }
    }

    #[test]
    fn counts_come_back() {
        let mut counts = VerdictCounts::default();
        for verdict in [Verdict::Queued, Verdict::Repaired { rows: 7 }, Verdict::Late] {
            counts.add(verdict);
        }
        let wire = v1::VerdictCounts::from(counts);
        assert_eq!(wire.total(), counts.total());
        assert_eq!(VerdictCounts::from(wire), counts);
    }
}
