//! The ports: [`JoinPort`] (ingest to join), [`HeadPort`] and [`SlotPort`] (serving to join, or to
//! stored heads), [`StorePort`] (join and serving to store-writer) and [`CatalogPort`].

mod peer;
mod process;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_catalog::Catalog;
use millrace_grpc::{Coded, ErrorCode};
use millrace_kernel::TooEarly;
use millrace_store::{
    Append, Applied, AuditStore, ErasureStore, Fencing, Incarnation, LogPage, Mark, Member, NodeId,
    NodeLease, Ownership, Part, Put, SlotEpoch, StoreError,
};
use millrace_telemetry::TraceContext;
use millrace_types::{
    Boundaries, Entity, FeatureValue, Filled, KnownAt, Micros, Position, SlotId, Status, StreamId,
};
use thiserror::Error;
use tokio::sync::{mpsc, watch};

pub use peer::*;
pub use process::*;

/// Why the join service refuses a call.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JoinError {
    /// The slot's queue is full: try again after a while.
    #[error("slot {} is overloaded", slot.0)]
    Overloaded {
        /// The slot.
        slot: SlotId,
    },
    /// The node does not own the slot, or is starting or draining.
    #[error("slot {} is not served here now", slot.0)]
    NotServing {
        /// The slot.
        slot: SlotId,
    },
    /// Another node owns the slot: ask there.
    #[error("slot {} is served by {} now", slot.0, owner.node.0)]
    Moved {
        /// The slot.
        slot: SlotId,
        /// Who owns it.
        owner: Box<SlotOwner>,
    },
    /// The facts were encoded under a catalog version this node could not load.
    #[error("catalog version {0} is not known here")]
    UnknownCatalog(u32),
    /// No such view.
    #[error("no view is called {0:?}")]
    UnknownView(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A read or scan went past its budget.
    #[error("read stopped after {facts} facts: {reason}")]
    BudgetSpent {
        /// Facts read until then.
        facts: u64,
        /// Which budget, and the way out.
        reason: String,
    },
    /// A cursor that does not fit this server's slots.
    #[error("cursor is not valid: {0}")]
    BadCursor(String),
}

impl Coded for JoinError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            Self::NotServing { .. } | Self::Moved { .. } | Self::UnknownCatalog(_) => {
                ErrorCode::NotServing
            }
            Self::UnknownView(_) => ErrorCode::ViewNotFound,
            Self::Store(error) => error.code(),
            Self::BudgetSpent { .. } => ErrorCode::ReadBudgetSpent,
            Self::BadCursor(_) => ErrorCode::CursorInvalid,
        }
    }
}

/// Who owns a slot, as another node has read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotOwner {
    /// The node.
    pub node: NodeId,
    /// Its run.
    pub incarnation: Incarnation,
    /// Where it takes calls, `http://HOST:PORT`.
    pub endpoint: String,
    /// The epoch in which it owns the slot: of two that are told of, the later one is right.
    pub epoch: u64,
}

/// A read of features of entities of one slot, computed on live heads.
#[derive(Debug, Clone)]
pub struct HeadRequest {
    /// The slot.
    pub slot: SlotId,
    /// The view's name.
    pub view: Arc<str>,
    /// Indexes of the features wanted in the view of the request's catalog version.
    pub features: Arc<[usize]>,
    /// The catalog version of the indexes.
    pub catalog_version: u32,
    /// The entities, all of the slot.
    pub entities: Vec<Entity>,
    /// The instant.
    pub at: Micros,
    /// As known at; [`KnownAt::MAX`] for everything confirmed.
    pub known_at: KnownAt,
}

/// A feature's value, its status, and the window it was computed over.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureOutcome {
    /// The value.
    pub value: FeatureValue,
    /// Its status.
    pub status: Status,
    /// The window's first instant; [`Micros::MIN`] without one.
    pub window_start: Micros,
}

/// The answer for one entity.
#[derive(Debug, Clone)]
pub struct EntityOutcome {
    /// One outcome a feature asked for, in order.
    pub features: Vec<FeatureOutcome>,
    /// The position whose facts, and no later ones, are in effect.
    pub position: Position,
    /// The slot's known_at at that position.
    pub known_at: KnownAt,
    /// The view's watermark at that position; `None` before the first.
    pub watermark: Option<Micros>,
    /// True while the entity waits for a rebuild.
    pub rebuilding: bool,
    /// The id and `at` of the version of each joined changelog in force at the read's instant.
    pub versions: Vec<Option<(Micros, Box<[u8]>)>>,
}

