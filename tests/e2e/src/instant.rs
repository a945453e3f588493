//! Time as tests need it: instants relative to now, and waiting for something to become true.

use std::time::{Duration, Instant, SystemTime};

/// The instant `hours` from now, in microseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "a test of bounds against the clock needs the clock")]
#[must_use]
pub fn hours_from_now(hours: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    micros.saturating_add(hours.saturating_mul(3_600_000_000))
}

/// The pause between two questions of [`wait_until`], so that a cheap one does not take a core.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks again until the answer is there.
///
/// # Panics
///
/// When there is no answer within the limit, naming what was waited for.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        // It only paces the question: nothing relies on how long it takes.
        std::thread::sleep(PAUSE);
    }
}
