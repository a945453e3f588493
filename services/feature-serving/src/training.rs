//! Training sets (design §10): rows from the log, slot by slot, by the kernel's sweep.
//!
//! A spine is answered section by section: as many rows as memory allows are taken, every slot they
//! fall to is read once, all cores at work, and the rows go out in the order of the spine. A section
//! whose answer turns out larger is answered in halves. So memory is bounded by configuration whatever
//! the spine is, nothing is spilled to disk, and a longer spine reads the log more often.

mod assemble;
mod batches;
mod columns;
mod cursor;
mod events;
pub(crate) mod grpc;
mod kept;
mod lists;
mod question;
mod routed;
mod slot;
mod spine;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arrow_schema::ArrowError;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use millrace_grpc::PeerNetwork;
use millrace_kernel::training::Swept;
use millrace_types::{Boundaries, KnownAt, Micros, Position, StreamId};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::clock;
use crate::confirmed::confirmed;
use crate::error::ReadError;
use crate::read::Reader;
use batches::{Rows, encode, encode_schema};
use columns::Layout;
pub(crate) use cursor::EventCursor;
use kept::Kept;
pub(crate) use question::Question;
use question::{KnownAsked, Resolved, RowsFrom};
use routed::Routed;
use slot::{SlotError, Slots, SpineRows, blocking};
use spine::Section;
pub(crate) use spine::{Spine, SpineKind};
pub(crate) use version::SetVersion;

/// Parts of an answer made ahead of the client.
const AHEAD: usize = 4;

/// A part of an answer.
#[derive(Debug)]
pub(crate) enum Told {
    Header(Header),
    Rows { first: u64, rows: usize, arrow_ipc: Bytes, cursor: Option<EventCursor> },
    Summary(Summary),
}

/// What the set was made under.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) version: SetVersion,
    pub(crate) known_at: Micros,
    pub(crate) watermark: Option<Micros>,
    pub(crate) schema: Bytes,
}

/// What is to be said about the set as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Summary {
    pub(crate) swept: Swept,
    pub(crate) facts: u64,
    /// Events before it were left out, since what their rows rest on may be forgotten.
    pub(crate) rows_from: Option<Micros>,
}

/// Where the parts of an answer go. Waits for a client that is slow.
#[derive(Debug, Clone)]
pub(crate) struct Outlet(mpsc::Sender<Result<Told, ReadError>>);

impl Outlet {
    /// The two ends.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Result<Told, ReadError>>) {
        let (to, from) = mpsc::channel(AHEAD);
        (Self(to), from)
    }

    /// Hands a part on.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when nobody takes it any more.
    async fn tell(&self, told: Told) -> Result<(), ReadError> {
        self.0.send(Ok(told)).await.map_err(|_| ReadError::Gone)
    }

    /// Ends the answer with an error. Nobody may be left to hear it.
    pub(crate) async fn fail(&self, error: ReadError) {
        let _ = self.0.send(Err(error)).await;
    }
}

/// A training set under way.
struct Making {
    slots: Arc<Slots>,
    outlet: Outlet,
    summary: Summary,
    /// Slots worked on at a time.
    at_once: usize,
    /// How long the client may take for the next rows of its spine.
    spine_stall: Duration,
    /// Rows of a section answered together at most; less after an answer was too large.
    rows_at_once: usize,
    /// Rows that were sent.
    sent: u64,
}

fn arrow(error: ArrowError) -> ReadError {
    tracing::error!(error = %error, "rows of a training set do not encode");
    ReadError::Failed
}

