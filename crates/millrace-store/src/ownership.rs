//! Taking a slot over: the steps of `slot-log.md` in order, on any store.
//!
//! 1. Fence the last owner, unless it released the slot. Go on only once the fence is known.
//! 2. Read the last chunk of its epoch and write it once more, unchanged, so that a quorum has it.
//!    When the log ends before the slot's mark, stop: sealing would lose what the mark covers.
//! 3. Insert the next epoch's row if none has its number, and take end, floor and owner from the
//!    row that stands there, whoever wrote it. After an unknown outcome "no row" settles nothing:
//!    the same insert is tried again until a SERIAL read returns a row.
//!
//! Replaying from the mark, and comparing the end with a loaded head, is the new owner's job.

use millrace_types::{Chunk, KnownAt, Position, SlotId};
use thiserror::Error;

use crate::port::{
    Append, Applied, Incarnation, LogStore, MemberStore, NodeId, SlotEpoch, SnapshotStore,
    StoreError,
};
use crate::retry::{Retry, given_up, until_known};

/// Why a slot was not taken over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TakeOverError {
    /// The log ends before what the slot's mark covers: acknowledged chunks are missing. The slot
    /// stays unsealed so that nothing is lost for good. Raise the alarm.
    #[error(
        "log of slot {} ends at {end} but its mark covers {mark}: chunks are missing; restore the \
         log, or the snapshots that belong to it, and start again", slot.0
    )]
    BehindMark {
        /// The slot.
        slot: SlotId,
        /// The last chunk found.
        end: Position,
        /// What the mark covers.
        mark: Position,
    },
    /// Another run took it meanwhile.
    #[error("slot {} was taken by {} in epoch {}", slot.0, by.node.0, by.epoch)]
    Taken {
        /// The slot.
        slot: SlotId,
        /// The epoch's row.
        by: SlotEpoch,
    },
    /// Its owner is not known to be dead, and is not to be fenced.
    #[error("slot {} is owned by {}, which is alive", slot.0, by.node.0)]
    Alive {
        /// The slot.
        slot: SlotId,
        /// The epoch's row.
        by: SlotEpoch,
    },
    /// This very run owns the slot and has appended to it: it must release the slot first.
    #[error("slot {} is owned by this run since epoch {epoch}; release it first", slot.0)]
    InUse {
        /// The slot.
        slot: SlotId,
        /// The epoch.
        epoch: u64,
    },
    /// The store failed, or its outcome stayed unknown until the caller's policy gave up. Taking
    /// the slot over again is safe.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TakeOverError> for StoreError {
    fn from(error: TakeOverError) -> Self {
        let reason = error.to_string();
        match error {
            TakeOverError::Store(error) => error,
            TakeOverError::BehindMark { slot, .. } => {
                Self::Damaged { what: format!("log of slot {}", slot.0), reason }
            }
            TakeOverError::Taken { .. }
            | TakeOverError::Alive { .. }
            | TakeOverError::InUse { .. } => Self::Unavailable { operation: "take over", reason },
        }
    }
}

/// Whom a taker may fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fencing {
    /// Whoever owns the slot: the taker is the only one there can be.
    Anyone,
    /// These runs, runs that another run of their node has replaced, and runs of nodes that are no
    /// members. Every run is a member before it takes a slot.
    Dead(Vec<Incarnation>),
}

/// What the last owner left behind.
struct Left {
    /// The last chunk of its epoch.
    end: u64,
    /// No version it stamped, or may still stamp, is greater.
    stamped: KnownAt,
}

/// Takes a slot over for a run of a node and gives the row of the epoch it owns from now on. Called
/// again by the same run before its first append, it gives the same row.
///
/// # Errors
/// [`TakeOverError`]; the slot is then owned by whoever owned it, who may be fenced.
pub async fn take_over<S>(
    store: &S,
    slot: SlotId,
    node: &NodeId,
    incarnation: Incarnation,
    retry: &mut dyn Retry,
) -> Result<SlotEpoch, TakeOverError>
where
    S: LogStore + SnapshotStore + ?Sized,
{
    let last = until_known(retry, || store.last_epoch(slot)).await?;
    take_over_row(store, slot, last, (node, incarnation), retry).await
}

/// The same beside other nodes: an owner who is not known to be dead keeps the slot.
///
/// # Errors
/// [`TakeOverError`], as [`take_over`].
pub async fn take_over_from<S>(
    store: &S,
    slot: SlotId,
    node: &NodeId,
    incarnation: Incarnation,
    fencing: &Fencing,
    retry: &mut dyn Retry,
) -> Result<SlotEpoch, TakeOverError>
where
    S: LogStore + SnapshotStore + MemberStore + ?Sized,
{
    let last = until_known(retry, || store.last_epoch(slot)).await?;
    if let (Some(row), Fencing::Dead(dead)) = (&last, fencing) {
        let open = row.released.is_none() && row.incarnation != incarnation;
        if open && !dead.contains(&row.incarnation) {
            // Read after the row: its run was a member before it wrote it.
            let members = until_known(retry, || store.members()).await?;
            if members.iter().any(|m| m.node == row.node && m.incarnation == row.incarnation) {
                return Err(TakeOverError::Alive { slot, by: row.clone() });
            }
        }
    }
    take_over_row(store, slot, last, (node, incarnation), retry).await
}

