//! The slot log, epochs and leases; catalog versions and producer windows.

use std::ops::Bound::{Excluded, Included};

use async_trait::async_trait;
use bytes::Bytes;
use fjall::Keyspace;
use millrace_store::rules::{self, LogCursor};
use millrace_store::window::ProducerWindow;
use millrace_store::{
    Append, Applied, CatalogStore, Incarnation, LogPage, LogStore, NodeId, NodeLease,
    ProducerWindows, Seen, SlotEpoch, StoreError,
};
use millrace_types::{DecodeError, KnownAt, Position, SlotId};

use crate::keys::describe;
use crate::store::FjallStore;
use crate::writer::{Group, get};
use crate::{failure, keys, rows};

fn decode<T>(
    key: &[u8],
    value: Option<Bytes>,
    decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<Option<T>, StoreError> {
    value.map(|value| decode(&value)).transpose().map_err(rows::damaged(describe(key)))
}

/// The rows of the epochs `first..=last` of a slot, ascending.
fn epochs(
    table: &Keyspace,
    slot: SlotId,
    first: u64,
    last: u64,
) -> Result<Vec<SlotEpoch>, StoreError> {
    table
        .range(keys::epoch(slot, first)..=keys::epoch(slot, last))
        .map(|row| {
            let (key, value) = row.into_inner().map_err(|error| {
                failure::of_read(|| format!("epochs of slot {}", slot.0), &error)
            })?;
            rows::decode_epoch(&value).map_err(rows::damaged(describe(&key)))
        })
        .collect()
}

fn last_epoch(table: &Keyspace, slot: SlotId) -> Result<Option<SlotEpoch>, StoreError> {
    let found = table.range(keys::epoch(slot, 0)..=keys::epoch(slot, u64::MAX)).next_back();
    let Some(row) = found else { return Ok(None) };
    let (key, value) = row
        .into_inner()
        .map_err(|error| failure::of_read(|| format!("epochs of slot {}", slot.0), &error))?;
    rows::decode_epoch(&value).map(Some).map_err(rows::damaged(describe(&key)))
}

fn read_log(
    table: &Keyspace,
    slot: SlotId,
    (after, up_to): (Position, Position),
    max_bytes: usize,
) -> Result<LogPage, StoreError> {
    if after >= up_to {
        return Ok(LogPage { chunks: Vec::new(), complete: true });
    }
    // The epoch behind the last one wanted says where that one ends.
    let epochs = epochs(table, slot, after.epoch, up_to.epoch.saturating_add(1))?;
    let mut cursor = LogCursor::new(slot, &epochs, after, up_to);
    let mut page = LogPage::default();
    let mut bytes_left = max_bytes;
    let bounds = (Excluded(keys::chunk(slot, after)), Included(keys::chunk(slot, up_to)));
    for row in table.range::<Vec<u8>, _>(bounds) {
        let (key, value) = row.into_inner().map_err(|error| {
            let place = cursor.expected().unwrap_or(after);
            failure::of_read(|| format!("chunk {place} of slot {}", slot.0), &error)
        })?;
        let Some(position) = keys::position(&key) else { continue };
        if !cursor.admit(position)? {
            continue;
        }
        bytes_left = bytes_left.saturating_sub(value.len());
        page.chunks.push((position, value.into()));
        if bytes_left == 0 {
            page.complete = cursor.is_done();
            return Ok(page);
        }
    }
    page.complete = cursor.finish()?;
    Ok(page)
}

fn last_chunk(
    table: &Keyspace,
    slot: SlotId,
    epoch: u64,
) -> Result<Option<(Position, Bytes)>, StoreError> {
    let at = |sequence| keys::chunk(slot, Position { epoch, sequence });
    let Some(row) = table.range(at(0)..=at(u64::MAX)).next_back() else { return Ok(None) };
    let (key, value) = row
        .into_inner()
        .map_err(|error| failure::of_read(|| format!("last chunk of slot {}", slot.0), &error))?;
    Ok(keys::position(&key).map(|position| (position, value.into())))
}

fn renew(
    group: &mut Group,
    node: &NodeId,
    incarnation: Incarnation,
    ceiling: KnownAt,
) -> Result<Applied<NodeLease>, StoreError> {
    let (node_key, run_key) = (keys::node(node), keys::run(node, incarnation));
    let row = decode(&node_key, group.get(&node_key)?, rows::decode_node)?;
    let run = decode(&run_key, group.get(&run_key)?, rows::decode_run)?;
    match rules::renewed(row, run, incarnation, ceiling) {
        Some((row, run)) => {
            group.put(node_key, rows::encode_node(row));
            group.put(run_key, rows::encode_run(run));
            group.sync();
            Ok(Applied::Yes)
        }
        None => {
            let ceiling = row.map_or(KnownAt(0), |row| row.ceiling);
            Ok(Applied::No(run.map(|run| run.lease(incarnation, ceiling))))
        }
    }
}

fn release(
    group: &mut Group,
    slot: SlotId,
    epoch: u64,
    incarnation: Incarnation,
    (end, last_ver): (u64, KnownAt),
) -> Result<Applied<SlotEpoch>, StoreError> {
    let key = keys::epoch(slot, epoch);
    let row = decode(&key, group.get(&key)?, rows::decode_epoch)?;
    // The next epoch may have been opened in this very group.
    let followed = match row {
        Some(_) => group.get(&keys::epoch(slot, epoch.saturating_add(1)))?.is_some(),
        None => false,
    };
    let last = if followed { epoch.saturating_add(1) } else { epoch };
    match rules::released(row, last, incarnation, end, last_ver) {
        Ok(row) => {
            group.put(key, rows::encode_epoch(&row));
            group.sync();
            Ok(Applied::Yes)
        }
        Err(not) => Ok(not),
    }
}

#[async_trait]
impl LogStore for FjallStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.inner.failure.told().map_or(Ok(()), Err)
    }

    async fn renew_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        ceiling: KnownAt,
    ) -> Result<Applied<NodeLease>, StoreError> {
        let node = node.clone();
        self.inner.log.writer.run(64, move |g| renew(g, &node, incarnation, ceiling)).await
    }

    async fn read_node(&self, node: &NodeId) -> Result<Option<NodeLease>, StoreError> {
        let table = &self.inner.log.rows;
        let key = keys::node(node);
        let Some(row) = decode(&key, get(table, &key)?, rows::decode_node)? else {
            return Ok(None);
        };
        let key = keys::run(node, row.newest);
        let run = decode(&key, get(table, &key)?, rows::decode_run)?;
        Ok(run.map(|run| run.lease(row.newest, row.ceiling)))
    }

    async fn fence_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
    ) -> Result<Applied<NodeLease>, StoreError> {
        let key = keys::run(node, incarnation);
        let fence = move |group: &mut Group| {
            let run = decode(&key, group.get(&key)?, rows::decode_run)?;
            // Taking over the slots of one run fences it once a slot.
            if !run.is_some_and(|run| run.fenced) {
                group.put(key, rows::encode_run(rules::fenced(run)));
                group.sync();
            }
            Ok(Applied::Yes)
        };
        self.inner.log.writer.run(64, fence).await
    }

    async fn confirm(&self, node: &NodeId, incarnation: Incarnation) -> Result<bool, StoreError> {
        let key = keys::run(node, incarnation);
        let run = decode(&key, get(&self.inner.log.rows, &key)?, rows::decode_run)?;
        Ok(run.is_some_and(|run| run.confirms()))
    }

    async fn last_epoch(&self, slot: SlotId) -> Result<Option<SlotEpoch>, StoreError> {
        self.blocking(move |inner| last_epoch(&inner.log.rows, slot)).await
    }

    async fn epochs(&self, slot: SlotId) -> Result<Vec<SlotEpoch>, StoreError> {
        self.blocking(move |inner| epochs(&inner.log.rows, slot, 0, u64::MAX)).await
    }

    async fn insert_epoch(
        &self,
        slot: SlotId,
        epoch: SlotEpoch,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        let key = keys::epoch(slot, epoch.epoch);
        let insert = move |group: &mut Group| {
            if let Some(standing) = decode(&key, group.get(&key)?, rows::decode_epoch)? {
                return Ok(Applied::No(Some(standing)));
            }
            group.put(key, rows::encode_epoch(&epoch));
            group.sync();
            Ok(Applied::Yes)
        };
        self.inner.log.writer.run(128, insert).await
    }

    async fn release_epoch(
        &self,
        slot: SlotId,
        epoch: u64,
        incarnation: Incarnation,
        end: u64,
        last_ver: KnownAt,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        let release =
            move |group: &mut Group| release(group, slot, epoch, incarnation, (end, last_ver));
        self.inner.log.writer.run(128, release).await
    }

    async fn append(&self, chunks: Vec<Append>) -> Result<(), StoreError> {
        let bytes = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        let append = move |group: &mut Group| {
            for chunk in chunks {
                group.put_blind(keys::chunk(chunk.slot, chunk.position), chunk.bytes);
            }
            group.sync();
            Ok(())
        };
        self.inner.log.writer.run(bytes, append).await
    }

    async fn last_chunk(
        &self,
        slot: SlotId,
        epoch: u64,
    ) -> Result<Option<(Position, Bytes)>, StoreError> {
        self.blocking(move |inner| last_chunk(&inner.log.rows, slot, epoch)).await
    }

    async fn read_log(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError> {
        self.blocking(move |inner| read_log(&inner.log.rows, slot, (after, up_to), max_bytes)).await
    }
}

