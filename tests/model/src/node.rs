//! One run of a join node, reduced to what the protocol asks of it: it takes slots over, appends
//! with one append a slot in flight, covers only confirmed chunks with heads and marks, deletes
//! dropped pages, releases, and may stop anywhere.

use std::sync::Arc;

use bytes::Bytes;
use millrace_client::port::{AppendOutcome, AppendRequest, StorePort, TakenOver};
use millrace_store::memory::SplitMix64;
use millrace_store::{
    Append, Applied, Fencing, Incarnation, LogStore, Mark, NodeId, Part, Put, SlotEpoch,
    SnapshotStore, StoreError,
};
use millrace_types::chunk::encode_chunk;
use millrace_types::{ChunkHeader, KnownAt, Position, SlotId};

use crate::Broken;
use crate::reader;
use crate::server::Server;
use crate::snapshot::{Head, entity, fold};
use crate::world::{World, known_at};

/// Microseconds a lease is granted ahead.
const GRANT: i64 = 30;
/// How often a node sends an append again whose store-writer was killed.
const RESENDS: u32 = 3;

/// Why a run stops: it was fenced, lost the slot, or gave up on an outcome.
#[derive(Debug)]
pub struct Stopped;

impl From<StoreError> for Stopped {
    fn from(_: StoreError) -> Self {
        Self
    }
}

/// A slot this run owns.
#[derive(Debug)]
struct Owned {
    slot: SlotId,
    row: SlotEpoch,
    /// The last confirmed chunk, its known_at, and the hash up to there.
    confirmed: Position,
    confirmed_at: KnownAt,
    hash: u64,
    /// The head that is known to be put.
    head: Option<Head>,
    dropped: Vec<KnownAt>,
}

/// The run.
pub struct Node {
    /// Who writes down.
    pub world: World,
    /// Its way to the store.
    pub server: Arc<Server>,
    /// Its name.
    pub node: NodeId,
    /// The run.
    pub incarnation: Incarnation,
    /// What it does next.
    pub random: SplitMix64,
    /// How far its clock is ahead.
    pub skew: i64,
    /// The step that is left out.
    pub broken: Broken,
    /// The slots it takes.
    pub slots: Vec<SlotId>,
    /// It dies with nothing but an epoch to show.
    pub dies_early: bool,
    last: KnownAt,
    ceiling: KnownAt,
}

impl Node {
    /// A run that has done nothing yet. Its choices follow from `seed`.
    #[must_use]
    pub fn new(world: &World, server: &Arc<Server>, incarnation: u64, seed: u64) -> Self {
        Self {
            world: world.clone(),
            server: Arc::clone(server),
            node: NodeId(format!("join-{}", incarnation % 2)),
            incarnation: Incarnation(incarnation),
            random: SplitMix64(seed),
            skew: 0,
            broken: Broken::Nothing,
            slots: crate::history::SLOTS.to_vec(),
            dies_early: false,
            last: KnownAt(0),
            ceiling: KnownAt(0),
        }
    }

    /// Owns its slots for a while.
    pub async fn live(mut self) {
        let _ = self.own().await;
    }

    async fn own(&mut self) -> Result<(), Stopped> {
        let mut slots = self.take_all().await?;
        for _ in 0..self.random.below(14) {
            let index = self.random.below(slots.len() as u64) as usize;
            match self.random.below(8) {
                0..=2 => self.append(&mut slots[index..=index]).await?,
                3 => self.append(&mut slots).await?,
                4 | 5 => self.put_head(&mut slots[index]).await?,
                6 => self.mark(&slots[index]).await?,
                _ => self.delete(&mut slots[index]).await?,
            }
        }
        for owned in slots {
            if self.random.below(2) == 0 {
                self.release(owned).await?;
            }
        }
        Ok(())
    }

