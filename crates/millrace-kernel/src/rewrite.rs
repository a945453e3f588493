//! Chunks rewritten without some of their facts.

use millrace_types::ChunkHeader;
use millrace_types::Verdict;
use millrace_types::chunk::{encode_chunk, fingerprint};
use millrace_types::entity::entity_hash;
use millrace_types::fact::RecordView;

use crate::plan::Plan;

/// A chunk with what is left of its facts, each with its verdict. `header` is the chunk's own, with
/// whatever else the rewrite changes in it.
pub(crate) fn rewritten(
    plan: &Plan,
    header: ChunkHeader,
    kept: &[(RecordView<'_>, Verdict)],
) -> Vec<u8> {
    let mut filter: Vec<u32> = kept
        .iter()
        .map(|(record, _)| {
            let name = plan.kind(record.kind).map_or("", |k| k.kind_name.as_str());
            fingerprint(entity_hash(name, record.key))
        })
        .collect();
    filter.sort_unstable();
    filter.dedup();
    let ats = || kept.iter().map(|(record, _)| record.body.at);
    let verdicts = kept.iter().enumerate().filter(|(_, (_, v))| *v != Verdict::Accepted);
    let header = ChunkHeader {
        facts: kept.len() as u32,
        least_stated: kept.iter().filter_map(|(record, _)| record.body.known_at).min(),
        at_range: ats().min().zip(ats().max()),
        verdicts: verdicts.map(|(index, (_, v))| (index as u32, *v)).collect(),
        filter,
        ..header
    };
    let mut facts = Vec::new();
    kept.iter().for_each(|(record, _)| record.encode(&mut facts));
    encode_chunk(&header, [facts.as_slice()])
}