#[async_trait]
impl CatalogStore for FjallStore {
    async fn put_catalog(&self, version: u32, text: String) -> Result<Applied<String>, StoreError> {
        let key = keys::catalog(version);
        let put = move |group: &mut Group| match group.get(&key)? {
            Some(standing) => Ok(Applied::No(Some(catalog_text(&key, &standing)?))),
            None => {
                group.put(key, rows::seal(text.as_bytes()));
                group.sync();
                Ok(Applied::Yes)
            }
        };
        self.inner.log.writer.run(1 << 10, put).await
    }

    async fn catalogs(&self) -> Result<Vec<(u32, String)>, StoreError> {
        let read = |table: &Keyspace| {
            let mut all = Vec::new();
            for row in table.range(keys::catalog(1)..=keys::catalog(u32::MAX)) {
                let (key, value) = row
                    .into_inner()
                    .map_err(|error| failure::of_read(|| "catalogs".into(), &error))?;
                let Some(version) = keys::catalog_version(&key) else { continue };
                all.push((version, catalog_text(&key, &value)?));
            }
            Ok(all)
        };
        self.blocking(move |inner| read(&inner.log.rows)).await
    }
}

fn catalog_text(key: &[u8], value: &[u8]) -> Result<String, StoreError> {
    let text = rows::unseal(value)
        .and_then(|text| std::str::from_utf8(text).map_err(|_| DecodeError::NotUtf8("catalog")));
    text.map(str::to_owned).map_err(rows::damaged(describe(key)))
}

fn window(sealed: &[u8]) -> Result<ProducerWindow, DecodeError> {
    ProducerWindow::decode(rows::unseal(sealed)?)
}

#[async_trait]
impl ProducerWindows for FjallStore {
    async fn seen(&self, producer: &str, first: u64, next: u64) -> Result<Vec<Seen>, StoreError> {
        let key = keys::window(producer);
        let window = decode(&key, get(&self.inner.log.rows, &key)?, window)?;
        Ok(window.unwrap_or_default().seen_range(first, next))
    }

    async fn mark(&self, producer: &str, first: u64, next: u64) -> Result<(), StoreError> {
        let key = keys::window(producer);
        // Not synced: a window may forget.
        let mark = move |group: &mut Group| {
            let mut window = decode(&key, group.get(&key)?, window)?.unwrap_or_default();
            window.mark(first, next);
            group.put(key, rows::seal(&window.encode()));
            Ok(())
        };
        self.inner.log.writer.run(64, mark).await
    }
}
