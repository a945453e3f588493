//! Deadlines: read from `grpc-timeout`, kept for whole calls, and handed on.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::Status;

use crate::{ErrorCode, Fault};

/// tonic starts a timer of its own over the same `grpc-timeout`, which ends the call as CANCELLED.
/// Ours is this much earlier (timers tick in milliseconds), so that the client is told the truth.
const AHEAD: Duration = Duration::from_millis(2);

tokio::task_local! {
    static CURRENT: Deadline;
}

/// When a call must have ended. In the extensions of every request whose client sent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline that the headers of a request ask for, counted from now. A value that is not
    /// of the form the protocol has is no deadline.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let timeout = parse_timeout(headers.get("grpc-timeout")?.to_str().ok()?)?;
        // A deadline beyond what the clock holds is none.
        Instant::now().checked_add(timeout.saturating_sub(AHEAD)).map(Self)
    }

    /// The deadline of a request, for a handler.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get().copied()
    }

    /// The deadline of the call that this task handles: the client's, or the server's own limit. None
    /// outside of a handler, and in tasks that outlive one: what they do is not given up half-way.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|deadline| *deadline).ok()
    }

    /// Runs the handler of a call that must have ended at this instant.
    pub(crate) async fn handle<F: Future>(until: Instant, handler: F) -> F::Output {
        CURRENT.scope(Self(until), handler).await
    }

    /// Runs what is done for a call in a task of its own, so that calls made there keep to its deadline.
    pub async fn carry<F: Future>(deadline: Option<Self>, work: F) -> F::Output {
        match deadline {
            Some(deadline) => CURRENT.scope(deadline, work).await,
            None => work.await,
        }
    }

    /// When work that is shared must have ended: with the last of those who wait for it, and never where one
    /// of them waits without end.
    #[must_use]
    pub fn last(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        Some(one?.max(other?))
    }

    /// How long a call made now may take, of at most `limit`: not beyond the deadline of the call on
    /// whose behalf it is made. To be sent along as the timeout of the request.
    #[must_use]
    pub fn within(limit: Duration) -> Duration {
        Self::current().map_or(limit, |deadline| deadline.remaining().min(limit))
    }

    /// The time that is left; zero once it passed. Calls made on behalf of this one get no more.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The instant itself.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// The status of a call whose deadline passed.
pub(crate) fn exceeded() -> Status {
    Fault::new(ErrorCode::DeadlineExceeded, "the call's deadline passed").into_status()
}

/// `1` to 8 digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_made_for_a_call_get_what_is_left_of_its_time() {
        let limit = Duration::from_secs(10);
        assert_eq!(Deadline::within(limit), limit);
        let handler = async {
            let before = Deadline::within(limit);
            tokio::time::advance(Duration::from_secs(3)).await;
            let outlives = tokio::spawn(async move { Deadline::within(limit) }).await.unwrap();
            let (current, left) = (Deadline::current(), async move { Deadline::within(limit) });
            let carried = tokio::spawn(Deadline::carry(current, left)).await.unwrap();
            assert_eq!(carried, Deadline::within(limit));
            (before, carried, outlives)
        };
        let until = Instant::now() + Duration::from_secs(8);
        let seen = Deadline::handle(until, handler).await;
        assert_eq!(seen, (Duration::from_secs(8), Duration::from_secs(5), limit));
    }

    #[test]
    fn timeouts_read_as_the_protocol_says() {
        assert_eq!(parse_timeout("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(parse_timeout("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse_timeout("4m"), Some(Duration::from_millis(4)));
        assert_eq!(parse_timeout("5u"), Some(Duration::from_micros(5)));
        assert_eq!(parse_timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for text in ["", "S", "5", "-1S", "+1S", "1 S", "123456789S", "1x", "1é"] {
            assert_eq!(parse_timeout(text), None, "{text:?}");
        }
    }
}
