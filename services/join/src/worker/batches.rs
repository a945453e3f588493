//! Taking batches in: queues with bounds, punctuation, departures.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millrace_client::port::{CallOrder, JoinError, Routes};
use millrace_grpc::Coded as _;
use millrace_types::{KnownAt, Position, SlotId, StreamWatermark};
use opentelemetry::KeyValue;
use tokio::sync::oneshot;

use super::{Slot, Worker};
use crate::message::{Batch, Reply};

/// How often a slot without facts writes a chunk because a watermark moved.
const PUNCTUATE_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// By call that is open: the greatest tag of a request that was refused, until its sender knows of it.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<u64, u64>);

impl Refusals {
    fn add(&mut self, CallOrder { call, tag, .. }: CallOrder) {
        // Who hands facts over in this process knows at once.
        if call > 0 {
            let refused = self.0.entry(call).or_insert(tag);
            *refused = (*refused).max(tag);
        }
    }

    /// Whether what a request states of watermarks is ahead of no facts that were refused.
    fn are_known(&mut self, order: CallOrder) -> bool {
        let unknown = self.0.get(&order.call).is_some_and(|tag| *tag > order.refused_up_to);
        if !unknown {
            self.0.remove(&order.call);
        }
        !unknown
    }

    pub(super) fn ended(&mut self, call: u64) {
        self.0.remove(&call);
    }
}

/// One batch's part for one slot.
pub(super) struct Queued {
    pub(super) incarnation: u64,
    pub(super) facts: Bytes,
    pub(super) count: u32,
    pub(super) watermarks: Arc<[StreamWatermark]>,
    pub(super) departs: bool,
    pub(super) replays_late: bool,
    /// `None` for punctuation, which nobody waits for.
    pub(super) reply: Option<Arc<Reply>>,
}

/// What an ingest process said of its watermarks, and of which slots.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    watermarks: Arc<[StreamWatermark]>,
    routes: Routes,
}

/// What waits for a slot's next chunk.
#[derive(Default)]
pub(super) struct Queue {
    batches: VecDeque<Queued>,
    facts: u64,
}

impl Queue {
    pub(super) fn facts(&self) -> u64 {
        self.facts
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.facts += u64::from(queued.count);
        self.batches.push_back(queued);
    }

    /// Takes batches for one chunk of at most about `bytes`, at least one if there is one.
    pub(super) fn take(&mut self, bytes: usize) -> Vec<Queued> {
        let mut taken: Vec<Queued> = Vec::new();
        let mut sum = 0;
        while let Some(next) = self.batches.front() {
            // Beside its bytes a fact takes a few of the header for its verdict and fingerprint.
            let size = next.facts.len() + next.count as usize * 10;
            if !taken.is_empty() && sum + size > bytes {
                break;
            }
            sum += size;
            if let Some(next) = self.batches.pop_front() {
                self.facts -= u64::from(next.count);
                taken.push(next);
            }
        }
        taken
    }

    /// Puts batches back to the front, in their order.
    pub(super) fn put_back(&mut self, batches: Vec<Queued>) {
        for queued in batches.into_iter().rev() {
            self.facts += u64::from(queued.count);
            self.batches.push_front(queued);
        }
    }

    /// Nothing queued will be taken: its senders are told.
    pub(super) fn fail(&mut self, error: &JoinError) {
        for queued in self.batches.drain(..) {
            if let Some(reply) = queued.reply {
                reply.fail(error.clone(), 1);
            }
        }
        self.facts = 0;
    }
}

impl Worker {
    pub(super) fn enqueue(&mut self, mut batch: Batch) {
        self.gone.remove(&batch.incarnation);
        if !self.refusals.are_known(batch.order) {
            batch.watermarks = Arc::from([]);
            batch.states = None;
        }
        if batch.catalog_version > self.plan.catalog.version {
            self.load_catalog();
            if batch.catalog_version > self.plan.catalog.version {
                let error = JoinError::UnknownCatalog(batch.catalog_version);
                return self.refuse(&batch, error);
            }
        }
        if let Err(error) = self.accepts(&batch) {
            return self.refuse(&batch, error);
        }
        for part in batch.slots {
            let Some(slot) = self.slots.get_mut(&part.slot) else { continue };
            self.queued_bytes += part.facts.len();
            slot.pace.facts += u64::from(part.count);
            if !batch.replays_late && !batch.watermarks.is_empty() {
                slot.told.insert(batch.incarnation, batch.watermarks.clone());
            }
            slot.queue.push(Queued {
                incarnation: batch.incarnation,
                facts: part.facts,
                count: part.count,
                watermarks: batch.watermarks.clone(),
                departs: false,
                replays_late: batch.replays_late,
                reply: Some(batch.reply.clone()),
            });
        }
        match batch.departs {
            true => self.depart(batch.incarnation),
            // A replay comes from no ingest process.
            false if batch.replays_late => {}
            // With facts it speaks for their slots alone: for others facts may be on another way.
            false => {
                if let Some(routes) = batch.states {
                    let statement = Statement { watermarks: batch.watermarks, routes };
                    self.statements.insert(batch.incarnation, statement);
                }
            }
        }
    }

    fn refuse(&mut self, batch: &Batch, error: JoinError) {
        self.refusals.add(batch.order);
        let reason = KeyValue::new("reason", error.code().reason());
        self.instruments.refused.add(1, &[reason]);
        batch.reply.fail(error, batch.slots.len());
    }

