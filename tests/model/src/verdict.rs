//! What must hold of the log that stands in the end, and of everything that was seen on the way.

use millrace_store::memory::MemoryStore;
use millrace_store::{LogStore, Part, SnapshotStore};
use millrace_types::{KnownAt, Position, SlotId};

use crate::history::SLOTS;
use crate::snapshot::{Head, entity, fold};
use crate::world::{Log, Seen, World, known_at};

/// Holds what was seen against the log that stands. `wrote` is what the last owner put, before
/// everything held back landed.
///
/// # Panics
/// When a store without faults fails.
pub async fn check(world: &World, root: &MemoryStore, wrote: &[(SlotId, Head)]) {
    for (slot, head) in wrote {
        let parts = root.load(vec![(entity(*slot), Part::Head), (entity(*slot), head.part())]);
        let mut parts = parts.await.expect("no faults").into_iter().flatten();
        let stands = parts.next().map(|(_, bytes)| Head::decode(&bytes));
        if stands != Some(*head) {
            world.blame(format!("FENCE: a late head replaced that of {}: {stands:?}", slot.0));
        }
        if parts.next().is_none_or(|(_, page)| page != head.page_hash.to_le_bytes()[..]) {
            world.blame(format!("PAGE: the last page of {} is not what was put", slot.0));
        }
        let mark = root.load_mark(*slot).await.expect("no faults");
        let marked = mark.map_or(Position::START, |(_, mark)| mark.position);
        if marked != head.applied {
            world.blame(format!("FENCE: a late mark replaced that of {}: {marked}", slot.0));
        }
    }
    for slot in SLOTS {
        let epochs = root.epochs(slot).await.expect("no faults");
        let log = match root.read_log(slot, Position::START, Position::END, usize::MAX).await {
            Ok(page) => page.chunks,
            Err(error) => {
                world.blame(format!("ACK: {error}"));
                continue;
            }
        };
        check_slot(slot, &log, &mut world.seen());
        for (row, next) in epochs.iter().zip(epochs.iter().skip(1)) {
            let last = root.last_chunk(slot, row.epoch).await.expect("no faults");
            if last.is_some_and(|(position, _)| position.sequence > next.previous_end) {
                world.seen().counts.beyond += 1;
            }
        }
    }
}

fn check_slot(slot: SlotId, log: &Log, seen: &mut Seen) {
    let mut violations = Vec::new();
    check_order(slot, log, &mut violations);
    check_acknowledged(slot, log, seen, &mut violations);
    check_views(slot, log, seen, &mut violations);
    check_heads(slot, log, seen, &mut violations);
    check_marks(slot, log, seen, &mut violations);
    seen.violations.extend(violations);
}

/// Positions are a total order, and so are the versions of the chunks.
fn check_order(slot: SlotId, log: &Log, violations: &mut Vec<String>) {
    for pair in log.windows(2) {
        if pair[0].0 >= pair[1].0 || known_at(&pair[0].1) >= known_at(&pair[1].1) {
            violations.push(format!("ORDER: {} after {} in {}", pair[1].0, pair[0].0, slot.0));
        }
    }
}

fn check_acknowledged(slot: SlotId, log: &Log, seen: &Seen, violations: &mut Vec<String>) {
    for (_, position, bytes) in seen.acknowledged.iter().filter(|(of, ..)| *of == slot) {
        if !log.iter().any(|(at, found)| at == position && found == bytes) {
            violations.push(format!("ACK: {position} of {} was acknowledged and is lost", slot.0));
        }
    }
}

/// Everybody read the log that stands, no more and no less: no row beyond an end, none missing,
/// none with another content.
fn check_views(slot: SlotId, log: &Log, seen: &Seen, violations: &mut Vec<String>) {
    for view in seen.views.iter().filter(|view| view.slot == slot) {
        let stands = log.iter().take_while(|(position, _)| *position <= view.up_to);
        if !stands.eq(view.chunks.iter()) {
            violations.push(format!("LOG: {} up to {} was another log", slot.0, view.up_to));
        }
    }
}

/// Heads cover confirmed chunks and nothing else.
fn check_heads(slot: SlotId, log: &Log, seen: &Seen, violations: &mut Vec<String>) {
    for (_, head) in seen.heads.iter().filter(|(of, _)| *of == slot) {
        let covered = log.iter().take_while(|(position, _)| *position <= head.applied);
        let hash = covered.fold(0, |hash, (_, bytes)| fold(hash, bytes));
        if hash != head.hash || !stands(log, head.applied) {
            violations.push(format!("HEAD: {} at {} is not its log", slot.0, head.applied));
        }
    }
}

/// A mark covers confirmed chunks, and no later chunk is known at or before what it closed.
fn check_marks(slot: SlotId, log: &Log, seen: &Seen, violations: &mut Vec<String>) {
    for (_, mark) in seen.marks.iter().filter(|(of, _)| *of == slot) {
        if !stands(log, mark.position) {
            violations.push(format!("MARK: {} at {} is ahead", slot.0, mark.position));
        }
        let mut later = log.iter().skip_while(|(position, _)| *position <= mark.position);
        if later.any(|(_, bytes)| known_at(bytes) <= mark.closed.max(KnownAt(0))) {
            violations.push(format!("MARK: {} was not closed at {}", slot.0, mark.position));
        }
    }
}

fn stands(log: &Log, position: Position) -> bool {
    position == Position::START || log.iter().any(|(at, _)| *at == position)
}
