//! A short history of the generator, from which the seeds of the targets are made.

use std::sync::{Arc, LazyLock};

use millrace_catalog::{Catalog, StreamKind};
use millrace_kernel::slot::{Due, Input, MarkState, SlotCore};
use millrace_kernel::{PageLimits, Plan, RetentionScrub, SnapshotParts};
use millrace_test_support::generate::{Case, Options};
use millrace_test_support::ingest::facts;
use millrace_test_support::record::RawRecord;
use millrace_types::{
    Boundaries, Chunk, Entity, Fact, KnownAt, Micros, SlotId, StreamId, StreamWatermark,
};

/// A case whose catalog has several kinds and whose history has every operation.
const SEED: u64 = 11;

/// What a slot made of the history.
#[derive(Debug)]
pub(crate) struct History {
    /// Its catalog.
    pub(crate) catalog: Arc<Catalog>,
    /// The same for the kernel.
    pub(crate) plan: Arc<Plan>,
    /// The records, as a producer has them.
    pub(crate) records: Vec<RawRecord>,
    /// The chunks of the log, a base chunk among them.
    pub(crate) chunks: Vec<Vec<u8>>,
    /// What the base chunk forgot.
    pub(crate) boundaries: Arc<Boundaries>,
    /// Chunks before the base chunk as they are without that.
    pub(crate) rewritten: Vec<Vec<u8>>,
    /// Snapshots, taken now and then.
    pub(crate) snapshots: Vec<(Entity, SnapshotParts)>,
    /// The last mark.
    pub(crate) mark: Option<MarkState>,
}

/// The history, made once.
pub(crate) static HISTORY: LazyLock<History> = LazyLock::new(|| {
    let case = Case::generate(SEED, &Options::default());
    let catalog = Arc::new(case.compile().expect("the generator makes catalogs that compile"));
    // Small pages, so that snapshots have some beside what stands in the head.
    let pages = PageLimits { facts: 3, inline_bytes: 256 };
    let plan = Arc::new(Plan::with_pages(catalog.clone(), pages));
    let mut core = SlotCore::new(SlotId(0), plan.clone());
    core.set_empty();
    core.open_epoch(1);
    let (mut chunks, mut snapshots) = (Vec::new(), Vec::new());
    let (mut boundaries, mut rewritten) = (Arc::default(), Vec::new());
    let mut ver = 1_000;
    let batches = case.batches().len();
    for (number, batch) in case.batches().into_iter().enumerate() {
        if number == batches / 2 {
            ver += 10;
            boundaries = Arc::new(amid(&catalog, &chunks));
            let draft = core.draft_base(Boundaries::clone(&boundaries), KnownAt(ver));
            core.confirm(draft.position, draft.known_at);
            rewritten = without(&plan, &boundaries, &chunks);
            chunks.push(draft.bytes);
        }
        let mut bytes = Vec::new();
        for record in &batch {
            for mut fact in facts(&catalog, record, None).unwrap_or_default() {
                // Every third batch is one of an import.
                fact.body.known_at = (number % 3 == 2).then_some(KnownAt(ver / 2));
                fact.encode(&mut bytes);
            }
        }
        let at = millrace_types::Micros(ver * 1_000);
        let watermarks = [StreamWatermark { stream: StreamId(0), at, idle: false }];
        let input = Input {
            incarnation: 7,
            facts: &bytes,
            watermarks: &watermarks,
            departs: false,
            replays_late: false,
        };
        ver += 10;
        let draft = core.judge(&[input], KnownAt(ver)).expect("encoded facts decode");
        let Some(draft) = draft else { continue };
        core.confirm(draft.position, draft.known_at);
        chunks.push(draft.bytes);
        core.enforce_budget(8 * 1024);
        ver += 10;
        for put in core.heads_to_put(usize::MAX, KnownAt(ver), Due::ALL) {
            core.head_saved(&put.entity);
            snapshots.push((put.entity, put.parts));
        }
    }
    let mark = core.mark();
    let records = case.arrivals.iter().map(|arrival| arrival.record.clone()).collect();
    History { catalog, plan, records, chunks, boundaries, rewritten, snapshots, mark }
});

/// Boundaries of the event streams amid the facts of these chunks.
fn amid(catalog: &Catalog, chunks: &[Vec<u8>]) -> Boundaries {
    let mut boundaries = Boundaries::default();
    for stream in catalog.streams.iter().filter(|stream| stream.kind == StreamKind::Event) {
        let of_stream = |fact: &Fact| fact.stream == stream.id;
        let facts = chunks.iter().flat_map(|chunk| facts_of(chunk));
        let mut ats: Vec<Micros> = facts.filter(of_stream).map(|fact| fact.body.at).collect();
        ats.sort_unstable();
        if let Some(at) = ats.get(ats.len() / 2) {
            boundaries.raise(stream.id, *at);
        }
    }
    boundaries
}

fn facts_of(chunk: &[u8]) -> Vec<Fact> {
    let chunk = Chunk::decode(chunk).expect("a judged chunk decodes");
    let fact = |record: Result<millrace_types::fact::RecordView<'_>, _>| {
        record.and_then(|record| record.to_fact()).expect("its facts decode")
    };
    chunk.records().map(fact).collect()
}

/// What is left of those chunks that have facts before these boundaries.
fn without(plan: &Arc<Plan>, boundaries: &Arc<Boundaries>, chunks: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut scrub = RetentionScrub::new(plan.clone(), boundaries.clone(), 0, usize::MAX);
    let decoded = |bytes: &Vec<u8>| Chunk::decode(bytes.clone()).expect("a judged chunk decodes");
    for bytes in chunks {
        scrub.find(&decoded(bytes)).expect("its facts decode");
    }
    for bytes in chunks {
        scrub.keep(&decoded(bytes)).expect("its facts decode");
    }
    let rest = |bytes: &Vec<u8>| scrub.rest(&decoded(bytes)).expect("its facts decode");
    chunks.iter().filter_map(rest).collect()
}