impl Reader {
    /// Makes a training set, from its header to its summary. `spine` gives the payloads of the spine;
    /// nothing is taken from it where the rows are events.
    pub(crate) async fn training_set(
        &self,
        peer: PeerNetwork,
        question: Question,
        spine: impl Stream<Item = Result<Bytes, ReadError>> + Send + Unpin,
        outlet: Outlet,
    ) -> Result<(), ReadError> {
        let _place = self.training_lane.place(peer)?;
        let _turn = self.training_lane.turn(peer, 1).await;
        let (asked, resolved) = self.resolve(&question).await?;
        let now = clock::now();
        let (version, kept) = self.training_version(&question, asked, &resolved, now).await?;
        let streams = resolved.kinds.iter().flat_map(|kind| kind.streams.iter().copied());
        let watermark = version.watermark(&streams.collect::<Vec<_>>());
        let schema = encode_schema(&resolved.schema).map_err(arrow)?;
        let known_at = match question.known {
            KnownAsked::Instant(at) => at,
            KnownAsked::AtEvent | KnownAsked::Latest => Micros(version.known_at),
        };
        let resolved = Arc::new(resolved);
        let slots = Arc::new(Slots {
            store: self.log.store(),
            resolved: Arc::clone(&resolved),
            ends: version.ends.clone(),
            placement: self.slots,
            facts_bytes: self.training_bytes / 4 / self.cores.max(1),
            rows_bytes: self.training_bytes / 2,
            rows_taken: AtomicUsize::new(0),
            facts: AtomicU64::new(0),
            instruments: self.training_instruments.clone(),
            kept,
        });
        outlet.tell(Told::Header(Header { version, known_at, watermark, schema })).await?;
        let mut making = Making {
            slots,
            outlet,
            summary: Summary::default(),
            at_once: self.cores,
            spine_stall: self.spine_stall,
            rows_at_once: usize::MAX,
            sent: 0,
        };
        match question.rows {
            RowsFrom::Spine { before } => {
                let named = Spine::new(resolved.spine_kinds.clone(), before, now);
                making.spine(named, spine, self.training_bytes / 8).await?;
            }
            RowsFrom::Events { from, to } => {
                let parse = |c| EventCursor::parse(c, self.slots.count());
                let cursor = question.cursor.as_deref().map(parse).transpose();
                let cursor = cursor.map_err(ReadError::CursorInvalid)?;
                making.events((from, to), cursor).await?;
            }
        }
        making.summary.facts = making.slots.facts.load(Ordering::Relaxed);
        making.outlet.tell(Told::Summary(making.summary)).await
    }

    /// The version that is asked for, if any, and what is asked, under the catalog of that version or the
    /// newest one.
    async fn resolve(
        &self,
        question: &Question,
    ) -> Result<(Option<SetVersion>, Resolved), ReadError> {
        if let Some(text) = &question.version {
            let rule = |rule| ReadError::Invalid { field: "start.version".to_owned(), rule };
            let version = SetVersion::parse(text, self.slots.count()).map_err(rule)?;
            let was = version.catalog;
            let plan = self.plan_of(was).await?;
            let plan = plan
                .ok_or_else(|| rule(format!("made under catalog version {was}: unknown here")))?;
            return Ok((Some(version), Resolved::new(plan, question)?));
        }
        // As with facts: what another process had applied before the call counts.
        self.catch_up().await;
        let (_, resolved) =
            self.plan_with(|plan| Resolved::new(Arc::clone(plan), question)).await?;
        Ok((None, resolved))
    }

