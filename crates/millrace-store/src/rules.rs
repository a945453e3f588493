//! The rules of conditional writes and of reading the log, shared by the adapters: pure functions
//! from the rows that stand there to the row to write, or to "not applied".

use millrace_types::{KnownAt, Position, SlotId};

use crate::port::{Applied, Incarnation, NodeLease, SlotEpoch, StoreError};

/// What a store keeps of a node besides its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRow {
    /// The run that wrote its first lease last.
    pub newest: Incarnation,
    /// The greatest ceiling granted to any run of the node.
    pub ceiling: KnownAt,
}

/// What a store keeps of one run of a node. It only ever goes from absent to live to fenced, or
/// from absent to fenced, so a write that lands late cannot bring a fenced run back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunRow {
    /// How often its lease was written; 0 when it was fenced before the first time.
    pub renewals: u64,
    /// Set by whoever takes its slots over; never unset.
    pub fenced: bool,
}

impl RunRow {
    /// The answer of the confirmation read.
    #[must_use]
    pub fn confirms(self) -> bool {
        self.renewals > 0 && !self.fenced
    }

    /// This run's lease as the ports show it.
    #[must_use]
    pub fn lease(self, incarnation: Incarnation, ceiling: KnownAt) -> NodeLease {
        NodeLease { incarnation, renewals: self.renewals, ceiling, fenced: self.fenced }
    }
}

/// The rows after a renewal, or `None` when this run was fenced.
#[must_use]
pub fn renewed(
    node: Option<NodeRow>,
    run: Option<RunRow>,
    incarnation: Incarnation,
    ceiling: KnownAt,
) -> Option<(NodeRow, RunRow)> {
    let run = run.unwrap_or_default();
    if run.fenced {
        return None;
    }
    let newest = match node {
        Some(node) if run.renewals > 0 => node.newest,
        Some(_) | None => incarnation,
    };
    let ceiling = node.map_or(ceiling, |node| node.ceiling.max(ceiling));
    Some((NodeRow { newest, ceiling }, RunRow { renewals: run.renewals + 1, fenced: false }))
}

/// The row of a run after it was fenced.
#[must_use]
pub fn fenced(run: Option<RunRow>) -> RunRow {
    RunRow { fenced: true, ..run.unwrap_or_default() }
}

/// The epoch's row after a release, or why it is not applied. `last` is the slot's greatest epoch.
///
/// # Errors
/// [`Applied::No`] with the row that stands there.
pub fn released(
    row: Option<SlotEpoch>,
    last: u64,
    incarnation: Incarnation,
    end: u64,
    last_ver: KnownAt,
) -> Result<SlotEpoch, Applied<SlotEpoch>> {
    match row {
        Some(row)
            if row.incarnation == incarnation && row.released.is_none() && row.epoch == last =>
        {
            Ok(SlotEpoch { released: Some((end, last_ver)), ..row })
        }
        row => Err(Applied::No(row)),
    }
}

/// Where an epoch ends, when it was sealed by the next one or released.
#[must_use]
pub fn end_of(epoch: &SlotEpoch, next: Option<&SlotEpoch>) -> Option<u64> {
    // The row of the next epoch decides: whoever sealed took the release into account.
    next.map(|next| next.previous_end).or(epoch.released.map(|(end, _)| end))
}

/// Walks the rows of one slot's log in order and says which of them are the log: nothing beyond the
/// end of a sealed epoch, and no hole before it.
#[derive(Debug, Clone)]
pub struct LogCursor {
    slot: SlotId,
    /// Epochs not finished yet: number, next sequence expected, last sequence wanted, and whether
    /// every sequence up to it must be there.
    segments: std::vec::IntoIter<Segment>,
    current: Option<Segment>,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    epoch: u64,
    next: u64,
    last: u64,
    sealed: bool,
}

impl LogCursor {
    /// A cursor over the chunks after `after` up to and including `up_to`. `epochs` are the slot's
    /// epoch rows, ascending: at least all from the epoch of `after` to the one behind `up_to`.
    #[must_use]
    pub fn new(slot: SlotId, epochs: &[SlotEpoch], after: Position, up_to: Position) -> Self {
        let mut segments = Vec::new();
        for (index, epoch) in epochs.iter().enumerate() {
            if epoch.epoch < after.epoch || epoch.epoch > up_to.epoch {
                continue;
            }
            let end = end_of(epoch, epochs.get(index + 1));
            let wanted = if epoch.epoch == up_to.epoch { up_to.sequence } else { u64::MAX };
            let next =
                if epoch.epoch == after.epoch { after.sequence.saturating_add(1) } else { 1 };
            let last = end.unwrap_or(u64::MAX).min(wanted);
            if next <= last {
                segments.push(Segment { epoch: epoch.epoch, next, last, sealed: end.is_some() });
            }
        }
        let mut segments = segments.into_iter();
        let current = segments.next();
        Self { slot, segments, current }
    }

