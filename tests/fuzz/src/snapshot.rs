//! Heads, pages and id parts. That their rows fit the catalog is for their checksums to hold: they are
//! what a join service made of rows that ingest had checked.

use std::sync::Arc;

use millrace_kernel::{Head, KindPlan, PageName, SnapshotParts, StoredPage};
use millrace_types::codec::{Reader, put_bytes};
use millrace_types::{KindId, KnownAt, Micros};

use crate::history::HISTORY;

/// The number of a kind, the head, and the bytes of its parts in the order in which it lists them.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let with_all_parts = |(entity, parts): &(millrace_types::Entity, SnapshotParts)| {
        let kind = HISTORY.plan.kind(entity.kind)?;
        let (pages, ids) = Head::decode(kind, &parts.head).ok()?.part_names();
        // Later snapshots lean on parts of earlier ones, which are not looked for here.
        (pages.len() == parts.pages.len() && ids.len() == parts.ids.len()).then(|| {
            let mut seed = vec![entity.kind.0 as u8];
            put_bytes(&mut seed, &parts.head);
            for (_, bytes) in parts.pages.iter().chain(&parts.ids) {
                put_bytes(&mut seed, bytes);
            }
            seed
        })
    };
    HISTORY.snapshots.iter().filter_map(with_all_parts).collect()
}

/// A snapshot: opened for reads, put together, and taken once more.
pub(crate) fn head(data: &[u8]) -> bool {
    let mut reader = Reader::new(data);
    let Ok(kind) = reader.u8("kind") else { return false };
    let kind = KindId(u16::from(kind) % HISTORY.catalog.kinds.len() as u16);
    let plan = HISTORY.plan.kind(kind).expect("the number is below the count");
    let Ok(head) = reader.bytes("head").and_then(|bytes| Head::decode(plan, bytes)) else {
        return false;
    };
    let mut parts = Vec::new();
    while !reader.is_empty() {
        let Ok(part) = reader.bytes("part") else { return false };
        parts.push(part);
    }
    let (pages, ids) = head.part_names();
    if pages.len() + ids.len() != parts.len() {
        return false;
    }
    let names = pages;
    let (pages, ids) = parts.split_at(names.len());
    open(&head, kind, plan, &names, pages);
    let Ok(mut state) = head.assemble(plan.clone(), pages, ids) else { return false };
    let parts = state.snapshot(KnownAt(i64::MAX / 2));
    Head::decode(plan, &parts.head).expect("a head that was made decodes");
    true
}

/// Opens a head for every view, puts in the pages that it asks for, and reads.
fn open(head: &Head, kind: KindId, plan: &Arc<KindPlan>, names: &[PageName], pages: &[&[u8]]) {
    for view in HISTORY.catalog.views_of(kind) {
        let view = plan.view_index(&view.name).expect("the plan has the catalog's views");
        let features = plan.feature_indexes(view, &[]).expect("all features are there");
        let Ok(mut opened) = head.clone().open(plan.clone(), view, &features) else { continue };
        let at = Micros(1_700_000_000_000_000);
        let Ok(needed) = opened.needed(at) else { continue };
        for name in needed {
            let listed = names.iter().position(|have| *have == name);
            let page = pages[listed.expect("what is needed is listed")];
            if let Ok(page) = StoredPage::decode(page) {
                // The head may tell of other pages.
                let _ = opened.insert(name, &page);
            }
        }
        // A page that is not the one of which the head tells is still missing.
        let _ = opened.evaluate(at);
    }
}
