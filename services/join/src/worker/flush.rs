//! Flushes: the chunks of all slots that have something, appended together.

use std::sync::Arc;

use bytes::Bytes;
use millrace_client::port::{AppendRequest, SlotVerdicts};
use millrace_kernel::slot::{Draft, Input};
use millrace_store::{Append, StoreError};
use millrace_telemetry::{Span, TraceContext};
use millrace_types::limits::CHUNK_BYTES_MAX;
use millrace_types::{Judged, KnownAt, Position, SlotId};
use tokio::time::Instant;

use super::batches::Queued;
use super::{AppendOutcome, Done, JoinError, Slot, Waits, Worker};
use crate::message::Reply;
use crate::stop::Stop;

/// Facts a chunk's body may hold in bytes: the header needs room beside them.
const BODY_BYTES_MAX: usize = CHUNK_BYTES_MAX - 128 * 1024;
/// A flush with at least this many facts is a sign of load: the next one lingers.
const BUSY_FACTS: usize = 256;

/// With twice as many facts that can be judged, half of them are flushed, so that the others are judged while
/// these are appended; and with as many nobody waits for company.
const HALF_FACTS: u64 = 16_384;
const TWO_HALVES: u64 = 2 * HALF_FACTS;
/// Bytes that half of them take at least.
const HALF_BYTES: usize = HALF_FACTS as usize * 8;

/// Chunks of a slot whose way into stored heads is timed at once; those beyond are not.
const UNCOVERED_MAX: usize = 256;

/// Batches that a save of heads is linked to; those beyond are not.
const TRACES_MAX: usize = 128;

/// A chunk that is being appended.
pub(super) struct Flight {
    pub(super) position: Position,
    pub(super) known_at: KnownAt,
    /// Who waits for which verdicts.
    replies: Vec<(Arc<Reply>, Vec<Judged>)>,
    /// A marker: rebuilt states that take effect when it is confirmed.
    pub(super) rebuilt: Vec<millrace_kernel::slot::RebuiltPut>,
}

impl Flight {
    /// The chunk's fate is that its senders send again.
    pub(super) fn fail(self, error: &JoinError) {
        for (reply, _) in self.replies {
            reply.fail(error.clone(), 1);
        }
    }
}

/// The outcome of a flush.
pub(super) struct Flushed {
    slots: Vec<SlotId>,
    outcome: Result<AppendOutcome, StoreError>,
}

impl Worker {
    /// True when a slot could judge something now.
    pub(super) fn has_queued(&self) -> bool {
        self.slots.values().any(Slot::can_judge)
    }

    /// The slots that can judge something, from the one after those of the last flush on, and how many facts
    /// they have queued.
    fn ready(&self) -> (Vec<SlotId>, u64) {
        let can_judge = self.slots.iter().filter(|(_, slot)| slot.can_judge());
        let mut queued = 0;
        let count = |(id, slot): (&SlotId, &Slot)| {
            queued += slot.queue.facts();
            *id
        };
        let mut ready: Vec<SlotId> = can_judge.map(count).collect();
        let later = ready.partition_point(|id| *id <= self.flushed);
        ready.rotate_left(later);
        (ready, queued)
    }

    /// Judges what is queued and appends it, unless the load asks to wait for company.
    pub(super) fn start_flush(&mut self) {
        if self.fail.borrow().is_some() {
            return;
        }
        let lingers = Instant::now() < self.next_flush;
        if lingers && self.queued_bytes < HALF_BYTES {
            return;
        }
        let (ready, queued) = self.ready();
        let Some(enough) = enough(queued, lingers) else { return };
        let mut chunks = Vec::new();
        let mut slots = Vec::new();
        let mut facts = 0;
        for id in ready {
            if facts as u64 >= enough {
                break;
            }
            self.flushed = id;
            let Some((append, count)) = self.judge(id) else { continue };
            facts += count;
            slots.push(id);
            chunks.push(append);
        }
        if chunks.is_empty() {
            return;
        }
        self.instruments.flush_facts.record(facts as f64, &[]);
        if facts >= BUSY_FACTS {
            self.next_flush = Instant::now() + self.config.linger;
        }
        let span = Span::shared("join flush", || self.traces(&slots));
        span.note("millrace.facts", || (facts as i64).into());
        self.append(slots, chunks, span);
    }

