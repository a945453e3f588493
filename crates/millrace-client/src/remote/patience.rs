//! How long a call whose outcome is unknown is repeated.

use std::time::Duration;

use async_trait::async_trait;
use backon::ExponentialBackoff;
use millrace_grpc::Deadline;
use millrace_store::{Retry, StoreError};
use tokio::time::{Instant, sleep};

use crate::pauses::pauses;

/// The first pause; a service that restarts on the same machine is back after a few.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long calls are repeated while their outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Until it is known: for the owner of slots, who has nothing else to do.
    UntilKnown,
    /// For this long: for reads, whose caller has a deadline.
    Within(Duration),
}

/// The policy of one call.
pub(super) struct Patience {
    until: Option<Instant>,
    pauses: ExponentialBackoff,
    attempts: u64,
}

impl Persistence {
    pub(super) fn patience(self) -> Patience {
        Patience {
            until: match self {
                Self::UntilKnown => None,
                Self::Within(within) => Some(Instant::now() + within),
            },
            pauses: pauses(PAUSE_MIN, PAUSE_MAX),
            attempts: 0,
        }
    }
}

#[async_trait]
impl Retry for Patience {
    async fn again(&mut self, error: &StoreError) -> bool {
        // Whoever has a deadline learns at once what will not pass by itself.
        if self.until.is_some() && matches!(error, StoreError::NotTrusted { .. }) {
            return false;
        }
        self.attempts += 1;
        let pause = self.pauses.next().unwrap_or(PAUSE_MAX);
        // Nor does anybody wait for the outcome beyond the deadline of the call that it is for.
        let until = self.until.map(|until| match Deadline::current() {
            Some(deadline) => until.min(deadline.instant()),
            None => until,
        });
        if until.is_some_and(|until| Instant::now() + pause > until) {
            return false;
        }
        if self.attempts.is_power_of_two() {
            tracing::warn!(attempts = self.attempts, %error, "call of store-writer is repeated");
        }
        sleep(pause).await;
        true
    }
}
