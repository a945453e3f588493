//! When a connection is over, whatever its client does.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::untaken::Untaken;
use crate::{Drain, ServerLimits};

/// How finely a connection is looked at, in parts of what a response may wait.
const LOOKS: u32 = 4;
/// It is not looked at more often than this, whatever the limits.
const LOOK_MIN: Duration = Duration::from_millis(10);

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Over {
    #[error("the server is down")]
    Drained,
    #[error("no call began in time")]
    NoCall,
    #[error("it was asked to go and did not")]
    Aged,
    #[error("a response was not taken in time")]
    NotTaken,
}

impl Over {
    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::NoCall => "no_call",
            Self::Aged => "aged",
            Self::NotTaken => "not_taken",
        }
    }
}

impl From<Over> for io::Error {
    fn from(over: Over) -> Self {
        Self::new(io::ErrorKind::ConnectionAborted, over)
    }
}

/// The limits in time of one connection, behind one timer.
pub(super) struct Watch {
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    timer: Pin<Box<Sleep>>,
    drain: Drain,
    untaken: Arc<Untaken>,
    /// When a first call must have begun.
    first_call: Instant,
    /// When it must have gone.
    gone: Instant,
    stall_max: Duration,
}

impl Watch {
    pub(super) fn new(
        limits: &ServerLimits,
        drain: Drain,
        untaken: Arc<Untaken>,
        now: Instant,
    ) -> Self {
        let mut watch = Self {
            cut: Box::pin(drain.connections_cut()),
            timer: Box::pin(sleep_until(now)),
            drain,
            untaken,
            first_call: now + limits.first_call_within,
            gone: now + limits.connection_age_max + limits.connection_age_grace,
            stall_max: limits.response_stall_max,
        };
        let next = watch.next_look(now, false);
        watch.timer.as_mut().reset(next);
        watch
    }

    fn next_look(&self, now: Instant, has_call: bool) -> Instant {
        let look = (now + (self.stall_max / LOOKS).max(LOOK_MIN)).min(self.gone);
        if has_call { look } else { look.min(self.first_call) }
    }

    /// Whether the drain cut the connection; asked at every operation.
    pub(super) fn cut(&self) -> Option<Over> {
        self.drain.are_connections_cut().then_some(Over::Drained)
    }

    /// Resolves when the connection is over, and wakes the task then.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>, has_call: bool) -> Poll<Over> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Over::Drained);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.first_call && !has_call {
                return Poll::Ready(Over::NoCall);
            }
            if now >= self.gone {
                return Poll::Ready(Over::Aged);
            }
            let oldest = self.untaken.oldest();
            if oldest.is_some_and(|since| now.saturating_duration_since(since) >= self.stall_max) {
                return Poll::Ready(Over::NotTaken);
            }
            let next = self.next_look(now, has_call);
            self.timer.as_mut().reset(next);
        }
    }
}
