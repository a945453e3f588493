//! The append loop: takes whatever is queued, appends it as one, confirms each node once, answers.

use std::collections::HashMap;
use std::sync::Arc;

use millrace_client::port::{AppendOutcome, AppendRequest};
use millrace_store::{Append, Incarnation, NodeId, Store, StoreError, until_known};
use millrace_telemetry::Span;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Patience;
use crate::metrics::Metrics;

/// One caller's flush, waiting.
pub(crate) struct Flush {
    pub(crate) request: AppendRequest,
    pub(crate) answer: oneshot::Sender<Result<AppendOutcome, StoreError>>,
    /// Its bytes in the queue's bound, given back when it is answered.
    pub(crate) permit: OwnedSemaphorePermit,
}

pub(crate) struct Appender {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: mpsc::Receiver<Flush>,
    pub(crate) stop: CancellationToken,
    pub(crate) group_bytes: usize,
    pub(crate) patience: Patience,
    pub(crate) metrics: Arc<Metrics>,
}

impl Appender {
    /// Runs until it is stopped and everything queued by then is answered.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.next().await {
            let mut bytes = size(&first);
            let mut group = vec![first];
            while bytes < self.group_bytes {
                let Ok(flush) = self.queue.try_recv() else { break };
                bytes += size(&flush);
                group.push(flush);
            }
            self.commit(group, bytes).await;
        }
    }

    async fn next(&mut self) -> Option<Flush> {
        if !self.queue.is_closed() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => self.queue.close(),
                flush = self.queue.recv() => return flush,
            }
        }
        self.queue.recv().await // what was queued before it was closed
    }

    async fn commit(&self, group: Vec<Flush>, bytes: usize) {
        let chunks: Vec<Append> =
            group.iter().flat_map(|flush| flush.request.chunks.iter().cloned()).collect();
        let append = || self.store.append(chunks.clone());
        let traces = || group.iter().map(|flush| flush.request.trace.clone()).collect();
        let span = Span::shared("store commit", traces);
        let begun = Instant::now();
        let appended = span.around(until_known(&mut self.patience.unbounded(), append)).await;
        drop(span);
        self.metrics.took("commit", begun.elapsed());
        if let Err(error) = appended {
            tracing::error!(%error, flushes = group.len(), "append failed");
            self.metrics.append_failed(group.len());
            for flush in group {
                answer(flush, Err(error.clone()));
            }
            return;
        }
        self.metrics.appended(group.len(), chunks.len(), bytes);
        // Begun after the append succeeded, as the protocol asks: one read for each run.
        let mut confirmed: HashMap<(NodeId, Incarnation), Result<AppendOutcome, StoreError>> =
            HashMap::new();
        for flush in group {
            let run = (flush.request.node.clone(), flush.request.incarnation);
            let outcome = match confirmed.get(&run) {
                Some(outcome) => outcome.clone(),
                None => {
                    let outcome = self.confirm(&run.0, run.1).await;
                    confirmed.insert(run, outcome.clone());
                    outcome
                }
            };
            if outcome == Ok(AppendOutcome::Fenced) {
                self.metrics.fenced();
            }
            answer(flush, outcome);
        }
    }

    async fn confirm(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
    ) -> Result<AppendOutcome, StoreError> {
        let confirm = || self.store.confirm(node, incarnation);
        let begun = Instant::now();
        let confirmed = until_known(&mut self.patience.unbounded(), confirm).await;
        self.metrics.took("confirm", begun.elapsed());
        Ok(match confirmed? {
            true => AppendOutcome::Confirmed,
            false => AppendOutcome::Fenced,
        })
    }
}

fn size(flush: &Flush) -> usize {
    flush.request.chunks.iter().map(|chunk| chunk.bytes.len()).sum()
}

fn answer(flush: Flush, outcome: Result<AppendOutcome, StoreError>) {
    let Flush { answer, permit, .. } = flush;
    drop(permit);
    // A caller that gave up hears nothing; its chunks are in the log all the same.
    let _ = answer.send(outcome);
}
