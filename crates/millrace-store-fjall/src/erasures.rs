//! Erasures: the list and the receipts stand beside the log.

use std::ops::Bound;
use std::thread;

use async_trait::async_trait;
use bytes::Bytes;
use fjall::{Keyspace, PersistMode};
use millrace_store::erasure::{
    ERASURES_LISTED, decode_erasure, decode_receipt, encode_erasure, encode_receipt,
};
use millrace_store::{Append, Applied, Erasure, ErasureStore, Part, Receipt, StoreError};
use millrace_types::{Entity, KnownAt, SlotId};

use crate::keys::describe;
use crate::settings::SNAPSHOT_SEPARATION_BYTES;
use crate::store::{FjallStore, Table};
use crate::writer::{Group, STALL};
use crate::{failure, keys, rows};

fn erasure(key: &[u8], sealed: &[u8]) -> Result<Erasure, StoreError> {
    rows::unseal(sealed).and_then(decode_erasure).map_err(rows::damaged(describe(key)))
}

fn receipt(key: &[u8], sealed: &Bytes) -> Result<(KnownAt, Receipt), StoreError> {
    rows::decode_versioned(sealed)
        .and_then(|(ver, bytes)| Ok((ver, decode_receipt(&bytes)?)))
        .map_err(rows::damaged(describe(key)))
}

fn erasures_after(table: &Keyspace, number: u64) -> Result<Vec<(u64, Erasure)>, StoreError> {
    let mut found = Vec::new();
    let range = keys::erasure(number.saturating_add(1))..=keys::erasure(u64::MAX);
    for row in table.range(range).take(ERASURES_LISTED) {
        let (key, value) =
            row.into_inner().map_err(|error| failure::of_read(|| "erasures".into(), &error))?;
        let Some(number) = keys::erasure_number(&key) else { continue };
        found.push((number, erasure(&key, &value)?));
    }
    Ok(found)
}

fn receipts(table: &Keyspace, number: u64) -> Result<Vec<Receipt>, StoreError> {
    let at = |slot| keys::receipt(number, SlotId(slot));
    table
        .range(at(0)..=at(u32::MAX))
        .map(|row| {
            let (key, value) =
                row.into_inner().map_err(|error| failure::of_read(|| "receipts".into(), &error))?;
            receipt(&key, &Bytes::copy_from_slice(&value)).map(|(_, receipt)| receipt)
        })
        .collect()
}

fn parts(table: &Keyspace, entity: &Entity) -> Result<Vec<Part>, StoreError> {
    let what = || format!("parts of entity {} of kind {}", entity.key, entity.kind.0);
    let mut found = Vec::new();
    for key in table.prefix(keys::parts(entity)).map(fjall::Guard::key) {
        let key = key.map_err(|error| failure::of_read(what, &error))?;
        match keys::read_part(&key) {
            Some((of, part)) if of == *entity => found.push(part),
            Some(_) | None => {}
        }
    }
    Ok(found)
}

fn rewrite(group: &mut Group, ver: KnownAt, chunk: Append) -> Result<(), StoreError> {
    let key = keys::rewritten(chunk.slot, chunk.position);
    let standing = match group.get(&key)? {
        Some(value) => rows::decode_versioned(&value).map_err(rows::damaged(describe(&key)))?.0,
        None => chunk.known_at,
    };
    if standing < ver {
        group.put(key, rows::encode_versioned(ver, &[]));
        group.put_blind(keys::chunk(chunk.slot, chunk.position), chunk.bytes);
    }
    Ok(())
}

/// Bytes of parts that are written once more in one go.
const RENEWED_BYTES: usize = 8 << 20;

/// Bytes of one padding, which stands in tables like any small value; how many are written at a time, and
/// how often, to fill a journal: fjall begins a new one only once a flush finds 64 MB in the last, and
/// deletes that one after a later flush.
const PADDING_BYTES: usize = 400;
const PADDINGS: usize = 2_600;
const PADDING_GROUPS: usize = 66;

/// Lets go of what was overwritten: it stands in the journal, in tables and in files of large values.
fn compact(table: &Table) -> fjall::Result<()> {
    // The first flush replaces the journal, the second one deletes the old one.
    flush(table)?;
    flush(table)?;
    // The first compaction finds out what is stale in the files of large values, the second one writes
    // these anew; a flush then deletes what no version of the tables has any more.
    table.rows.major_compact()?;
    table.rows.major_compact()?;
    flush(table)?;
    flush(table)
}

fn flush(table: &Table) -> fjall::Result<()> {
    // Nothing is flushed where nothing was written.
    table.rows.insert(keys::PADDING, [])?;
    table.rows.remove(keys::PADDING)?;
    table.rows.rotate_memtable()?;
    while table.rows.sealed_memtable_count() > 0 {
        table.database.persist(PersistMode::Buffer)?; // an error once the database is poisoned
        thread::sleep(STALL); // fjall has nothing to wait on but its own loop without an end
    }
    Ok(())
}