    /// Takes every slot over, then writes a head and a mark of its own in each: the last run of a
    /// history, whose writes have to stand whatever lands late. Gives what it wrote.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn settle(&mut self) -> Result<Vec<(SlotId, Head)>, Stopped> {
        let mut slots = self.take_all().await?;
        let mut wrote = Vec::new();
        for owned in &mut slots {
            self.put_head(owned).await?;
            self.mark(owned).await?;
            wrote.extend(owned.head.map(|head| (owned.slot, head)));
        }
        Ok(wrote)
    }

    async fn take_all(&mut self) -> Result<Vec<Owned>, Stopped> {
        self.renew(KnownAt(self.world.now() + self.skew + GRANT)).await?;
        let mut slots = Vec::new();
        for slot in self.slots.clone() {
            slots.push(self.acquire(slot).await?);
        }
        Ok(slots)
    }

    async fn renew(&mut self, ceiling: KnownAt) -> Result<(), Stopped> {
        let writer = self.server.writer();
        match writer.renew_node(&self.node, self.incarnation, ceiling).await? {
            Applied::Yes => self.ceiling = ceiling,
            Applied::No(_) => return Err(Stopped),
        }
        Ok(())
    }

    /// `max(now, last + 1, floor)`, never above the ceiling granted.
    async fn stamp(&mut self, floor: KnownAt) -> Result<KnownAt, Stopped> {
        let now = self.world.now() + self.skew;
        let ver = KnownAt(now.max(self.last.0 + 1).max(floor.0));
        if ver > self.ceiling {
            self.renew(KnownAt(ver.0 + GRANT)).await?;
        }
        self.last = ver;
        Ok(ver)
    }

    async fn acquire(&mut self, slot: SlotId) -> Result<Owned, Stopped> {
        let writer = self.server.writer();
        let remembered = if self.broken == Broken::EndFromMemory {
            Some(reader::last_seen(&*writer, slot).await?)
        } else {
            None
        };
        let taken = writer.take_over(slot, &self.node, self.incarnation, &Fencing::Anyone).await;
        let row = match taken {
            Err(error @ StoreError::Damaged { .. }) => {
                self.world.blame(format!("MARK: {error}"));
                return Err(Stopped);
            }
            taken => match taken? {
                TakenOver::Mine(row) => row,
                TakenOver::Theirs(_) => return Err(Stopped),
            },
        };
        if self.dies_early {
            return Err(Stopped);
        }
        let before = Position { epoch: row.epoch, sequence: 0 };
        let mut end = Position { epoch: row.epoch - 1, sequence: row.previous_end };
        if let Some(remembered) = remembered.filter(|r| r.epoch == end.epoch) {
            end = remembered;
        }
        writer.load_mark(slot).await?;
        let head = reader::head(&self.world, &*writer, slot).await?;
        let log = reader::log(&self.world, &*writer, slot, end, before).await?;
        if row.epoch > 1 {
            self.world.seen().counts.take_overs += 1;
        }
        if let Some(head) = head
            && head.applied > end
        {
            if head.applied.epoch >= row.epoch {
                return Err(Stopped); // somebody took the slot over meanwhile
            }
            let slot = slot.0;
            self.world.blame(format!("MARK: {slot} ends at {end}, its head at {}", head.applied));
            return Err(Stopped);
        }
        let applied = head.map_or(Position::START, |head| head.applied);
        let rest = log.iter().filter(|(position, _)| *position > applied);
        let hash = rest.fold(head.map_or(0, |head| head.hash), |hash, (_, c)| fold(hash, c));
        let confirmed_at = log.last().map_or(KnownAt(0), |(_, bytes)| known_at(bytes));
        self.last = self.last.max(confirmed_at);
        let confirmed = log.last().map_or(Position::START, |(position, _)| *position);
        let dropped = Vec::new();
        let mut owned = Owned { slot, row, confirmed, confirmed_at, hash, head, dropped };
        // A zombie's head may still land, and cover more than the one loaded: one that covers the
        // whole log outranks it, so that no reader sees a head go back.
        self.put_head(&mut owned).await?;
        Ok(owned)
    }

    /// Appends the next chunk of some slots in one flush.
    async fn append(&mut self, slots: &mut [Owned]) -> Result<(), Stopped> {
        let mut chunks = Vec::new();
        for owned in &mut *slots {
            let epoch = owned.row.epoch;
            let sequence =
                if owned.confirmed.epoch == epoch { owned.confirmed.sequence + 1 } else { 1 };
            let position = Position { epoch, sequence };
            let ver = self.stamp(owned.row.floor).await?;
            if self.broken == Broken::MarkAhead {
                self.put_mark(owned.slot, ver, position, ver).await?;
            }
            let header = ChunkHeader { known_at: ver, ..ChunkHeader::default() };
            let payload = format!("{} {}", self.incarnation.0, owned.slot.0);
            let bytes = Bytes::from(encode_chunk(&header, [payload.as_bytes()]));
            chunks.push(Append { slot: owned.slot, position, known_at: ver, bytes });
        }
        let careless = self.broken == Broken::ReleaseEarly && self.random.below(8) == 0;
        let early = slots.first().filter(|_| careless).map(|owned| {
            let (epoch, end) = (owned.row.epoch, self.end(owned));
            (owned.slot, epoch, end, self.last)
        });
        let writer = self.server.writer();
        let release = async {
            if let Some((slot, epoch, end, last)) = early {
                let _ = writer.release(slot, epoch, self.incarnation, end, last).await;
            }
        };
        let (flushed, ()) = tokio::join!(self.flush(&chunks), release);
        flushed?;
        for (owned, chunk) in slots.iter_mut().zip(chunks) {
            owned.confirmed = chunk.position;
            owned.confirmed_at = chunk.known_at;
            owned.hash = fold(owned.hash, &chunk.bytes);
            let mut seen = self.world.seen();
            seen.counts.acknowledged += 1;
            seen.acknowledged.push((chunk.slot, chunk.position, chunk.bytes));
        }
        Ok(())
    }

    /// Sends a flush until it is known, unchanged, also to a store-writer that was started anew.
    async fn flush(&self, chunks: &[Append]) -> Result<(), Stopped> {
        for _ in 0..=RESENDS {
            let request = AppendRequest {
                node: self.node.clone(),
                incarnation: self.incarnation,
                chunks: chunks.to_vec(),
                trace: Default::default(),
            };
            match self.server.writer().append(request).await {
                Ok(AppendOutcome::Confirmed) => return Ok(()),
                Ok(AppendOutcome::Fenced) => {
                    self.world.seen().counts.fenced += 1;
                    return Err(Stopped);
                }
                Err(
                    StoreError::Unknown { .. }
                    | StoreError::Unavailable { .. }
                    | StoreError::NotTrusted { .. }
                    | StoreError::RetriesSpent { .. },
                ) => {}
                Err(
                    StoreError::ClockSkew { .. }
                    | StoreError::Failed { .. }
                    | StoreError::Damaged { .. },
                ) => return Err(Stopped),
            }
        }
        Err(Stopped)
    }

    fn end(&self, owned: &Owned) -> u64 {
        if owned.confirmed.epoch == owned.row.epoch { owned.confirmed.sequence } else { 0 }
    }

    /// Puts a head for everything confirmed. It keeps the page of the one before, or stands on a
    /// new one that is put before it.
    async fn put_head(&mut self, owned: &mut Owned) -> Result<(), Stopped> {
        let ver = self.stamp(owned.row.floor).await?;
        let kept = owned.head.filter(|_| self.random.below(2) == 0);
        let (page, page_hash) = match kept {
            Some(before) => (before.page, before.page_hash),
            None if self.broken == Broken::PageInPlace => (KnownAt(1), owned.hash),
            None => (ver, owned.hash),
        };
        let head = Head { applied: owned.confirmed, hash: owned.hash, page, page_hash };
        let put = |part, bytes| {
            let (slot, entity) = (owned.slot, entity(owned.slot));
            Put { slot, entity, part, ver, bytes }
        };
        let mut parts = Vec::new();
        if kept.is_none() {
            parts.push(put(head.part(), Bytes::copy_from_slice(&page_hash.to_le_bytes())));
        }
        parts.push(put(Part::Head, head.encode().into()));
        self.server.writer().put(parts, Default::default()).await?;
        let parts = vec![(entity(owned.slot), Part::Head)];
        let standing = self.server.witness().load(parts).await?.pop().flatten();
        self.outranks("head", owned, ver, standing.map(|(ver, _)| ver)).await?;
        let before = owned.head.replace(head);
        owned.dropped.extend(before.map(|head| head.page).filter(|old| *old != page));
        Ok(())
    }

    /// Marks what the known head covers.
    async fn mark(&mut self, owned: &Owned) -> Result<(), Stopped> {
        let Some(head) = owned.head.filter(|head| head.applied > Position::START) else {
            return Ok(());
        };
        let ver = self.stamp(owned.row.floor).await?;
        // Nothing is in flight: later chunks are stamped later than this mark.
        let closed = if head.applied == owned.confirmed { ver } else { KnownAt(0) };
        self.put_mark(owned.slot, ver, head.applied, closed).await?;
        let standing = self.server.witness().load_mark(owned.slot).await?;
        self.outranks("mark", owned, ver, standing.map(|(ver, _)| ver)).await
    }

    /// What the owner of a slot has put stands: nothing that a run before it wrote, or may still
    /// have written late, is greater.
    async fn outranks(
        &self,
        what: &str,
        owned: &Owned,
        ver: KnownAt,
        standing: Option<KnownAt>,
    ) -> Result<(), Stopped> {
        let owner = self.server.witness().last_epoch(owned.slot).await?;
        if owner.as_ref() == Some(&owned.row) && standing != Some(ver) {
            let slot = owned.slot.0;
            self.world.blame(format!("FENCE: {what} {ver:?} of {slot} lost against {standing:?}"));
        }
        Ok(())
    }

    async fn put_mark(
        &self,
        slot: SlotId,
        ver: KnownAt,
        position: Position,
        closed: KnownAt,
    ) -> Result<(), Stopped> {
        let mark = Mark {
            position,
            closed,
            watermarks: vec![],
            incarnations: vec![],
            views: vec![],
            latest: vec![],
            oldest_waiting: None,
            erasures: 0,
            filled: millrace_types::Filled::FIRST,
            retained: millrace_types::Retained::default(),
        };
        Ok(self.server.writer().put_mark(slot, ver, mark).await?)
    }

    /// Deletes pages that known heads dropped, after the lease was renewed: a renewal is refused to
    /// a fenced run, so this one was not fenced when its heads were put.
    async fn delete(&mut self, owned: &mut Owned) -> Result<(), Stopped> {
        if owned.dropped.is_empty() {
            return Ok(());
        }
        if self.broken != Broken::DeleteUnconfirmed {
            self.renew(KnownAt(self.ceiling.0 + 1)).await?;
        }
        let ver = self.stamp(owned.row.floor).await?;
        let delete = |page| Put {
            slot: owned.slot,
            entity: entity(owned.slot),
            part: Part::Page(page, 0),
            ver,
            bytes: Bytes::new(),
        };
        let deletes: Vec<Put> = owned.dropped.drain(..).map(delete).collect();
        self.world.seen().counts.deletes += deletes.len() as u64;
        Ok(self.server.writer().put(deletes, Default::default()).await?)
    }

    /// Everything is confirmed and every put is known: the slot may go.
    async fn release(&mut self, owned: Owned) -> Result<(), Stopped> {
        let (epoch, end, last) = (owned.row.epoch, self.end(&owned), self.last);
        self.server.writer().release(owned.slot, epoch, self.incarnation, end, last).await?;
        self.world.seen().counts.releases += 1;
        Ok(())
    }
}
