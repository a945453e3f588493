//! Housekeeping: heads, marks, the budget at hand, cold entities, deleted parts, the drain.

use std::time::Duration;

use bytes::Bytes;
use millrace_kernel::slot::{Due, HeadPut, SlotCore};
use millrace_kernel::{PageName, SnapshotParts};
use millrace_store::{Mark, Part, Put, StoreError};
use millrace_telemetry::{Span, TraceContext};
use millrace_types::{Entity, KnownAt, Position, SlotId};
use tokio::time::Instant;

use super::{Done, Slot, Worker};
use crate::config::JoinConfig;

/// Bytes of heads and pages a slot puts in one go.
const PUT_BYTES: usize = 4 << 20;
/// How long a dropped part stays for readers that still hold the head that listed it.
const GRACE: Duration = Duration::from_secs(60);
/// Parts deleted in one go.
const DELETES: usize = 1_024;

/// How often within the interval of heads a slot looks for those that rested.
const LOOKS: u32 = 10;

/// Whose heads are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Of every entity with unsaved facts.
    All,
    /// Of those that were not put within the interval, as far as the budget goes.
    Rested,
}

/// A head that is being put, and what can be deleted after it.
pub(super) struct Putting {
    entity: Entity,
    dropped: Vec<Part>,
}

/// The puts of a snapshot, pages and id parts before the head.
pub(super) fn puts_of(
    slot: SlotId,
    entity: &Entity,
    ver: KnownAt,
    parts: &SnapshotParts,
    head: Part,
) -> Vec<Put> {
    let put = |part, bytes: &[u8]| Put {
        slot,
        entity: entity.clone(),
        part,
        ver,
        bytes: Bytes::copy_from_slice(bytes),
    };
    let pages = parts.pages.iter().map(|(n, bytes)| put(Part::Page(ver, *n), bytes));
    let ids = parts.ids.iter().map(|(n, bytes)| put(Part::Ids(ver, *n), bytes));
    pages.chain(ids).chain(std::iter::once(put(head, &parts.head))).collect()
}

impl Worker {
    /// Puts heads that are due and writes marks.
    pub(super) fn save(&mut self) {
        if self.fail.borrow().is_some() {
            return;
        }
        // What the budget has goes to whose turn it is: no slot always comes first.
        let turn = self.slots.range(self.saved_first..).chain(self.slots.range(..self.saved_first));
        let ids: Vec<SlotId> = turn.map(|(id, _)| *id).collect();
        self.saved_first = ids.get(1).copied().unwrap_or(SlotId(0));
        let total: usize = self.slots.values().map(|s| s.core.at_hand().resident_bytes).sum();
        let bound = self.config.resident_bytes;
        // A tenth more than needed, so that the coldest are not looked for at every tick.
        let over = if total > bound { total - bound + bound / 10 } else { 0 };
        for id in ids {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.look_at_budget(&self.config);
            let share = share_of(over, slot.core.at_hand().resident_bytes, total);
            let due = slot.unsaved.is_some_and(|since| since.elapsed() >= self.config.head_delay);
            if share > 0 || slot.leaving.is_some() {
                self.put_heads(id, Which::All);
            } else if due && slot.heads_again.is_none_or(|again| Instant::now() >= again) {
                // Those that rest are looked through each time: not at every tick.
                slot.heads_again = Some(Instant::now() + self.config.head_interval / LOOKS);
                self.put_heads(id, Which::Rested);
            }
            if share > 0
                && let Some(slot) = self.slots.get_mut(&id)
                && slot.loads == 0
            {
                slot.core.unload(share);
            }
            self.put_mark(id);
        }
    }

