//! When a store call is tried again: after a growing, jittered pause, and within a budget.

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
    /// `None`: as often as it takes.
    budget: Option<Arc<TpsBudget>>,
    metrics: Arc<Metrics>,
    attempts: u64,
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
        let pauses = self.pauses().without_max_times().build();
        Backoff { pauses, budget: None, metrics: Arc::clone(&self.metrics), attempts: 0 }
    }

    /// A few times, while the budget lasts.
    pub(crate) fn bounded(&self) -> Backoff {
        self.budget.deposit();
        let pauses = self.pauses().with_max_times(self.options.retries).build();
        let budget = Some(Arc::clone(&self.budget));
        Backoff { pauses, budget, metrics: Arc::clone(&self.metrics), attempts: 0 }
    }

    /// The steps of a change of owner: rare, and worth more patience than the budget allows.
    pub(crate) fn ownership(&self) -> Backoff {
        let pauses = self.pauses().with_max_times(self.options.ownership_retries).build();
        Backoff { pauses, budget: None, metrics: Arc::clone(&self.metrics), attempts: 0 }
    }
}

#[async_trait]
impl Retry for Backoff {
    async fn again(&mut self, error: &StoreError) -> bool {
        self.attempts += 1;
        let Some(pause) = self.pauses.next() else { return false };
        if self.budget.as_ref().is_some_and(|budget| !budget.withdraw()) {
            return false;
        }
        self.metrics.retried();
        if self.attempts.is_power_of_two() {
            tracing::warn!(attempts = self.attempts, %error, "store call is tried again");
        }
        tokio::time::sleep(pause).await;
        true
    }
}
