//! Slots that come and go while the others are served: taking over from a node that is gone, and
//! releasing to one that is to have the slot (`slot-log.md`, "Taking a slot over", "Release").

use millrace_client::port::{JoinError, TakenOver};
use millrace_store::{Fencing, MemberSlot, StoreError};
use millrace_types::SlotId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::rebuild::Rebuilding;
use super::recover::Recovered;
use super::save::Which;
use super::{Done, Slot, Worker};

/// What became of an acquisition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// The slot is served here.
    Mine,
    /// Another run has it.
    Theirs,
}

/// A slot that is being taken over.
pub(super) struct Acquiring {
    /// What it cost its last owner.
    pub(super) load: u64,
    /// Who waits for it.
    pub(super) sender: oneshot::Sender<Result<Acquired, StoreError>>,
}

/// Where a slot is on its way out.
pub(super) enum Leaving {
    /// It takes no more facts; what it has is confirmed and saved.
    Saving(Option<oneshot::Sender<()>>),
    /// Its release is sent: it appends nothing any more.
    Releasing(Option<oneshot::Sender<()>>),
}

/// Facts are counted over this long at least.
const PACE_OVER_MS: u64 = 400;

/// How many facts come in, for the plan of who should own what.
#[derive(Debug)]
pub(super) struct Pace {
    /// Since it was asked for last.
    pub(super) facts: u64,
    asked: Instant,
    a_second: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { facts: 0, asked: Instant::now(), a_second: 0 }
    }
}

impl From<u64> for Pace {
    /// What is known of it from before, so that a slot that moved does not look as if it cost nothing.
    fn from(a_second: u64) -> Self {
        Self { a_second, ..Self::default() }
    }
}

impl Pace {
    /// Facts a second, over the last few times it was asked for.
    fn ask(&mut self) -> u64 {
        let millis = u64::try_from(self.asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        if millis < PACE_OVER_MS {
            return self.a_second;
        }
        let now = self.facts.saturating_mul(1_000) / millis;
        self.a_second = (7 * self.a_second).saturating_add(now) / 8;
        self.facts = 0;
        self.asked = Instant::now();
        self.a_second
    }
}

impl Worker {
    /// Takes a slot over in the background.
    pub(super) fn acquire(&mut self, id: SlotId, fencing: Fencing, asked: Acquiring) {
        if self.slots.contains_key(&id) {
            // Whoever dropped the receiver does not want to know.
            let _ = asked.sender.send(Ok(Acquired::Mine));
            return;
        }
        if let Some(stop) = self.fail.borrow().as_ref() {
            let _ = asked.sender.send(Err(stop.error()));
            return;
        }
        let recovery = self.recovery();
        self.work.push(Box::pin(async move {
            let taken = async {
                match recovery.take_over(id, &fencing).await? {
                    TakenOver::Mine(epoch) => {
                        recovery.follow(id, epoch).await.map(|slot| Some(Box::new(slot)))
                    }
                    TakenOver::Theirs(_) => Ok(None),
                }
            };
            Done::Acquired(id, asked, taken.await)
        }));
    }

    pub(super) fn acquired(
        &mut self,
        id: SlotId,
        asked: Acquiring,
        recovered: Result<Option<Box<Recovered>>, StoreError>,
    ) {
        let answer = match recovered {
            Ok(Some(recovered)) => {
                self.own(*recovered);
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.pace = Pace::from(asked.load);
                }
                if self.draining.is_some() {
                    self.release(id, None);
                }
                Ok(Acquired::Mine)
            }
            Ok(None) => Ok(Acquired::Theirs),
            // Its epoch is open and empty: the next attempt goes on with it.
            Err(error) => Err(error),
        };
        let _ = asked.sender.send(answer);
    }

    /// Lets a slot go once everything it took is confirmed and saved.
    pub(super) fn release(&mut self, id: SlotId, asked: Option<oneshot::Sender<()>>) {
        let Some(slot) = self.slots.get_mut(&id) else {
            // It is not owned here: nothing has to be waited for.
            asked.map(|asked| asked.send(()));
            return;
        };
        match &mut slot.leaving {
            None => slot.leaving = Some(Leaving::Saving(asked)),
            Some(Leaving::Saving(waits) | Leaving::Releasing(waits)) => *waits = asked,
        }
    }

