//! A log that is followed while chunks of it are scrubbed.

use std::sync::Arc;

use millrace_types::{Chunk, KnownAt};

use crate::erase::Erasures;
use crate::slot::Draft;
use crate::slot::rebuild::tests::{Slot, click, user};

/// The stored head let everything go, later a rebuilt one had it again and took a fact, and the marker of that
/// one is scrubbed already.
#[test]
fn a_fact_that_does_not_fit_is_explained_by_the_erasure_after_it() {
    let mut slot = Slot::new();
    let first = slot.draft(100, &[click("a", None)]);
    slot.core.confirm(first.position, first.known_at);
    let second = slot.draft(200, &[click("b", None)]);
    slot.core.confirm(second.position, second.known_at);
    slot.core.set_erasures(Arc::new(Erasures::default().with([(1, user())])));
    let mut scan = slot.core.start_erasure().unwrap();
    for draft in [&first, &second] {
        scan.chunk(draft.position, &Chunk::decode(draft.bytes.as_slice()).unwrap()).unwrap();
    }
    let (entry, is_last) = slot.core.draft_erasure(&mut scan, KnownAt(300));
    assert!(is_last, "nobody else had a fact of it");

    let mut next = Slot::new();
    let follow = |next: &mut Slot, draft: &Draft| {
        let chunk = Chunk::decode(draft.bytes.as_slice()).unwrap();
        next.core.replay(draft.position, &chunk, Vec::new()).unwrap();
    };
    follow(&mut next, &first);
    next.core.enforce_budget(0);
    follow(&mut next, &second);
    let (position, _) = next.core.end_replay().unwrap_err();
    assert_eq!(position, second.position, "the log is damaged, as far as it goes");
    follow(&mut next, &entry);
    next.core.end_replay().unwrap();
    assert_eq!(next.core.at_hand().fact_bytes, 0);
}