    pub(super) fn put_heads(&mut self, id: SlotId, which: Which) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.putting || slot.is_released() {
            return;
        }
        // Without a grant no version can be given: the lease's renewal will bring one.
        let Some(first) = self.clock.next() else { return };
        let (bytes, due) = match which {
            Which::All => (PUT_BYTES, Due::ALL),
            Which::Rested => slot.due(first, self.head_budget.left(), &self.config),
        };
        let heads = slot.core.heads_to_put(bytes, first, due);
        self.head_budget.spend(heads.iter().map(|head| head.parts.bytes()).sum());
        if heads.is_empty() {
            let mark = slot.core.mark().map(|mark| mark.position);
            if is_saved(slot.flight.is_some(), mark, slot.core.confirmed().0) {
                slot.unsaved = None;
                slot.unsaved_traces.clear();
            }
            return;
        }
        slot.putting = true;
        let mut parts = Vec::new();
        let mut puts = Vec::new();
        for head in heads {
            parts.extend(puts_of(id, &head.entity, head.ver, &head.parts, Part::Head));
            puts.push(Putting { dropped: dropped(&head), entity: head.entity });
        }
        let traces = std::mem::take(&mut slot.unsaved_traces);
        let span = Span::shared("join save", || traces);
        span.note("millrace.heads", || (puts.len() as i64).into());
        let store = self.store.clone();
        self.work.push(Box::pin(async move {
            let result = span.around(store.put(parts, span.context())).await;
            Done::HeadsPut(id, puts, result)
        }));
    }

    pub(super) fn heads_put(
        &mut self,
        id: SlotId,
        puts: Vec<Putting>,
        result: Result<(), StoreError>,
    ) {
        if let Err(error) = result {
            return self.give_up(&error);
        }
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.putting = false;
        let now = Instant::now();
        for put in puts {
            slot.core.head_saved(&put.entity);
            let parts = put.dropped.into_iter();
            self.garbage.extend(parts.map(|part| (now, id, put.entity.clone(), part)));
        }
        if slot.leaving.is_some() {
            self.put_heads(id, Which::All);
        } else if slot.core.fills_unsaved() > 0 {
            self.put_heads(id, Which::Rested);
        }
    }

    /// Writes the slot's mark without waiting for its turn.
    pub(super) fn mark_now(&mut self, id: SlotId) {
        let now = Instant::now();
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.last_mark = now.checked_sub(self.config.mark_interval).unwrap_or(now);
        }
        self.put_mark(id);
    }

    /// Writes the slot's mark when it moved, or when somebody waits for the log to be closed.
    fn put_mark(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let tells = slot.core.filled() != slot.marked_filled
            || *slot.core.scrubbed_to() != slot.marked_scrubbed;
        let behind = slot.marked < slot.core.confirmed().0 || tells;
        if !behind
            || slot.marking
            || slot.is_released()
            || slot.last_mark.elapsed() < self.config.mark_interval
        {
            return;
        }
        let Some(mark) = slot.core.mark() else { return };
        if mark.position < slot.marked || (mark.position == slot.marked && !tells) {
            return;
        }
        let Some(ver) = self.clock.next() else { return };
        slot.marking = true;
        slot.last_mark = Instant::now();
        slot.marked_filled = mark.filled;
        slot.marked_scrubbed = mark.retained.scrubbed.clone();
        let position = mark.position;
        let mark = Mark {
            position,
            closed: mark.closed,
            watermarks: mark.watermarks,
            incarnations: mark.incarnations,
            views: mark.views,
            latest: mark.latest,
            oldest_waiting: mark.oldest_waiting,
            erasures: mark.erasures,
            filled: mark.filled,
            retained: mark.retained,
        };
        let store = self.store.clone();
        self.work.push(Box::pin(async move {
            let result = store.put_mark(id, ver, mark).await;
            Done::Marked(id, position, result)
        }));
    }

    pub(super) fn mark_put(
        &mut self,
        id: SlotId,
        position: Position,
        result: Result<(), StoreError>,
    ) {
        if let Err(error) = result {
            return self.give_up(&error);
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.marking = false;
            slot.marked = slot.marked.max(position);
            while let Some((_, judged)) = slot.uncovered.pop_front_if(|(at, _)| *at <= position) {
                self.instruments.saved_seconds.record(judged.elapsed().as_secs_f64(), &[]);
            }
        }
    }

    /// Deletes dropped parts whose grace is over.
    pub(super) fn collect_garbage(&mut self) {
        let ripe = self
            .garbage
            .iter()
            .take(DELETES)
            .take_while(|(since, ..)| since.elapsed() >= GRACE)
            .count();
        if ripe == 0 {
            return;
        }
        let Some(ver) = self.clock.next() else { return };
        let deletes: Vec<Put> = self
            .garbage
            .drain(..ripe)
            .map(|(_, slot, entity, part)| Put { slot, entity, part, ver, bytes: Bytes::new() })
            .collect();
        let store = self.store.clone();
        self.work.push(Box::pin(async move {
            Done::Deleted(store.put(deletes, TraceContext::default()).await)
        }));
    }
}