    /// What a set is read from: what its version says, or all that is confirmed now. Also gives what slots
    /// keep.
    async fn training_version(
        &self,
        question: &Question,
        asked: Option<SetVersion>,
        resolved: &Resolved,
        now: Micros,
    ) -> Result<(SetVersion, Kept), ReadError> {
        let catalog = resolved.plan.catalog.version;
        let closed = match question.known {
            KnownAsked::Instant(known_at) if known_at > now => {
                return Err(ReadError::KnownAtAhead { known_at, now });
            }
            KnownAsked::Instant(known_at) if asked.is_none() => {
                Some((known_at, self.closed_up_to(KnownAt(known_at.0)).await?))
            }
            KnownAsked::Instant(_) | KnownAsked::AtEvent | KnownAsked::Latest => None,
        };
        let status = match (&asked, &closed) {
            // What is read up to which end is settled without it.
            (Some(_), _) | (_, Some(_)) => self.owner.status().await,
            (None, None) => confirmed(&*self.owner, self.slots, |_| true).await,
        };
        let status = status.map_err(ReadError::Join)?;
        let mut forgotten = vec![Boundaries::default(); self.slots.count() as usize];
        for slot in &status {
            if let Some(of_slot) = forgotten.get_mut(slot.slot.0 as usize) {
                *of_slot = slot.forgotten.clone();
            }
        }
        let kept = Kept::new(forgotten);
        if let Some(version) = asked {
            return Ok((version, kept));
        }
        let mut watermarks: BTreeMap<StreamId, Micros> = BTreeMap::new();
        for (stream, at) in status.iter().flat_map(|s| &s.watermarks).filter(|w| w.1 > Micros::MIN)
        {
            let least = watermarks.entry(*stream).or_insert(*at);
            *least = (*least).min(*at);
        }
        let watermarks = watermarks.into_iter().collect();
        if let Some((known_at, ends)) = closed {
            return Ok((SetVersion { catalog, known_at: known_at.0, ends, watermarks }, kept));
        }
        let mut ends = vec![Position::START; self.slots.count() as usize];
        let mut known_at = 0;
        for slot in status {
            if let Some(end) = ends.get_mut(slot.slot.0 as usize) {
                *end = slot.position;
                known_at = known_at.max(slot.known_at.0);
            }
        }
        Ok((SetVersion { catalog, known_at, ends, watermarks }, kept))
    }

    /// The end of each slot beyond which no chunk, whoever writes it, has a smaller known_at: asking
    /// again repeats what is read up to there.
    async fn closed_up_to(&self, known_at: KnownAt) -> Result<Vec<Position>, ReadError> {
        let close = self.slots.iter().map(|slot| self.owner.close_up_to(slot, known_at));
        let closing = futures::stream::iter(close).buffered(64);
        closing.try_collect().await.map_err(ReadError::Join)
    }
}

