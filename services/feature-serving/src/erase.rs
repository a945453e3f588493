//! Erasing an entity: its erasure is written to the list that owners of slots read, and what the slots
//! did for it is told from their receipts.

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_catalog::{Catalog, Kind};
use millrace_client::port::StorePort;
use millrace_kernel::erase::Erasures;
use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_store::{Applied, Erasure, Receipt, StoreError};
use millrace_types::{Entity, EntityKey, KnownAt, Micros};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::clock;
use crate::error::ReadError;
use crate::read::check_key;

/// Others that may ask for an erasure at the same moment before a request gives up.
const TRIES: usize = 64;

type Compaction = JoinHandle<Result<(), StoreError>>;

/// Takes erasures.
pub(crate) struct EraseDesk {
    store: Arc<dyn StorePort>,
    /// Slots of the cluster.
    slots: u32,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    erasures: Erasures,
    asked_at: Vec<Micros>,
    /// Those whose scrubbed bytes the store was told to let go of.
    compacted: BTreeSet<u64>,
    /// It is being told so for this one. It rewrites whole tables, which takes longer than a call may.
    compacting: Option<(u64, Compaction)>,
}

impl EraseDesk {
    pub(crate) fn new(store: Arc<dyn StorePort>, slots: u32) -> Self {
        Self { store, slots, known: Mutex::default() }
    }

    /// Erases an entity, or goes on with it: asked again it tells how far that is.
    pub(crate) async fn erase(
        &self,
        catalog: &Catalog,
        request: v1::EraseEntityRequest,
    ) -> Result<v1::EraseEntityResponse, ReadError> {
        let kind = find_kind(catalog, &request.entity)?;
        let key = EntityKey::try_from(&request.key.unwrap_or_default()).map_err(|e| {
            let error = e.within("key");
            ReadError::Invalid { field: error.field().to_owned(), rule: error.rule().to_string() }
        })?;
        check_key("key", kind, &key)?;
        let mut known = self.known.lock().await;
        let number = self.number(&mut known, Entity { kind: kind.id, key }).await?;
        let receipts = self.store.receipts(number).await.map_err(ReadError::Store)?;
        let is_scrubbed = receipts.len() >= self.slots as usize;
        let is_done = is_scrubbed && self.compacted(&mut known, number).await?;
        let place = usize::try_from(number - 1).unwrap_or(usize::MAX);
        let asked_at = known.asked_at.get(place).copied().map(to_timestamp);
        let sum = |of: fn(&Receipt) -> u64| receipts.iter().map(of).sum();
        Ok(v1::EraseEntityResponse {
            number,
            asked_at,
            slots: self.slots,
            slots_done: receipts.len() as u32,
            is_done,
            facts: sum(|r| r.facts),
            chunks: sum(|r| r.chunks),
            entities: sum(|r| r.entities),
            parts: sum(|r| r.parts),
        })
    }

    /// Whether the store has let go of what an erasure scrubbed; it is told to where it has not been.
    async fn compacted(&self, known: &mut Known, number: u64) -> Result<bool, ReadError> {
        if let Some((compacted, task)) = known.compacting.take_if(|(_, task)| task.is_finished()) {
            match task.await {
                Ok(outcome) => outcome.map_err(ReadError::Store)?,
                Err(error) => {
                    let reason = format!("the compaction was not finished: {error}");
                    let operation = "compact";
                    return Err(ReadError::Store(StoreError::Unavailable { operation, reason }));
                }
            }
            known.compacted.insert(compacted);
        }
        if known.compacted.contains(&number) {
            return Ok(true);
        }
        if known.compacting.is_none() {
            let store = Arc::clone(&self.store);
            let task = tokio::spawn(async move {
                // Answers that wait to be compared hold keys and values.
                store.forget_samples(KnownAt(clock::now().0)).await?;
                store.compact().await
            });
            known.compacting = Some((number, task));
        }
        Ok(false)
    }

    /// The number of an entity's erasure, which is written if there is none.
    async fn number(&self, known: &mut Known, entity: Entity) -> Result<u64, ReadError> {
        for _ in 0..TRIES {
            self.catch_up(known).await?;
            if let Some(number) = known.erasures.number_of(&entity) {
                return Ok(number);
            }
            let erasure = Erasure { entity: entity.clone(), asked_at: clock::now() };
            let next = known.erasures.last() + 1;
            // Whatever became of it is read back: somebody else may have been faster.
            let _: Applied<Erasure> =
                self.store.put_erasure(next, erasure).await.map_err(ReadError::Store)?;
        }
        Err(ReadError::Store(StoreError::Unavailable {
            operation: "erase",
            reason: format!("others took the number {TRIES} times"),
        }))
    }

    async fn catch_up(&self, known: &mut Known) -> Result<(), ReadError> {
        loop {
            let last = known.erasures.last();
            let further = self.store.erasures_after(last).await.map_err(ReadError::Store)?;
            if further.is_empty() {
                return Ok(());
            }
            let (entities, asked): (Vec<_>, Vec<_>) =
                further.into_iter().map(|(n, e)| ((n, e.entity), e.asked_at)).unzip();
            known.erasures = known.erasures.with(entities);
            known.asked_at.extend(asked);
            if known.erasures.last() == last {
                let reason = "its numbers have a gap".to_owned();
                let what = "the list of erasures".to_owned();
                return Err(ReadError::Store(StoreError::Damaged { what, reason }));
            }
        }
    }
}

/// The kind of entity of this name.
pub(crate) fn find_kind<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Kind, ReadError> {
    catalog.kinds.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<&str> = catalog.kinds.iter().map(|k| k.name.as_str()).collect();
        let known = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
        ReadError::Invalid {
            field: "entity".to_owned(),
            rule: format!("{name:?} is no kind of entity; the catalog has {known}"),
        }
    })
}
