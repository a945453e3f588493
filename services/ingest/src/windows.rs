//! Producer windows (design §8): which numbers of a producer are in the log already. They save
//! work and decide nothing: whatever goes wrong with them, the facts are sent on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millrace_store::{ProducerWindows, Seen};
use tokio::time::timeout;

use crate::batch::Sequences;

/// Greatest number of runs of one batch that are marked. A batch with more holes is forgotten from
/// there on.
const RUNS_MAX: usize = 256;

/// Under load every batch may fail alike: the log says so this often, and how often it was.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The windows behind their port, failing open.
pub(crate) struct Windows {
    port: Arc<dyn ProducerWindows>,
    patience: Duration,
    failures: AtomicU64,
    /// When a failure was logged last.
    told: Mutex<Option<Instant>>,
}

impl Windows {
    /// Waits at most `patience` for an answer.
    pub(crate) fn new(port: Arc<dyn ProducerWindows>, patience: Duration) -> Self {
        Self { port, patience, failures: AtomicU64::new(0), told: Mutex::default() }
    }

    /// How often a window did not answer, or not in time.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// What the window says of each sequence the batch covers; nothing when it does not answer.
    pub(crate) async fn ask(
        &self,
        stream: &str,
        producer: &str,
        sequences: &Sequences,
    ) -> Vec<Seen> {
        if sequences.facts() == 0 {
            return Vec::new();
        }
        let name = name(stream, producer);
        let (first, next) = (sequences.first(), sequences.next());
        match timeout(self.patience, self.port.seen(&name, first, next)).await {
            // An answer of another length is about other sequences.
            Ok(Ok(seen)) if seen.len() as u64 == next - first => seen,
            Ok(Ok(seen)) => {
                self.fail(format_args!("{} answers for {} numbers", seen.len(), next - first))
            }
            Ok(Err(error)) => self.fail(error),
            Err(elapsed) => self.fail(elapsed),
        }
    }

    /// Marks what the batch settled, once the log has it: everything it covers but the facts with
    /// these indexes, ascending, which ingest refused. A refusal must repeat: under a later clock
    /// or catalog the same row may be good.
    pub(crate) async fn mark(
        &self,
        stream: &str,
        producer: &str,
        sequences: &Sequences,
        refused: &[u32],
    ) {
        let name = name(stream, producer);
        let marks = async {
            for run in sequences.runs_without(refused).take(RUNS_MAX) {
                self.port.mark(&name, run.start, run.end).await?;
            }
            Ok::<_, millrace_store::StoreError>(())
        };
        match timeout(self.patience, marks).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => drop(self.fail(error)),
            Err(elapsed) => drop(self.fail(elapsed)),
        }
    }

    fn fail(&self, error: impl std::fmt::Display) -> Vec<Seen> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(%error, failures, "producer window is not usable, facts are sent on");
        }
        Vec::new()
    }
}

/// A producer's window of one stream. A producer that numbers its streams apart, against the rule,
/// then loses nothing. Names of streams have no slash.
fn name(stream: &str, producer: &str) -> String {
    format!("{stream}/{producer}")
}
