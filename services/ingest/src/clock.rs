//! The clocks of the service, as parameters of everything that needs one.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use millrace_types::Micros;

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Micros;

    /// Milliseconds of a clock that does not go back.
    fn monotonic_ms(&self) -> u64;
}

/// The clocks of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the shell reads the wall clock here only")]
    fn now(&self) -> Micros {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 // 64 bits last for half a billion years
    }
}
