//! [`StoreWriter`]: the port, its queue and its task.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_client::port::{AppendOutcome, AppendRequest, StorePort, TakenOver};
use millrace_store::{
    Append, Applied, AuditSample, AuditStore, Erasure, ErasureStore, Fencing, Incarnation, LogPage,
    Mark, Member, NodeId, NodeLease, Ownership, Part, Put, Receipt, Store, StoreError,
    TakeOverError, take_over_from, until_known,
};
use millrace_telemetry::{Span, TraceContext};
use millrace_types::{Entity, KnownAt, Position, SlotId};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::appender::{Appender, Flush};
use crate::backoff::Patience;
use crate::metrics::{self, Metrics};
use crate::options::Options;

/// The store-writer service over one store.
pub struct StoreWriter {
    store: Arc<dyn Store>,
    queue: mpsc::Sender<Flush>,
    /// KiB of chunks that may still be queued.
    room: Arc<Semaphore>,
    room_kib: usize,
    patience: Patience,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl std::fmt::Debug for StoreWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreWriter")
            .field("metrics", &self.metrics.counts())
            .finish_non_exhaustive()
    }
}

impl StoreWriter {
    /// Starts a store-writer: its append loop is a task of the runtime of the caller. Dropping it
    /// aborts that task; [`StoreWriter::shutdown`] ends it in good order.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn spawn(store: Arc<dyn Store>, options: Options) -> Self {
        let metrics = Arc::new(Metrics::default());
        let patience = Patience::new(options, Arc::clone(&metrics));
        let (queue, flushes) = mpsc::channel(options.queue_flushes.max(1));
        let stop = CancellationToken::new();
        let appender = Appender {
            store: Arc::clone(&store),
            queue: flushes,
            stop: stop.clone(),
            group_bytes: options.group_bytes,
            patience: patience.clone(),
            metrics: Arc::clone(&metrics),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(appender.run()));
        let room_kib = (options.queue_bytes >> 10).clamp(1, 4 << 20);
        let room = Arc::new(Semaphore::new(room_kib));
        metrics::observe(&metrics, &options, &queue, &room, room_kib);
        Self { store, queue, room, room_kib, patience, metrics, stop, task: Mutex::new(Some(task)) }
    }

    /// Counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Takes no further flush, answers those it has, and ends. Later appends are refused; reads and
    /// puts still work, so that a node can release its slots. A store whose outcome stays unknown
    /// holds it up: give up by dropping the future and the store-writer.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "append loop did not end well");
        }
    }
}

impl StoreWriter {
    /// Times an operation.
    async fn timed<T>(&self, operation: &'static str, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let outcome = work.await;
        self.metrics.took(operation, begun.elapsed());
        outcome
    }

    async fn append_in_turn(&self, request: AppendRequest) -> Result<AppendOutcome, StoreError> {
        let bytes: usize = request.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        let kib = (bytes / 1_024 + 1).min(self.room_kib) as u32; // at most 4 Mi
        let permit = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| stopped())?;
        let (answer, answered) = oneshot::channel();
        self.queue.send(Flush { request, answer, permit }).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| {
            Err(StoreError::Unknown {
                operation: "append",
                reason: "store-writer was stopped before the outcome was known".into(),
            })
        })
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable { operation: "append", reason: "store-writer is stopped".into() }
}

#[async_trait]
impl StorePort for StoreWriter {
    async fn append(&self, mut request: AppendRequest) -> Result<AppendOutcome, StoreError> {
        let span = Span::child("store append", &request.trace);
        span.note("millrace.chunks", || (request.chunks.len() as i64).into());
        request.trace = span.context();
        span.around(self.timed("append", self.append_in_turn(request))).await
    }

    async fn put(&self, parts: Vec<Put>, trace: TraceContext) -> Result<(), StoreError> {
        let span = Span::child("store put", &trace);
        span.note("millrace.parts", || (parts.len() as i64).into());
        let (count, bytes) = (parts.len(), parts.iter().map(|put| put.bytes.len()).sum());
        let put = || self.store.put(parts.clone());
        let mut patience = self.patience.bounded();
        span.around(self.timed("put", until_known(&mut patience, put))).await?;
        self.metrics.put(count, bytes);
        Ok(())
    }

    async fn load(
        &self,
        parts: Vec<(Entity, Part)>,
    ) -> Result<Vec<Option<(KnownAt, Bytes)>>, StoreError> {
        let span = Span::within("store load");
        span.note("millrace.parts", || (parts.len() as i64).into());
        self.metrics.loaded(parts.len());
        let load = || self.store.load(parts.clone());
        span.around(self.timed("load", until_known(&mut self.patience.bounded(), load))).await
    }

    async fn put_mark(&self, slot: SlotId, ver: KnownAt, mark: Mark) -> Result<(), StoreError> {
        let put = || self.store.put_mark(slot, ver, mark.clone());
        self.timed("put_mark", until_known(&mut self.patience.bounded(), put)).await
    }

    async fn load_mark(&self, slot: SlotId) -> Result<Option<(KnownAt, Mark)>, StoreError> {
        let span = Span::within("store load mark");
        let load = || self.store.load_mark(slot);
        span.around(self.timed("load_mark", until_known(&mut self.patience.bounded(), load))).await
    }

