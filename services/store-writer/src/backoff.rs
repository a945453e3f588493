//! When a store call is tried again: after a growing, jittered pause, and within one budget for all
//! calls. This is the only layer that repeats what the store failed to do: adapters and drivers repeat
//! nothing, and callers repeat what this one gave up at the pace of their own pauses.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use millrace_store::{Retry, StoreError};
use tower::retry::budget::{Budget, TpsBudget};

use crate::metrics::Metrics;
use crate::options::Options;

/// How long the budget remembers calls.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);

/// Makes the policies of one store-writer.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    options: Options,
    budget: Arc<TpsBudget>,
    metrics: Arc<Metrics>,
}

/// The policy of one call.
pub(crate) struct Backoff {
    pauses: ExponentialBackoff,
    budget: Arc<TpsBudget>,
    when_spent: WhenSpent,
    is_spent: bool,
    metrics: Arc<Metrics>,
    attempts: u64,
}

/// What a call does that finds the budget used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenSpent {
    GivesUp,
    /// Its outcome must be known: it goes on after the longest pause.
    WaitsLongest(Duration),
}

impl Patience {
    pub(crate) fn new(options: Options, metrics: Arc<Metrics>) -> Self {
        let percent = f32::from(options.retry_percent) / 100.0;
        let budget = TpsBudget::new(BUDGET_WINDOW, options.retries_per_second, percent);
        Self { options, budget: Arc::new(budget), metrics }
    }

    fn pauses(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.options.pause_min)
            .with_max_delay(self.options.pause_max)
    }

    /// Until the outcome is known.
    pub(crate) fn unbounded(&self) -> Backoff {
        let longest = WhenSpent::WaitsLongest(self.options.pause_max);
        self.backoff(self.pauses().without_max_times(), longest)
    }

    /// A few times, while the budget lasts.
    pub(crate) fn bounded(&self) -> Backoff {
        self.backoff(self.pauses().with_max_times(self.options.retries), WhenSpent::GivesUp)
    }

    /// The steps of a change of owner: rare, and worth more patience than the budget allows.
    pub(crate) fn ownership(&self) -> Backoff {
        let longest = WhenSpent::WaitsLongest(self.options.pause_max);
        self.backoff(self.pauses().with_max_times(self.options.ownership_retries), longest)
    }

    /// The policy of a call that is about to be made.
    fn backoff(&self, pauses: ExponentialBuilder, when_spent: WhenSpent) -> Backoff {
        self.budget.deposit();
        Backoff {
            pauses: pauses.build(),
            budget: Arc::clone(&self.budget),
            when_spent,
            is_spent: false,
            metrics: Arc::clone(&self.metrics),
            attempts: 0,
        }
    }
}

#[async_trait]
impl Retry for Backoff {
    async fn again(&mut self, error: &StoreError) -> bool {
        self.attempts += 1;
        let Some(mut pause) = self.pauses.next() else { return false };
        if !self.budget.withdraw() {
            self.metrics.budget_spent();
            match self.when_spent {
                WhenSpent::GivesUp => {
                    self.is_spent = true;
                    return false;
                }
                WhenSpent::WaitsLongest(longest) => pause = longest,
            }
        }
        self.metrics.retried();
        if self.attempts.is_power_of_two() {
            tracing::warn!(attempts = self.attempts, %error, "store call is tried again");
        }
        tokio::time::sleep(pause).await;
        true
    }

    fn is_spent(&self) -> bool {
        self.is_spent
    }
}
