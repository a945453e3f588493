//! Facts beyond the budget at hand.

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
