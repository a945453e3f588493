//! How many requests may be in flight towards a shard: additive increase, multiplicative decrease.
//! Pure; time comes in as durations.

use std::time::Duration;

/// What became of a request, as far as the limit is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Answered after this long.
    Answered(Duration),
    /// Refused for load, or not answered in time.
    Overload,
    /// Failed for another reason.
    Other,
}

/// How many may be in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// At first.
    pub(crate) start: usize,
    /// However slow the database is.
    pub(crate) least: usize,
    /// However fast it is: more than the others.
    pub(crate) most: usize,
}

/// The limit of one shard.
#[derive(Debug)]
pub(crate) struct Limit {
    limit: usize,
    bounds: Bounds,
    /// An answer slower than this is a sign of a queue.
    slow: Duration,
    /// Answers since the limit changed last.
    since: usize,
}

impl Limit {
    /// A limit that shrinks when answers take longer than `slow`.
    pub(crate) fn new(bounds: Bounds, slow: Duration) -> Self {
        Self { limit: bounds.start.min(bounds.most), bounds, slow, since: 0 }
    }

    /// How many may be in flight now.
    pub(crate) fn now(&self) -> usize {
        self.limit
    }

    /// Takes an outcome in. The limit grows by one for each round of answers as many as it allows,
    /// and only while it is `used` to the full; it shrinks by a quarter at most once a round, since
    /// all of a round meet the same queue.
    pub(crate) fn take(&mut self, signal: Signal, used: bool) {
        self.since = self.since.saturating_add(1);
        let round_is_over = self.since >= self.limit;
        match signal {
            Signal::Overload => self.shrink_after(round_is_over),
            Signal::Answered(took) if took > self.slow => self.shrink_after(round_is_over),
            Signal::Answered(_) => {
                if round_is_over && used && self.limit < self.bounds.most {
                    self.limit += 1;
                    self.since = 0;
                }
            }
            Signal::Other => {}
        }
    }

    fn shrink_after(&mut self, round_is_over: bool) {
        if !round_is_over {
            return;
        }
        self.limit = (self.limit * 3 / 4).max(self.bounds.least.min(self.bounds.most));
        self.since = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Signal = Signal::Answered(Duration::from_millis(2));
    const SLOW: Duration = Duration::from_millis(250);

    fn upto(most: usize) -> Limit {
        Limit::new(Bounds { start: 32, least: 4, most }, SLOW)
    }

    fn rounds(limit: &mut Limit, signal: Signal, rounds: usize) {
        for _ in 0..rounds {
            for _ in 0..limit.now() {
                limit.take(signal, true);
            }
        }
    }

    #[test]
    fn it_grows_by_one_a_round_up_to_its_bound_and_only_when_used() {
        let mut limit = upto(40);
        for _ in 0..10_000 {
            limit.take(FAST, false);
        }
        assert_eq!(limit.now(), 32);
        rounds(&mut limit, FAST, 3);
        assert_eq!(limit.now(), 35);
        rounds(&mut limit, FAST, 100);
        assert_eq!(limit.now(), 40);
    }

    #[test]
    fn it_shrinks_once_a_round_and_never_below_the_least() {
        for signal in [Signal::Overload, Signal::Answered(Duration::from_secs(1))] {
            let mut limit = upto(256);
            rounds(&mut limit, signal, 1);
            assert_eq!(limit.now(), 24, "{signal:?}");
            rounds(&mut limit, signal, 100);
            assert_eq!(limit.now(), 4);
            rounds(&mut limit, FAST, 2);
            assert_eq!(limit.now(), 6);
        }
        let mut limit = upto(2);
        rounds(&mut limit, Signal::Overload, 100);
        assert_eq!(limit.now(), 2);
    }

    #[test]
    fn other_failures_say_nothing_about_load() {
        let mut limit = upto(256);
        rounds(&mut limit, Signal::Other, 10);
        assert_eq!(limit.now(), 32);
    }
}
