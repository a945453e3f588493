//! Subscriptions: following a view's joined rows from the log alone (design §7).

pub(crate) mod cursor;
pub(crate) mod held;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_catalog::Catalog;
use millrace_client::port::{Change, JoinError, StorePort, SubscribeFrom, Subscribed};
use millrace_kernel::{Plan, ViewChange, ViewFollower};
use millrace_types::chunk::Chunk;
use millrace_types::{DecodeError, Entity, KindId, Micros, Op, Position, Row, SlotId, Verdict};
use tokio::sync::mpsc;

use cursor::{Cursor, Partial};

use crate::service::Confirmed;
use crate::subscribe::held::{Entities, Facts, HeldFacts, Share};
use crate::worker::decode;

/// Messages a slow reader may leave waiting before the follower waits for it.
const CHANNEL: usize = 16;
/// Changes in one message, and about how many bytes of rows: a chunk may change more.
const MESSAGE_CHANGES: usize = 1_024;
const MESSAGE_BYTES: usize = 1 << 20;
/// Bytes of the log read at a time.
const SCAN_BYTES: usize = 1 << 20;
/// How often it is looked whether what is owed still stands in the log.
const OWED_AGAIN: Duration = Duration::from_secs(1);

type Sender = mpsc::Sender<Result<Vec<Change>, JoinError>>;

/// A view being followed over all slots.
pub(crate) struct Subscription {
    store: Arc<dyn StorePort>,
    confirmed: Vec<Confirmed>,
    /// Up to where slots of other nodes may have been confirmed when this began, whatever is known of them.
    owed: Vec<Position>,
    followers: Vec<ViewFollower>,
    /// Up to where each slot is followed silently.
    silent: Vec<Position>,
    /// The chunk up to which a slot is silent, when the reader lacks the last rows of it.
    partial: Option<Partial>,
    held: Share,
    entities: Entities,
    kind: KindId,
    view: String,
    watermark: Option<Micros>,
    sender: Sender,
}

impl Subscription {
    /// Starts following. Beside what of each slot is known as confirmed stands what may be: up to there
    /// the reader has not caught up.
    ///
    /// # Errors
    /// [`JoinError::BadCursor`] when the reader has what the log lacks; [`JoinError::NotServing`] when the
    /// log has it, but this node does not know so yet.
    pub(crate) async fn start(
        store: Arc<dyn StorePort>,
        catalog: Arc<Catalog>,
        (confirmed, owed): (Vec<Confirmed>, Vec<Position>),
        facts: &HeldFacts,
        view: String,
        from: SubscribeFrom,
    ) -> Result<Subscribed, JoinError> {
        let unknown = || JoinError::UnknownView(view.clone());
        let kind = catalog.view(&view).ok_or_else(unknown)?.entity;
        let plan = Plan::new(catalog);
        let followers = (0..confirmed.len())
            .map(|_| ViewFollower::new(&plan, &view))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(unknown)?;
        let begins = match from {
            SubscribeFrom::Start => Cursor::at(vec![Position::START; confirmed.len()]),
            SubscribeFrom::Now => Cursor::at(confirmed.iter().map(|c| c.borrow().0).collect()),
            SubscribeFrom::Cursor(text) => {
                let cursor = Cursor::parse(&text, &view, confirmed.len())?;
                let ahead = cursor.ahead(confirmed.iter().map(|c| c.borrow().0));
                if let Some(ahead) = ahead {
                    return Err(ahead.ask(&*store).await);
                }
                cursor
            }
        };
        let Cursor { positions: silent, partial } = begins;
        let last = partial.map(|partial| partial.slot);
        let mut cursor = cursor::text(&view, silent.iter().copied(), last);
        if let Some(partial) = partial {
            cursor.push_str(&format!("#{}", partial.rows));
        }
        let (sender, changes) = mpsc::channel(CHANNEL);
        let watermark = None;
        let subscription = Self {
            store,
            confirmed,
            owed,
            followers,
            silent,
            partial,
            held: facts.share(),
            entities: Entities::default(),
            kind,
            view,
            watermark,
            sender,
        };
        tokio::spawn(subscription.run());
        Ok(Subscribed { cursor: cursor.into(), changes })
    }

