//! What is stored, what is on its way, and what each run knows.

use super::Bounds;

/// The most of everything, for arrays.
pub(super) const RUNS: usize = 4;
pub(super) const EPOCHS: usize = 4;
pub(super) const CHUNKS: usize = 3;
/// Nodes; run `r` is of node `r % NODES`.
pub(super) const NODES: usize = 2;

/// A chunk's row on its replicas. Its content is told by the run that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Row {
    #[default]
    Absent,
    /// On fewer replicas than a quorum: a read may see it or not.
    Partial(u8),
    /// On a quorum: every read sees it.
    Full(u8),
}

/// An epoch's row. Epochs count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Epoch {
    pub(super) run: u8,
    /// The end of the epoch before.
    pub(super) previous_end: u8,
    pub(super) released: Option<u8>,
}

/// A node's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Node {
    /// The run that wrote it last.
    pub(super) run: Option<u8>,
    pub(super) fenced: bool,
}

/// Where a mark stands: epoch and sequence.
pub(super) type Place = (u8, u8);

/// The slot's mark: the write with the greatest version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Mark {
    pub(super) version: (u8, u8),
    pub(super) place: Place,
}

/// A write on its way. It may land at any time, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Write {
    Append {
        epoch: u8,
        sequence: u8,
        run: u8,
    },
    Mark {
        version: (u8, u8),
        place: Place,
        run: u8,
    },
    /// Conditional: on the run that the node's row has.
    Fence {
        run: u8,
    },
    /// Conditional: on there being no such row.
    Open {
        epoch: u8,
        run: u8,
        previous_end: u8,
    },
    /// Conditional: on the row being the run's own and not released.
    Release {
        epoch: u8,
        run: u8,
        end: u8,
    },
}

/// The append of an owner that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum UnderWay {
    #[default]
    Nothing,
    Sent {
        /// The fence was looked for already, which is too early.
        looked: bool,
    },
    Known {
        looked: bool,
    },
}

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Phase {
    /// Not started yet.
    #[default]
    Unborn,
    /// It may look for the slot's last epoch.
    Idle,
    /// It wants the slot from the owner of this epoch.
    Fencing {
        epoch: u8,
    },
    /// The owner of this epoch is fenced, or released it.
    Fenced {
        epoch: u8,
    },
    /// It found this end, and opens the next epoch.
    Sealing {
        epoch: u8,
        end: u8,
    },
    Owner(Owner),
    /// It found itself fenced. A run that dies needs no phase: it takes no step any more.
    Gone,
}

/// A run that owns the slot, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) epoch: u8,
    /// The end of the epoch before, as it replayed it.
    pub(super) replayed_to: u8,
    /// Chunks of this epoch that are confirmed.
    pub(super) confirmed: u8,
    pub(super) under_way: UnderWay,
    /// Marks put so far.
    pub(super) marks: u8,
    /// A mark is on its way.
    pub(super) marking: bool,
    pub(super) released: bool,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) rows: [[Row; CHUNKS]; EPOCHS],
    pub(super) epochs: [Option<Epoch>; EPOCHS],
    pub(super) nodes: [Node; NODES],
    pub(super) mark: Mark,
    pub(super) runs: [Phase; RUNS],
    pub(super) writes: Vec<Write>,
    /// The run whose chunk was acknowledged at this place.
    pub(super) acknowledged: [[Option<u8>; CHUNKS]; EPOCHS],
    /// The furthest place of a mark that its writer knows to be stored.
    pub(super) known_mark: Place,
    pub(super) unknown: u8,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            rows: Default::default(),
            epochs: Default::default(),
            nodes: Default::default(),
            mark: Mark::default(),
            runs: Default::default(),
            writes: Vec::new(),
            acknowledged: Default::default(),
            known_mark: (0, 0),
            unknown: 0,
        }
    }

    /// The number of the last epoch; 0 where there is none.
    pub(super) fn last_epoch(&self) -> u8 {
        self.epochs.iter().flatten().count() as u8
    }

    pub(super) fn epoch(&self, epoch: u8) -> Option<&Epoch> {
        self.epochs.get(usize::from(epoch).checked_sub(1)?)?.as_ref()
    }

    pub(super) fn epoch_mut(&mut self, epoch: u8) -> &mut Option<Epoch> {
        &mut self.epochs[usize::from(epoch) - 1]
    }

    pub(super) fn row(&self, epoch: u8, sequence: u8) -> Row {
        self.rows[usize::from(epoch) - 1][usize::from(sequence) - 1]
    }

    pub(super) fn row_mut(&mut self, epoch: u8, sequence: u8) -> &mut Row {
        &mut self.rows[usize::from(epoch) - 1][usize::from(sequence) - 1]
    }

    pub(super) fn acknowledge(&mut self, epoch: u8, sequence: u8, run: u8) {
        self.acknowledged[usize::from(epoch) - 1][usize::from(sequence) - 1] = Some(run);
    }

    pub(super) fn send(&mut self, write: Write) {
        // Sorted: the order in which writes were sent means nothing.
        let at = self.writes.partition_point(|other| *other < write);
        self.writes.insert(at, write);
    }

    /// Where an epoch ends for readers, if it is sealed.
    pub(super) fn end_of(&self, epoch: u8) -> Option<u8> {
        Some(self.epoch(epoch + 1)?.previous_end)
    }

    /// The promise that this state breaks, if it breaks one.
    pub(super) fn broken_promise(&self, bounds: &Bounds) -> Option<String> {
        for epoch in 1..=self.last_epoch() {
            let end = self.end_of(epoch);
            for sequence in 1..=bounds.chunks {
                let row = self.row(epoch, sequence);
                let place = (usize::from(epoch) - 1, usize::from(sequence) - 1);
                if let Some(run) = self.acknowledged[place.0][place.1]
                    && (row != Row::Full(run) || end.is_some_and(|end| sequence > end))
                {
                    let text = format!("ACK: chunk {sequence} of epoch {epoch} is lost");
                    return Some(text);
                }
                if end.is_some_and(|end| sequence <= end) && !matches!(row, Row::Full(_)) {
                    let text =
                        format!("LOG: chunk {sequence} of sealed epoch {epoch} may be missed");
                    return Some(text);
                }
            }
        }
        let (epoch, sequence) = self.mark.place;
        if epoch > 0 {
            let beyond = self.end_of(epoch).is_some_and(|end| sequence > end);
            if beyond || (1..=sequence).any(|s| !matches!(self.row(epoch, s), Row::Full(_))) {
                return Some(format!(
                    "MARK: it stands at {sequence} of epoch {epoch}, ahead of the log"
                ));
            }
        }
        if self.mark.place < self.known_mark {
            return Some("FENCE: the mark went back behind one that was known".to_owned());
        }
        for phase in &self.runs {
            if let Phase::Owner(owner) = phase
                && self.end_of(owner.epoch - 1).is_some_and(|end| end != owner.replayed_to)
            {
                let text = format!("LOG: the owner of epoch {} replayed another log", owner.epoch);
                return Some(text);
            }
        }
        None
    }
}