/// What a live head has to say about an entity.
#[derive(Debug, Clone)]
pub enum HeadAnswer {
    /// The answer.
    Answer(EntityOutcome),
    /// The head does not cover this read: answer it from the log, up to this position, with
    /// these facts about the slot.
    FromLog {
        /// The last confirmed position.
        position: Position,
        /// The known_at of that position.
        known_at: KnownAt,
        /// The view's watermark there.
        watermark: Option<Micros>,
        /// True while the entity waits for a rebuild.
        rebuilding: bool,
    },
    /// Nothing answers this read: its stream's retention let go of what it needs.
    TooEarly(TooEarly),
}

/// What `status` shows of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotStatus {
    /// The slot.
    pub slot: SlotId,
    /// A node owns it, and says this; otherwise it is as of its mark.
    pub is_owned: bool,
    /// Its owner or its mark tells what stands here; otherwise neither could be asked, which only
    /// [`SlotPort::known_status`] tells.
    pub is_known: bool,
    /// The last confirmed position.
    pub position: Position,
    /// Its known_at.
    pub known_at: KnownAt,
    /// The position of the slot's last mark.
    pub marked: Position,
    /// Entities that wait for a rebuild.
    pub dirty: u64,
    /// Entities held in memory.
    pub resident: u64,
    /// Bytes held in memory for them.
    pub resident_bytes: u64,
    /// Bytes of facts at hand.
    pub at_hand_bytes: u64,
    /// Facts waiting in the slot's queue.
    pub queued: u64,
    /// The age of the oldest confirmed chunk that no mark covers; `None` where all are covered.
    pub unmarked_for: Option<Duration>,
    /// Watermark of each stream that has one.
    pub watermarks: Vec<(StreamId, Micros)>,
    /// The greatest `at` confirmed of each stream.
    pub latest: Vec<(StreamId, Micros)>,
    /// The backfill of new features that is not done.
    pub backfill: Option<BackfillStatus>,
    /// The instants before which facts of streams with a retention are forgotten.
    pub forgotten: Boundaries,
}

/// How far the backfill of a slot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackfillStatus {
    /// The catalog version whose features are filled in.
    pub catalog_version: u32,
    /// Thousandths of the slot's entities that are done, at most 999.
    pub done_permille: u32,
    /// How long its owner still takes with all of its slots, by its rate so far; `None` where that is not
    /// known yet.
    pub time_left: Option<Duration>,
}

impl BackfillStatus {
    /// What `filled` says of a slot, where the cluster has this many slots; not how long it takes.
    #[must_use]
    pub fn of(filled: Filled, slots: u32) -> Self {
        let (catalog_version, done_permille) = (filled.toward, filled.permille(slots));
        Self { catalog_version, done_permille, time_left: None }
    }
}

impl SlotStatus {
    /// A slot that nobody owns, at the start of its log.
    #[must_use]
    pub fn new(slot: SlotId) -> Self {
        Self {
            slot,
            is_owned: false,
            is_known: true,
            position: Position::START,
            known_at: KnownAt(0),
            marked: Position::START,
            dirty: 0,
            resident: 0,
            resident_bytes: 0,
            at_hand_bytes: 0,
            queued: 0,
            unmarked_for: None,
            watermarks: Vec::new(),
            latest: Vec::new(),
            backfill: None,
            forgotten: Boundaries::default(),
        }
    }

    /// Chunks that no mark covers: what a restart would replay. Where the mark is of an epoch before,
    /// chunks of that one may be among them; how many is not told, and they count as one.
    #[must_use]
    pub fn unmarked_chunks(&self) -> u64 {
        let (position, marked) = (self.position, self.marked);
        if position.epoch == marked.epoch {
            return position.sequence.saturating_sub(marked.sequence);
        }
        // Before the first epoch there are none.
        position.sequence + u64::from(position.epoch > 1)
    }
}

