//! The log's clock (`slot-log.md`, "Clock"): `ver = max(now, last + 1, floor)`, never above the
//! ceiling that the node's lease grants.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_types::KnownAt;

/// Wall clock in microseconds since the epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "the shell reads the wall clock here and nowhere else"
)]
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The ceiling of the node's lease, renewed by the service and read by every worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ceiling(Arc<AtomicI64>);

impl Ceiling {
    /// Raises the ceiling; it never goes down.
    pub(crate) fn raise(&self, ceiling: KnownAt) {
        self.0.fetch_max(ceiling.0, Ordering::AcqRel);
    }

    /// The lease still grants versions of now.
    pub(crate) fn holds(&self) -> bool {
        now_us() <= self.get()
    }

    /// The greatest version it grants: whoever takes a slot over after this lease starts above.
    pub(crate) fn granted(&self) -> KnownAt {
        KnownAt(self.get())
    }

    fn get(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A worker's clock. Versions strictly increase, so those of each of its slots do.
#[derive(Debug)]
pub(crate) struct Clock {
    last: i64,
    ceiling: Ceiling,
}

impl Clock {
    pub(crate) fn new(ceiling: Ceiling) -> Self {
        Self { last: 0, ceiling }
    }

    /// No version at or below `floor` is given any more.
    pub(crate) fn raise(&mut self, floor: KnownAt) {
        self.last = self.last.max(floor.0);
    }

    /// The lease that it keeps to.
    pub(crate) fn lease(&self) -> &Ceiling {
        &self.ceiling
    }

    /// The greatest version given so far.
    pub(crate) fn last(&self) -> KnownAt {
        KnownAt(self.last)
    }

    /// The next version, or `None` above the ceiling: wait for the lease's renewal.
    pub(crate) fn next(&mut self) -> Option<KnownAt> {
        let ver = now_us().max(self.last + 1);
        if ver > self.ceiling.get() {
            return None;
        }
        self.last = ver;
        Some(KnownAt(ver))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_increase_and_stop_at_the_ceiling() {
        let ceiling = Ceiling::default();
        let mut clock = Clock::new(ceiling.clone());
        assert_eq!(clock.next(), None);
        let far = now_us() + 60_000_000;
        clock.raise(KnownAt(far));
        ceiling.raise(KnownAt(far + 2));
        assert_eq!(clock.next(), Some(KnownAt(far + 1)));
        assert_eq!(clock.next(), Some(KnownAt(far + 2)));
        assert_eq!(clock.next(), None);
    }
}