    /// Takes every slot that leaves one step further.
    pub(super) fn leave_slots(&mut self) {
        if self.fail.borrow().is_some() {
            return;
        }
        let saving = |slot: &Slot| matches!(slot.leaving, Some(Leaving::Saving(_)));
        let ids: Vec<SlotId> =
            self.slots.iter().filter(|(_, slot)| saving(slot)).map(|(id, _)| *id).collect();
        for id in ids {
            self.leave(id);
        }
    }

    fn leave(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if !slot.is_settled() {
            return;
        }
        if let Some(mark) = slot.core.mark() {
            let confirmed = slot.core.confirmed().0;
            let unsaved = mark.position < confirmed;
            let behind = mark.position > slot.marked || mark.filled != slot.marked_filled;
            if unsaved {
                self.put_heads(id, Which::All);
            }
            if behind {
                self.mark_now(id);
            }
        }
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if !slot.is_settled() {
            return;
        }
        if matches!(slot.rebuild, Rebuilding::Folding) {
            // Its next owner begins anew; what was folded here comes back to an epoch that is over.
            self.rebuilds = self.rebuilds.saturating_sub(1);
            slot.rebuild = Rebuilding::Idle;
        }
        let waits = match slot.leaving.take() {
            Some(Leaving::Saving(waits) | Leaving::Releasing(waits)) => waits,
            None => None,
        };
        slot.leaving = Some(Leaving::Releasing(waits));
        let (store, epoch, run) = (self.store.clone(), slot.epoch, self.incarnation);
        let (end, last) = (slot.core.position().sequence, slot.core.known_at());
        // No version given to this slot so far is greater; a mark or head may be newer than a chunk.
        let last = last.max(self.clock.last());
        self.work.push(Box::pin(async move {
            Done::Released(id, store.release(id, epoch, run, end, last).await)
        }));
    }

    pub(super) fn released(&mut self, id: SlotId, result: &Result<(), StoreError>) {
        match result {
            Ok(()) => {}
            // The epoch is not open for this run: it was sealed, so the slot is gone all the same.
            Err(error @ StoreError::Unavailable { .. }) => {
                tracing::warn!(slot = id.0, %error, "a slot was sealed while it was released");
            }
            Err(error) => return self.give_up(error),
        }
        let Some(mut slot) = self.slots.remove(&id) else { return };
        let gone = JoinError::NotServing { slot: id };
        slot.queue.fail(&gone);
        for (_, job) in slot.parked.drain(..) {
            let _ = job.sender.send(Err(gone.clone()));
        }
        slot.fail_suspecting(&gone);
        for (_, sender) in slot.closing.drain(..) {
            let _ = sender.send(Err(gone.clone()));
        }
        if let Some(Leaving::Releasing(Some(waits)) | Leaving::Saving(Some(waits))) = slot.leaving {
            let _ = waits.send(());
        }
    }

    /// True when a drain is over: everything is saved, marked and released, or nothing can be.
    pub(super) fn drained(&mut self) -> bool {
        let failed = self.fail.borrow().is_some();
        let is_done = self.slots.is_empty() && self.work.is_empty();
        if !failed && !is_done {
            return false;
        }
        if let Some(sender) = self.draining.take() {
            let _ = sender.send(());
        }
        true
    }
}

impl Slot {
    /// Its release is sent: nothing may be stamped for it any more.
    pub(super) fn is_released(&self) -> bool {
        matches!(self.leaving, Some(Leaving::Releasing(_)))
    }

    /// What the others are told of it.
    pub(super) fn member(&mut self) -> MemberSlot {
        let load = self.pace.ask();
        MemberSlot { slot: self.core.slot(), epoch: self.epoch, load, offered_to: None }
    }

    /// Nothing is under way that the store has not answered; a fold of the log apart, which changes
    /// nothing.
    fn is_settled(&self) -> bool {
        let rebuilds = matches!(self.rebuild, Rebuilding::Ready(_) | Rebuilding::Installing);
        self.is_quiet() && !self.putting && !self.marking && self.loads == 0 && !rebuilds
    }
}