/// A record of a view's changelog of joined rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A row appears or disappears.
    Row {
        /// True for `+`, false for `-`.
        plus: bool,
        /// The event's id.
        id: Box<[u8]>,
        /// The entity.
        entity: Entity,
        /// The event's instant.
        at: Micros,
        /// The event's encoded row.
        row: Bytes,
        /// The encoded row of each joined changelog's version; `None` where it is absent.
        joined: Vec<Option<Bytes>>,
        /// Final as of emission.
        is_final: bool,
        /// Resume after this record's chunk with this cursor; right after this record with `#` and
        /// `of_chunk` behind it.
        cursor: Arc<str>,
        /// The how-manieth row of its chunk it is, from 1.
        of_chunk: u64,
    },
    /// Every row of an entity is gone: it was erased, or some of its facts named one that was. Those
    /// that are left follow as `+`.
    Erased {
        /// The entity.
        entity: Entity,
        /// See [`Change::Row`].
        cursor: Arc<str>,
        /// See [`Change::Row`].
        of_chunk: u64,
    },
    /// The view's watermark moved: rows strictly before it are final.
    Watermark {
        /// The watermark.
        watermark: Micros,
        /// Resume with this cursor.
        cursor: Arc<str>,
    },
    /// Everything confirmed when the call began has been sent.
    CaughtUp {
        /// Resume with this cursor.
        cursor: Arc<str>,
    },
}

/// A subscription that has begun.
#[derive(Debug)]
pub struct Subscribed {
    /// Where it begins: resuming with it misses nothing that it sends.
    pub cursor: Arc<str>,
    /// Its changes, batch by batch. Dropping this ends it.
    pub changes: mpsc::Receiver<Result<Vec<Change>, JoinError>>,
}

/// Where a subscription starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// The beginning of the log.
    Start,
    /// What is confirmed now.
    Now,
    /// After a cursor.
    Cursor(String),
}

/// Reads of heads: live ones where the join service is in the same process, stored ones elsewhere.
#[async_trait]
pub trait HeadPort: Send + Sync + 'static {
    /// Reads features from heads, one answer an entity, in order.
    ///
    /// # Errors
    /// [`JoinError`].
    async fn read_heads(&self, request: HeadRequest) -> Result<Vec<HeadAnswer>, JoinError>;
}

/// Entities that one call may put under suspicion.
pub const SUSPECTS_MAX: usize = 64;

/// What the owner of slots says about them.
#[async_trait]
pub trait SlotPort: Send + Sync + 'static {
    /// Waits until the slot's log is closed up to `known_at`: no later chunk will have a smaller one.
    /// Gives the last confirmed position then.
    ///
    /// # Errors
    /// [`JoinError`].
    async fn close_up_to(&self, slot: SlotId, known_at: KnownAt) -> Result<Position, JoinError>;

    /// Makes entities of a slot dirty, at most [`SUSPECTS_MAX`], so that they are rebuilt from its log: an
    /// answer about them was not what the log says. Gives a confirmed position as of which all of them
    /// are dirty.
    ///
    /// # Errors
    /// [`JoinError`]; they may have become dirty all the same, and asking again does no harm.
    async fn suspect(&self, slot: SlotId, entities: Vec<Entity>) -> Result<Position, JoinError>;

    /// The state of every slot, as of what was confirmed before the call.
    ///
    /// # Errors
    /// [`JoinError`].
    async fn status(&self) -> Result<Vec<SlotStatus>, JoinError>;

    /// The same for a person to look at: what cannot be known now is left open
    /// ([`SlotStatus::is_known`]), where that is possible.
    ///
    /// # Errors
    /// [`JoinError`].
    async fn known_status(&self) -> Result<Vec<SlotStatus>, JoinError> {
        self.status().await
    }
}

/// Changelogs of joined rows.
#[async_trait]
pub trait SubscribePort: Send + Sync + 'static {
    /// Follows a view's joined rows.
    ///
    /// # Errors
    /// [`JoinError`] when it cannot start; later errors come through the channel.
    async fn subscribe(&self, view: String, from: SubscribeFrom) -> Result<Subscribed, JoinError>;
}

/// Appends of one flush of one node.
#[derive(Debug, Clone)]
pub struct AppendRequest {
    /// The node that owns the slots.
    pub node: NodeId,
    /// Its run.
    pub incarnation: Incarnation,
    /// The chunks, at most one a slot.
    pub chunks: Vec<Append>,
    /// The span of the flush, if it is in a trace.
    pub trace: TraceContext,
}

/// What became of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Every chunk is durable and confirmed.
    Confirmed,
    /// The node is fenced: nothing of it may be acknowledged, and it owns nothing any more.
    Fenced,
}

/// Nodes, and slots, of one look at their ownership.
pub const LOOK_MAX: usize = 1_024;

/// What became of a take-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenOver {
    /// The row of the epoch in which the slot is owned from now on.
    Mine(SlotEpoch),
    /// Another run was faster, or is alive and keeps it.
    Theirs(SlotEpoch),
}

