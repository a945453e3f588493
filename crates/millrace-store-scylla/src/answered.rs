//! When the database answered last: who asks often whether it is there need not ask the database.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millrace_store::StoreError;
use tokio::time::timeout;

use crate::statements::Statement;
use crate::store::CqlStore;

/// An answer proves for so long that the database answers.
const FRESH: Duration = Duration::from_secs(1);
/// How long it may take to answer when nothing else asks: less than a statement may take, and more than
/// one takes under load.
const WITHIN: Duration = Duration::from_secs(2);

/// When the database answered last.
#[derive(Debug)]
pub(crate) struct Answered {
    opened: Instant,
    /// Milliseconds after `opened`.
    last_ms: AtomicU64,
}

impl Answered {
    /// It answers now.
    pub(crate) fn now() -> Self {
        Self { opened: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    /// It answered at this time.
    pub(crate) fn at(&self, now: Instant) {
        self.last_ms.fetch_max(self.millis(now), Ordering::Relaxed);
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let age = self.millis(now).saturating_sub(self.last_ms.load(Ordering::Relaxed));
        u128::from(age) < FRESH.as_millis()
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.opened);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl CqlStore {
    /// Whether the database answers: by the answers of the last second, or else by a small read.
    pub(crate) async fn answers(&self) -> Result<(), StoreError> {
        if self.answered.is_fresh(Instant::now()) {
            return Ok(());
        }
        let asked = self.one::<(i32,)>(Statement::NewerCatalog, (i32::MAX,));
        match timeout(WITHIN, asked).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(StoreError::Unavailable {
                operation: Statement::NewerCatalog.said().operation,
                reason: format!("no answer within {} s", WITHIN.as_secs()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_proof_for_a_second() {
        let answered = Answered::now();
        let after = |ms| answered.opened + Duration::from_millis(ms);
        assert!(answered.is_fresh(after(999)));
        assert!(!answered.is_fresh(after(1_000)));
        answered.at(after(5_000));
        answered.at(after(4_000));
        assert!(answered.is_fresh(after(5_999)));
        assert!(!answered.is_fresh(after(6_000)));
    }
}
