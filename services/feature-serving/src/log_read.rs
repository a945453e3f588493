//! Reads from the slot log: entities folded up to an instant, within a budget.

use std::sync::Arc;
use std::time::Duration;

use millrace_client::port::StorePort;
use millrace_kernel::slot::Fold;
use millrace_kernel::{EntityState, Plan};
use millrace_store::StoreError;
use millrace_types::{Chunk, Entity, KnownAt, Position, SlotId};
use tokio::sync::Semaphore;

use crate::error::ReadError;

/// Bytes of the log read at a time.
const SCAN_BYTES: usize = 4 << 20;

/// Folds entities from the log, a bounded number of reads at a time.
pub(crate) struct LogReader {
    store: Arc<dyn StorePort>,
    permits: Semaphore,
    reads_max: usize,
    facts_max: u64,
    time_max: Duration,
}

impl LogReader {
    pub(crate) fn new(
        store: Arc<dyn StorePort>,
        reads_max: usize,
        facts_max: u64,
        time_max: Duration,
    ) -> Self {
        Self { store, permits: Semaphore::new(reads_max), reads_max, facts_max, time_max }
    }

    /// Folds these entities of one slot over what is known at `known_at`, up to a position.
    pub(crate) async fn fold(
        &self,
        plan: Arc<Plan>,
        slot: SlotId,
        entities: Vec<Entity>,
        known_at: KnownAt,
        up_to: Position,
    ) -> Result<Vec<(Entity, EntityState)>, ReadError> {
        let fold = Fold::new(plan, entities, known_at);
        let scan = async {
            let _permit = self
                .permits
                .acquire()
                .await
                .map_err(|_| ReadError::TooManyLogReads(self.reads_max))?;
            self.scan(slot, fold, up_to).await
        };
        match tokio::time::timeout(self.time_max, scan).await {
            Ok(folded) => folded,
            Err(_) => Err(ReadError::BudgetSpent { limit: format!("{:?}", self.time_max) }),
        }
    }

    async fn scan(
        &self,
        slot: SlotId,
        mut fold: Fold,
        up_to: Position,
    ) -> Result<Vec<(Entity, EntityState)>, ReadError> {
        loop {
            let page = self
                .store
                .read_log(slot, fold.covered(), up_to, SCAN_BYTES)
                .await
                .map_err(ReadError::Store)?;
            for (position, bytes) in &page.chunks {
                let damaged = |error: millrace_types::DecodeError| {
                    ReadError::Store(StoreError::Damaged {
                        what: format!("chunk {position} of slot {}", slot.0),
                        reason: error.to_string(),
                    })
                };
                let chunk = Chunk::decode(bytes.as_ref()).map_err(damaged)?;
                fold.chunk(*position, &chunk).map_err(damaged)?;
            }
            if fold.facts() > self.facts_max {
                let limit = format!("{} facts", self.facts_max);
                return Err(ReadError::BudgetSpent { limit });
            }
            if page.complete || page.chunks.is_empty() {
                return Ok(fold.finish());
            }
            tokio::task::yield_now().await;
        }
    }
}
