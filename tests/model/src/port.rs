//! One process's connection to the store: every call waits for the schedule, what is read is written
//! down, and a step of the protocol that is a store call can be left out here.

use async_trait::async_trait;
use bytes::Bytes;
use millrace_store::memory::MemoryStore;
use millrace_store::{
    Append, Applied, AuditSample, AuditStore, CatalogStore, Erasure, ErasureStore, Incarnation,
    LogPage, LogStore, Mark, Member, MemberStore, NodeId, NodeLease, Part, ProducerWindows, Put,
    Receipt, Seen, SlotEpoch, SnapshotStore, StoreError,
};
use millrace_types::{Entity, KnownAt, Position, SlotId};

use crate::Broken;
use crate::schedule::Schedule;
use crate::snapshot::{Head, entity};
use crate::world::World;

/// The connection.
#[derive(Debug)]
pub struct Port {
    /// The store, with the faults of this process.
    pub store: MemoryStore,
    /// The number of the process.
    pub process: u64,
    /// Who goes on.
    pub schedule: Schedule,
    /// Who writes down.
    pub world: World,
    /// The step that is left out.
    pub broken: Broken,
}

impl Port {
    async fn pass(&self, call: String) {
        self.schedule.pass(self.process, call).await;
    }
}

#[async_trait]
impl LogStore for Port {
    async fn ready(&self) -> Result<(), StoreError> {
        self.store.ready().await
    }

    async fn renew_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        ceiling: KnownAt,
    ) -> Result<Applied<NodeLease>, StoreError> {
        self.pass(format!("renew {} {}", incarnation.0, ceiling.0)).await;
        self.store.renew_node(node, incarnation, ceiling).await
    }

    async fn read_node(&self, node: &NodeId) -> Result<Option<NodeLease>, StoreError> {
        self.pass(format!("read {}", node.0)).await;
        self.store.read_node(node).await
    }

    async fn fence_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
    ) -> Result<Applied<NodeLease>, StoreError> {
        self.pass(format!("fence {}", incarnation.0)).await;
        if self.broken == Broken::NoFence {
            return Ok(Applied::Yes);
        }
        self.store.fence_node(node, incarnation).await
    }

    async fn confirm(&self, node: &NodeId, incarnation: Incarnation) -> Result<bool, StoreError> {
        self.pass(format!("confirm {}", incarnation.0)).await;
        match self.broken {
            Broken::NoConfirmation => Ok(true),
            Broken::IncarnationNotCompared => {
                Ok(self.store.read_node(node).await?.is_some_and(|lease| !lease.fenced))
            }
            Broken::Nothing
            | Broken::NoFence
            | Broken::FloorNotKept
            | Broken::EndFromMemory
            | Broken::MarkAhead
            | Broken::PageInPlace
            | Broken::DeleteUnconfirmed
            | Broken::ReleaseEarly => self.store.confirm(node, incarnation).await,
        }
    }

    async fn last_epoch(&self, slot: SlotId) -> Result<Option<SlotEpoch>, StoreError> {
        self.pass(format!("last epoch {}", slot.0)).await;
        self.store.last_epoch(slot).await
    }

    async fn epochs(&self, slot: SlotId) -> Result<Vec<SlotEpoch>, StoreError> {
        self.pass(format!("epochs {}", slot.0)).await;
        self.store.epochs(slot).await
    }

    async fn insert_epoch(
        &self,
        slot: SlotId,
        mut epoch: SlotEpoch,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        self.pass(format!("insert {} {} {}", slot.0, epoch.epoch, epoch.incarnation.0)).await;
        if self.broken == Broken::FloorNotKept
            && let Some(last) = self.store.last_epoch(slot).await?
            && let Some(lease) = self.store.read_node(&last.node).await?
        {
            epoch.floor = KnownAt(lease.ceiling.0 + 1);
        }
        self.store.insert_epoch(slot, epoch).await
    }

    async fn release_epoch(
        &self,
        slot: SlotId,
        epoch: u64,
        incarnation: Incarnation,
        end: u64,
        last_ver: KnownAt,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        self.pass(format!("release {} {epoch} {}", slot.0, incarnation.0)).await;
        self.store.release_epoch(slot, epoch, incarnation, end, last_ver).await
    }

    async fn append(&self, chunks: Vec<Append>) -> Result<(), StoreError> {
        let places: Vec<_> = chunks.iter().map(|c| (c.slot.0, c.position)).collect();
        self.pass(format!("append {places:?}")).await;
        self.store.append(chunks).await
    }

    async fn last_chunk(
        &self,
        slot: SlotId,
        epoch: u64,
    ) -> Result<Option<(Position, Bytes)>, StoreError> {
        self.pass(format!("last chunk {} {epoch}", slot.0)).await;
        self.store.last_chunk(slot, epoch).await
    }

    async fn read_log(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError> {
        self.pass(format!("log {} {after} {up_to}", slot.0)).await;
        self.store.read_log(slot, after, up_to, max_bytes).await
    }
}