    async fn run(mut self) {
        let outcome = self.follow().await;
        if let Err(Some(error)) = outcome {
            // A reader that is gone does not want to know.
            let _ = self.sender.send(Err(error)).await;
        }
    }

    /// Follows until the reader goes (`Err(None)`) or an error ends it.
    async fn follow(&mut self) -> Result<(), Option<JoinError>> {
        if let Some(partial) = self.partial {
            // Before all others: until the rest of its rows was sent, no other cursor names it.
            self.catch_up(partial.slot, self.silent[partial.slot]).await?;
        }
        loop {
            let targets: Vec<Position> =
                self.confirmed.iter_mut().map(|c| c.borrow_and_update().0).collect();
            for (slot, target) in targets.iter().enumerate() {
                self.catch_up(slot, *target).await?;
            }
            self.tell_watermark().await?;
            let owes = self.owes().await?;
            if !owes {
                let cursor = self.cursor(None).into();
                self.send(vec![Change::CaughtUp { cursor }]).await?;
            }
            self.wait(owes).await?;
        }
    }

    /// Whether something may have been confirmed when this began that the reader still lacks.
    async fn owes(&mut self) -> Result<bool, Option<JoinError>> {
        for slot in 0..self.owed.len() {
            let (has, owed) = (self.has(slot), self.owed[slot]);
            if has >= owed {
                continue;
            }
            let left = self.store.read_log(SlotId(slot as u32), has, owed, 1).await;
            if !left.map_err(|e| Some(JoinError::Store(e)))?.chunks.is_empty() {
                return Ok(true);
            }
            // It was not confirmed: who took the slot over cut it off.
            self.owed[slot] = Position::START;
        }
        Ok(false)
    }

    /// Waits until a slot confirms something more, or the reader goes; no longer than a while for what is
    /// owed.
    async fn wait(&mut self, owes: bool) -> Result<(), Option<JoinError>> {
        let changes = self.confirmed.iter_mut().map(|c| Box::pin(c.changed()));
        tokio::select! {
            () = self.sender.closed() => Err(None),
            // A takeover may have cut off what is owed, which no slot tells.
            () = tokio::time::sleep(OWED_AGAIN), if owes => Ok(()),
            (changed, _, _) = futures::future::select_all(changes) => {
                changed.map_err(|_| None)
            }
        }
    }

