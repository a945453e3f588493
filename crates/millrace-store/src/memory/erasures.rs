//! Erasures in memory.

use async_trait::async_trait;
use millrace_types::{Entity, KnownAt, SlotId};

use super::tables::Tables;
use super::{Call, MemoryStore};
use crate::erasure::{ERASURES_LISTED, Erasure, ErasureStore, Receipt};
use crate::port::{Append, Applied, Part, StoreError};

#[async_trait]
impl ErasureStore for MemoryStore {
    async fn put_erasure(
        &self,
        number: u64,
        erasure: Erasure,
    ) -> Result<Applied<Erasure>, StoreError> {
        self.write(Call::PutErasure, move |t| match t.erasures.get(&number) {
            Some(standing) => Applied::No(Some(standing.clone())),
            None => {
                t.erasures.insert(number, erasure);
                Applied::Yes
            }
        })
        .await
    }

    async fn erasures_after(&self, number: u64) -> Result<Vec<(u64, Erasure)>, StoreError> {
        let after = |t: &Tables| {
            let after = t.erasures.range(number.saturating_add(1)..).take(ERASURES_LISTED);
            after.map(|(number, erasure)| (*number, erasure.clone())).collect()
        };
        self.read(Call::Erasures, after).await
    }

    async fn put_receipt(
        &self,
        number: u64,
        ver: KnownAt,
        receipt: Receipt,
    ) -> Result<(), StoreError> {
        self.write(Call::PutReceipt, move |t| {
            let place = (number, receipt.slot);
            if t.receipts.get(&place).is_none_or(|(standing, _)| *standing < ver) {
                t.receipts.insert(place, (ver, receipt));
            }
        })
        .await
    }

    async fn receipts(&self, number: u64) -> Result<Vec<Receipt>, StoreError> {
        let all = |t: &Tables| {
            let of = (number, SlotId(0))..=(number, SlotId(u32::MAX));
            t.receipts.range(of).map(|(_, (_, receipt))| *receipt).collect()
        };
        self.read(Call::Receipts, all).await
    }

    async fn rewrite(&self, ver: KnownAt, chunks: Vec<Append>) -> Result<(), StoreError> {
        let half = chunks[..chunks.len() / 2].to_vec();
        let apply = |chunks: Vec<Append>| {
            move |t: &mut Tables| chunks.into_iter().for_each(|chunk| t.rewrite(ver, chunk))
        };
        self.write_torn(Call::Rewrite, apply(chunks), apply(half)).await
    }

    async fn parts(&self, entity: Entity) -> Result<Vec<Part>, StoreError> {
        self.read(Call::Parts, |t| t.parts(&entity)).await
    }

    async fn compact(&self) -> Result<(), StoreError> {
        self.write(Call::Compact, |_| ()).await
    }
}
