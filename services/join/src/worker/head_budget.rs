//! How many bytes of heads a worker may put: what it may put a second and some more for each byte of its log,
//! so that heads cost a fact no more where entities are many and the load is high.

use std::collections::VecDeque;
use std::time::Duration;

use millrace_types::Position;
use tokio::time::Instant;

/// Bytes of heads that a byte of the log allows for.
const PER_LOG_BYTE: i64 = 2;
/// Bytes that an idle worker saves up, and those it may owe.
const SAVED_UP: i64 = 16 << 20;

const NANOS: u128 = 1_000_000_000;

/// The bytes that may be put, as a bucket that fills with time and with the log.
pub(super) struct HeadBudget {
    per_second: u64,
    left: i64,
    filled: Instant,
}

impl HeadBudget {
    pub(super) fn new(per_second: u64) -> Self {
        Self { per_second, left: SAVED_UP, filled: Instant::now() }
    }

    /// Bytes that may be put now; none where too many were.
    pub(super) fn left(&mut self) -> usize {
        let passed = self.filled.elapsed().as_nanos();
        let gained = passed.saturating_mul(u128::from(self.per_second)) / NANOS;
        // The time of less than a byte is not lost: it is counted with the next.
        let counted = (gained * NANOS).div_ceil(u128::from(self.per_second.max(1)));
        self.filled += Duration::from_nanos(u64::try_from(counted).unwrap_or(u64::MAX));
        self.gain(i64::try_from(gained).unwrap_or(i64::MAX));
        usize::try_from(self.left).unwrap_or(0)
    }

    /// The log has so many bytes more.
    pub(super) fn logged(&mut self, bytes: usize) {
        self.gain(PER_LOG_BYTE.saturating_mul(i64::try_from(bytes).unwrap_or(i64::MAX)));
    }

    /// So many bytes of heads are put.
    pub(super) fn spend(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.left = self.left.saturating_sub(bytes).max(-SAVED_UP);
    }

    fn gain(&mut self, bytes: i64) {
        self.left = self.left.saturating_add(bytes).min(SAVED_UP);
    }
}

/// How finely the age of a slot's chunks is known, as a share of the age that matters.
const STEPS: u32 = 32;

/// Which chunks of a slot are so old that heads have to have them, whatever the budget.
#[derive(Default)]
pub(super) struct Overdue {
    /// Chunks and when they were confirmed, a step apart.
    confirmed: VecDeque<(Position, Instant)>,
}

impl Overdue {
    /// A chunk is confirmed; it matters once it is `after` old.
    pub(super) fn confirmed(&mut self, position: Position, after: Duration) {
        let now = Instant::now();
        let apart = after / STEPS;
        if self.confirmed.back().is_none_or(|(_, last)| now - *last >= apart) {
            self.confirmed.push_back((position, now));
        }
        self.forget(now, after);
    }

    /// The newest of the chunks that are so old; those before it are older.
    pub(super) fn up_to(&mut self, after: Duration) -> Option<Position> {
        let now = Instant::now();
        self.forget(now, after);
        self.confirmed.front().filter(|(_, at)| now - *at >= after).map(|(position, _)| *position)
    }

    /// Of those that are so old only the newest is asked for.
    fn forget(&mut self, now: Instant, after: Duration) {
        while self.confirmed.get(1).is_some_and(|(_, at)| now - *at >= after) {
            self.confirmed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_budget_fills_with_time_and_with_the_log() {
        let mut budget = HeadBudget::new(1_000);
        assert_eq!(budget.left(), SAVED_UP as usize, "an idle worker has some saved up");
        budget.spend(SAVED_UP as usize + 500);
        assert_eq!(budget.left(), 0);
        for _ in 0..1_000 {
            advance(Duration::from_micros(1_300)).await;
            budget.left();
        }
        assert_eq!(budget.left(), 800, "500 were owed, and no share of a byte is lost");
        budget.logged(100);
        assert_eq!(budget.left(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn neither_what_is_saved_up_nor_what_is_owed_grows_without_bound() {
        let mut budget = HeadBudget::new(SAVED_UP as u64);
        for _ in 0..100 {
            budget.spend(usize::MAX);
        }
        advance(Duration::from_millis(1_500)).await;
        assert_eq!(budget.left(), SAVED_UP as usize / 2);
        advance(Duration::from_secs(1_000)).await;
        budget.logged(usize::MAX);
        assert_eq!(budget.left(), SAVED_UP as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_are_overdue_within_a_step_of_their_time() {
        const AFTER: Duration = Duration::from_secs(4);
        let at = |sequence| Position { epoch: 1, sequence };
        let mut overdue = Overdue::default();
        assert_eq!(overdue.up_to(AFTER), None);
        // One each 10 ms for 10 s.
        for sequence in 0..1_000 {
            overdue.confirmed(at(sequence), AFTER);
            assert!(overdue.confirmed.len() <= STEPS as usize + 2);
            let up_to = overdue.up_to(AFTER).map(|position| position.sequence);
            if sequence > 400 {
                let up_to = up_to.expect("some are as old as that");
                assert!(
                    (sequence.saturating_sub(413)..=sequence - 400).contains(&up_to),
                    "{up_to}"
                );
            } else if sequence < 400 {
                assert_eq!(up_to, None, "{sequence}");
            }
            advance(Duration::from_millis(10)).await;
        }
        advance(AFTER).await;
        assert!(overdue.up_to(AFTER).is_some_and(|position| position.sequence > 980));
    }
}