    /// The next row found. True when it is a chunk of the log to give out.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when a chunk before it is missing.
    pub fn admit(&mut self, found: Position) -> Result<bool, StoreError> {
        while let Some(segment) = self.current {
            if segment.epoch >= found.epoch {
                break;
            }
            self.leave(segment)?;
        }
        let Some(segment) = &mut self.current else { return Ok(false) };
        if segment.epoch > found.epoch
            || found.sequence > segment.last
            || found.sequence < segment.next
        {
            return Ok(false);
        }
        if found.sequence > segment.next {
            let missing = Position { epoch: segment.epoch, sequence: segment.next };
            return Err(self.hole(missing));
        }
        segment.next += 1;
        if segment.next > segment.last {
            self.current = self.segments.next();
        }
        Ok(true)
    }

    /// No row is left. True always: the scan is complete.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when a sealed epoch misses chunks at its end.
    pub fn finish(mut self) -> Result<bool, StoreError> {
        while let Some(segment) = self.current {
            self.leave(segment)?;
        }
        Ok(true)
    }

    /// The chunk that has to come next, unless the log ends before it.
    #[must_use]
    pub fn expected(&self) -> Option<Position> {
        self.current.map(|segment| Position { epoch: segment.epoch, sequence: segment.next })
    }

    /// True when every chunk wanted was given out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.current.is_none()
    }

    fn leave(&mut self, segment: Segment) -> Result<(), StoreError> {
        if segment.sealed {
            return Err(self.hole(Position { epoch: segment.epoch, sequence: segment.next }));
        }
        self.current = self.segments.next();
        Ok(())
    }

    fn hole(&self, missing: Position) -> StoreError {
        StoreError::Damaged {
            what: format!("log of slot {}", self.slot.0),
            reason: format!("chunk {missing} is missing although a later one was logged"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::NodeId;

    fn epoch(epoch: u64, previous_end: u64) -> SlotEpoch {
        SlotEpoch {
            epoch,
            node: NodeId("join-0".into()),
            incarnation: Incarnation(epoch),
            floor: KnownAt(0),
            previous_end,
            released: None,
        }
    }

    fn at(epoch: u64, sequence: u64) -> Position {
        Position { epoch, sequence }
    }

    fn walk(cursor: &mut LogCursor, rows: &[Position]) -> Result<Vec<Position>, StoreError> {
        let mut out = Vec::new();
        for row in rows {
            if cursor.admit(*row)? {
                out.push(*row);
            }
        }
        Ok(out)
    }

    #[test]
    fn a_fenced_run_never_comes_back_whatever_lands_late() {
        let (old, new) = (Incarnation(1), Incarnation(2));
        let (node, run) = renewed(None, None, old, KnownAt(10)).unwrap();
        let run = fenced(Some(run));
        assert_eq!(renewed(Some(node), Some(run), old, KnownAt(50)), None);
        let (node, fresh) = renewed(Some(node), None, new, KnownAt(5)).unwrap();
        assert_eq!(node, NodeRow { newest: new, ceiling: KnownAt(10) });
        assert!(fresh.confirms());
        assert_eq!(renewed(Some(node), Some(run), old, KnownAt(50)), None);
        assert!(!run.confirms());
    }

    #[test]
    fn rows_beyond_a_sealed_end_are_not_the_log() {
        let epochs = [epoch(1, 0), epoch(2, 2)];
        let rows = [at(1, 1), at(1, 2), at(1, 3), at(2, 1)];
        let mut cursor = LogCursor::new(SlotId(0), &epochs, Position::START, Position::END);
        assert_eq!(walk(&mut cursor, &rows).unwrap(), [at(1, 1), at(1, 2), at(2, 1)]);
        assert_eq!(cursor.finish(), Ok(true));
    }

    #[test]
    fn a_released_end_counts_until_the_next_epoch_states_it() {
        let mut only = epoch(1, 0);
        only.released = Some((1, KnownAt(7)));
        let mut cursor = LogCursor::new(SlotId(0), &[only], Position::START, Position::END);
        assert_eq!(walk(&mut cursor, &[at(1, 1), at(1, 2)]).unwrap(), [at(1, 1)]);
        assert!(cursor.is_done());
    }

    #[test]
    fn holes_are_found_in_the_middle_and_at_a_sealed_end() {
        let epochs = [epoch(1, 0), epoch(2, 3)];
        for rows in [&[at(1, 1), at(1, 3)][..], &[at(1, 1), at(1, 2), at(2, 1)]] {
            let mut cursor = LogCursor::new(SlotId(4), &epochs, Position::START, Position::END);
            let damaged = walk(&mut cursor, rows).unwrap_err();
            assert!(damaged.to_string().contains("log of slot 4"), "{damaged}");
        }
        let mut cursor = LogCursor::new(SlotId(4), &epochs[..], Position::START, at(1, 3));
        assert_eq!(walk(&mut cursor, &[at(1, 1)]).unwrap(), [at(1, 1)]);
        assert!(cursor.finish().is_err());
    }
}
