//! Trying again while a service cannot be reached.

use std::time::Duration;

use backon::ExponentialBackoff;
use tokio::time::{Instant, sleep};

use crate::endpoints::Role;
use crate::error::ClientError;
use crate::pauses::pauses;

/// The first pause; a server that restarts on the same machine is back after a few.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long, and how often, an unreachable service is tried.
#[derive(Debug)]
pub(crate) struct Patience {
    within: Duration,
    since: Option<Instant>,
    pauses: ExponentialBackoff,
}

impl Patience {
    pub(crate) fn new(within: Duration) -> Self {
        Self { within, since: None, pauses: pauses(PAUSE_MIN, PAUSE_MAX) }
    }

    /// The service answered: what went wrong before is forgotten.
    pub(crate) fn renew(&mut self) {
        if self.since.take().is_some() {
            self.pauses = pauses(PAUSE_MIN, PAUSE_MAX);
        }
    }

    /// Waits before the next attempt, counted from the first failure.
    ///
    /// # Errors
    /// The error itself when it is not one that passes, and [`ClientError::NotReachable`] when
    /// there is no time for another attempt.
    pub(crate) async fn wait(
        &mut self,
        role: &Role,
        error: ClientError,
    ) -> Result<(), ClientError> {
        if !error.is_transient() {
            return Err(error);
        }
        self.pause(role, error).await
    }

    /// The same for an error that passes, as the caller knows.
    ///
    /// # Errors
    /// The error itself, or [`ClientError::NotReachable`], when there is no time for another
    /// attempt.
    pub(crate) async fn pause(
        &mut self,
        role: &Role,
        error: ClientError,
    ) -> Result<(), ClientError> {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let asked = error.refusal().and_then(|r| r.retry_after).unwrap_or_default();
        let pause = self.pauses.next().unwrap_or(PAUSE_MAX).max(asked);
        if (now + pause).duration_since(since) > self.within {
            if let ClientError::Broken { reason } = error {
                return Err(ClientError::NotReachable {
                    service: role.name,
                    address: role.address.clone(),
                    waited: self.within,
                    reason,
                });
            }
            return Err(error);
        }
        tracing::debug!(service = role.name, %error, ?pause, "try again");
        sleep(pause).await;
        Ok(())
    }
}
