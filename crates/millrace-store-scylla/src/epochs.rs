//! Epochs of slots.

use std::collections::HashMap;

use millrace_store::{Applied, Incarnation, NodeId, SlotEpoch, StoreError};
use millrace_types::{KnownAt, SlotId};

use crate::statements::Statement;
use crate::store::{CqlStore, lock, read, stored};

/// Rows that are remembered, over all slots: 4 MiB or so. Beyond them everything is read again.
const CACHED_MAX: usize = 32_768;

/// `epoch, node, run, floor, previous_end, released_end, released_ver`.
type Row = (i64, String, i64, i64, i64, Option<i64>, Option<i64>);

/// Rows of epochs that another one followed: they never change again.
#[derive(Debug, Default)]
pub(crate) struct EpochCache {
    by_slot: HashMap<SlotId, Vec<SlotEpoch>>,
    rows: usize,
}

impl EpochCache {
    fn of(&self, slot: SlotId) -> Vec<SlotEpoch> {
        self.by_slot.get(&slot).cloned().unwrap_or_default()
    }

    /// Remembers all rows of a slot but the last.
    fn remember(&mut self, slot: SlotId, rows: &[SlotEpoch]) {
        let followed = rows.len().saturating_sub(1);
        let known = self.by_slot.get(&slot).map_or(0, Vec::len);
        if followed <= known {
            return;
        }
        if self.rows + (followed - known) > CACHED_MAX {
            *self = Self::default();
            if followed > CACHED_MAX {
                return;
            }
        }
        let known = self.by_slot.get(&slot).map_or(0, Vec::len);
        self.rows += followed - known;
        self.by_slot.insert(slot, rows[..followed].to_vec());
    }
}

fn epoch_of(row: Row) -> Result<SlotEpoch, StoreError> {
    let (epoch, node, run, floor, previous_end, released_end, released_ver) = row;
    let released = match (released_end, released_ver) {
        (Some(end), Some(ver)) => Some((read("end of an epoch", end)?, KnownAt(ver))),
        (None, _) | (_, None) => None,
    };
    Ok(SlotEpoch {
        epoch: read("epoch of a slot", epoch)?,
        node: NodeId(node),
        incarnation: Incarnation(run.cast_unsigned()),
        floor: KnownAt(floor),
        previous_end: read("end of an epoch", previous_end)?,
        released,
    })
}

fn key(slot: SlotId) -> i32 {
    slot.0.cast_signed()
}

impl CqlStore {
    pub(crate) async fn last_epoch_row(
        &self,
        slot: SlotId,
    ) -> Result<Option<SlotEpoch>, StoreError> {
        let row = self.one::<Row>(Statement::LastEpoch, (key(slot),)).await?;
        row.map(epoch_of).transpose()
    }

    /// The newest rows of a slot, ascending, as a quorum has them.
    pub(crate) async fn newest_epoch_rows(
        &self,
        slot: SlotId,
    ) -> Result<Vec<SlotEpoch>, StoreError> {
        let rows = self.all::<Row>(Statement::LookEpochs, (key(slot),)).await?;
        // The table keeps them the other way round.
        rows.into_iter().rev().map(epoch_of).collect()
    }

    /// All rows of a slot, ascending. Rows that were followed when they were read last are not read
    /// again.
    pub(crate) async fn epoch_rows(&self, slot: SlotId) -> Result<Vec<SlotEpoch>, StoreError> {
        let mut rows = lock(&self.epochs).of(slot);
        let from = rows.last().map_or(0, |row| row.epoch + 1);
        let newer = self.all::<Row>(Statement::EpochsFrom, (key(slot), stored(from))).await?;
        // The table keeps them the other way round.
        for row in newer.into_iter().rev() {
            rows.push(epoch_of(row)?);
        }
        lock(&self.epochs).remember(slot, &rows);
        Ok(rows)
    }

    pub(crate) async fn epoch_row(
        &self,
        slot: SlotId,
        epoch: u64,
    ) -> Result<Option<SlotEpoch>, StoreError> {
        let row = self.one::<Row>(Statement::Epoch, (key(slot), stored(epoch))).await?;
        row.map(epoch_of).transpose()
    }

    /// A row is inserted open: what released it is stated later.
    pub(crate) async fn insert_epoch_row(
        &self,
        slot: SlotId,
        row: SlotEpoch,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        let epoch = stored(row.epoch);
        let run = row.incarnation.0.cast_signed();
        let end = stored(row.previous_end);
        let values = (key(slot), epoch, epoch, &row.node.0, run, row.floor.0, end);
        if self.run_conditional(Statement::InsertEpoch, values).await? {
            return Ok(Applied::Yes);
        }
        Ok(Applied::No(self.epoch_row(slot, row.epoch).await?))
    }

    pub(crate) async fn release_epoch_row(
        &self,
        slot: SlotId,
        epoch: u64,
        run: Incarnation,
        (end, last_ver): (u64, KnownAt),
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        let (run, number) = (run.0.cast_signed(), stored(epoch));
        let values = (stored(end), last_ver.0, key(slot), number, run, number);
        if self.run_conditional(Statement::ReleaseEpoch, values).await? {
            return Ok(Applied::Yes);
        }
        Ok(Applied::No(self.epoch_row(slot, epoch).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: u64) -> Vec<SlotEpoch> {
        let row = |epoch| SlotEpoch {
            epoch,
            node: NodeId("join-0".into()),
            incarnation: Incarnation(epoch),
            floor: KnownAt(0),
            previous_end: 0,
            released: None,
        };
        (1..=count).map(row).collect()
    }

    #[test]
    fn the_last_row_is_never_remembered_and_what_is_has_a_bound() {
        let mut cache = EpochCache::default();
        cache.remember(SlotId(1), &rows(1));
        assert_eq!(cache.of(SlotId(1)), []);
        cache.remember(SlotId(1), &rows(4));
        assert_eq!(cache.of(SlotId(1)), rows(3));
        cache.remember(SlotId(1), &rows(3));
        assert_eq!(cache.of(SlotId(1)), rows(3), "an older answer takes nothing away");
        for slot in 2..20 {
            cache.remember(SlotId(slot), &rows(8_001));
            let held: usize = cache.by_slot.values().map(Vec::len).sum();
            assert!(held == cache.rows && held <= CACHED_MAX, "{held}");
        }
        cache.remember(SlotId(99), &rows(40_000));
        assert!(cache.rows <= CACHED_MAX);
    }
}
