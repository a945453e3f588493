//! Holding a rate: facts a second over all files together.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Lets facts through at a steady rate. Time that was not used is not saved up.
#[derive(Debug)]
pub(super) struct Pace {
    facts_per_second: u64,
    /// When the facts let through so far are over.
    next: Mutex<Instant>,
}

impl Pace {
    /// `facts_per_second` must be positive.
    pub(super) fn new(facts_per_second: u64) -> Self {
        Self { facts_per_second: facts_per_second.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Waits for the turn of the next `facts`.
    pub(super) async fn admit(&self, facts: u64) {
        let turn = {
            let mut next = self.next.lock().await;
            let turn = (*next).max(Instant::now());
            *next = turn + Duration::from_secs_f64(facts as f64 / self.facts_per_second as f64);
            turn
        };
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn several_files_share_one_rate() {
        let pace = Arc::new(Pace::new(100));
        let started = Instant::now();
        let file = |pace: Arc<Pace>| async move {
            for _ in 0..5 {
                pace.admit(10).await;
            }
        };
        tokio::join!(file(Arc::clone(&pace)), file(Arc::clone(&pace)));
        // 100 facts take a second; the last ten are let through when 90 are over.
        assert_eq!(started.elapsed().as_millis(), 900);
    }
}