    /// The batches whose facts are in the chunks on their way.
    fn traces(&self, slots: &[SlotId]) -> Vec<TraceContext> {
        let flights = slots.iter().filter_map(|id| self.slots.get(id)?.flight.as_ref());
        flights.flat_map(|flight| &flight.replies).map(|(reply, _)| reply.trace().clone()).collect()
    }

    pub(super) fn append(&mut self, slots: Vec<SlotId>, chunks: Vec<Append>, span: Span) {
        let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        self.instruments.flush_bytes.record(bytes as f64, &[]);
        self.head_budget.logged(bytes);
        self.instruments.chunks.add(chunks.len() as u64, &[]);
        let (begun, seconds) = (Instant::now(), self.instruments.flush_seconds.clone());
        let store = self.store.clone();
        let request = AppendRequest {
            node: self.node.clone(),
            incarnation: self.incarnation,
            chunks,
            trace: span.context(),
        };
        self.work.push(Box::pin(async move {
            let outcome = span.around(store.append(request)).await;
            seconds.record(begun.elapsed().as_secs_f64(), &[]);
            Done::Flushed(Flushed { slots, outcome })
        }));
    }

    /// Judges one slot's next chunk; `None` when it has to load entities first, or nothing is to
    /// be written.
    fn judge(&mut self, id: SlotId) -> Option<(Append, usize)> {
        let slot = self.slots.get_mut(&id)?;
        let taken = slot.queue.take(BODY_BYTES_MAX);
        let mut missing = Vec::new();
        for queued in &taken {
            match slot.core.missing(&queued.facts) {
                Ok(more) => missing.extend(more),
                Err(error) => tracing::error!(?error, "facts from ingest do not decode"),
            }
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            slot.queue.put_back(taken);
            self.load(id, missing, Waits::Batches);
            return None;
        }
        let Some(known_at) = self.clock.next() else {
            slot.queue.put_back(taken);
            return None;
        };
        let inputs: Vec<Input<'_>> = taken
            .iter()
            .map(|q| Input {
                incarnation: q.incarnation,
                facts: &q.facts,
                watermarks: &q.watermarks,
                departs: q.departs,
                replays_late: q.replays_late,
            })
            .collect();
        self.queued_bytes -= taken.iter().map(|q| q.facts.len()).sum::<usize>();
        match slot.core.judge(&inputs, known_at) {
            Ok(Some(draft)) => {
                slot.suspects_judged(draft.position);
                Some(slot.take_off(draft, taken))
            }
            Ok(None) => None,
            Err(error) => {
                tracing::error!(?error, "facts from ingest do not decode");
                let refused = StoreError::Unavailable {
                    operation: "judge",
                    reason: "the batch does not decode".to_owned(),
                };
                for reply in taken.into_iter().filter_map(|q| q.reply) {
                    reply.fail(JoinError::Store(refused.clone()), 1);
                }
                None
            }
        }
    }