#[async_trait]
impl SnapshotStore for Port {
    async fn put(&self, parts: Vec<Put>) -> Result<(), StoreError> {
        let names: Vec<_> = parts.iter().map(|p| (p.slot.0, p.part, p.ver)).collect();
        self.pass(format!("put {names:?}")).await;
        parts.iter().for_each(|put| self.world.saw_put(put));
        self.store.put(parts).await
    }

    async fn load(
        &self,
        parts: Vec<(Entity, Part)>,
    ) -> Result<Vec<Option<(KnownAt, Bytes)>>, StoreError> {
        self.pass(format!("load {parts:?}")).await;
        let found = self.store.load(parts.clone()).await?;
        for ((owner, part), row) in parts.iter().zip(&found) {
            if let (Part::Head, Some((_, bytes))) = (part, row)
                && let Some(slot) = crate::history::SLOTS.into_iter().find(|s| entity(*s) == *owner)
            {
                self.world.saw_head(slot, Head::decode(bytes));
            }
        }
        Ok(found)
    }

    async fn put_mark(&self, slot: SlotId, ver: KnownAt, mark: Mark) -> Result<(), StoreError> {
        self.pass(format!("mark {} {}", slot.0, ver.0)).await;
        self.store.put_mark(slot, ver, mark).await
    }

    async fn load_mark(&self, slot: SlotId) -> Result<Option<(KnownAt, Mark)>, StoreError> {
        self.pass(format!("load mark {}", slot.0)).await;
        let found = self.store.load_mark(slot).await?;
        if let Some((_, mark)) = &found {
            self.world.saw_mark(slot, mark);
        }
        Ok(found)
    }
}

#[async_trait]
impl MemberStore for Port {
    async fn put_member(&self, ver: KnownAt, member: Member) -> Result<(), StoreError> {
        self.store.put_member(ver, member).await
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.store.members().await
    }
}

#[async_trait]
impl AuditStore for Port {
    async fn put_samples(
        &self,
        node: &NodeId,
        samples: Vec<AuditSample>,
    ) -> Result<(), StoreError> {
        self.store.put_samples(node, samples).await
    }

    async fn samples(
        &self,
        node: &NodeId,
        after: KnownAt,
        max: usize,
    ) -> Result<Vec<AuditSample>, StoreError> {
        self.store.samples(node, after, max).await
    }

    async fn forget_samples(&self, up_to: KnownAt) -> Result<(), StoreError> {
        self.store.forget_samples(up_to).await
    }
}

#[async_trait]
impl CatalogStore for Port {
    async fn put_catalog(&self, version: u32, text: String) -> Result<Applied<String>, StoreError> {
        self.store.put_catalog(version, text).await
    }

    async fn catalogs(&self) -> Result<Vec<(u32, String)>, StoreError> {
        self.store.catalogs().await
    }
}

/// No history of the model erases: nothing here is a step of it.
#[async_trait]
impl ErasureStore for Port {
    async fn put_erasure(
        &self,
        number: u64,
        erasure: Erasure,
    ) -> Result<Applied<Erasure>, StoreError> {
        self.store.put_erasure(number, erasure).await
    }

    async fn erasures_after(&self, number: u64) -> Result<Vec<(u64, Erasure)>, StoreError> {
        self.store.erasures_after(number).await
    }

    async fn put_receipt(
        &self,
        number: u64,
        ver: KnownAt,
        receipt: Receipt,
    ) -> Result<(), StoreError> {
        self.store.put_receipt(number, ver, receipt).await
    }

    async fn receipts(&self, number: u64) -> Result<Vec<Receipt>, StoreError> {
        self.store.receipts(number).await
    }

    async fn rewrite(&self, ver: KnownAt, chunks: Vec<Append>) -> Result<(), StoreError> {
        self.store.rewrite(ver, chunks).await
    }

    async fn parts(&self, entity: Entity) -> Result<Vec<Part>, StoreError> {
        self.store.parts(entity).await
    }

    async fn compact(&self) -> Result<(), StoreError> {
        self.store.compact().await
    }
}

#[async_trait]
impl ProducerWindows for Port {
    async fn seen(&self, producer: &str, first: u64, next: u64) -> Result<Vec<Seen>, StoreError> {
        self.store.seen(producer, first, next).await
    }

    async fn mark(&self, producer: &str, first: u64, next: u64) -> Result<(), StoreError> {
        ProducerWindows::mark(&self.store, producer, first, next).await
    }
}