    async fn read_log(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError> {
        let span = Span::within("store read log");
        let read = || self.store.read_log(slot, after, up_to, max_bytes);
        span.around(self.timed("read_log", until_known(&mut self.patience.bounded(), read))).await
    }

    async fn renew_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        ceiling: KnownAt,
    ) -> Result<Applied<NodeLease>, StoreError> {
        let renew = || self.store.renew_node(node, incarnation, ceiling);
        self.timed("renew_node", until_known(&mut self.patience.bounded(), renew)).await
    }

    async fn take_over(
        &self,
        slot: SlotId,
        node: &NodeId,
        incarnation: Incarnation,
        fencing: &Fencing,
    ) -> Result<TakenOver, StoreError> {
        let retry = &mut self.patience.ownership();
        let taken = take_over_from(&*self.store, slot, node, incarnation, fencing, retry);
        let taken = self.timed("ownership", taken).await;
        match taken {
            Ok(row) => Ok(TakenOver::Mine(row)),
            // Nodes that plan at the same time come to this.
            Err(TakeOverError::Taken { by, .. } | TakeOverError::Alive { by, .. }) => {
                Ok(TakenOver::Theirs(by))
            }
            Err(
                error @ (TakeOverError::BehindMark { .. }
                | TakeOverError::InUse { .. }
                | TakeOverError::Store(_)),
            ) => {
                tracing::error!(slot = slot.0, node = node.0.as_str(), %error, "not taken over");
                Err(error.into())
            }
        }
    }

    async fn put_member(&self, ver: KnownAt, member: Member) -> Result<(), StoreError> {
        let put = || self.store.put_member(ver, member.clone());
        self.timed("members", until_known(&mut self.patience.bounded(), put)).await
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let read = || self.store.members();
        self.timed("members", until_known(&mut self.patience.bounded(), read)).await
    }

    async fn look(&self, nodes: Vec<NodeId>, slots: Vec<SlotId>) -> Result<Ownership, StoreError> {
        // Whoever looks looks again: a failure is shown, and takes nothing of the budget of retries.
        self.timed("members", self.store.look(nodes, slots)).await
    }

    async fn release(
        &self,
        slot: SlotId,
        epoch: u64,
        incarnation: Incarnation,
        end: u64,
        last_ver: KnownAt,
    ) -> Result<(), StoreError> {
        let release = || self.store.release_epoch(slot, epoch, incarnation, end, last_ver);
        let retry = &mut self.patience.ownership();
        let released = until_known(retry, release);
        match self.timed("ownership", released).await? {
            Applied::Yes => Ok(()),
            // An earlier attempt of this very release, whose answer was lost.
            Applied::No(Some(row))
                if row.incarnation == incarnation && row.released == Some((end, last_ver)) =>
            {
                Ok(())
            }
            Applied::No(_) => Err(StoreError::Unavailable {
                operation: "release",
                reason: format!("epoch {epoch} of slot {} is not open for this run", slot.0),
            }),
        }
    }
}

#[async_trait]
impl ErasureStore for StoreWriter {
    async fn put_erasure(
        &self,
        number: u64,
        erasure: Erasure,
    ) -> Result<Applied<Erasure>, StoreError> {
        let put = || self.store.put_erasure(number, erasure.clone());
        self.timed("erasures", until_known(&mut self.patience.bounded(), put)).await
    }

    async fn erasures_after(&self, number: u64) -> Result<Vec<(u64, Erasure)>, StoreError> {
        let list = || self.store.erasures_after(number);
        self.timed("erasures", until_known(&mut self.patience.bounded(), list)).await
    }

    async fn put_receipt(
        &self,
        number: u64,
        ver: KnownAt,
        receipt: Receipt,
    ) -> Result<(), StoreError> {
        let put = || self.store.put_receipt(number, ver, receipt);
        self.timed("erasures", until_known(&mut self.patience.bounded(), put)).await
    }

    async fn receipts(&self, number: u64) -> Result<Vec<Receipt>, StoreError> {
        let list = || self.store.receipts(number);
        self.timed("erasures", until_known(&mut self.patience.bounded(), list)).await
    }

    async fn rewrite(&self, ver: KnownAt, chunks: Vec<Append>) -> Result<(), StoreError> {
        let rewrite = || self.store.rewrite(ver, chunks.clone());
        self.timed("rewrite", until_known(&mut self.patience.bounded(), rewrite)).await
    }

    async fn parts(&self, entity: Entity) -> Result<Vec<Part>, StoreError> {
        let list = || self.store.parts(entity.clone());
        self.timed("parts", until_known(&mut self.patience.bounded(), list)).await
    }

    async fn compact(&self) -> Result<(), StoreError> {
        self.timed("compact", self.store.compact()).await
    }
}

#[async_trait]
impl AuditStore for StoreWriter {
    async fn put_samples(
        &self,
        node: &NodeId,
        samples: Vec<AuditSample>,
    ) -> Result<(), StoreError> {
        let put = || self.store.put_samples(node, samples.clone());
        self.timed("samples", until_known(&mut self.patience.bounded(), put)).await
    }

    async fn samples(
        &self,
        node: &NodeId,
        after: KnownAt,
        max: usize,
    ) -> Result<Vec<AuditSample>, StoreError> {
        let read = || self.store.samples(node, after, max);
        self.timed("samples", until_known(&mut self.patience.bounded(), read)).await
    }

    async fn forget_samples(&self, up_to: KnownAt) -> Result<(), StoreError> {
        let forget = || self.store.forget_samples(up_to);
        self.timed("samples", until_known(&mut self.patience.bounded(), forget)).await
    }
}
