//! The log: chunks by hour, and the port of everything that decides about it.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use millrace_store::rules::LogCursor;
use millrace_store::{
    Append, Applied, Incarnation, LogPage, LogStore, NodeId, NodeLease, Ownership, SlotEpoch,
    StoreError,
};
use millrace_types::{KnownAt, Position, SlotId};
use scylla::response::PagingState;

use crate::keys::hour;
use crate::outcome::of_all;
use crate::statements::Statement;
use crate::store::{CqlStore, lock, read, stored};

/// Chunks of one call that are on their way at once; the gates of shards bound all calls together.
const APPENDS: usize = 128;
/// Hours that are known to be written, and places where reads went on: one a slot is in use.
const CACHED_MAX: usize = 262_144;
/// Rows of the first page of a read; the next ones fit what chunks weigh.
const FIRST_PAGE: usize = 16;
/// Bytes that a page should have.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// What spares reads and writes. Forgetting it is free of harm.
#[derive(Debug, Default)]
pub(crate) struct LogCache {
    written: HashSet<(SlotId, i32)>,
    /// Up to where a slot was read last, and the hour of that chunk.
    read: HashMap<SlotId, (Position, i32)>,
}

impl LogCache {
    fn knows(&self, slot: SlotId, hour: i32) -> bool {
        self.written.contains(&(slot, hour))
    }

    fn wrote(&mut self, slot: SlotId, hour: i32) {
        if self.written.len() >= CACHED_MAX {
            self.written.clear();
        }
        self.written.insert((slot, hour));
    }

    fn went(&mut self, slot: SlotId, to: Position, hour: i32) {
        if self.read.len() >= CACHED_MAX {
            self.read.clear();
        }
        self.read.insert(slot, (to, hour));
    }

    /// No chunk after this position lies in an earlier hour.
    fn hour_after(&self, slot: SlotId, after: Position) -> Option<i32> {
        self.read.get(&slot).filter(|(to, _)| *to <= after).map(|(_, hour)| *hour)
    }
}

/// The first hour that a chunk after a position can lie in: versions of an epoch are at least its
/// floor, and rise along the log.
fn first_hour(epochs: &[SlotEpoch], after: Position) -> i32 {
    let epoch = epochs.iter().rev().find(|row| row.epoch <= after.epoch);
    epoch.map_or(i32::MIN, |row| hour(row.floor))
}

/// Rows that a page should have, after chunks of so many bytes.
fn page_rows(chunks: usize, bytes: usize, wanted: usize) -> i32 {
    let each = bytes.checked_div(chunks).unwrap_or(PAGE_BYTES / FIRST_PAGE).max(64);
    let rows = (wanted.min(PAGE_BYTES) / each).clamp(1, 2_000);
    i32::try_from(rows).unwrap_or(1)
}

impl CqlStore {
    /// Writes a chunk, its hour first: who looks for chunks asks for hours.
    async fn append_one(&self, chunk: &Append) -> Result<(), StoreError> {
        let Append { slot, position, known_at, bytes } = chunk;
        let (slot, known_at) = (*slot, *known_at);
        let (key, hour) = (slot.0.cast_signed(), hour(known_at));
        if !lock(&self.log).knows(slot, hour) {
            self.run(Statement::AppendHour, (key, hour, known_at.0)).await?;
            lock(&self.log).wrote(slot, hour);
        }
        let (epoch, sequence) = (stored(position.epoch), stored(position.sequence));
        let values = (key, hour, epoch, sequence, &bytes[..], known_at.0);
        self.run(Statement::AppendChunk, values).await.map(drop)
    }

    /// Remembers what landed until the call that failed is repeated and over.
    fn landed_of(&self, before: &[Append], now: &[(Result<(), StoreError>, Append)]) {
        let mut landed = lock(&self.landed);
        if now.iter().all(|(outcome, _)| outcome.is_ok()) {
            before.iter().for_each(|chunk| landed.forget(chunk));
            return;
        }
        for (_, chunk) in now.iter().filter(|(outcome, _)| outcome.is_ok()) {
            landed.add(chunk);
        }
    }

