//! Erasures in a store of another process.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use async_trait::async_trait;
use millrace_proto::v1;
use millrace_store::erasure::{encode_erasure, encode_receipt};
use millrace_store::{Append, Applied, Erasure, ErasureStore, Part, Receipt, StoreError};
use millrace_types::{Entity, KnownAt};

use super::store::{RemoteStore, malformed};
use crate::wire;

#[async_trait]
impl ErasureStore for RemoteStore {
    async fn put_erasure(
        &self,
        number: u64,
        erasure: Erasure,
    ) -> Result<Applied<Erasure>, StoreError> {
        let erasure = encode_erasure(&erasure).into();
        self.unary(
            "put an erasure",
            v1::PutErasureRequest { number, erasure },
            |mut client, request| async move { client.put_erasure(request).await },
            |answer: v1::PutErasureResponse| {
                wire::store::result(answer.fault)?;
                if answer.stored {
                    return Ok(Applied::Yes);
                }
                let there = answer.there.map(|bytes| wire::store::read_erasure(&bytes));
                there.transpose().map(Applied::No).map_err(|e| malformed(&e))
            },
        )
        .await
    }

    async fn erasures_after(&self, number: u64) -> Result<Vec<(u64, Erasure)>, StoreError> {
        self.unary(
            "list erasures",
            v1::ListErasuresRequest { after_number: number },
            |mut client, request| async move { client.list_erasures(request).await },
            |answer: v1::ListErasuresResponse| {
                wire::store::result(answer.fault)?;
                let read = |one: v1::NumberedErasure| {
                    Ok((one.number, wire::store::read_erasure(&one.erasure)?))
                };
                let read: Result<_, _> = answer.erasures.into_iter().map(read).collect();
                read.map_err(|e: wire::Malformed| malformed(&e))
            },
        )
        .await
    }

    async fn put_receipt(
        &self,
        number: u64,
        ver: KnownAt,
        receipt: Receipt,
    ) -> Result<(), StoreError> {
        let receipt = encode_receipt(&receipt).into();
        self.unary(
            "put a receipt",
            v1::PutReceiptRequest { number, ver_us: ver.0, receipt },
            |mut client, request| async move { client.put_receipt(request).await },
            |answer: v1::PutReceiptResponse| wire::store::result(answer.fault),
        )
        .await
    }

    async fn receipts(&self, number: u64) -> Result<Vec<Receipt>, StoreError> {
        self.unary(
            "list receipts",
            v1::ListReceiptsRequest { number },
            |mut client, request| async move { client.list_receipts(request).await },
            |answer: v1::ListReceiptsResponse| {
                wire::store::result(answer.fault)?;
                let read = answer.receipts.iter().map(|bytes| wire::store::read_receipt(bytes));
                read.collect::<Result<_, _>>().map_err(|e| malformed(&e))
            },
        )
        .await
    }

    async fn rewrite(&self, ver: KnownAt, chunks: Vec<Append>) -> Result<(), StoreError> {
        for run in wire::split(chunks, |chunk| chunk.bytes.len()) {
            let chunks = run.iter().map(wire::store::chunk_append).collect();
            self.unary(
                "rewrite chunks",
                v1::RewriteRequest { ver_us: ver.0, chunks },
                |mut client, request| async move { client.rewrite(request).await },
                |answer: v1::RewriteResponse| wire::store::result(answer.fault),
            )
            .await?;
        }
        Ok(())
    }

    async fn parts(&self, entity: Entity) -> Result<Vec<Part>, StoreError> {
        self.unary(
            "list parts",
            v1::ListPartsRequest { entity: Some(wire::store::stored_entity(&entity)) },
            |mut client, request| async move { client.list_parts(request).await },
            |answer: v1::ListPartsResponse| {
                wire::store::result(answer.fault)?;
                let read = answer
                    .parts
                    .into_iter()
                    .map(|name| wire::store::read_part_name(name).map(|(_, part)| part));
                read.collect::<Result<_, _>>().map_err(|e| malformed(&e))
            },
        )
        .await
    }

    async fn compact(&self) -> Result<(), StoreError> {
        let number = RandomState::new().build_hasher().finish();
        loop {
            let is_running = self
                .unary(
                    "compact",
                    v1::CompactRequest { number },
                    |mut client, request| async move { client.compact(request).await },
                    |answer: v1::CompactResponse| {
                        wire::store::result(answer.fault)?;
                        Ok(answer.running)
                    },
                )
                .await?;
            // The service waits before it says so.
            if !is_running {
                return Ok(());
            }
        }
    }
}
