//! Reads from the slot log: entities folded up to an instant, within a budget.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use millrace_client::port::StorePort;
use millrace_grpc::PeerNetwork;
use millrace_kernel::slot::Fold;
use millrace_kernel::{EntityState, Plan};
use millrace_store::{LogPage, StoreError};
use millrace_types::{Boundaries, Chunk, DecodeError, Entity, KnownAt, Position, SlotId};
use opentelemetry::metrics::Counter;

use crate::error::ReadError;
use crate::lane::Lane;
use crate::metrics::LOG_FACTS;

/// Bytes of the log read at a time.
const SCAN_BYTES: usize = 4 << 20;
/// The same of whoever has time: other calls of the thread do not wait long for it.
const SCAN_BYTES_BESIDE: usize = 256 << 10;

/// Folds entities from the log, a bounded number of reads at a time.
pub(crate) struct LogReader {
    store: Arc<dyn StorePort>,
    lane: Lane,
    facts: Counter<u64>,
    facts_max: u64,
    time_max: Duration,
    scan_bytes: usize,
}

impl LogReader {
    pub(crate) fn new(
        store: Arc<dyn StorePort>,
        lane: Lane,
        facts_max: u64,
        time_max: Duration,
    ) -> Self {
        Self { store, lane, facts: LOG_FACTS.count(), facts_max, time_max, scan_bytes: SCAN_BYTES }
    }

    /// The same in another lane, in smaller steps.
    pub(crate) fn beside(&self, lane: Lane) -> Self {
        Self {
            store: Arc::clone(&self.store),
            lane,
            facts: self.facts.clone(),
            facts_max: self.facts_max,
            time_max: self.time_max,
            scan_bytes: SCAN_BYTES_BESIDE,
        }
    }

    /// Folds these entities of one slot over what is known at `known_at`, up to a position.
    pub(crate) async fn fold(
        &self,
        peer: PeerNetwork,
        plan: Arc<Plan>,
        slot: SlotId,
        entities: Vec<Entity>,
        known_at: KnownAt,
        up_to: Position,
    ) -> Result<Folded, ReadError> {
        let mut fold = Fold::new(plan, entities, known_at);
        self.within_budget(peer, self.scan(slot, Position::START, up_to, &mut fold)).await?;
        let boundaries = fold.boundaries().clone();
        Ok(Folded { states: fold.finish(), boundaries })
    }

    /// Waits for its turn, and stops when it takes too long, waiting included.
    pub(crate) async fn within_budget<T>(
        &self,
        peer: PeerNetwork,
        read: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let in_turn = async {
            let _place = self.lane.place(peer)?;
            let _turn = self.lane.turn(peer, 1).await;
            read.await
        };
        match tokio::time::timeout(self.time_max, in_turn).await {
            Ok(answer) => answer,
            Err(_) => Err(ReadError::BudgetSpent { limit: format!("{:?}", self.time_max) }),
        }
    }

    /// Hands a slot's chunks after one position up to another to a scan, until it has enough. To be
    /// called in its turn ([`LogReader::within_budget`]).
    pub(crate) async fn scan(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        scan: &mut impl Scan,
    ) -> Result<(), ReadError> {
        let before = scan.facts();
        let scanned = self.scan_pages(slot, after, up_to, scan).await;
        self.facts.add(scan.facts() - before, &[]);
        scanned
    }

    async fn scan_pages(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        scan: &mut impl Scan,
    ) -> Result<(), ReadError> {
        let mut page = self.page(slot, after, up_to).await?;
        loop {
            let last = page.chunks.last().map(|(position, _)| *position);
            let ahead = last.filter(|_| !page.complete).map(|last| self.page(slot, last, up_to));
            let mut ahead = ahead.map(Box::pin);
            // The next page, and no more, is read while this one is decoded: its read begins here.
            let begun = match &mut ahead {
                Some(ahead) => futures::poll!(ahead),
                None => Poll::Pending,
            };
            tokio::task::yield_now().await;
            for (position, bytes) in &page.chunks {
                let damaged = |error: DecodeError| {
                    ReadError::Store(StoreError::Damaged {
                        what: format!("chunk {position} of slot {}", slot.0),
                        reason: error.to_string(),
                    })
                };
                let chunk = Chunk::decode(bytes.as_ref()).map_err(damaged)?;
                if scan.chunk(*position, &chunk).map_err(damaged)?.is_break() {
                    return Ok(());
                }
            }
            if scan.facts() > self.facts_max {
                let limit = format!("{} facts", self.facts_max);
                return Err(ReadError::BudgetSpent { limit });
            }
            page = match (begun, ahead) {
                (Poll::Ready(page), _) => page?,
                (Poll::Pending, Some(ahead)) => ahead.await?,
                (Poll::Pending, None) => return Ok(()),
            };
        }
    }

    /// The chunks of a slot after one position up to another, as many as are read at a time.
    async fn page(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
    ) -> Result<LogPage, ReadError> {
        let read = self.store.read_log(slot, after, up_to, self.scan_bytes);
        read.await.map_err(ReadError::Store)
    }

    /// The store that is read.
    pub(crate) fn store(&self) -> Arc<dyn StorePort> {
        Arc::clone(&self.store)
    }

    /// How long a read may take.
    pub(crate) fn time_max(&self) -> Duration {
        self.time_max
    }
}

/// Entities folded from the log.
pub(crate) struct Folded {
    pub(crate) states: Vec<(Entity, EntityState)>,
    /// Before which facts may be missing in the chunks that were read.
    pub(crate) boundaries: Boundaries,
}

/// What a read from the log does with its chunks.
pub(crate) trait Scan {
    /// Takes the next chunk; breaks when it needs no more.
    fn chunk(
        &mut self,
        position: Position,
        chunk: &Chunk<&[u8]>,
    ) -> Result<ControlFlow<()>, DecodeError>;

    /// Facts looked at so far.
    fn facts(&self) -> u64;
}

impl Scan for Fold {
    fn chunk(
        &mut self,
        position: Position,
        chunk: &Chunk<&[u8]>,
    ) -> Result<ControlFlow<()>, DecodeError> {
        Fold::chunk(self, position, chunk)?;
        Ok(ControlFlow::Continue(()))
    }

    fn facts(&self) -> u64 {
        Fold::facts(self)
    }
}
