//! What workers are told, and how a batch over several slots comes back together.

use std::sync::{Arc, Mutex, PoisonError};

use millrace_client::port::{
    CallOrder, Failed, HeadAnswer, HeadRequest, Hold, Holds, JoinError, Routes, SlotFacts,
    SlotStatus, SlotVerdicts,
};
use millrace_grpc::Coded as _;
use millrace_kernel::RetentionScrub;
use millrace_kernel::erase::ErasureScan;
use millrace_kernel::slot::Fold;
use millrace_store::{Fencing, MemberSlot, StoreError};
use millrace_telemetry::{Span, TraceContext};
use millrace_types::{Entity, KnownAt, Position, SlotId, StreamWatermark};
use tokio::sync::oneshot;

use crate::metrics::WorkerState;
use crate::worker::{Acquired, Scanned};

/// A message to a worker.
#[derive(Debug)]
pub(crate) enum Message {
    /// Facts of one batch for the worker's slots.
    Process(Batch),
    /// The call of an ingest process ended without a word: unless it is heard of again, it is taken
    /// as lost.
    Gone {
        /// The call that ended.
        call: u64,
        /// Who was on it and did not take its leave.
        incarnation: Option<u64>,
    },
    /// A read of heads.
    Read(ReadJob),
    /// Answer once the slot's log is closed up to this instant.
    Close(SlotId, KnownAt, oneshot::Sender<Result<Position, JoinError>>),
    /// These entities of a slot are to be rebuilt; answered once a chunk that says so is confirmed.
    Suspect(SlotId, Vec<Entity>, oneshot::Sender<Result<Position, JoinError>>),
    /// The state of the worker's slots.
    Status(oneshot::Sender<Vec<SlotStatus>>),
    /// The state of the worker, for gauges.
    Measure(oneshot::Sender<WorkerState>),
    /// A rebuild has folded the log.
    Folded(Folded),
    /// A step of an erasure ended in the background.
    Erasing(ErasureWent),
    /// A step for the retention of a slot's streams ended in the background.
    Retention(RetentionWent),
    /// The store let go of what was taken out of logs, or did not.
    Compacted(Result<(), StoreError>),
    /// A backfill has read the log.
    Backfilled(Backfilled),
    /// Take this slot over, which cost its last owner this much.
    Acquire(SlotId, Fencing, u64, oneshot::Sender<Result<Acquired, StoreError>>),
    /// Save this slot and let it go.
    Release(SlotId, oneshot::Sender<()>),
    /// What the worker owns.
    Owned(oneshot::Sender<Vec<MemberSlot>>),
    /// Finish what is in flight, save everything, release the slots, and stop.
    Drain(oneshot::Sender<()>),
}

/// Facts of one batch for slots of one worker.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) incarnation: u64,
    pub(crate) catalog_version: u32,
    pub(crate) slots: Vec<SlotFacts>,
    pub(crate) watermarks: Arc<[StreamWatermark]>,
    pub(crate) order: CallOrder,
    /// Without facts for any slot it states the watermarks of these.
    pub(crate) states: Option<Routes>,
    pub(crate) departs: bool,
    pub(crate) replays_late: bool,
    pub(crate) reply: Arc<Reply>,
}

/// The verdicts of a batch, gathered from its slots.
#[derive(Debug)]
pub(crate) struct Reply {
    gather: Mutex<Gather>,
    trace: TraceContext,
}

#[derive(Debug)]
struct Gather {
    left: usize,
    verdicts: Vec<SlotVerdicts>,
    /// Why some slots did not take their part.
    failed: Option<(JoinError, Hold)>,
    sender: Option<oneshot::Sender<Result<Vec<SlotVerdicts>, Failed>>>,
    /// Of the sender of the batch.
    holds: Holds,
    /// What a trace shows of the batch here, until it is answered.
    span: Span,
}

