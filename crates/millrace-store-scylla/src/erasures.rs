//! Erasures: the list is one partition of conditional rows, the receipts are registers.

use async_trait::async_trait;
use futures::{StreamExt, stream};
use millrace_store::erasure::{decode_erasure, decode_receipt, encode_erasure, encode_receipt};
use millrace_store::{Append, Applied, Erasure, ErasureStore, Part, Receipt, StoreError};
use millrace_types::codec::DecodeError;
use millrace_types::{Entity, KnownAt};

use crate::keys::{entity, hour, read_part, read_versioned, versioned};
use crate::outcome::of_all;
use crate::statements::Statement;
use crate::store::{CqlStore, read, stored};

/// Chunks of one call that are on their way at once; the gates of shards bound all calls together.
const AT_ONCE: usize = 32;

fn damaged(what: String) -> impl FnOnce(DecodeError) -> StoreError {
    move |error| StoreError::Damaged { what, reason: error.to_string() }
}

#[async_trait]
impl ErasureStore for CqlStore {
    async fn put_erasure(
        &self,
        number: u64,
        erasure: Erasure,
    ) -> Result<Applied<Erasure>, StoreError> {
        let values = (stored(number), encode_erasure(&erasure));
        if self.run_conditional(Statement::InsertErasure, values).await? {
            return Ok(Applied::Yes);
        }
        let there = self.one::<(Vec<u8>,)>(Statement::Erasure, (stored(number),)).await?;
        let there = there.map(|(value,)| decode_erasure(&value)).transpose();
        there.map(Applied::No).map_err(damaged(format!("erasure {number}")))
    }

    async fn erasures_after(&self, number: u64) -> Result<Vec<(u64, Erasure)>, StoreError> {
        let rows = self.all::<(i64, Vec<u8>)>(Statement::Erasures, (stored(number),)).await?;
        let decode = |(number, value): (i64, Vec<u8>)| {
            let number = read("number of an erasure", number)?;
            let erasure = decode_erasure(&value).map_err(damaged(format!("erasure {number}")))?;
            Ok((number, erasure))
        };
        rows.into_iter().map(decode).collect()
    }

    async fn put_receipt(
        &self,
        number: u64,
        ver: KnownAt,
        receipt: Receipt,
    ) -> Result<(), StoreError> {
        let value = versioned(ver, &encode_receipt(&receipt));
        let values = (stored(number), receipt.slot.0.cast_signed(), value, ver.0);
        self.run(Statement::PutReceipt, values).await.map(drop)
    }

    async fn receipts(&self, number: u64) -> Result<Vec<Receipt>, StoreError> {
        let rows = self.all::<(Vec<u8>,)>(Statement::Receipts, (stored(number),)).await?;
        let what = || format!("a receipt of erasure {number}");
        let decode = |(value,)| {
            let (_, bytes) = read_versioned(what, value)?;
            decode_receipt(&bytes).map_err(damaged(what()))
        };
        rows.into_iter().map(decode).collect()
    }

    async fn rewrite(&self, ver: KnownAt, chunks: Vec<Append>) -> Result<(), StoreError> {
        // The row stands in the hour of its append, with a greater timestamp: copies of the append that
        // land late lose.
        let rewrites = chunks.into_iter().map(|chunk| async move {
            let (epoch, sequence) = (stored(chunk.position.epoch), stored(chunk.position.sequence));
            let key = (chunk.slot.0.cast_signed(), hour(chunk.known_at));
            let values = (key.0, key.1, epoch, sequence, &chunk.bytes[..], ver.0);
            self.run(Statement::AppendChunk, values).await.map(drop)
        });
        let outcomes = stream::iter(rewrites).buffer_unordered(AT_ONCE).collect().await;
        of_all("rewrite", outcomes)
    }

    async fn parts(&self, of: Entity) -> Result<Vec<Part>, StoreError> {
        let rows = self.all::<(Vec<u8>,)>(Statement::Parts, (entity(&of),)).await?;
        let read = |(name,): (Vec<u8>,)| {
            read_part(&name).ok_or_else(|| StoreError::Damaged {
                what: format!("a part of entity {} of kind {}", of.key, of.kind.0),
                reason: "its name does not decode".to_owned(),
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// The database compacts by itself; whoever has to be sure sooner runs `nodetool garbagecollect` on
    /// its nodes.
    async fn compact(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
