//! Facts beyond the budget at hand.

use millrace_types::KnownAt;

use crate::slot::rebuild::tests::{Slot, click};

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
        let puts = slot.core.heads_to_put(usize::MAX, KnownAt(ver), KnownAt(rested));
        puts.iter().for_each(|put| slot.core.head_saved(&put.entity));
        puts.len()
    };
    assert_eq!(put(100, 1_000, 0), 1, "one that was never put");
    assert_eq!(put(200, 1_500, 500), 0, "put at 1000");
    assert_eq!(put(300, 2_000, 1_000), 0);
    assert_eq!(put(400, 2_001, 1_001), 1);
    assert_eq!(put(500, 2_002, i64::MAX), 1, "of a slot that leaves");
}
