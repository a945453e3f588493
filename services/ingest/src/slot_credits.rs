//! Credits of slots: how much of one slot may be under way to the join service. A batch waits until
//! every slot it has facts for has room, and holds nothing meanwhile: a slot that stalls stalls the
//! batches that need it and no others. Calls take turns, since each waits with one batch at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_client::port::SlotGrant;
use millrace_types::SlotId;
use tokio::sync::oneshot;

use crate::encode::EncodedBatch;

/// A batch that waited for one slot after another this often then keeps its place in the queue of
/// each of them, so that batches of fewer slots cannot overtake it for ever.
const MOVES_MAX: u32 = 8;

/// What one batch takes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) slot: SlotId,
    pub(crate) facts: u64,
    pub(crate) bytes: u64,
}

impl Need {
    /// What a batch takes of each slot, all of its requests together.
    pub(crate) fn of(encoded: &EncodedBatch) -> Vec<Self> {
        let mut needs: BTreeMap<SlotId, Self> = BTreeMap::new();
        for piece in (0..encoded.requests()).flat_map(|request| encoded.pieces(request)) {
            let none = Self { slot: piece.slot, facts: 0, bytes: 0 };
            let need = needs.entry(piece.slot).or_insert(none);
            need.facts += piece.records.len() as u64;
            need.bytes += piece.bytes.len() as u64;
        }
        needs.into_values().collect()
    }
}

/// The slots, what is under way to each, and who waits for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlotCredits(Arc<Mutex<Ledger>>);

/// What a batch has of its slots. Dropped once its chunks are confirmed, or once it is given up.
#[derive(Debug)]
pub(crate) struct Held {
    credits: SlotCredits,
    needs: Vec<Need>,
}

impl SlotCredits {
    /// Takes what a batch needs of every slot, once all have room, in turn with the others who wait
    /// for them. `grant` is what each slot may have under way now.
    pub(crate) async fn acquire(&self, needs: Vec<Need>, grant: SlotGrant) -> Held {
        let turn = {
            let mut ledger = self.lock();
            ledger.grant = grant;
            match ledger.blocked(&needs, u64::MAX) {
                None => {
                    ledger.take(&needs);
                    return Held { credits: self.clone(), needs };
                }
                Some(slot) => ledger.enqueue(slot, needs.clone()),
            }
        };
        // The sender is dropped unused only with the ledger, which `self` keeps.
        turn.await.map_or(Held { credits: self.clone(), needs: Vec::new() }, |held| held)
    }

    /// Takes what a batch needs if every slot has room now and nobody waits for it.
    ///
    /// # Errors
    /// A slot that has none.
    pub(crate) fn try_acquire(&self, needs: Vec<Need>, grant: SlotGrant) -> Result<Held, SlotId> {
        let mut ledger = self.lock();
        ledger.grant = grant;
        if let Some(slot) = ledger.blocked(&needs, u64::MAX) {
            return Err(slot);
        }
        ledger.take(&needs);
        Ok(Held { credits: self.clone(), needs })
    }

    /// Exchanges what a batch has for what it needs now, at once: batches behind it in its call have
    /// credits too, and give them back only after it is answered. So it must not wait for theirs.
    pub(crate) fn exchange(&self, had: Held, needs: Vec<Need>) -> Held {
        self.lock().take(&needs);
        drop(had);
        Held { credits: self.clone(), needs }
    }

    /// Batches that wait for a slot.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut ledger = self.credits.lock();
        ledger.give_back(&self.needs);
        let mut unclaimed = Vec::new();
        for need in &self.needs {
            ledger.settle(need.slot, &self.credits, &mut unclaimed);
        }
        drop(ledger);
        // Of batches that were given up while they waited: back they go, through this very path.
        drop(unclaimed);
    }
}

