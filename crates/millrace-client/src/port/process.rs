//! [`JoinPort`]: what ingest hands over, in which order, and what it gets back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_telemetry::TraceContext;
use millrace_types::{Judged, Position, SlotId, StreamWatermark};

use super::JoinError;

/// What one slot receives of one producer batch.
#[derive(Debug, Clone)]
pub struct SlotFacts {
    /// The slot.
    pub slot: SlotId,
    /// The number of fact records in `facts`.
    pub count: u32,
    /// Fact records as chunks hold them (`millrace_types::fact`), every fact of one slot.
    pub facts: Bytes,
    /// Low halves of the entity hashes of the facts, one a fact, in order.
    pub fingerprints: Vec<u32>,
}

/// A batch for the slots of one join node, or a punctuation when `slots` is empty.
#[derive(Debug, Clone)]
pub struct ProcessRequest {
    /// The ingest process.
    pub incarnation: u64,
    /// The catalog version the facts were encoded under.
    pub catalog_version: u32,
    /// The facts by slot.
    pub slots: Vec<SlotFacts>,
    /// The ingest process's watermark of each stream after these facts, for their slots; without
    /// facts, for those of `routes`. Never ahead of an earlier fact: requests of one incarnation are
    /// handed over in order.
    pub watermarks: Vec<StreamWatermark>,
    /// The slots whose facts of this incarnation come on this way.
    pub routes: Routes,
    /// Where it stands in a call of another process.
    pub order: CallOrder,
    /// True when the incarnation leaves.
    pub departs: bool,
    /// True when the facts were LATE before and are replayed: they are not LATE this time. Such a
    /// request says nothing of watermarks.
    pub replays_late: bool,
    /// The span of the producer's batch, if it is in a trace.
    pub trace: TraceContext,
}

/// Where a request stands in a call. What was sent before its sender knew of a refusal may state
/// watermarks ahead of the facts that were refused: they are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOrder {
    /// The call, from 1; 0 for a request of this process, whose sender knows of refusals at once.
    pub call: u64,
    /// The request, ascending in its call.
    pub tag: u64,
    /// The greatest tag of a refused request that its sender knew of.
    pub refused_up_to: u64,
}

/// Slots that a statement of watermarks is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Routes {
    /// All that the node has.
    #[default]
    All,
    /// These, ascending: facts for others go to other nodes.
    Slots(Arc<[SlotId]>),
}

impl Routes {
    /// Whether it is for this slot.
    #[must_use]
    pub fn has(&self, slot: SlotId) -> bool {
        match self {
            Self::All => true,
            Self::Slots(slots) => slots.binary_search(&slot).is_ok(),
        }
    }
}

/// The verdicts of one slot's facts of a batch, in order, given once their chunk is confirmed.
#[derive(Debug, Clone)]
pub struct SlotVerdicts {
    /// The slot.
    pub slot: SlotId,
    /// Where the facts stand in its log.
    pub position: Position,
    /// One for each fact.
    pub judged: Vec<Judged>,
}

/// Batches that failed and that their sender has not sent again yet. Whoever notices the failure
/// takes a [`Hold`] before anybody can send more, so that no later batch states a watermark ahead
/// of a fact that is on its way once more (design §3).
#[derive(Debug, Clone, Default)]
pub struct Holds(Arc<AtomicUsize>);

/// A failed batch; dropped once its facts were sent again, or given up.
#[derive(Debug)]
pub struct Hold(Arc<AtomicUsize>);

impl Holds {
    /// A batch failed.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.0.fetch_add(1, Ordering::AcqRel);
        Hold(Arc::clone(&self.0))
    }

    /// Whether a failed batch waits to be sent again: no watermark may move.
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A batch that was not taken, or not as a whole: what did not land is to be sent again.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: JoinError,
    /// To be kept until its facts were sent again.
    pub hold: Hold,
    /// The verdicts of slots that have their facts all the same; it may lack some of them.
    pub landed: Vec<SlotVerdicts>,
}

/// Resolves to the verdicts of every slot of a batch.
pub type PendingVerdicts = tokio::sync::oneshot::Receiver<Result<Vec<SlotVerdicts>, Failed>>;

/// What an ingest process may have under way in one slot: handed over and not confirmed yet. What is
/// larger goes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotGrant {
    /// Facts.
    pub facts: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

/// The join service, for ingest.
#[async_trait]
pub trait JoinPort: Send + Sync + 'static {
    /// The credits of each slot, as stated last. They bound facts alone: watermarks always go.
    fn credits(&self) -> SlotGrant;

    /// To be called before the watermarks of the next requests are looked at. Gives a number that
    /// changes when facts of a slot may go another way than before: until everything handed over
    /// earlier is in the log or given up, watermarks that it holds back are not to be stated.
    fn begin(&self) -> u64 {
        0
    }

    /// Waits until [`JoinPort::begin`] gives another number than this one: what failed may have another way
    /// now. For ever where there is but one.
    async fn moved(&self, _since: u64) {
        std::future::pending().await
    }

    /// Hands a batch over. The call returns once the batch is queued, in order with earlier calls
    /// of the same incarnation; the receiver resolves when every chunk of it is confirmed. A batch
    /// that fails later takes a hold.
    ///
    /// # Errors
    /// [`JoinError`] when nothing was queued.
    async fn process(
        &self,
        request: ProcessRequest,
        holds: &Holds,
    ) -> Result<PendingVerdicts, JoinError>;
}
