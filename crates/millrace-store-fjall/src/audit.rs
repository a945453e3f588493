//! Rings of samples.

use async_trait::async_trait;
use bytes::Bytes;
use fjall::Keyspace;
use millrace_store::audit::first_after;
use millrace_store::{AuditSample, AuditStore, NodeId, StoreError};
use millrace_types::KnownAt;

use crate::keys::describe;
use crate::store::FjallStore;
use crate::writer::Group;
use crate::{failure, keys, rows};

/// Samples forgotten in one commit.
const FORGET_AT_ONCE: usize = 256;

fn read(key: &[u8], value: &[u8]) -> Result<AuditSample, StoreError> {
    let value = Bytes::copy_from_slice(value);
    let (ver, bytes) = rows::decode_versioned(&value).map_err(rows::damaged(describe(key)))?;
    let place = keys::sample_place(key)
        .ok_or_else(|| failure::damaged(describe(key), "its key is none of a sample"))?;
    Ok(AuditSample { place, ver, bytes })
}

fn put(group: &mut Group, node: &NodeId, sample: &AuditSample) -> Result<(), StoreError> {
    let key = keys::sample(node, sample.place);
    if let Some(standing) = group.get(&key)?
        && read(&key, &standing)?.ver >= sample.ver
    {
        return Ok(());
    }
    group.put(key, rows::encode_versioned(sample.ver, &sample.bytes));
    Ok(())
}

/// Unless another one took its place meanwhile.
fn forget(group: &mut Group, key: Vec<u8>, up_to: KnownAt) -> Result<(), StoreError> {
    if let Some(standing) = group.get(&key)?
        && read(&key, &standing)?.ver <= up_to
    {
        // A put of the same group may read it: it only lands on what is older than itself.
        group.remove_blind(key);
    }
    Ok(())
}

#[async_trait]
impl AuditStore for FjallStore {
    async fn put_samples(
        &self,
        node: &NodeId,
        samples: Vec<AuditSample>,
    ) -> Result<(), StoreError> {
        let node = node.clone();
        let bytes = samples.iter().map(|sample| sample.bytes.len()).sum();
        // Not synced: what is lost was not compared, and no more.
        let put_all =
            move |group: &mut Group| samples.iter().try_for_each(|s| put(group, &node, s));
        self.inner.snapshots.writer.run(bytes, put_all).await
    }

    async fn samples(
        &self,
        node: &NodeId,
        after: KnownAt,
        max: usize,
    ) -> Result<Vec<AuditSample>, StoreError> {
        let prefix = keys::samples(node);
        let read_all = move |table: &Keyspace| {
            let mut ring = Vec::new();
            for row in table.prefix(prefix) {
                let (key, value) = row
                    .into_inner()
                    .map_err(|error| failure::of_read(|| "samples".into(), &error))?;
                ring.push(read(&key, &value)?);
            }
            Ok(first_after(ring, after, max))
        };
        self.blocking(move |inner| read_all(&inner.snapshots.rows)).await
    }

    async fn forget_samples(&self, up_to: KnownAt) -> Result<(), StoreError> {
        let old = move |table: &Keyspace| {
            let mut keys = Vec::new();
            for row in table.prefix(keys::all_samples()) {
                let (key, value) = row
                    .into_inner()
                    .map_err(|error| failure::of_read(|| "samples".into(), &error))?;
                if read(&key, &value)?.ver <= up_to {
                    keys.push(key.to_vec());
                }
            }
            Ok(keys)
        };
        let keys = self.blocking(move |inner| old(&inner.snapshots.rows)).await?;
        for some in keys.chunks(FORGET_AT_ONCE) {
            let some = some.to_vec();
            let forget =
                move |group: &mut Group| some.into_iter().try_for_each(|k| forget(group, k, up_to));
            self.inner.snapshots.writer.run(0, forget).await?;
        }
        Ok(())
    }
}