/// Takes over from the owner in this row.
async fn take_over_row<S>(
    store: &S,
    slot: SlotId,
    last: Option<SlotEpoch>,
    (node, incarnation): (&NodeId, Incarnation),
    retry: &mut dyn Retry,
) -> Result<SlotEpoch, TakeOverError>
where
    S: LogStore + SnapshotStore + ?Sized,
{
    if let Some(row) = &last {
        let mine = row.node == *node && row.incarnation == incarnation;
        if mine && row.released.is_none() {
            // The answer to an earlier call was lost, or the run forgot what it owns. It must not
            // fence itself, and it must not number its chunks from 1 again.
            let written = until_known(retry, || store.last_chunk(slot, row.epoch)).await?;
            return match written {
                None => Ok(row.clone()),
                Some(_) => Err(TakeOverError::InUse { slot, epoch: row.epoch }),
            };
        }
    }
    let proposed = match &last {
        None => SlotEpoch {
            epoch: 1,
            node: node.clone(),
            incarnation,
            floor: KnownAt(0),
            previous_end: 0,
            released: None,
        },
        Some(row) => {
            let left = settle(store, slot, row, retry).await?;
            SlotEpoch {
                epoch: row.epoch + 1,
                node: node.clone(),
                incarnation,
                floor: KnownAt(row.floor.max(left.stamped).0.saturating_add(1)),
                previous_end: left.end,
                released: None,
            }
        }
    };
    let end = Position { epoch: proposed.epoch - 1, sequence: proposed.previous_end };
    if let Some((_, mark)) = until_known(retry, || store.load_mark(slot)).await?
        && mark.position > end
    {
        // The mark may be that of an owner who opened an epoch since the row was read.
        return match until_known(retry, || store.last_epoch(slot)).await? {
            Some(by) if by.epoch >= proposed.epoch => whose(slot, by, &proposed),
            Some(_) | None => Err(TakeOverError::BehindMark { slot, end, mark: mark.position }),
        };
    }
    open_epoch(store, slot, &proposed, retry).await
}

/// Steps 1 and 2: after this nothing of the epoch beyond `end` will ever be acknowledged.
async fn settle<S>(
    store: &S,
    slot: SlotId,
    row: &SlotEpoch,
    retry: &mut dyn Retry,
) -> Result<Left, TakeOverError>
where
    S: LogStore + ?Sized,
{
    if let Some((end, last_ver)) = row.released {
        return Ok(Left { end, stamped: last_ver });
    }
    fence(store, row, retry).await?;
    let lease = until_known(retry, || store.read_node(&row.node)).await?;
    // A fenced run stamps nothing above the ceiling it was granted; without a lease, nothing at all.
    let ceiling = lease.map_or(KnownAt(0), |lease| lease.ceiling);
    let found = until_known(retry, || store.last_chunk(slot, row.epoch)).await?;
    let Some((position, bytes)) = found else {
        return Ok(Left { end: 0, stamped: ceiling });
    };
    let known_at = match Chunk::decode(bytes.as_ref()) {
        Ok(chunk) => chunk.header.known_at,
        Err(error) => {
            let what = format!("chunk {position} of slot {}", slot.0);
            return Err(StoreError::Damaged { what, reason: error.to_string() }.into());
        }
    };
    let again = vec![Append { slot, position, known_at, bytes }];
    until_known(retry, || store.append(again.clone())).await?;
    Ok(Left { end: position.sequence, stamped: ceiling.max(known_at) })
}

async fn fence<S>(store: &S, row: &SlotEpoch, retry: &mut dyn Retry) -> Result<(), StoreError>
where
    S: LogStore + ?Sized,
{
    loop {
        let fenced = until_known(retry, || store.fence_node(&row.node, row.incarnation)).await?;
        match fenced {
            Applied::Yes => return Ok(()),
            Applied::No(Some(lease)) if lease.incarnation == row.incarnation && lease.fenced => {
                return Ok(());
            }
            Applied::No(_) => {
                let error = StoreError::Unavailable {
                    operation: "fence",
                    reason: format!("{} is not fenced yet", row.node.0),
                };
                if !retry.again(&error).await {
                    return Err(error);
                }
            }
        }
    }
}

/// Step 3.
async fn open_epoch<S>(
    store: &S,
    slot: SlotId,
    proposed: &SlotEpoch,
    retry: &mut dyn Retry,
) -> Result<SlotEpoch, TakeOverError>
where
    S: LogStore + ?Sized,
{
    loop {
        let error = match store.insert_epoch(slot, proposed.clone()).await {
            Ok(Applied::Yes) => return Ok(proposed.clone()),
            Ok(Applied::No(Some(row))) => return whose(slot, row, proposed),
            Ok(Applied::No(None)) => StoreError::Unknown {
                operation: "insert epoch",
                reason: "not applied, and no row stands there".into(),
            },
            Err(
                error @ (StoreError::Unknown { .. }
                | StoreError::Unavailable { .. }
                | StoreError::NotTrusted { .. }
                | StoreError::RetriesSpent { .. }),
            ) => error,
            Err(
                error @ (StoreError::ClockSkew { .. }
                | StoreError::Failed { .. }
                | StoreError::Damaged { .. }),
            ) => return Err(error.into()),
        };
        match until_known(retry, || store.last_epoch(slot)).await? {
            Some(row) if row.epoch >= proposed.epoch => return whose(slot, row, proposed),
            Some(_) | None => {} // settles nothing: the insert may still happen
        }
        if !retry.again(&error).await {
            return Err(given_up(retry, error).into());
        }
    }
}

fn whose(slot: SlotId, row: SlotEpoch, mine: &SlotEpoch) -> Result<SlotEpoch, TakeOverError> {
    let is_mine = row.epoch == mine.epoch
        && row.node == mine.node
        && row.incarnation == mine.incarnation
        && row.released.is_none();
    if is_mine { Ok(row) } else { Err(TakeOverError::Taken { slot, by: row }) }
}
