//! Snapshot parts and marks.

use async_trait::async_trait;
use bytes::Bytes;
use fjall::Keyspace;
use millrace_store::encoding::{decode_mark, decode_member, encode_mark, encode_member};
use millrace_store::{Mark, Member, MemberStore, Part, Put, SnapshotStore, StoreError};
use millrace_types::{Entity, KnownAt, SlotId};

use crate::keys::describe;
use crate::store::FjallStore;
use crate::writer::{Group, get};
use crate::{failure, keys, rows};

/// Parts read on the caller's thread: each takes 5 µs from memory, and handing
/// them over takes longer than a few of them.
const INLINE_PARTS: usize = 8;

fn versioned(key: &[u8], value: &Bytes) -> Result<(KnownAt, Bytes), StoreError> {
    rows::decode_versioned(value).map_err(rows::damaged(describe(key)))
}

fn put(group: &mut Group, put: Put) -> Result<(), StoreError> {
    let key = keys::part(&put.entity, put.part);
    let name = match put.part {
        Part::Head => None,
        Part::RebuiltHead(ver) | Part::Page(ver, _) | Part::Ids(ver, _) => Some(ver),
    };
    match name {
        // An immutable part is written at the version it is named by and deleted at a later one:
        // what stands there need not be read.
        Some(name) if put.bytes.is_empty() => {
            if put.ver > name {
                group.remove_blind(key);
            }
        }
        Some(name) if put.ver == name => {
            group.put_blind(key, rows::encode_versioned(put.ver, &put.bytes));
        }
        Some(_) | None => {
            if let Some(standing) = group.get(&key)?
                && versioned(&key, &standing)?.0 >= put.ver
            {
                return Ok(());
            }
            group.put(key, rows::encode_versioned(put.ver, &put.bytes));
        }
    }
    if matches!(put.part, Part::RebuiltHead(_)) {
        group.sync(); // the log will name it
    }
    Ok(())
}

fn load(
    table: &Keyspace,
    parts: &[(Entity, Part)],
) -> Result<Vec<Option<(KnownAt, Bytes)>>, StoreError> {
    parts
        .iter()
        .map(|(entity, part)| {
            let key = keys::part(entity, *part);
            get(table, &key)?.map(|value| versioned(&key, &value)).transpose()
        })
        .collect()
}

#[async_trait]
impl MemberStore for FjallStore {
    async fn put_member(&self, ver: KnownAt, member: Member) -> Result<(), StoreError> {
        let key = keys::member(&member.node);
        // Not synced: it is told again within a second.
        let put = move |group: &mut Group| {
            if let Some(standing) = group.get(&key)?
                && versioned(&key, &standing)?.0 >= ver
            {
                return Ok(());
            }
            group.put(key, rows::encode_versioned(ver, &encode_member(&member)));
            Ok(())
        };
        self.inner.snapshots.writer.run(256, put).await
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let read = |table: &Keyspace| {
            let mut all = Vec::new();
            for row in table.prefix(keys::members()) {
                let (key, value) = row
                    .into_inner()
                    .map_err(|error| failure::of_read(|| "members".into(), &error))?;
                let (_, bytes) = versioned(&key, &Bytes::copy_from_slice(&value))?;
                all.push(decode_member(&bytes).map_err(rows::damaged(describe(&key)))?);
            }
            Ok(all)
        };
        self.blocking(move |inner| read(&inner.snapshots.rows)).await
    }
}

#[async_trait]
impl SnapshotStore for FjallStore {
    async fn put(&self, parts: Vec<Put>) -> Result<(), StoreError> {
        let bytes = parts.iter().map(|put| put.bytes.len()).sum();
        let put_all = move |group: &mut Group| parts.into_iter().try_for_each(|p| put(group, p));
        self.inner.snapshots.writer.run(bytes, put_all).await
    }

    async fn load(
        &self,
        parts: Vec<(Entity, Part)>,
    ) -> Result<Vec<Option<(KnownAt, Bytes)>>, StoreError> {
        if parts.len() <= INLINE_PARTS {
            return load(&self.inner.snapshots.rows, &parts);
        }
        self.blocking(move |inner| load(&inner.snapshots.rows, &parts)).await
    }

    async fn put_mark(&self, slot: SlotId, ver: KnownAt, mark: Mark) -> Result<(), StoreError> {
        let key = keys::mark(slot);
        let put = move |group: &mut Group| {
            if let Some(standing) = group.get(&key)?
                && versioned(&key, &standing)?.0 >= ver
            {
                return Ok(());
            }
            group.put(key, rows::encode_versioned(ver, &encode_mark(&mark)));
            group.sync();
            Ok(())
        };
        self.inner.snapshots.writer.run(256, put).await
    }

    async fn load_mark(&self, slot: SlotId) -> Result<Option<(KnownAt, Mark)>, StoreError> {
        let key = keys::mark(slot);
        let Some(value) = get(&self.inner.snapshots.rows, &key)? else { return Ok(None) };
        let (ver, bytes) = versioned(&key, &value)?;
        let mark = decode_mark(&bytes).map_err(rows::damaged(describe(&key)))?;
        Ok(Some((ver, mark)))
    }
}
