//! The ports. A store does what it is told, atomically per item, and decides nothing: fencing,
//! sealing and confirmation are steps of the protocol (`slot-log.md`) that callers take in order.
//!
//! Outcomes are of three kinds: done, definitely not done, and *unknown* ([`StoreError::Unknown`]);
//! whoever meets an unknown one repeats the same call unchanged until it is known.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_types::{
    Entity, Filled, IncarnationWatermarks, KnownAt, Micros, Position, Retained, SlotId, StreamId,
};
use thiserror::Error;

use crate::audit::AuditStore;
use crate::erasure::ErasureStore;

/// Why a store call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// It may or may not have happened, or may still happen: repeat it unchanged.
    #[error("outcome of {operation} is unknown: {reason}")]
    Unknown {
        /// What was tried.
        operation: &'static str,
        /// What is known about why.
        reason: String,
    },
    /// It did not happen; trying again may help.
    #[error("store is not available for {operation}: {reason}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// Why.
        reason: String,
    },
    /// The other side of a hop is not trusted, or does not trust this process: it did not happen, and
    /// trying again helps only once somebody has changed a certificate, an authority or a token.
    #[error("{reason}")]
    NotTrusted {
        /// Who was called, what is wrong, and what to do about it.
        reason: String,
    },
    /// It is not tried again although that may help: of all calls too many were tried again already,
    /// and a store in trouble would only get more of them.
    #[error("{error}; it is not tried again, the budget of retries is used up")]
    RetriesSpent {
        /// What the last attempt ended in, which says whether it may have happened.
        #[source]
        error: Box<StoreError>,
    },
    /// A clock is too far from the store's to stamp versions by it: it did not happen. Trying the same
    /// call again does not help, since it holds a time of that clock.
    #[error("{reason}")]
    ClockSkew {
        /// Whose clock, how far it is away, and what to do about it.
        reason: String,
    },
    /// The disk is full or failing: nothing more can be written by this process.
    #[error("store cannot write: {reason}")]
    Failed {
        /// What the operating system said.
        reason: String,
    },
    /// Stored bytes are damaged or of another version.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// Which item: table and key.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// What kind of error it is: one of a closed set, for traces.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "outcome_unknown",
            Self::Unavailable { .. } => "unavailable",
            Self::NotTrusted { .. } => "not_trusted",
            Self::Failed { .. } => "failed",
            Self::Damaged { .. } => "damaged",
            Self::RetriesSpent { .. } => "retries_spent",
            Self::ClockSkew { .. } => "clock_skew",
        }
    }
}

/// The name of a node in leases, e.g. `join-0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub String);

/// One run of a node: drawn at random when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u64);

/// How far ahead of now a lease grants versions, at most.
pub const GRANT: Duration = Duration::from_secs(4);

/// A node's lease row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLease {
    /// The run that wrote it.
    pub incarnation: Incarnation,
    /// How often it was renewed; a candidate watches it stand still.
    pub renewals: u64,
    /// No version above it may be stamped; never goes down.
    pub ceiling: KnownAt,
    /// Set by whoever takes its slots over; never unset for this incarnation.
    pub fenced: bool,
}

impl NodeLease {
    /// Whether its run opened this epoch, and nobody fenced it since.
    #[must_use]
    pub fn is_of(&self, epoch: &SlotEpoch) -> bool {
        self.incarnation == epoch.incarnation && !self.fenced
    }
}

/// A slot's epoch row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotEpoch {
    /// Counts from 1.
    pub epoch: u64,
    /// The owner.
    pub node: NodeId,
    /// The owner's run.
    pub incarnation: Incarnation,
    /// Versions stamped in this epoch are at least this.
    pub floor: KnownAt,
    /// The end of the previous epoch: its last chunk that is in the log. Rows beyond are not.
    pub previous_end: u64,
    /// The end of this epoch and the last version stamped, once it was released.
    pub released: Option<(u64, KnownAt)>,
}

/// Epochs of a slot that a look tells, the newest ones.
pub const LOOK_EPOCHS: usize = 8;