impl Reply {
    /// Waits for this many slots; with none, answers at once.
    pub(crate) fn new(
        slots: usize,
        sender: oneshot::Sender<Result<Vec<SlotVerdicts>, Failed>>,
        holds: Holds,
        span: Span,
    ) -> Arc<Self> {
        let trace = span.context();
        let verdicts = Vec::with_capacity(slots);
        let mut gather = Gather { left: slots, verdicts, failed: None, sender: None, holds, span };
        if slots == 0 {
            // Whoever dropped the receiver does not want to know.
            let _ = sender.send(Ok(Vec::new()));
        } else {
            gather.sender = Some(sender);
        }
        Arc::new(Self { gather: Mutex::new(gather), trace })
    }

    /// Where the batch is in its trace.
    pub(crate) fn trace(&self) -> &TraceContext {
        &self.trace
    }

    /// One slot's verdicts; the last one sends all.
    pub(crate) fn slot(&self, verdicts: SlotVerdicts) {
        let mut gather = self.gather.lock().unwrap_or_else(PoisonError::into_inner);
        gather.verdicts.push(verdicts);
        gather.answered(1);
    }

    /// Some slots could not take their parts: these are to be sent again.
    pub(crate) fn fail(&self, error: JoinError, slots: usize) {
        let mut gather = self.gather.lock().unwrap_or_else(PoisonError::into_inner);
        if gather.failed.is_none() {
            gather.span.fail(error.code().reason());
            // At once: no watermark passes what failed while the other slots go on.
            gather.failed = Some((error, gather.holds.hold()));
        }
        gather.answered(slots);
    }
}

impl Gather {
    /// The last slot to answer sends all.
    fn answered(&mut self, slots: usize) {
        self.left = self.left.saturating_sub(slots);
        if self.left > 0 {
            return;
        }
        let Some(sender) = self.sender.take() else { return };
        let verdicts = std::mem::take(&mut self.verdicts);
        self.span = Span::default();
        let _ = sender.send(match self.failed.take() {
            None => Ok(verdicts),
            Some((error, hold)) => Err(Failed { error, hold, landed: verdicts }),
        });
    }
}

/// A read of heads, answered entity by entity.
#[derive(Debug)]
pub(crate) struct ReadJob {
    pub(crate) request: HeadRequest,
    pub(crate) answers: Vec<HeadAnswer>,
    pub(crate) sender: oneshot::Sender<Result<Vec<HeadAnswer>, JoinError>>,
}

/// The outcome of folding the log for a rebuild.
#[derive(Debug)]
pub(crate) struct Folded {
    pub(crate) slot: SlotId,
    /// Of the ownership it was begun in.
    pub(crate) epoch: u64,
    pub(crate) entities: Vec<Entity>,
    pub(crate) fold: Result<Fold, StoreError>,
}

/// A step of a slot's erasure, done in the background.
#[derive(Debug)]
pub(crate) struct ErasureWent {
    pub(crate) slot: SlotId,
    /// Of the ownership it was begun in.
    pub(crate) epoch: u64,
    pub(crate) step: ErasureStep,
}

/// Which step, and its outcome.
#[derive(Debug)]
pub(crate) enum ErasureStep {
    /// The log was looked through.
    Scanned(Result<ErasureScan, StoreError>),
    /// Chunks were rewritten.
    Scrubbed(Result<(), StoreError>),
    /// Parts were deleted, and receipts are written.
    Cleaned(Result<(), StoreError>),
}

/// A step of taking facts out of a slot's log for the retention of its streams, done in the background.
#[derive(Debug)]
pub(crate) struct RetentionWent {
    pub(crate) slot: SlotId,
    /// Of the ownership it was begun in.
    pub(crate) epoch: u64,
    pub(crate) step: RetentionStep,
}

/// Which step, and its outcome.
#[derive(Debug)]
pub(crate) enum RetentionStep {
    /// The log was looked through.
    Found(Result<RetentionScrub, StoreError>),
    /// What heads do not list any more was deleted.
    Deleted(Result<(), StoreError>),
    /// Chunks were rewritten.
    Rewritten(Result<RetentionScrub, StoreError>),
}

/// The outcome of reading the log for a backfill.
#[derive(Debug)]
pub(crate) struct Backfilled {
    pub(crate) slot: SlotId,
    /// Of the ownership it was begun in.
    pub(crate) epoch: u64,
    /// The catalog version it goes to.
    pub(crate) version: u32,
    pub(crate) scanned: Result<Scanned, StoreError>,
}