    /// A flush has an outcome: chunks are confirmed and answered, or the worker gives up.
    pub(super) fn flushed(&mut self, flushed: Flushed) {
        match flushed.outcome {
            Ok(AppendOutcome::Confirmed) => {}
            Ok(AppendOutcome::Fenced) => {
                return self.stop(Stop::Fenced(self.node.clone()));
            }
            Err(error) => return self.give_up(&error),
        }
        let mut installed = Vec::new();
        let granted = self.clock.lease().granted();
        for id in flushed.slots {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            let Some(flight) = slot.flight.take() else { continue };
            slot.core.confirm(flight.position, flight.known_at);
            slot.confirmed.send_replace((flight.position, flight.known_at));
            slot.overdue.confirmed(flight.position, self.config.head_overdue_after);
            if slot.uncovered.len() < UNCOVERED_MAX {
                slot.uncovered.push_back((flight.position, slot.last_chunk));
            }
            slot.erasure_entered(flight.position);
            if !flight.rebuilt.is_empty() {
                self.rebuilds = self.rebuilds.saturating_sub(1);
                slot.installed(flight.rebuilt);
                installed.push(id);
            }
            for (reply, judged) in flight.replies {
                if reply.trace().is_some() && slot.unsaved_traces.len() < TRACES_MAX {
                    slot.unsaved_traces.push(reply.trace().clone());
                }
                reply.slot(SlotVerdicts { slot: id, position: flight.position, judged });
            }
            slot.answer_closing(granted);
            slot.answer_suspecting();
            slot.look_at_budget(&self.config);
            self.unpark(id, flight.position);
        }
        for id in installed {
            self.backfill_retries(id);
        }
    }
}

/// After how many facts a flush takes no further slot, of so many that can be judged; `None` where it waits
/// for company.
fn enough(queued: u64, lingers: bool) -> Option<u64> {
    match queued {
        ..HALF_FACTS if lingers => None,
        ..TWO_HALVES => Some(u64::MAX),
        _ => Some(queued / 2),
    }
}

impl Slot {
    fn can_judge(&self) -> bool {
        let has_work = !self.queue.is_empty() || self.core.has_suspects();
        self.flight.is_none() && !self.held.any() && has_work && !self.is_released()
    }

    fn take_off(&mut self, draft: Draft, taken: Vec<Queued>) -> (Append, usize) {
        let facts: usize = draft.judged.iter().map(Vec::len).sum();
        let replies = taken
            .into_iter()
            .zip(draft.judged)
            .filter_map(|(queued, judged)| queued.reply.map(|reply| (reply, judged)))
            .collect();
        if facts > 0 {
            self.unsaved.get_or_insert_with(Instant::now);
        }
        self.last_chunk = Instant::now();
        self.flight = Some(Flight {
            position: draft.position,
            known_at: draft.known_at,
            replies,
            rebuilt: Vec::new(),
        });
        (self.append_of(draft.position, draft.known_at, draft.bytes), facts)
    }

    /// A marker is on its way to the log.
    pub(super) fn take_off_marker(
        &mut self,
        draft: Draft,
        rebuilt: Vec<millrace_kernel::slot::RebuiltPut>,
    ) -> Append {
        let (position, known_at) = (draft.position, draft.known_at);
        self.flight = Some(Flight { position, known_at, replies: Vec::new(), rebuilt });
        self.append_of(position, known_at, draft.bytes)
    }

    /// A chunk without facts, about erasures or a retention, is on its way to the log.
    pub(super) fn take_off_notes(&mut self, draft: Draft) -> Append {
        let (position, known_at) = (draft.position, draft.known_at);
        self.flight = Some(Flight { position, known_at, replies: Vec::new(), rebuilt: Vec::new() });
        self.append_of(position, known_at, draft.bytes)
    }

    fn append_of(&self, position: Position, known_at: KnownAt, bytes: Vec<u8>) -> Append {
        Append { slot: self.core.slot(), position, known_at, bytes: Bytes::from(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_waits_for_company_and_not_for_what_is_there_in_plenty() {
        let told = |lingers| {
            [1, HALF_FACTS - 1, HALF_FACTS, TWO_HALVES - 1, TWO_HALVES, 5 * HALF_FACTS + 1]
                .map(|queued| enough(queued, lingers))
        };
        let (all, half, more) = (Some(u64::MAX), Some(HALF_FACTS), Some(5 * HALF_FACTS / 2));
        assert_eq!(told(false), [all, all, all, all, half, more]);
        assert_eq!(told(true), [None, None, all, all, half, more]);
    }
}