#[derive(Debug, Default)]
struct Ledger {
    grant: SlotGrant,
    /// Slots of which something is under way, or for which somebody waits.
    slots: HashMap<SlotId, Slot>,
    /// Batches that wait, by the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

#[derive(Debug, Default)]
struct Slot {
    facts: u64,
    bytes: u64,
    /// Batches that wait for this slot. Nobody who came later takes of it before them.
    queue: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiting {
    needs: Vec<Need>,
    moves: u32,
    turn: oneshot::Sender<Held>,
}

impl Ledger {
    /// The first slot that has no room for a batch which came at `order`, if any.
    fn blocked(&self, needs: &[Need], order: u64) -> Option<SlotId> {
        let has_room = |need: &Need| {
            let Some(slot) = self.slots.get(&need.slot) else { return true };
            // Whatever the grant: what is larger than it goes through alone.
            let fits = slot.facts + need.facts <= self.grant.facts
                && slot.bytes + need.bytes <= self.grant.bytes;
            let first = slot.queue.first().is_none_or(|first| *first >= order);
            first && (fits || slot.facts == 0)
        };
        needs.iter().find(|need| !has_room(need)).map(|need| need.slot)
    }

    fn take(&mut self, needs: &[Need]) {
        for need in needs {
            let slot = self.slots.entry(need.slot).or_default();
            slot.facts += need.facts;
            slot.bytes += need.bytes;
        }
    }

    fn give_back(&mut self, needs: &[Need]) {
        for need in needs {
            if let Some(slot) = self.slots.get_mut(&need.slot) {
                slot.facts -= need.facts;
                slot.bytes -= need.bytes;
                self.forget_idle(need.slot);
            }
        }
    }

    fn forget_idle(&mut self, slot: SlotId) {
        if self.slots.get(&slot).is_some_and(|slot| slot.facts == 0 && slot.queue.is_empty()) {
            self.slots.remove(&slot);
        }
    }

    fn enqueue(&mut self, slot: SlotId, needs: Vec<Need>) -> oneshot::Receiver<Held> {
        let (turn, taken) = oneshot::channel();
        let order = self.next;
        self.next += 1;
        self.waiting.insert(order, Waiting { needs, moves: 0, turn });
        self.slots.entry(slot).or_default().queue.insert(order);
        taken
    }

    /// Lets those go on who wait for a slot and can, in their order.
    fn settle(&mut self, slot: SlotId, credits: &SlotCredits, unclaimed: &mut Vec<Held>) {
        let mut slots = vec![slot];
        while let Some(slot) = slots.pop() {
            while let Some(order) = self.slots.get(&slot).and_then(|s| s.queue.first().copied()) {
                let Some(waiting) = self.waiting.get_mut(&order) else { break };
                let needs = std::mem::take(&mut waiting.needs);
                let (moves, at) = (waiting.moves, self.blocked(&needs, order));
                match at {
                    None => {
                        self.take(&needs);
                        for need in &needs {
                            if self.leave(need.slot, order) && need.slot != slot {
                                slots.push(need.slot);
                            }
                        }
                        unclaimed.extend(self.let_go(order, credits, needs));
                        continue;
                    }
                    Some(at) if at == slot => {}
                    Some(_) if moves >= MOVES_MAX => {
                        for need in &needs {
                            self.slots.entry(need.slot).or_default().queue.insert(order);
                        }
                    }
                    Some(at) => {
                        self.leave(slot, order);
                        self.slots.entry(at).or_default().queue.insert(order);
                    }
                }
                let moved = at != Some(slot) && moves < MOVES_MAX;
                if let Some(waiting) = self.waiting.get_mut(&order) {
                    waiting.needs = needs;
                    waiting.moves += u32::from(moved);
                }
                if !moved {
                    break;
                }
            }
            self.forget_idle(slot);
        }
    }

    fn leave(&mut self, slot: SlotId, order: u64) -> bool {
        self.slots.get_mut(&slot).is_some_and(|slot| slot.queue.remove(&order))
    }

    /// Hands a batch what was taken for it; gives that back when nobody waits for it any more.
    fn let_go(&mut self, order: u64, credits: &SlotCredits, needs: Vec<Need>) -> Option<Held> {
        let waiting = self.waiting.remove(&order)?;
        waiting.turn.send(Held { credits: credits.clone(), needs }).err()
    }
}

#[cfg(test)]
mod tests;