/// What a look at the ownership of slots found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ownership {
    /// The lease of each node's newest run, in the order asked; `None` where it has none.
    pub leases: Vec<Option<NodeLease>>,
    /// The newest epochs of each slot, in the order asked, ascending, at most [`LOOK_EPOCHS`].
    pub epochs: Vec<Vec<SlotEpoch>>,
}

/// The answer of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied<T> {
    /// The condition held and the write is done.
    Yes,
    /// The condition did not hold; this row stands there (`None`: none does).
    No(Option<T>),
}

/// One chunk to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The slot.
    pub slot: SlotId,
    /// Its place. Sequences have no gaps; the row of one place is only ever written with the same bytes.
    pub position: Position,
    /// The chunk's known_at, its version in the store.
    pub known_at: KnownAt,
    /// The encoded chunk.
    pub bytes: Bytes,
}

/// One page of a log scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPage {
    /// Chunks in log order.
    pub chunks: Vec<(Position, Bytes)>,
    /// True when the scan reached its upper bound; otherwise go on after the last chunk.
    pub complete: bool,
}

/// The parts of an entity's snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The head: replaced by greater versions.
    Head,
    /// The head a rebuild made, immutable, named by its version.
    RebuiltHead(KnownAt),
    /// A page of facts at hand, immutable: named by the version it was written at, and a number
    /// among the pages of that version.
    Page(KnownAt, u32),
    /// A part of the ids that left, immutable, named likewise.
    Ids(KnownAt, u32),
}

/// One snapshot part to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The slot of the entity.
    pub slot: SlotId,
    /// The entity.
    pub entity: Entity,
    /// Which part.
    pub part: Part,
    /// The version; a put of a smaller version than the stored one changes nothing, and so does the
    /// same put once more. Nobody puts two contents at one version: a store may keep either.
    pub ver: KnownAt,
    /// The part's bytes; empty bytes delete an immutable part.
    pub bytes: Bytes,
}

/// What a slot's heads cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Every chunk up to here is confirmed and in its heads, waiting facts apart.
    pub position: Position,
    /// No chunk beyond `position` has a known_at at or below this, stated imports apart.
    pub closed: KnownAt,
    /// The slot's watermarks at `position`.
    pub watermarks: Vec<(StreamId, Micros)>,
    /// The watermarks by ingest incarnation at `position`.
    pub incarnations: Vec<IncarnationWatermarks>,
    /// The watermark of each view at `position`, by `millrace_types::entity::view_key`.
    pub views: Vec<(u64, Micros)>,
    /// The greatest `at` seen of each stream up to `position`.
    pub latest: Vec<(StreamId, Micros)>,
    /// The oldest position with a fact that waits for a rebuild.
    pub oldest_waiting: Option<Position>,
    /// The number of the last erasure that was in effect at `position`; 0 before the first.
    pub erasures: u64,
    /// How far the slot's heads know every feature of the catalog.
    pub filled: Filled,
    /// What was forgotten at `position` for the retention of streams, and what of it was taken out of
    /// the log.
    pub retained: Retained,
}

