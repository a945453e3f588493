//! What auditing found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;

use crate::metrics::{PARITY_MISMATCH_RATIO, PARITY_REBUILDS, PARITY_SAMPLES, PARITY_SKIPPED};

/// Why an answer that was drawn is not compared. A closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// More were drawn than may be in a second, or than could be written.
    Rate,
    /// It is larger than a sample may be.
    Size,
    /// Others took its place in the ring before it was looked at.
    Overwritten,
    /// Its catalog version is not known any more.
    Catalog,
    /// Reading its log takes more than a read from the log may.
    Budget,
    /// It cannot be written, or its log cannot be read.
    Store,
    /// The sample does not decode.
    Damaged,
    /// It differs, and entities were erased in its slot since: the log is not what it was.
    Erased,
    /// What it was made from was forgotten for its stream's retention since.
    Forgotten,
}

impl Skip {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rate,
        Self::Size,
        Self::Overwritten,
        Self::Catalog,
        Self::Budget,
        Self::Store,
        Self::Damaged,
        Self::Erased,
        Self::Forgotten,
    ];

    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Size => "size",
            Self::Overwritten => "overwritten",
            Self::Catalog => "catalog",
            Self::Budget => "budget",
            Self::Store => "store",
            Self::Damaged => "damaged",
            Self::Erased => "erased",
            Self::Forgotten => "forgotten",
        }
    }
}

/// Counts of samples by what became of them, since the process was started.
#[derive(Debug)]
pub struct Tally {
    equal: AtomicU64,
    mismatches: AtomicU64,
    skipped: AtomicU64,
    samples: Counter<u64>,
    reasons: Counter<u64>,
    rebuilds: Counter<u64>,
}

impl Tally {
    pub(super) fn new() -> Arc<Self> {
        let tally = Arc::new(Self {
            equal: AtomicU64::new(0),
            mismatches: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            samples: PARITY_SAMPLES.count(),
            reasons: PARITY_SKIPPED.count(),
            rebuilds: PARITY_REBUILDS.count(),
        });
        // What never happened is told as none, so that a rate of it exists from the start.
        for outcome in ["equal", "mismatch", "skipped"] {
            tally.samples.add(0, &[KeyValue::new("outcome", outcome)]);
        }
        for reason in Skip::ALL {
            tally.reasons.add(0, &[KeyValue::new("reason", reason.name())]);
        }
        tally.rebuilds.add(0, &[]);
        let of = Arc::downgrade(&tally);
        PARITY_MISMATCH_RATIO.set_to(move || Some(of.upgrade()?.mismatch_ratio()));
        tally
    }

    fn count(&self, of: &AtomicU64, outcome: &'static str) {
        of.fetch_add(1, Ordering::Relaxed);
        self.samples.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    pub(super) fn is_equal(&self) {
        self.count(&self.equal, "equal");
    }

    pub(super) fn differs(&self) {
        self.count(&self.mismatches, "mismatch");
    }

    pub(super) fn skip(&self, reason: Skip) {
        self.count(&self.skipped, "skipped");
        self.reasons.add(1, &[KeyValue::new("reason", reason.name())]);
    }

    pub(super) fn rebuilds(&self) {
        self.rebuilds.add(1, &[]);
    }

    /// Samples that are what the log says.
    #[must_use]
    pub fn equal(&self) -> u64 {
        self.equal.load(Ordering::Relaxed)
    }

    /// Samples that are not.
    #[must_use]
    pub fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }

    /// Samples that were not compared.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Of what was compared the share that differs; 0 where nothing was.
    #[must_use]
    pub fn mismatch_ratio(&self) -> f64 {
        let (equal, mismatches) = (self.equal(), self.mismatches());
        match equal + mismatches {
            0 => 0.0,
            compared => mismatches as f64 / compared as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_what_was_compared() {
        let tally = Tally::new();
        assert_eq!(tally.mismatch_ratio(), 0.0);
        Skip::ALL.into_iter().for_each(|reason| tally.skip(reason));
        assert_eq!((tally.mismatch_ratio(), tally.skipped()), (0.0, 9));
        (0..3).for_each(|_| tally.is_equal());
        tally.differs();
        assert_eq!((tally.mismatch_ratio(), tally.equal(), tally.mismatches()), (0.25, 3, 1));
    }
}