/// Keys of parts of snapshots in a row whose values stand in files of their own, from after `after` on,
/// until they take about so many bytes; and the last key looked at.
fn large_parts(table: &Keyspace, after: Vec<u8>) -> Result<(Vec<Vec<u8>>, Vec<u8>), StoreError> {
    let (mut large, mut last, mut bytes) = (Vec::new(), after.clone(), 0);
    let range = (Bound::Excluded(after), Bound::Excluded(vec![keys::PART + 1]));
    for row in table.range::<Vec<u8>, _>(range) {
        let (key, value) = row
            .into_inner()
            .map_err(|error| failure::of_read(|| "snapshot parts".into(), &error))?;
        last = key.to_vec();
        bytes += value.len();
        if value.len() >= SNAPSHOT_SEPARATION_BYTES as usize {
            large.push(last.clone());
        }
        if bytes >= RENEWED_BYTES {
            break;
        }
    }
    Ok((large, last))
}

impl FjallStore {
    /// Writes every large part once more as it is: the files that held what was deleted beside them hold
    /// nothing then, and go. Such a file goes by itself only once a quarter of it is stale.
    async fn renew_large_parts(&self) -> Result<(), StoreError> {
        let mut after = vec![keys::PART];
        loop {
            let from = after.clone();
            let (large, last) =
                self.blocking(move |inner| large_parts(&inner.snapshots.rows, from)).await?;
            if last == after {
                return Ok(());
            }
            after = last;
            let renew = move |group: &mut Group| {
                for key in large {
                    // As it stands now: it may have been replaced or deleted since.
                    if let Some(value) = group.get(&key)? {
                        group.put(key, value);
                    }
                }
                Ok(())
            };
            self.inner.snapshots.writer.run(RENEWED_BYTES, renew).await?;
        }
    }
}

#[async_trait]
impl ErasureStore for FjallStore {
    async fn put_erasure(
        &self,
        number: u64,
        erased: Erasure,
    ) -> Result<Applied<Erasure>, StoreError> {
        let key = keys::erasure(number);
        let put = move |group: &mut Group| match group.get(&key)? {
            Some(standing) => Ok(Applied::No(Some(erasure(&key, &standing)?))),
            None => {
                group.put(key, rows::seal(&encode_erasure(&erased)));
                group.sync();
                Ok(Applied::Yes)
            }
        };
        self.inner.log.writer.run(512, put).await
    }

    async fn erasures_after(&self, number: u64) -> Result<Vec<(u64, Erasure)>, StoreError> {
        self.blocking(move |inner| erasures_after(&inner.log.rows, number)).await
    }

    async fn put_receipt(
        &self,
        number: u64,
        ver: KnownAt,
        done: Receipt,
    ) -> Result<(), StoreError> {
        let key = keys::receipt(number, done.slot);
        let put = move |group: &mut Group| {
            if let Some(standing) = group.get(&key)?
                && receipt(&key, &standing)?.0 >= ver
            {
                return Ok(());
            }
            group.put(key, rows::encode_versioned(ver, &encode_receipt(&done)));
            group.sync();
            Ok(())
        };
        self.inner.log.writer.run(128, put).await
    }

    async fn receipts(&self, number: u64) -> Result<Vec<Receipt>, StoreError> {
        self.blocking(move |inner| receipts(&inner.log.rows, number)).await
    }

    async fn rewrite(&self, ver: KnownAt, chunks: Vec<Append>) -> Result<(), StoreError> {
        let bytes = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        let rewrite = move |group: &mut Group| {
            chunks.into_iter().try_for_each(|chunk| rewrite(group, ver, chunk))?;
            group.sync();
            Ok(())
        };
        self.inner.log.writer.run(bytes, rewrite).await
    }

    async fn parts(&self, entity: Entity) -> Result<Vec<Part>, StoreError> {
        self.blocking(move |inner| parts(&inner.snapshots.rows, &entity)).await
    }

    async fn compact(&self) -> Result<(), StoreError> {
        self.renew_large_parts().await?;
        for table in [&self.inner.log, &self.inner.snapshots] {
            for _ in 0..PADDING_GROUPS {
                let pad = |group: &mut Group| {
                    for _ in 0..PADDINGS {
                        let value = Bytes::from_static(&[b'z'; PADDING_BYTES]);
                        group.put_blind(keys::PADDING.to_vec(), value);
                    }
                    Ok(())
                };
                table.writer.run(PADDINGS * PADDING_BYTES, pad).await?;
            }
        }
        self.blocking(|inner| {
            for table in [&inner.log, &inner.snapshots] {
                compact(table).map_err(|e| failure::of_read(|| "compaction".into(), &e))?;
            }
            Ok(())
        })
        .await
    }
}