    async fn catch_up(&mut self, slot: usize, target: Position) -> Result<(), Option<JoinError>> {
        let id = SlotId(slot as u32);
        while self.followers[slot].position() < target {
            let after = self.followers[slot].position();
            let page = self
                .store
                .read_log(id, after, target, SCAN_BYTES)
                .await
                .map_err(|e| Some(JoinError::Store(e)))?;
            let mut out = Outgoing::default();
            let mut more = Facts::default();
            for (position, bytes) in &page.chunks {
                let chunk =
                    decode(id, *position, bytes.as_ref()).map_err(|e| Some(JoinError::Store(e)))?;
                let damaged = |error: DecodeError| {
                    Some(JoinError::Store(millrace_store::StoreError::Damaged {
                        what: format!("chunk {position} of slot {slot}"),
                        reason: error.to_string(),
                    }))
                };
                let changes = self.followers[slot].chunk(*position, &chunk).map_err(damaged)?;
                more = more + kept(&chunk, self.kind, &mut self.entities).map_err(damaged)?;
                let known = self.known_rows(slot, *position);
                let (erasures, retention) = (&chunk.header.erasures, &chunk.header.retention);
                let is_rewritten = erasures.as_ref().is_some_and(|e| e.is_rewritten)
                    || retention.as_ref().is_some_and(|r| !r.scrubbed.is_empty());
                if is_rewritten && known.is_some_and(|known| known > 0) {
                    let reason =
                        "it stands among rows some of which were erased or forgotten; begin anew";
                    return Err(Some(JoinError::BadCursor(reason.to_owned())));
                }
                let known = known.unwrap_or(changes.len());
                if known >= changes.len() {
                    continue;
                }
                let cursor: Arc<str> = self.cursor(Some(slot)).into();
                let watermark = self.followers[slot].watermark();
                for (index, change) in changes.into_iter().enumerate().skip(known) {
                    out.push(change, index, watermark, &cursor);
                    if out.is_full() {
                        self.send(out.take()).await?;
                    }
                }
            }
            self.send(out.take()).await?;
            self.held.hold(more).map_err(Some)?;
            if page.complete || page.chunks.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How many rows of a chunk the reader has; `None` for all.
    fn known_rows(&mut self, slot: usize, position: Position) -> Option<usize> {
        let silent = self.silent[slot];
        if position > silent {
            return Some(0);
        }
        self.partial.take_if(|p| p.slot == slot && position == silent).map(|p| p.rows)
    }

    /// Tells the view's watermark, the least over the slots that have one, when it moved.
    async fn tell_watermark(&mut self) -> Result<(), Option<JoinError>> {
        let least = self.followers.iter().filter_map(ViewFollower::watermark).min();
        if let Some(watermark) = least.filter(|w| self.watermark.is_none_or(|told| told < *w)) {
            self.watermark = Some(watermark);
            let cursor = self.cursor(None).into();
            self.send(vec![Change::Watermark { watermark, cursor }]).await?;
        }
        Ok(())
    }

    async fn send(&self, changes: Vec<Change>) -> Result<(), Option<JoinError>> {
        if changes.is_empty() {
            return Ok(());
        }
        self.sender.send(Ok(changes)).await.map_err(|_| None)
    }

    /// What the reader has; the chunk of `last` stands last.
    fn cursor(&self, last: Option<usize>) -> String {
        cursor::text(&self.view, (0..self.followers.len()).map(|slot| self.has(slot)), last)
    }

    /// Up to where the reader has a slot.
    fn has(&self, slot: usize) -> Position {
        self.followers[slot].position().max(self.silent[slot])
    }
}

/// What a chunk adds to what a follower of this kind holds: its facts whole, until they are forgotten.
fn kept<B: AsRef<[u8]>>(
    chunk: &Chunk<B>,
    kind: KindId,
    entities: &mut Entities,
) -> Result<Facts, DecodeError> {
    let mut kept = Facts::default();
    for (record, verdict) in chunk.records().zip(chunk.header.all_verdicts()) {
        let record = record?;
        let is_kept = match verdict {
            Verdict::Late | Verdict::Rejected(_) => false,
            Verdict::Duplicate => record.body.op == Op::Retract,
            Verdict::Accepted | Verdict::Repaired { .. } | Verdict::Queued => true,
        };
        if is_kept && record.kind == kind {
            let bytes = record.key.len() + record.body.bytes.len();
            let is_first = entities.meet(record.key);
            kept = kept + if is_first { Facts::first(bytes) } else { Facts::one(bytes) };
        }
    }
    Ok(kept)
}

/// Changes on their way into a message.
#[derive(Default)]
struct Outgoing {
    changes: Vec<Change>,
    bytes: usize,
}

impl Outgoing {
    /// Adds the row of a chunk with this index.
    fn push(
        &mut self,
        (entity, change): (Entity, ViewChange),
        index: usize,
        watermark: Option<Micros>,
        cursor: &Arc<str>,
    ) {
        let (cursor, of_chunk) = (cursor.clone(), index as u64 + 1);
        let change = match change {
            ViewChange::Row(row) => row,
            ViewChange::Erased => {
                self.changes.push(Change::Erased { entity, cursor, of_chunk });
                return;
            }
        };
        let bytes = |row: &Row| Bytes::copy_from_slice(row.as_bytes());
        let row = bytes(&change.row.event);
        let joined: Vec<Option<Bytes>> =
            change.row.versions.iter().map(|v| v.as_ref().map(bytes)).collect();
        self.bytes += row.len() + joined.iter().flatten().map(Bytes::len).sum::<usize>();
        self.changes.push(Change::Row {
            plus: change.plus,
            id: change.id,
            entity,
            at: change.row.at,
            row,
            joined,
            is_final: watermark.is_some_and(|w| change.row.at < w),
            cursor,
            of_chunk,
        });
    }

    fn is_full(&self) -> bool {
        self.changes.len() >= MESSAGE_CHANGES || self.bytes >= MESSAGE_BYTES
    }

    fn take(&mut self) -> Vec<Change> {
        self.bytes = 0;
        std::mem::take(&mut self.changes)
    }
}
