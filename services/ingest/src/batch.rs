//! What a producer sends: the numbers of its facts and the facts themselves.

use std::ops::Range;

use millrace_types::limits::BATCH_FACTS_MAX;
use thiserror::Error;

/// Greatest span of sequences one batch may settle, holes included. It bounds the answer of the
/// producer's window, which has one entry a sequence.
pub const SPAN_MAX: u64 = 16 * BATCH_FACTS_MAX as u64;

/// The sequences of the facts of a batch: `first`, `first + 1` and so on, or listed one by one
/// where there are holes. The batch settles all of `[first, next)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    first: u64,
    next: u64,
    listed: Vec<u64>,
    facts: usize,
}

/// What is wrong with the numbers of a batch. Each names the field of the request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SequencesError {
    /// More facts than a batch may have.
    #[error("a batch has at most {BATCH_FACTS_MAX} facts, this one has {0}")]
    TooManyFacts(usize),
    /// A list that is not one a fact.
    #[error("lists {listed} sequences for {facts} facts")]
    Count {
        /// Sequences listed.
        listed: usize,
        /// Facts in the batch.
        facts: usize,
    },
    /// A listed sequence that does not rise, or lies outside the range.
    #[error(
        "sequence {sequence} of fact {index} must be above the one before and within [{first}, {next})"
    )]
    Order {
        /// The index of the fact.
        index: usize,
        /// Its sequence.
        sequence: u64,
        /// The first sequence the batch covers.
        first: u64,
        /// One past the last.
        next: u64,
    },
    /// A range that does not hold the facts.
    #[error("[{first}, {next}) does not hold {facts} sequences")]
    Range {
        /// The first sequence the batch covers.
        first: u64,
        /// One past the last.
        next: u64,
        /// Facts in the batch.
        facts: usize,
    },
    /// A range too wide for one batch.
    #[error("a batch covers at most {SPAN_MAX} sequences, this one {0}; split it")]
    Span(u64),
}

impl SequencesError {
    /// The field of the request that is to blame.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::TooManyFacts(_) => "rows",
            Self::Count { .. } | Self::Order { .. } => "sequences",
            Self::Range { .. } | Self::Span(_) => "next_sequence",
        }
    }
}

impl Sequences {
    /// Checks the numbers of a batch of `facts` facts. `next` = 0 means one past the last fact.
    ///
    /// # Errors
    /// [`SequencesError`].
    pub fn try_new(
        first: u64,
        next: u64,
        listed: Vec<u64>,
        facts: usize,
    ) -> Result<Self, SequencesError> {
        if facts > BATCH_FACTS_MAX {
            return Err(SequencesError::TooManyFacts(facts));
        }
        if !listed.is_empty() && listed.len() != facts {
            return Err(SequencesError::Count { listed: listed.len(), facts });
        }
        let out_of_range = SequencesError::Range { first, next, facts };
        let end = match listed.last() {
            Some(last) => last.checked_add(1),
            None => first.checked_add(facts as u64),
        };
        let end = end.ok_or_else(|| out_of_range.clone())?;
        // A heartbeat has no facts, and may still settle a hole.
        let next = if next == 0 { end.max(first) } else { next };
        let mut least = first;
        for (index, &sequence) in listed.iter().enumerate() {
            if sequence < least || sequence >= next {
                return Err(SequencesError::Order { index, sequence, first, next });
            }
            least = sequence.saturating_add(1);
        }
        if next < end || next < first {
            return Err(out_of_range);
        }
        match next - first {
            span if span > SPAN_MAX => Err(SequencesError::Span(span)),
            _ => Ok(Self { first, next, listed, facts }),
        }
    }

    /// The first sequence the batch covers.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// One past the last sequence the batch covers.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The number of facts.
    #[must_use]
    pub fn facts(&self) -> usize {
        self.facts
    }

    /// The sequence of the fact with this index, which must be below [`Sequences::facts`].
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> u64 {
        debug_assert!(index < self.facts, "index of a fact of the batch");
        match self.listed.get(index) {
            Some(&sequence) => sequence,
            None => self.first + index as u64,
        }
    }

    /// The runs of `[first, next)` between the facts with these indexes, which ascend: what may be
    /// marked when those facts did not reach the log.
    pub fn runs_without(&self, left_out: &[u32]) -> impl Iterator<Item = Range<u64>> {
        let mut from = self.first;
        let mut holes = left_out.iter().map(|&index| self.get(index as usize));
        let mut done = false;
        std::iter::from_fn(move || {
            while !done {
                let run = match holes.next() {
                    Some(hole) => from..hole,
                    None => {
                        done = true;
                        from..self.next
                    }
                };
                from = run.end.saturating_add(1);
                if !run.is_empty() {
                    return Some(run);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_default_to_a_run_from_the_first() {
        let plain = Sequences::try_new(7, 0, Vec::new(), 3).unwrap();
        assert_eq!((plain.get(0), plain.get(2), plain.next()), (7, 9, 10));
        let holes = Sequences::try_new(7, 20, vec![8, 12, 13], 3).unwrap();
        assert_eq!((holes.get(0), holes.get(2), holes.next()), (8, 13, 20));
        let heartbeat = Sequences::try_new(7, 0, Vec::new(), 0).unwrap();
        assert_eq!((heartbeat.first(), heartbeat.next()), (7, 7));
    }

    #[test]
    fn sequences_that_do_not_hold_the_facts_are_refused() {
        let refused = |first, next, listed: &[u64], facts| {
            Sequences::try_new(first, next, listed.to_vec(), facts).unwrap_err().field()
        };
        assert_eq!(refused(0, 0, &[], BATCH_FACTS_MAX + 1), "rows");
        assert_eq!(refused(0, 0, &[1], 2), "sequences");
        assert_eq!(refused(5, 0, &[4], 1), "sequences");
        assert_eq!(refused(5, 0, &[6, 6], 2), "sequences");
        assert_eq!(refused(5, 7, &[6, 7], 2), "sequences");
        assert_eq!(refused(5, 6, &[], 2), "next_sequence");
        assert_eq!(refused(5, 4, &[], 0), "next_sequence");
        assert_eq!(refused(u64::MAX, 0, &[], 2), "next_sequence");
        assert_eq!(refused(0, 0, &[u64::MAX], 1), "next_sequence");
        assert_eq!(refused(0, SPAN_MAX + 1, &[], 1), "next_sequence");
    }

    #[test]
    fn runs_leave_out_what_did_not_reach_the_log() {
        let runs = |listed: &[u64], left_out: &[u32]| {
            let sequences = Sequences::try_new(10, 20, listed.to_vec(), 5).unwrap();
            sequences.runs_without(left_out).map(|r| (r.start, r.end)).collect::<Vec<_>>()
        };
        assert_eq!(runs(&[], &[]), [(10, 20)]);
        assert_eq!(runs(&[], &[0, 1, 4]), [(12, 14), (15, 20)]);
        assert_eq!(runs(&[11, 13, 15, 17, 19], &[0, 4]), [(10, 11), (12, 19)]);
    }
}
