//! Chunks of the log, and the facts that ingest sends to the join service.

use std::sync::Arc;

use millrace_kernel::slot::{Input, SlotCore};
use millrace_kernel::{Plan, RetentionScrub};
use millrace_types::chunk::{encode_chunk, fact_count};
use millrace_types::fact::check_records;
use millrace_types::{Chunk, KnownAt, Micros, SlotId, StreamId, StreamWatermark};

use crate::history::HISTORY;

/// Where the checksum of a chunk stands.
const SUM: std::ops::Range<usize> = 1..5;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    // The first ones are those that are damaged in many ways.
    let notes = |bytes: &&Vec<u8>| {
        Chunk::decode(bytes.as_slice()).is_ok_and(|chunk| chunk.header.retention.is_some())
    };
    let bases: Vec<_> = HISTORY.chunks.iter().filter(notes).cloned().collect();
    assert!(!bases.is_empty(), "the history has a base chunk");
    assert!(!HISTORY.rewritten.is_empty(), "something was forgotten");
    bases.into_iter().chain(HISTORY.rewritten.clone()).chain(HISTORY.chunks.clone()).collect()
}

/// A chunk, its checksum made good so that what lies behind it is reached.
pub(crate) fn chunk(data: &[u8]) -> bool {
    let mut data = data.to_vec();
    if data.len() >= SUM.end {
        let sum = crc32fast::hash(&data[SUM.end..]);
        data[SUM].copy_from_slice(&sum.to_le_bytes());
    }
    let Ok(chunk) = Chunk::decode(data.as_slice()) else { return false };
    assert_eq!(fact_count(&data), Some(chunk.header.facts));
    let again = encode_chunk(&chunk.header, [chunk.fact_bytes()]);
    let again = Chunk::decode(again.as_slice()).expect("what was encoded decodes");
    assert_eq!(again.header, chunk.header);
    assert_eq!(again.fact_bytes(), chunk.fact_bytes());
    let Ok(records) = check_records(chunk.fact_bytes()) else { return false };
    judge(chunk.fact_bytes(), records);
    forget(&chunk);
    true
}

/// What is left of a chunk without what the history's base chunk forgot decodes, and has lost nothing else.
fn forget(chunk: &Chunk<&[u8]>) {
    let (plan, boundaries) = (HISTORY.plan.clone(), HISTORY.boundaries.clone());
    let mut scrub = RetentionScrub::new(plan, boundaries, 0, 64);
    let looked = scrub.find(chunk).and_then(|()| scrub.keep(chunk));
    let Ok(Some(rest)) = looked.and_then(|()| scrub.rest(chunk)) else { return };
    let rest = Chunk::decode(rest.as_slice()).expect("what is left of a chunk decodes");
    assert_eq!(u64::from(rest.header.facts) + scrub.facts(), u64::from(chunk.header.facts));
    assert!(rest.header.retention.is_some_and(|notes| notes.scrubbed.reach(&HISTORY.boundaries)));
}

/// Facts that came through the door of the join service: judged into a chunk of their own, or refused
/// whole.
fn judge(facts: &[u8], records: usize) {
    let mut core = empty(&HISTORY.plan);
    let watermarks = [StreamWatermark { stream: StreamId(0), at: Micros(0), idle: false }];
    let input = Input {
        incarnation: 7,
        facts,
        watermarks: &watermarks,
        departs: false,
        replays_late: false,
    };
    match core.judge(&[input], KnownAt(1_000_000)) {
        Ok(Some(draft)) => {
            let judged: usize = draft.judged.iter().map(Vec::len).sum();
            assert_eq!(judged, records, "each record has a verdict");
            Chunk::decode(draft.bytes.as_slice()).expect("a judged chunk decodes");
            core.confirm(draft.position, draft.known_at);
        }
        Ok(None) => assert_eq!(records, 0),
        // Records of streams or kinds that the catalog does not have are refused too.
        Err(_) => {}
    }
}

/// A slot that nothing was published to.
fn empty(plan: &Arc<Plan>) -> SlotCore {
    let mut core = SlotCore::new(SlotId(0), plan.clone());
    core.set_empty();
    core.open_epoch(1);
    core
}