    /// The bounds of queues, and whether the worker still takes facts.
    fn accepts(&self, batch: &Batch) -> Result<(), JoinError> {
        for part in &batch.slots {
            let slot = self.slots.get(&part.slot).filter(|slot| slot.leaving.is_none());
            let Some(slot) = slot.filter(|_| self.fail.borrow().is_none()) else {
                let stop = self.fail.borrow();
                let not_here = JoinError::NotServing { slot: part.slot };
                return Err(stop.as_ref().map_or(not_here, |stop| stop.told(part.slot)));
            };
            let queued = slot.queue.facts();
            let full = queued > 0 && queued + u64::from(part.count) > self.config.queue_facts;
            if full || self.queued_bytes > self.config.queue_bytes {
                return Err(JoinError::Overloaded { slot: part.slot });
            }
        }
        Ok(())
    }

    /// The incarnation leaves every slot.
    fn depart(&mut self, incarnation: u64) {
        self.statements.remove(&incarnation);
        for slot in self.slots.values_mut().filter(|slot| !slot.is_released()) {
            slot.told.remove(&incarnation);
            slot.queue.push(Queued {
                incarnation,
                facts: Bytes::new(),
                count: 0,
                watermarks: Arc::from([]),
                departs: true,
                replays_late: false,
                reply: None,
            });
        }
    }

    /// Every ingest incarnation leaves with this process, if it holds them all.
    pub(super) fn depart_all(&mut self) {
        if !self.config.ingest_inside {
            return;
        }
        let incarnations: Vec<u64> = self.statements.keys().copied().collect();
        for incarnation in incarnations {
            self.depart(incarnation);
        }
    }

    /// Tells slots without facts of watermarks that moved, at most once a second each, and takes
    /// incarnations whose call ended, or of an earlier process, as lost after `idle_after`.
    pub(super) fn punctuate(&mut self) {
        let idle_after = self.config.idle_after;
        let silent = self.gone.extract_if(.., |_, since| since.elapsed() >= idle_after);
        let silent: Vec<u64> = silent.map(|(incarnation, _)| incarnation).collect();
        for incarnation in silent {
            self.depart(incarnation);
        }
        let mut departed = Vec::new();
        for (id, slot) in &mut self.slots {
            if slot.leaving.is_some() {
                continue;
            }
            if slot.since.elapsed() >= idle_after {
                departed.append(&mut slot.inherited);
            }
            if slot.last_chunk.elapsed() < PUNCTUATE_EVERY {
                continue;
            }
            for (incarnation, statement) in &self.statements {
                let Statement { watermarks, routes } = statement;
                let news = slot.told.get(incarnation).is_none_or(|told| told != watermarks);
                if news && !watermarks.is_empty() && routes.has(*id) {
                    slot.told.insert(*incarnation, watermarks.clone());
                    slot.queue.push(Queued {
                        incarnation: *incarnation,
                        facts: Bytes::new(),
                        count: 0,
                        watermarks: watermarks.clone(),
                        departs: false,
                        replays_late: false,
                        reply: None,
                    });
                }
            }
        }
        departed.sort_unstable();
        departed.dedup();
        for incarnation in departed {
            if !self.statements.contains_key(&incarnation) {
                self.depart(incarnation);
            }
        }
    }

    /// Answers once no later chunk of the slot, whoever owns it then, can have a known_at at or below
    /// `known_at`.
    pub(super) fn close(
        &mut self,
        slot: SlotId,
        known_at: KnownAt,
        sender: oneshot::Sender<Result<Position, JoinError>>,
    ) {
        if let Some(stop) = &*self.fail.borrow() {
            let _ = sender.send(Err(stop.told(slot)));
            return;
        }
        self.clock.raise(known_at);
        let granted = self.clock.lease().granted();
        let Some(slot) = self.slots.get_mut(&slot) else {
            let _ = sender.send(Err(JoinError::NotServing { slot }));
            return;
        };
        slot.closing.push((known_at, sender));
        slot.answer_closing(granted);
    }

    /// Answers those who waited for the lease to be renewed.
    pub(super) fn answer_closing(&mut self) {
        let granted = self.clock.lease().granted();
        let waited = self.slots.values_mut().filter(|slot| !slot.closing.is_empty());
        waited.for_each(|slot| slot.answer_closing(granted));
    }
}

impl Slot {
    /// Answers those whose instant no chunk in flight precedes. What lies beyond `granted` may be the next
    /// owner's: this node may not know of it yet.
    pub(super) fn answer_closing(&mut self, granted: KnownAt) {
        let flying = self.flight.as_ref().map(|f| f.known_at);
        let position: Position = self.core.confirmed().0;
        let (open, closed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.closing).into_iter().partition(|(known_at, _)| {
                *known_at > granted || flying.is_some_and(|f| f <= *known_at)
            });
        self.closing = open;
        for (_, sender) in closed {
            let _ = sender.send(Ok(position));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_watermark_is_taken_from_who_does_not_know_of_a_refusal() {
        let order = |call, tag, refused_up_to| CallOrder { call, tag, refused_up_to };
        let mut refusals = Refusals::default();
        assert!(refusals.are_known(order(1, 1, 0)));
        refusals.add(order(1, 2, 0));
        refusals.add(order(1, 3, 0));
        assert!(!refusals.are_known(order(1, 4, 0)), "sent before the answer was there");
        assert!(!refusals.are_known(order(1, 5, 2)), "one of the two");
        assert!(refusals.are_known(order(2, 9, 0)), "another call");
        assert!(refusals.are_known(order(1, 6, 3)));
        assert!(refusals.are_known(order(1, 7, 3)));
        refusals.add(order(1, 8, 3));
        refusals.ended(1);
        assert!(refusals.0.is_empty());
        refusals.add(order(0, 0, 0));
        assert!(refusals.are_known(order(0, 0, 0)), "in one process there is nothing to wait for");
    }
}