/// The slot log and who owns it.
#[async_trait]
pub trait LogStore: Send + Sync + 'static {
    /// Whether it can be written, as far as it knows: for readiness, asked a few times a second. It tries
    /// nothing where calls are answered anyway.
    ///
    /// # Errors
    /// Why it cannot, and the way out.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Writes or renews the lease of one run of a node. Applied unless this run was fenced: a
    /// fence is for good, also when later runs of the node wrote leases since (a paused run that
    /// wakes up must not get its lease back). The ceiling is the node's, over all its runs, and
    /// never goes down.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::ClockSkew`] when the ceiling lies too far beyond [`GRANT`] by a
    /// clock of the store's own, if it has one: the clock that stated it is ahead.
    async fn renew_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        ceiling: KnownAt,
    ) -> Result<Applied<NodeLease>, StoreError>;

    /// Reads the lease of a node's newest run as the last conditional write left it (a SERIAL
    /// read). Its ceiling covers every run of the node.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read_node(&self, node: &NodeId) -> Result<Option<NodeLease>, StoreError>;

    /// Fences a run of a node, for good. Always applied: fencing it again changes nothing, and a
    /// run that has no lease yet can never get one.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn fence_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
    ) -> Result<Applied<NodeLease>, StoreError>;

    /// True when this very run of the node has a lease and is not fenced: the confirmation read.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn confirm(&self, node: &NodeId, incarnation: Incarnation) -> Result<bool, StoreError>;

    /// The greatest epoch row of a slot (a SERIAL read).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn last_epoch(&self, slot: SlotId) -> Result<Option<SlotEpoch>, StoreError>;

    /// All epoch rows of a slot, ascending.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn epochs(&self, slot: SlotId) -> Result<Vec<SlotEpoch>, StoreError>;

    /// Looks at leases of nodes and at the newest epochs of slots, for people. It stands in nobody's
    /// way, and may be behind what was decided a moment ago: nobody decides anything by it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn look(&self, nodes: Vec<NodeId>, slots: Vec<SlotId>) -> Result<Ownership, StoreError> {
        let mut found = Ownership::default();
        for node in &nodes {
            found.leases.push(self.read_node(node).await?);
        }
        for slot in slots {
            let mut epochs = self.epochs(slot).await?;
            epochs.drain(..epochs.len().saturating_sub(LOOK_EPOCHS));
            found.epochs.push(epochs);
        }
        Ok(found)
    }

    /// Inserts an epoch row if none has its number.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn insert_epoch(
        &self,
        slot: SlotId,
        epoch: SlotEpoch,
    ) -> Result<Applied<SlotEpoch>, StoreError>;

    /// States the end of an epoch and the last version stamped in it, if it is this run's and open:
    /// neither released nor followed by another epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn release_epoch(
        &self,
        slot: SlotId,
        epoch: u64,
        incarnation: Incarnation,
        end: u64,
        last_ver: KnownAt,
    ) -> Result<Applied<SlotEpoch>, StoreError>;

    /// Writes chunks, durably: when it returns, all of them survive a power failure. Not atomic over
    /// slots.
    ///
    /// # Errors
    /// [`StoreError`]; after [`StoreError::Unknown`] some may have been written.
    async fn append(&self, chunks: Vec<Append>) -> Result<(), StoreError>;

    /// The last chunk written in an epoch of a slot, confirmed or not.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn last_chunk(
        &self,
        slot: SlotId,
        epoch: u64,
    ) -> Result<Option<(Position, Bytes)>, StoreError>;

    /// Chunks of a slot after `after` up to and including `up_to`, at most about `max_bytes` of
    /// them (at least one if there is one). Chunks beyond the end of a sealed epoch, and chunks of
    /// epochs that have no row, are left out.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] when a chunk is missing in between.
    async fn read_log(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError>;
}

/// Snapshots and marks.
#[async_trait]
pub trait SnapshotStore: Send + Sync + 'static {
    /// Writes parts in the order given, so that pages stand before the head that lists them. What
    /// was put before a mark or a rebuilt head survives a power failure with it; other parts may
    /// be lost then, and are made again from the log after the mark.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put(&self, parts: Vec<Put>) -> Result<(), StoreError>;

    /// Reads parts of entities, in the order asked; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn load(
        &self,
        parts: Vec<(Entity, Part)>,
    ) -> Result<Vec<Option<(KnownAt, Bytes)>>, StoreError>;

    /// Writes a slot's mark if `ver` is greater than the stored mark's. Versions are as in
    /// [`Put::ver`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_mark(&self, slot: SlotId, ver: KnownAt, mark: Mark) -> Result<(), StoreError>;

    /// Reads a slot's mark and its version.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn load_mark(&self, slot: SlotId) -> Result<Option<(KnownAt, Mark)>, StoreError>;
}