    async fn hours(
        &self,
        statement: Statement,
        slot: SlotId,
        from: i32,
    ) -> Result<Vec<i32>, StoreError> {
        let rows = self.all::<(i32,)>(statement, (slot.0.cast_signed(), from)).await?;
        Ok(rows.into_iter().map(|(hour,)| hour).collect())
    }

    /// Reads chunks of one hour into a page. True when the page is full.
    async fn read_hour(&self, read: &mut Reading, hour: i32) -> Result<bool, StoreError> {
        let mut state = Some(PagingState::start());
        while let Some(from) = state {
            let (after, up_to) = (read.after, read.up_to);
            let values = (
                read.slot.0.cast_signed(),
                hour,
                stored(after.epoch),
                stored(after.sequence),
                stored(up_to.epoch),
                stored(up_to.sequence),
            );
            let rows = page_rows(read.page.chunks.len(), read.bytes, read.left());
            let page = self.page::<(i64, i64, Vec<u8>)>(Statement::Chunks, &values, from, rows);
            let (rows, next) = page.await?;
            for (epoch, sequence, chunk) in rows {
                if read.take(epoch, sequence, chunk)? {
                    return Ok(true);
                }
            }
            state = next;
        }
        Ok(read.cursor.is_done())
    }
}

/// A read of the log under way.
struct Reading {
    slot: SlotId,
    after: Position,
    up_to: Position,
    cursor: LogCursor,
    page: LogPage,
    bytes: usize,
    max_bytes: usize,
}

impl Reading {
    /// Bytes that are still wanted.
    fn left(&self) -> usize {
        self.max_bytes.saturating_sub(self.bytes)
    }

    /// Takes a row in if it is of the log. True when the page is full.
    fn take(&mut self, epoch: i64, sequence: i64, chunk: Vec<u8>) -> Result<bool, StoreError> {
        let position = Position {
            epoch: read("epoch of a chunk", epoch)?,
            sequence: read("sequence of a chunk", sequence)?,
        };
        if !self.cursor.admit(position)? {
            return Ok(false);
        }
        self.bytes += chunk.len();
        self.page.chunks.push((position, Bytes::from(chunk)));
        Ok(self.left() == 0)
    }
}

