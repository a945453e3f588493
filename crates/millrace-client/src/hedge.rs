//! Second attempts of reads that take long, within a budget.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// Hundredths of a second attempt that each read earns: one in twenty may be asked twice. Where all of
/// them are slow, asking twice would only make it worse.
const EARNED: i64 = 5;
/// Hundredths that are kept at most: ten second attempts at once.
const KEPT_MAX: i64 = 1_000;
const COST: i64 = 100;

/// Asks again what was not answered in time, and takes the answer that comes first ("hedged requests",
/// Dean and Barroso, The Tail at Scale, 2013). For reads alone: both attempts may be carried out.
#[derive(Debug)]
pub(crate) struct Hedge {
    after: Duration,
    budget: AtomicI64,
}

impl Hedge {
    /// Asks again after this long.
    pub(crate) fn new(after: Duration) -> Self {
        Self { after, budget: AtomicI64::new(KEPT_MAX) }
    }

    /// The first answer that is none of an error; the error of the last attempt where both fail.
    pub(crate) async fn race<T, E, F>(&self, call: impl Fn() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.earn();
        let mut first = pin!(call());
        tokio::select! {
            biased;
            answer = &mut first => return answer,
            // The wait is what this is: a read that takes longer is asked again.
            () = sleep(self.after) => {}
        }
        if !self.spend() {
            return first.await;
        }
        let mut second = pin!(call());
        tokio::select! {
            biased;
            answer = &mut first => match answer {
                Ok(answer) => Ok(answer),
                Err(_) => second.await,
            },
            answer = &mut second => match answer {
                Ok(answer) => Ok(answer),
                Err(_) => first.await,
            },
        }
    }

    fn earn(&self) {
        let add = |budget: i64| Some((budget + EARNED).min(KEPT_MAX));
        // Never refused: the closure always gives a value.
        let _ = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn spend(&self) -> bool {
        let take = |budget: i64| (budget >= COST).then_some(budget - COST);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use millrace_store::StoreError;

    use super::*;

    const AFTER: Duration = Duration::from_millis(10);
    const SLOW: Duration = Duration::from_secs(10);

    fn unavailable() -> StoreError {
        StoreError::Unavailable { operation: "load", reason: "gone".to_owned() }
    }

    /// Attempts that take so long and end so, one after the other; gives the outcome and how many were
    /// begun.
    async fn race(
        hedge: &Hedge,
        attempts: [(Duration, Result<u8, StoreError>); 2],
    ) -> (Result<u8, StoreError>, usize) {
        let begun = AtomicUsize::new(0);
        let outcome = hedge.race(|| {
            let (takes, outcome) = attempts[begun.fetch_add(1, Ordering::Relaxed)].clone();
            async move {
                sleep(takes).await;
                outcome
            }
        });
        (outcome.await, begun.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_read_is_asked_again_and_the_first_answer_counts() {
        let hedge = Hedge::new(AFTER);
        let quick = AFTER / 2;
        assert_eq!(race(&hedge, [(quick, Ok(1)), (quick, Ok(2))]).await, (Ok(1), 1));
        assert_eq!(race(&hedge, [(SLOW, Ok(1)), (quick, Ok(2))]).await, (Ok(2), 2));
        assert_eq!(race(&hedge, [(AFTER * 2, Ok(1)), (SLOW, Ok(2))]).await, (Ok(1), 2));
        // One that fails leaves the word to the other.
        assert_eq!(race(&hedge, [(SLOW, Ok(1)), (quick, Err(unavailable()))]).await, (Ok(1), 2));
        let failing = [(AFTER * 2, Err(unavailable())), (SLOW, Ok(2))];
        assert_eq!(race(&hedge, failing).await, (Ok(2), 2));
        // A failure in time is nothing to hedge.
        let failed = [(quick, Err(unavailable())), (quick, Ok(2))];
        assert_eq!(race(&hedge, failed).await, (Err(unavailable()), 1));
    }

    /// When every read is slow, one in twenty is asked twice once what was kept is spent.
    #[tokio::test(start_paused = true)]
    async fn slow_reads_are_asked_again_within_a_budget() {
        let hedge = Hedge::new(AFTER);
        let mut second = 0;
        // The first one finds all that is kept, and earns nothing.
        for _ in 0..=400 {
            let (_, begun) = race(&hedge, [(AFTER * 3, Ok(1)), (AFTER * 3, Ok(2))]).await;
            second += begun - 1;
        }
        assert_eq!(second, 10 + 400 / 20);
    }
}