/// The store-writer service: the only way to the store for join and serving. Of erasures and of
/// sampled answers it is the store's own port.
#[async_trait]
pub trait StorePort: ErasureStore + AuditStore {
    /// Appends chunks and confirms them, together with other flushes in one group commit.
    /// Unknown outcomes are retried inside.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the store cannot write any more.
    async fn append(&self, request: AppendRequest) -> Result<AppendOutcome, StoreError>;

    /// See [`millrace_store::SnapshotStore::put`]. `trace` is the span that the parts come from, if
    /// it is in a trace.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put(&self, parts: Vec<Put>, trace: TraceContext) -> Result<(), StoreError>;

    /// See [`millrace_store::SnapshotStore::load`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn load(
        &self,
        parts: Vec<(Entity, Part)>,
    ) -> Result<Vec<Option<(KnownAt, Bytes)>>, StoreError>;

    /// See [`millrace_store::SnapshotStore::put_mark`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_mark(&self, slot: SlotId, ver: KnownAt, mark: Mark) -> Result<(), StoreError>;

    /// See [`millrace_store::SnapshotStore::load_mark`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn load_mark(&self, slot: SlotId) -> Result<Option<(KnownAt, Mark)>, StoreError>;

    /// See [`millrace_store::LogStore::read_log`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read_log(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError>;

    /// See [`millrace_store::LogStore::renew_node`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn renew_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        ceiling: KnownAt,
    ) -> Result<Applied<NodeLease>, StoreError>;

    /// Takes a slot over for a node by the steps of the slot-log protocol: fence the last owner,
    /// rewrite its last chunk, open the next epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn take_over(
        &self,
        slot: SlotId,
        node: &NodeId,
        incarnation: Incarnation,
        fencing: &Fencing,
    ) -> Result<TakenOver, StoreError>;

    /// Releases a slot, stating its end and the last version stamped.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn release(
        &self,
        slot: SlotId,
        epoch: u64,
        incarnation: Incarnation,
        end: u64,
        last_ver: KnownAt,
    ) -> Result<(), StoreError>;

    /// See [`millrace_store::MemberStore::put_member`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_member(&self, ver: KnownAt, member: Member) -> Result<(), StoreError>;

    /// See [`millrace_store::MemberStore::members`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn members(&self) -> Result<Vec<Member>, StoreError>;

    /// See [`millrace_store::LogStore::look`]. At most [`LOOK_MAX`] of each.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn look(&self, nodes: Vec<NodeId>, slots: Vec<SlotId>) -> Result<Ownership, StoreError>;
}

/// The catalog as every service sees it: the newest version, and older ones for old chunks.
#[async_trait]
pub trait CatalogPort: Send + Sync + 'static {
    /// The newest version.
    fn current(&self) -> Arc<Catalog>;

    /// A receiver of every newer version.
    fn watch(&self) -> watch::Receiver<Arc<Catalog>>;

    /// The catalog of a version, which stands for good once it was applied; `None` when there is none
    /// of this number.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn version(&self, version: u32) -> Result<Option<Arc<Catalog>>, StoreError> {
        Ok(Some(self.current()).filter(|current| current.version == version))
    }

    /// Looks for newer versions now, for somebody who asked for what the newest known one lacks.
    /// True when there is one. Where every version is made in this process there never is.
    async fn catch_up(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_replayed_and_not_marked_yet_is_not_nothing() {
        let unmarked = |position: (u64, u64), marked: (u64, u64)| {
            let at = |(epoch, sequence)| Position { epoch, sequence };
            let (position, marked) = (at(position), at(marked));
            SlotStatus { position, marked, ..SlotStatus::new(SlotId(0)) }.unmarked_chunks()
        };
        assert_eq!(unmarked((3, 7), (3, 5)), 2);
        assert_eq!(unmarked((3, 7), (3, 7)), 0);
        // A slot that was never written, and one after its first chunks.
        assert_eq!(unmarked((0, 0), (0, 0)), 0);
        assert_eq!(unmarked((1, 0), (0, 0)), 0);
        assert_eq!(unmarked((1, 2), (0, 0)), 2);
        // Taken over, with chunks of the epoch before that stored heads may lack.
        assert_eq!(unmarked((2, 0), (1, 5)), 1);
        assert_eq!(unmarked((2, 3), (0, 0)), 4);
    }
}
