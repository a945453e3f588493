//! What heads have and marks say of it, and facts beyond the budget at hand.

use millrace_types::{Chunk, DecodeError, KnownAt, Micros, Position, StreamId};

use crate::slot::rebuild::tests::{Slot, click, user};
use crate::slot::{Due, HeadPut, SlotCore};
use crate::snapshot::Head;

#[test]
fn a_budget_of_nothing_keeps_no_facts_but_those_in_use() {
    let mut slot = Slot::new();
    let draft = slot.draft(100, &[click("a", None), click("b", None)]);
    let had = slot.core.at_hand().fact_bytes;
    assert!(had > 0);
    slot.core.enforce_budget(0);
    assert_eq!(slot.core.at_hand().fact_bytes, had, "the chunk is not confirmed");
    slot.core.confirm(draft.position, draft.known_at);
    slot.core.enforce_budget(0);
    assert_eq!(slot.core.at_hand().fact_bytes, 0);
}

#[test]
fn what_fits_the_budget_stays() {
    let mut slot = Slot::new();
    let draft = slot.draft(100, &[click("a", None)]);
    slot.core.confirm(draft.position, draft.known_at);
    let had = slot.core.at_hand().fact_bytes;
    slot.core.enforce_budget(had);
    assert_eq!(slot.core.at_hand().fact_bytes, had);
}

#[test]
fn a_head_that_was_put_rests() {
    let mut slot = Slot::new();
    let mut put = |known_at, ver, rested| {
        let draft = slot.draft(known_at, &[click(&format!("{known_at}"), None)]);
        slot.core.confirm(draft.position, draft.known_at);
        let due = Due { rested: KnownAt(rested), ..Due::ALL };
        let puts = slot.core.heads_to_put(usize::MAX, KnownAt(ver), due);
        puts.iter().for_each(|put| slot.core.head_saved(&put.entity));
        puts.len()
    };
    assert_eq!(put(100, 1_000, 0), 1, "one that was never put");
    assert_eq!(put(200, 1_500, 500), 0, "put at 1000");
    assert_eq!(put(300, 2_000, 1_000), 0);
    assert_eq!(put(400, 2_001, 1_001), 1);
    assert_eq!(put(500, 2_002, i64::MAX), 1, "of a slot that leaves");
}

#[test]
fn what_is_overdue_is_put_and_what_came_later_waits() {
    let mut slot = Slot::new();
    let first = slot.draft(100, &[click("a", None)]);
    slot.core.confirm(first.position, first.known_at);
    let put = |slot: &mut Slot, up_to| {
        let due = Due { up_to, ..Due::ALL };
        let puts = slot.core.heads_to_put(usize::MAX, KnownAt(1_000), due);
        puts.iter().for_each(|put| slot.core.head_saved(&put.entity));
        puts.len()
    };
    assert_eq!(put(&mut slot, Position::START), 0);
    let second = slot.draft(200, &[click("b", None)]);
    slot.core.confirm(second.position, second.known_at);
    assert_eq!(put(&mut slot, first.position), 1, "it lacks both");
    let third = slot.draft(300, &[click("c", None)]);
    slot.core.confirm(third.position, third.known_at);
    assert_eq!(put(&mut slot, second.position), 0, "the third alone is missing");
    assert_eq!(put(&mut slot, third.position), 1);
}

/// Two chunks, and a head that has both.
fn two_chunks() -> (Vec<(Position, Vec<u8>)>, HeadPut) {
    let mut slot = Slot::new();
    let mut log = Vec::new();
    for (known_at, id) in [(100, "a"), (200, "b")] {
        let draft = slot.draft(known_at, &[click(id, None)]);
        slot.core.confirm(draft.position, draft.known_at);
        log.push((draft.position, draft.bytes));
    }
    let put = slot.core.heads_to_put(usize::MAX, KnownAt(1_000), Due::ALL).remove(0);
    (log, put)
}

/// Another owner that follows this log, without a mark, and finds that head.
fn follow(log: &[(Position, Vec<u8>)], put: &HeadPut) -> SlotCore {
    let plan = Slot::new().core.plan().clone();
    let mut core = SlotCore::new(millrace_types::SlotId(0), plan.clone());
    for (position, bytes) in log {
        let chunk = Chunk::decode(bytes.as_slice()).unwrap();
        for entity in core.heads_to_replay(&chunk).unwrap() {
            let kind = plan.kind(entity.kind).unwrap();
            let head = Head::decode(kind, &put.parts.head).unwrap();
            let state = head.assemble::<&[u8]>(kind.clone(), &[], &[]).unwrap();
            core.insert_loaded(&entity, Some(state));
        }
        core.replay(*position, &chunk, Vec::new()).unwrap();
    }
    core
}

/// Who wrote it may have died before a quorum had it: this owner saw it, and the next one may not.
#[test]
fn a_head_ahead_of_the_mark_is_put_once_more_before_a_mark_counts_on_it() {
    let (log, put) = two_chunks();
    let mut core = follow(&log, &put);
    core.end_replay().unwrap();
    core.open_epoch(2);
    let marked = core.mark().map_or(Position::START, |mark| mark.position);
    assert!(marked < log[0].0, "nothing of it is known to be in heads: {marked}");
    let puts = core.heads_to_put(usize::MAX, KnownAt(2_000), Due::ALL);
    assert_eq!(puts.len(), 1);
    assert_eq!((&puts[0].entity, puts[0].position), (&user(), log[1].0));
    core.head_saved(&user());
    let marked = core.mark().map_or(Position::START, |mark| mark.position);
    assert!(marked >= log[1].0, "{marked}");
    assert!(core.heads_to_put(usize::MAX, KnownAt(3_000), Due::ALL).is_empty(), "once");
}

#[test]
fn a_log_that_ends_before_a_head_is_damaged() {
    let (log, put) = two_chunks();
    let core = follow(&log[..1], &put);
    let what = "end of the log, which a head is beyond";
    assert_eq!(core.end_replay(), Err((log[1].0, DecodeError::Invalid { what, found: 0 })));
}

/// What is under way may never come to be in the log.
#[test]
fn the_greatest_instant_told_is_of_what_is_confirmed() {
    let mut slot = Slot::new();
    let draft = slot.draft(1_000, &[click("a", None)]);
    assert_eq!(slot.core.latest(), []);
    slot.core.confirm(draft.position, draft.known_at);
    assert_eq!(slot.core.latest(), [(StreamId(0), Micros(10))]);
}