/// How soon to look again at a budget that facts in use exceed.
const BUDGET_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Slot {
    /// The bytes of heads to put at this version, and which, with so many bytes left of the budget.
    fn due(&mut self, ver: KnownAt, left: usize, config: &JoinConfig) -> (usize, Due) {
        if left == 0 {
            let up_to = self.overdue.up_to(config.head_overdue_after).unwrap_or(Position::START);
            return (PUT_BYTES, Due { up_to, ..Due::ALL });
        }
        let interval = i64::try_from(config.head_interval.as_micros()).unwrap_or(i64::MAX);
        let rested = KnownAt(ver.0.saturating_sub(interval));
        (left.min(PUT_BYTES), Due { rested, ..Due::ALL })
    }

    /// Lets facts leave when they exceed the budget; after a look that found them in use, a while later.
    pub(super) fn look_at_budget(&mut self, config: &JoinConfig) {
        let is_over = |core: &SlotCore| core.at_hand().fact_bytes > config.at_hand_bytes;
        let waits = self.budget_again.is_some_and(|again| Instant::now() < again);
        if waits || !is_over(&self.core) {
            return;
        }
        self.core.enforce_budget(config.at_hand_bytes);
        let later = || Instant::now() + BUDGET_AGAIN_AFTER;
        self.budget_again = is_over(&self.core).then(later);
    }
}

/// True when stored heads have every fact of a slot. With a chunk in flight they have not, though
/// nothing of it can be put yet and the mark is where the log is confirmed.
fn is_saved(in_flight: bool, mark: Option<Position>, confirmed: Position) -> bool {
    !in_flight && mark == Some(confirmed)
}

/// What a slot with `own` of `total` bytes gives up of `over`.
fn share_of(over: usize, own: usize, total: usize) -> usize {
    (over as u128 * own as u128).div_ceil(total.max(1) as u128) as usize
}

fn dropped(head: &HeadPut) -> Vec<Part> {
    let page = |name: &PageName| Part::Page(name.0, name.1);
    let ids = |name: &PageName| Part::Ids(name.0, name.1);
    head.dropped_pages
        .iter()
        .map(page)
        .chain(head.dropped_ids.iter().map(ids))
        .chain(head.dropped_rebuilt.iter().copied().map(Part::RebuiltHead))
        .collect()
}

#[cfg(test)]
mod tests {
    use millrace_types::Position;

    use super::{is_saved, share_of};

    #[test]
    fn facts_of_a_chunk_in_flight_are_not_forgotten() {
        let at = |sequence| Position { epoch: 1, sequence };
        assert!(is_saved(false, Some(at(3)), at(3)));
        assert!(!is_saved(true, Some(at(3)), at(3)));
        assert!(!is_saved(false, Some(at(2)), at(3)));
        assert!(!is_saved(false, None, at(3)));
    }

    #[test]
    fn slots_give_up_in_proportion_and_together_enough() {
        let slots = [0, 1, 700, 1_000_000, 3_000_000_007];
        let total = slots.iter().sum();
        for over in [0, 1, 999, total / 10, total] {
            let shares: Vec<usize> = slots.iter().map(|own| share_of(over, *own, total)).collect();
            assert!(shares.iter().sum::<usize>() >= over);
            assert!(shares.iter().zip(slots).all(|(share, own)| *share <= own));
            assert!(shares.is_sorted());
        }
        assert_eq!(share_of(10, 0, 0), 0);
    }
}