impl Making {
    /// Answers a spine, section by section.
    async fn spine(
        &mut self,
        mut spine: Spine,
        mut payloads: impl Stream<Item = Result<Bytes, ReadError>> + Send + Unpin,
        section_bytes: usize,
    ) -> Result<(), ReadError> {
        // What a row takes beside its key: its place in the answer, and its values.
        let views = self.slots.resolved.views.iter();
        let width: usize = views.map(|view| 8 + Layout::new(&view.types).row_bytes()).sum();
        let rows_max = (self.slots.rows_bytes / width).max(1);
        loop {
            let payload = next_rows(&mut payloads, self.spine_stall).await?;
            let ended = payload.is_none();
            if let Some(payload) = payload {
                spine.accept(payload)?;
            }
            let section = spine.section();
            let full = section.bytes() >= section_bytes || section.rows() >= rows_max;
            if full || (ended && section.rows() > 0) {
                let (first, section) = spine.take();
                self.section(first, Arc::new(section)).await?;
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Answers a section: whole, or in parts where its answer takes too much memory.
    async fn section(&mut self, first: u64, section: Arc<Section>) -> Result<(), ReadError> {
        let (slots, spine) = (Arc::clone(&self.slots), Arc::clone(&section));
        let check = move || slots.kept.check(&slots.resolved, slots.placement, &spine, first);
        blocking(check).await??;
        let mut from = 0;
        while from < section.rows() {
            let to = from.saturating_add(self.rows_at_once).min(section.rows());
            self.slots.rows_taken.store(0, Ordering::Relaxed);
            match self.rows(&section, from..to).await {
                Ok(rows) => {
                    self.slots.instruments.section(true);
                    self.send(rows).await?;
                    from = to;
                }
                Err(SlotError::TooMuch) if to - from > 1 => {
                    self.slots.instruments.section(false);
                    self.rows_at_once = (to - from) / 2;
                }
                Err(SlotError::TooMuch) => {
                    let limit = format!("{} bytes for one row", self.slots.rows_bytes);
                    return Err(ReadError::BudgetSpent { limit });
                }
                Err(SlotError::Read(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// The answer to some rows of a section.
    async fn rows(
        &mut self,
        section: &Arc<Section>,
        range: std::ops::Range<usize>,
    ) -> Result<Rows, SlotError> {
        let resolved = Arc::clone(&self.slots.resolved);
        let (schema, views) = (Arc::clone(&resolved.schema), resolved.views.len());
        let mut rows = Rows::new(schema, views, range.len());
        let mut swept = Swept { rows: range.len() as u64, ..Swept::default() };
        for kind in 0..resolved.kinds.len() {
            let (placement, of_spine, of) =
                (self.slots.placement, Arc::clone(section), range.clone());
            let routed = blocking(move || Routed::new(placement, &of_spine, kind, of))
                .await
                .map(Arc::new)?;
            let spine = SpineRows { section: Arc::clone(section), kind, routed };
            let of_slots = spine.routed.slots().to_vec();
            // While slots are worked on, the logs of as many more begin to be read.
            let begun = of_slots.into_iter().map(|(slot, places)| {
                let slots = Arc::clone(&self.slots);
                async move { (slot, places, slots.first_page(slot).await) }
            });
            let begun = futures::stream::iter(begun).buffered(self.at_once);
            let work = begun.map(|(slot, places, first)| {
                let (slots, spine) = (Arc::clone(&self.slots), spine.clone());
                async move { slots.rows(slot, spine, places, first?).await }
            });
            let mut work = work.buffer_unordered(self.at_once);
            while let Some(of_slot) = work.next().await {
                for mut part in of_slot? {
                    part.rows.iter_mut().for_each(|row| *row -= range.start as u32);
                    swept.missing += part.swept.missing;
                    swept.unknown += part.swept.unknown;
                    rows.place(&resolved.kinds[kind].views, part);
                }
            }
        }
        self.count(swept);
        Ok(rows)
    }

    fn count(&mut self, swept: Swept) {
        let all = &mut self.summary.swept;
        all.rows += swept.rows;
        all.missing += swept.missing;
        all.unknown += swept.unknown;
    }

    async fn send(&mut self, rows: Rows) -> Result<(), ReadError> {
        let rows = Arc::new(rows);
        let encoded = (0..rows.batches()).map(|number| {
            let rows = Arc::clone(&rows);
            blocking(move || rows.batch(number).and_then(|batch| encode(&batch)))
        });
        let mut encoded = futures::stream::iter(encoded).buffered(self.at_once);
        while let Some(messages) = encoded.next().await {
            for (rows, arrow_ipc) in messages?.map_err(arrow)? {
                self.tell_rows(rows, arrow_ipc, None).await?;
            }
        }
        Ok(())
    }

    /// Sends a message with so many rows, and the cursor behind them.
    async fn tell_rows(
        &mut self,
        rows: usize,
        arrow_ipc: Bytes,
        cursor: Option<EventCursor>,
    ) -> Result<(), ReadError> {
        self.slots.instruments.rows(rows);
        let first = self.sent;
        self.sent += rows as u64;
        self.outlet.tell(Told::Rows { first, rows, arrow_ipc, cursor }).await
    }
}

/// The next payload of a spine; `None` at its end.
async fn next_rows(
    payloads: &mut (impl Stream<Item = Result<Bytes, ReadError>> + Unpin),
    stall: Duration,
) -> Result<Option<Bytes>, ReadError> {
    match timeout(stall, payloads.next()).await {
        Ok(payload) => payload.transpose(),
        // Others wait for their turn meanwhile.
        Err(_) => Err(ReadError::SpineStalled { after: stall }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that begins a set and sends nothing would keep the turn from everybody else.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_given_up() {
        let stall = Duration::from_secs(60);
        let mut spine = futures::stream::iter([Ok(Bytes::from_static(b"rows"))])
            .chain(futures::stream::pending());
        let first = next_rows(&mut spine, stall).await;
        assert_eq!(first.unwrap().as_deref(), Some(&b"rows"[..]));
        let stalled = next_rows(&mut spine, stall).await.unwrap_err();
        assert!(matches!(stalled, ReadError::SpineStalled { after } if after == stall));
        let mut ended = futures::stream::empty();
        assert!(next_rows(&mut ended, stall).await.unwrap().is_none());
    }
}