#[async_trait]
impl LogStore for CqlStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.answers().await
    }

    async fn renew_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        ceiling: KnownAt,
    ) -> Result<Applied<NodeLease>, StoreError> {
        self.renew(node, incarnation, ceiling).await
    }

    async fn read_node(&self, node: &NodeId) -> Result<Option<NodeLease>, StoreError> {
        self.lease(node).await
    }

    async fn fence_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
    ) -> Result<Applied<NodeLease>, StoreError> {
        self.fence(node, incarnation).await
    }

    async fn confirm(&self, node: &NodeId, incarnation: Incarnation) -> Result<bool, StoreError> {
        self.confirms(node, incarnation).await
    }

    async fn last_epoch(&self, slot: SlotId) -> Result<Option<SlotEpoch>, StoreError> {
        self.last_epoch_row(slot).await
    }

    async fn epochs(&self, slot: SlotId) -> Result<Vec<SlotEpoch>, StoreError> {
        self.epoch_rows(slot).await
    }

    async fn look(&self, nodes: Vec<NodeId>, slots: Vec<SlotId>) -> Result<Ownership, StoreError> {
        self.look_at(nodes, slots).await
    }

    async fn insert_epoch(
        &self,
        slot: SlotId,
        epoch: SlotEpoch,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        self.insert_epoch_row(slot, epoch).await
    }

    async fn release_epoch(
        &self,
        slot: SlotId,
        epoch: u64,
        incarnation: Incarnation,
        end: u64,
        last_ver: KnownAt,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        self.release_epoch_row(slot, epoch, incarnation, (end, last_ver)).await
    }

    async fn append(&self, chunks: Vec<Append>) -> Result<(), StoreError> {
        let (landed, left): (Vec<Append>, Vec<Append>) = {
            let landed = lock(&self.landed);
            chunks.into_iter().partition(|chunk| landed.has(chunk))
        };
        let appends = left.into_iter().map(|chunk| async move {
            let outcome = self.append_one(&chunk).await;
            (outcome, chunk)
        });
        // All of them, also after a failure: what is known of each is known of the call.
        let outcomes = stream::iter(appends).buffer_unordered(APPENDS).collect::<Vec<_>>().await;
        self.landed_of(&landed, &outcomes);
        let outcomes = outcomes.into_iter().map(|(outcome, _)| outcome);
        of_all("append", outcomes.chain(landed.iter().map(|_| Ok(()))).collect())
    }

    async fn last_chunk(
        &self,
        slot: SlotId,
        epoch: u64,
    ) -> Result<Option<(Position, Bytes)>, StoreError> {
        let row = self.epoch_row(slot, epoch).await?;
        let from = row.map_or(i32::MIN, |row| hour(row.floor));
        for hour in self.hours(Statement::HoursDown, slot, from).await? {
            let values = (slot.0.cast_signed(), hour, stored(epoch));
            let row = self.one::<(i64, Vec<u8>)>(Statement::LastChunk, values).await?;
            if let Some((sequence, chunk)) = row {
                let sequence = read("sequence of a chunk", sequence)?;
                return Ok(Some((Position { epoch, sequence }, chunk.into())));
            }
        }
        Ok(None)
    }

    async fn read_log(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError> {
        if after >= up_to {
            return Ok(LogPage { complete: true, ..LogPage::default() });
        }
        // Epochs first: what one that is sealed now holds was there before it was sealed.
        let epochs = self.epoch_rows(slot).await?;
        let cursor = LogCursor::new(slot, &epochs, after, up_to);
        let (page, bytes) = (LogPage::default(), 0);
        let mut reading = Reading { slot, after, up_to, cursor, page, bytes, max_bytes };
        if reading.cursor.is_done() {
            return Ok(LogPage { complete: true, ..LogPage::default() });
        }
        let known = lock(&self.log).hour_after(slot, after).unwrap_or(i32::MIN);
        let from = first_hour(&epochs, after).max(known);
        for hour in self.hours(Statement::Hours, slot, from).await? {
            let is_full = self.read_hour(&mut reading, hour).await?;
            if let Some((last, _)) = reading.page.chunks.last() {
                lock(&self.log).went(slot, *last, hour);
            }
            if is_full {
                reading.page.complete = reading.cursor.is_done();
                return Ok(reading.page);
            }
        }
        let Reading { cursor, mut page, .. } = reading;
        page.complete = cursor.finish()?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, sequence: u64) -> Position {
        Position { epoch, sequence }
    }

    #[test]
    fn a_read_begins_at_the_hour_of_the_floor_or_where_the_last_one_ended() {
        let hour_us = 3_600_000_000;
        let row = |epoch: u64| SlotEpoch {
            epoch,
            node: NodeId("join-0".into()),
            incarnation: Incarnation(1),
            floor: KnownAt(epoch.cast_signed() * 10 * hour_us),
            previous_end: 0,
            released: None,
        };
        let epochs = [row(1), row(2), row(5)];
        for (after, expected) in
            [(Position::START, i32::MIN), (at(1, 7), 10), (at(4, 1), 20), (at(9, 1), 50)]
        {
            assert_eq!(first_hour(&epochs, after), expected, "{after}");
        }
        let mut cache = LogCache::default();
        cache.went(SlotId(1), at(2, 5), 23);
        assert_eq!(cache.hour_after(SlotId(1), at(2, 5)), Some(23));
        assert_eq!(cache.hour_after(SlotId(1), at(2, 4)), None, "it may lie before");
        assert_eq!(cache.hour_after(SlotId(2), at(9, 9)), None);
    }

    #[test]
    fn pages_fit_what_chunks_weigh_and_what_is_wanted() {
        assert_eq!(page_rows(0, 0, usize::MAX), 16);
        assert_eq!(page_rows(10, 10 * 1024 * 1024, usize::MAX), 4);
        assert_eq!(page_rows(10, 1_000, usize::MAX), 2_000);
        assert_eq!(page_rows(10, 10_000, 3_000), 3);
        assert_eq!(page_rows(1, 100_000, 0), 1);
    }
}
