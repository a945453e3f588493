//! The workers by slot, as the tasks beside them reach them; and slots of other nodes, which are known
//! by their marks.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{StreamExt as _, TryStreamExt as _, iter};
use millrace_client::port::{JoinError, StorePort, SubscribeFrom};
use millrace_placement::WorkerMap;
use millrace_store::{Fencing, MemberSlot, StoreError};
use millrace_types::{Position, SlotId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::message::Message;
use crate::service::{Confirming, stopped};
use crate::subscribe::cursor::{Cursor, is_ahead};
use crate::worker::Acquired;

/// How often marks of slots of other nodes are read while somebody follows them.
const MARKS_EVERY: Duration = Duration::from_millis(250);
/// A reader that has more of a slot of another node than its mark covers waits for the next mark, at
/// most so often: marks are written every second at least.
const CURSOR_TRIES: u32 = 20;
/// Logs of other nodes' slots that are looked at at once, and bytes of one at a time.
const LOGS_AT_ONCE: usize = 16;
const SCAN_BYTES: usize = 1 << 20;

/// The workers.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) workers: Vec<mpsc::Sender<Message>>,
    pub(crate) map: WorkerMap,
    pub(crate) store: Arc<dyn StorePort>,
}

impl Reach {
    /// What the workers own, ascending.
    pub(crate) async fn owned(&self) -> Vec<MemberSlot> {
        let mut all = Vec::new();
        for worker in &self.workers {
            let (sender, owned) = oneshot::channel();
            // A worker that is gone owns nothing.
            if worker.send(Message::Owned(sender)).await.is_ok() {
                all.extend(owned.await.unwrap_or_default());
            }
        }
        all.sort_by_key(|slot| slot.slot);
        all
    }

    /// Takes a slot over that cost its last owner this much.
    pub(crate) async fn acquire(
        &self,
        slot: SlotId,
        fencing: Fencing,
        load: u64,
    ) -> Result<Acquired, StoreError> {
        let (sender, outcome) = oneshot::channel();
        let worker = &self.workers[self.map.worker_of(slot)];
        worker.send(Message::Acquire(slot, fencing, load, sender)).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }

    /// Resolves once the slot is released, or its worker is gone.
    pub(crate) async fn release(&self, slot: SlotId) {
        let (sender, released) = oneshot::channel();
        if self.workers[self.map.worker_of(slot)].send(Message::Release(slot, sender)).await.is_ok()
        {
            let _ = released.await;
        }
    }

    /// Learns from its mark how far a slot of another node is.
    async fn learn(&self, slot: SlotId, confirmed: &Confirming) -> Result<(), StoreError> {
        let Some((_, mark)) = self.store.load_mark(slot).await? else { return Ok(()) };
        confirmed.send_if_modified(|last| {
            let moves = last.0 < mark.position;
            if moves {
                *last = (mark.position, mark.closed);
            }
            moves
        });
        Ok(())
    }

    /// Learns how far the slots of other nodes are, at least as far as a reader has them.
    ///
    /// # Errors
    /// [`JoinError`]; what a reader has too much of is told by whoever looks at its cursor next.
    pub(crate) async fn reach_cursor(
        &self,
        confirmed: &[Confirming],
        view: &str,
        from: &SubscribeFrom,
    ) -> Result<(), JoinError> {
        let wanted = match from {
            SubscribeFrom::Start | SubscribeFrom::Now => vec![Position::START; confirmed.len()],
            SubscribeFrom::Cursor(text) => Cursor::parse(text, view, confirmed.len())?.positions,
        };
        for tried in 0..CURSOR_TRIES {
            let mine: Vec<SlotId> =
                self.owned().await.into_iter().map(|owned| owned.slot).collect();
            let mut lacks = false;
            for (number, (slot, wanted)) in confirmed.iter().zip(&wanted).enumerate() {
                let id = SlotId(number as u32);
                if mine.binary_search(&id).is_err() {
                    self.learn(id, slot).await?;
                }
                lacks |= is_ahead(*wanted, slot.borrow().0);
            }
            if !lacks {
                break;
            }
            if tried + 1 < CURSOR_TRIES {
                sleep(MARKS_EVERY).await;
            }
        }
        Ok(())
    }

    /// The last chunks of other nodes' slots that stand in their logs and that no mark tells of: they may
    /// have been confirmed. START where there is none, and for what is owned here.
    pub(crate) async fn unmarked(
        &self,
        confirmed: &[Confirming],
    ) -> Result<Vec<Position>, StoreError> {
        let mine: Vec<SlotId> = self.owned().await.into_iter().map(|owned| owned.slot).collect();
        let known = confirmed.iter().zip(0..).map(|(slot, id)| (SlotId(id), slot.borrow().0));
        let known: Vec<(SlotId, Position)> = known.collect();
        let last =
            known.into_iter().map(|(id, known)| {
                let is_mine = mine.binary_search(&id).is_ok();
                async move {
                    if is_mine { Ok(Position::START) } else { self.last_after(id, known).await }
                }
            });
        iter(last).buffered(LOGS_AT_ONCE).try_collect().await
    }

    async fn last_after(&self, slot: SlotId, known: Position) -> Result<Position, StoreError> {
        let mut last = None;
        loop {
            let after = last.unwrap_or(known);
            let page = self.store.read_log(slot, after, Position::END, SCAN_BYTES).await?;
            last = page.chunks.last().map(|(position, _)| *position).or(last);
            if page.complete || page.chunks.is_empty() {
                return Ok(last.unwrap_or(Position::START));
            }
        }
    }
}

/// Follows the marks of slots of other nodes for as long as somebody follows the slots.
pub(crate) async fn follow_marks(reach: Reach, confirmed: Arc<[Confirming]>) {
    let mut tick = interval(MARKS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if confirmed.iter().all(|slot| slot.receiver_count() == 0) {
            continue;
        }
        let mine: Vec<SlotId> = reach.owned().await.into_iter().map(|owned| owned.slot).collect();
        for (number, slot) in confirmed.iter().enumerate() {
            let id = SlotId(number as u32);
            if slot.receiver_count() == 0 || mine.binary_search(&id).is_ok() {
                continue;
            }
            if let Err(error) = reach.learn(id, slot).await {
                // The next round tries again; readers wait meanwhile.
                tracing::debug!(slot = number, %error, "the mark of a slot");
            }
        }
    }
}