/// A slot that a member says it owns, or has released for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSlot {
    /// The slot.
    pub slot: SlotId,
    /// The epoch it owns it in, or owned it in last.
    pub epoch: u64,
    /// What the slot costs it, in facts a second, about.
    pub load: u64,
    /// Released, for this node to take.
    pub offered_to: Option<NodeId>,
}

/// What a join node tells the others of itself: where it is, that it is alive, what it owns. It is for
/// finding owners and for planning; who owns a slot is what its epoch rows say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its run.
    pub incarnation: Incarnation,
    /// Where it takes calls, `http://HOST:PORT`.
    pub endpoint: String,
    /// Its share of slots beside those of others.
    pub weight: u32,
    /// Grows with each renewal of the lease: a member whose beat stands still for the lease time is
    /// taken for dead.
    pub beat: u64,
    /// It goes down and takes no slots.
    pub leaving: bool,
    /// What it owns, ascending.
    pub slots: Vec<MemberSlot>,
}

/// The join nodes there are.
#[async_trait]
pub trait MemberStore: Send + Sync + 'static {
    /// Replaces what stands of a node if `ver` is greater. Need not survive a power failure: it is
    /// told again within a second.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_member(&self, ver: KnownAt, member: Member) -> Result<(), StoreError>;

    /// What every node told last, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn members(&self) -> Result<Vec<Member>, StoreError>;
}

/// The number under which a store keeps its identity beside the versions of the catalog, which begin
/// at 1.
pub const IDENTITY: u32 = 0;

/// Versions of the catalog, and which store it is.
#[async_trait]
pub trait CatalogStore: Send + Sync + 'static {
    /// Writes a version durably if none has its number; the text that stands there otherwise.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_catalog(&self, version: u32, text: String) -> Result<Applied<String>, StoreError>;

    /// All versions, ascending from 1 without gaps.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn catalogs(&self) -> Result<Vec<(u32, String)>, StoreError>;

    /// Those after `version`, ascending.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn catalogs_after(&self, version: u32) -> Result<Vec<(u32, String)>, StoreError> {
        let mut all = self.catalogs().await?;
        all.retain(|(found, _)| *found > version);
        Ok(all)
    }

    /// Which store this is: what the first who asked proposed, drawn at random. A store that was
    /// emptied is another one, so what is kept elsewhere about its log is kept under this name.
    ///
    /// # Errors
    /// [`StoreError`]; repeated, it gives the identity that stands there.
    async fn identity(&self, proposed: String) -> Result<String, StoreError> {
        match self.put_catalog(IDENTITY, proposed.clone()).await? {
            Applied::Yes => Ok(proposed),
            Applied::No(Some(found)) => Ok(found),
            Applied::No(None) => Err(StoreError::Unknown {
                operation: "identity",
                reason: "not applied, and none stands there".to_owned(),
            }),
        }
    }
}

/// What a store has to say about a number of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Not marked, or unknown: forward it.
    No,
    /// Marked: its fact is in the log.
    Yes,
}

/// Windows of the numbers each producer has had logged (design §8). They save work and decide
/// nothing: a window may forget, never invent.
#[async_trait]
pub trait ProducerWindows: Send + Sync + 'static {
    /// Says of each number in `[first, next)` whether it is marked.
    ///
    /// # Errors
    /// [`StoreError`]; the caller then forwards everything.
    async fn seen(&self, producer: &str, first: u64, next: u64) -> Result<Vec<Seen>, StoreError>;

    /// Marks `[first, next)`, whose facts are all in the log. On overflow the window's base moves
    /// past the hole.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is lost by it.
    async fn mark(&self, producer: &str, first: u64, next: u64) -> Result<(), StoreError>;
}

/// Everything one store offers.
pub trait Store:
    LogStore + SnapshotStore + MemberStore + CatalogStore + ProducerWindows + ErasureStore + AuditStore
{
}

impl<T> Store for T where
    T: LogStore
        + SnapshotStore
        + MemberStore
        + CatalogStore
        + ProducerWindows
        + ErasureStore
        + AuditStore
{
}
