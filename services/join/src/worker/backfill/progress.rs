//! How long a worker still takes with its backfills, by what it has done so far.

use std::time::Duration;

use tokio::time::Instant;

/// What a worker has filled in toward a catalog version.
#[derive(Debug, Clone, Copy)]
pub(in crate::worker) struct Progress {
    version: u32,
    begun: Instant,
    /// Thousandths of slots, of those that had to be looked through.
    done: u64,
}

impl Progress {
    /// Nothing yet.
    pub(in crate::worker) fn new(version: u32, begun: Instant) -> Self {
        Self { version, begun, done: 0 }
    }

    /// The catalog version that is gone to.
    pub(in crate::worker) fn version(&self) -> u32 {
        self.version
    }

    /// So many thousandths of a slot were done, up to so many.
    pub(in crate::worker) fn add(&mut self, from: u32, to: u32) {
        self.done += u64::from(to.saturating_sub(from));
    }

    /// How long so many thousandths of slots take at the rate so far; unknown while nothing is done.
    pub(in crate::worker) fn time_left(&self, left: u64, now: Instant) -> Option<Duration> {
        let micros = now.saturating_duration_since(self.begun).as_micros();
        let micros = (micros * u128::from(left)).checked_div(u128::from(self.done))?;
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_left_follows_the_rate_so_far() {
        let begun = Instant::now();
        let mut progress = Progress::new(2, begun);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(progress.time_left(3_000, Instant::now()), None, "nothing is done");
        progress.add(0, 250);
        assert_eq!(progress.time_left(750, Instant::now()), Some(Duration::from_secs(12)));
        // A slot that went to another node and comes back may be behind where it was.
        progress.add(250, 100);
        tokio::time::advance(Duration::from_secs(4)).await;
        progress.add(250, 1_000);
        assert_eq!(progress.time_left(500, Instant::now()), Some(Duration::from_secs(4)));
        assert_eq!(progress.time_left(0, Instant::now()), Some(Duration::ZERO));
        assert_eq!(progress.version(), 2);
    }
}
