//! Base chunks in a slot: when they are due, what is LATE from then on, and what stays of an id.

use millrace_catalog::Catalog;
use millrace_types::{
    Chunk, Fact, FactBody, KindId, Row, SlotId, StreamId, StreamWatermark, Value, Verdict,
};

use super::*;
use crate::plan::Plan;
use crate::retention::RetentionScrub;
use crate::slot::rebuild::tests::{count, user};
use crate::slot::{Due, Fold, Input, ReadAnswer, SlotRead};

const SECOND: i64 = 1_000_000;

/// Steps of a second: a boundary lies 17 to 18 seconds before the watermark.
const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: id
    revision: rev
    op: {field: op, retract: [undo]}
    repair: 1s
    retention: 16s
    fields: {id: string, user_id: int64, ts: timestamp, rev: int64, op: string}
views:
  activity:
    entity: user
    events: clicks
    features: {clicks: {count: {}, window: 10s}}
";

/// A fact at this second.
fn fact(id: &str, revision: u64, op: Op, second: i64) -> Fact {
    let at = Micros(second * SECOND);
    let values = [Value::String(id.into()), Value::Int64(42), Value::Timestamp(at)];
    let body = FactBody {
        id: id.as_bytes().into(),
        revision,
        at,
        seq: 0,
        op,
        row: Row::from_values(&values),
        known_at: None,
    };
    Fact { stream: StreamId(0), entity: user(), body }
}

struct Slot {
    core: SlotCore,
    log: Vec<(Position, Vec<u8>)>,
    now: i64,
}

impl Slot {
    fn new() -> Self {
        let catalog = Arc::new(Catalog::compile(CATALOG, None).unwrap());
        let mut core = SlotCore::new(SlotId(0), Arc::new(Plan::new(catalog)));
        core.set_empty();
        core.open_epoch(1);
        Self { core, log: Vec::new(), now: 0 }
    }

    fn confirm(&mut self, draft: Draft) {
        self.core.confirm(draft.position, draft.known_at);
        self.log.push((draft.position, draft.bytes));
    }

    fn known_at(&mut self) -> KnownAt {
        self.now += 1;
        KnownAt(self.now)
    }

    /// Publishes facts, and the watermark after them.
    fn publish(&mut self, facts: &[Fact], second: i64) -> Vec<Verdict> {
        let mut bytes = Vec::new();
        facts.iter().for_each(|fact| fact.encode(&mut bytes));
        let at = Micros(second * SECOND);
        let watermark = StreamWatermark { stream: StreamId(0), at, idle: false };
        let input = Input {
            incarnation: 1,
            facts: &bytes,
            watermarks: &[watermark],
            departs: false,
            replays_late: true,
        };
        let known_at = self.known_at();
        let draft = self.core.judge(&[input], known_at).unwrap().unwrap();
        let judged = draft.judged.iter().flatten().map(|j| j.verdict).collect();
        self.confirm(draft);
        judged
    }

    /// Writes a base chunk if one is due; gives the second of its boundary.
    fn base(&mut self) -> Option<i64> {
        let boundaries = self.core.base_due()?;
        let at = boundaries.of(StreamId(0)).0 / SECOND;
        let known_at = self.known_at();
        let draft = self.core.draft_base(boundaries, known_at);
        self.confirm(draft);
        Some(at)
    }

    fn read(&mut self, second: i64) -> Result<i64, Option<i64>> {
        let entity = user();
        let read = SlotRead {
            entity: &entity,
            view: "activity",
            features: &[0],
            at: Micros(second * SECOND),
            known_at: KnownAt::MAX,
        };
        match self.core.read(read) {
            ReadAnswer::Head(evaluation, _) => Ok(count(&evaluation)),
            ReadAnswer::TooEarly(early) => Err(early.earliest.map(|at| at.0 / SECOND)),
            other @ (ReadAnswer::Log(_)
            | ReadAnswer::Load
            | ReadAnswer::Unconfirmed(_)
            | ReadAnswer::Unknown) => panic!("{other:?}"),
        }
    }

    /// By the log alone.
    fn fold(&self, second: i64) -> i64 {
        let plan = self.core.plan().clone();
        let mut fold = Fold::new(plan.clone(), [user()], KnownAt::MAX);
        for (position, bytes) in &self.log {
            fold.chunk(*position, &Chunk::decode(bytes.as_slice()).unwrap()).unwrap();
        }
        let at = Micros(second * SECOND);
        let kind = plan.kind(KindId(0)).unwrap();
        assert_eq!(kind.too_early(0, &[0], at, fold.boundaries()), None);
        count(&fold.finish()[0].1.evaluate(0, &[0], at).unwrap())
    }

    /// Takes what is forgotten out of the log; gives how many facts that were.
    fn scrub(&mut self) -> u64 {
        let Some((base, boundaries)) = self.core.scrub_due() else { return 0 };
        let mut scrub =
            RetentionScrub::new(self.core.plan().clone(), boundaries.clone(), 0, usize::MAX);
        let before = |(position, _): &&mut (Position, Vec<u8>)| *position < base;
        for (_, bytes) in self.log.iter_mut().filter(before) {
            scrub.find(&Chunk::decode(bytes.as_slice()).unwrap()).unwrap();
        }
        for (_, bytes) in self.log.iter_mut().filter(before) {
            scrub.keep(&Chunk::decode(bytes.as_slice()).unwrap()).unwrap();
        }
        for (_, bytes) in self.log.iter_mut().filter(before) {
            if let Some(rest) = scrub.rest(&Chunk::decode(bytes.as_slice()).unwrap()).unwrap() {
                *bytes = rest;
            }
        }
        self.core.scrubbed(&boundaries);
        scrub.facts()
    }
}

#[test]
fn a_boundary_follows_the_watermark_in_steps_and_never_goes_back() {
    let mut slot = Slot::new();
    slot.publish(&[fact("a", 0, Op::Assert, 1)], 40);
    assert_eq!(slot.base(), Some(40 - 16 - 1));
    assert_eq!(slot.base(), None);
    // Less than a step further, then more.
    slot.publish(&[fact("b", 0, Op::Assert, 40)], 40);
    assert_eq!(slot.base(), None);
    slot.publish(&[fact("c", 0, Op::Assert, 50)], 50);
    assert_eq!(slot.base(), Some(33));
    // Without the retention, what was forgotten stays so.
    let off = CATALOG.replace("    retention: 16s\n", "");
    let catalog = Catalog::compile(&off, Some(&slot.core.plan().catalog)).unwrap();
    slot.core.set_plan(Arc::new(Plan::new(Arc::new(catalog))));
    slot.publish(&[fact("d", 0, Op::Assert, 90)], 90);
    assert_eq!(slot.base(), None);
    assert_eq!(slot.publish(&[fact("e", 0, Op::Assert, 32)], 90), [Verdict::Late]);
    assert_eq!(slot.core.boundaries().of(StreamId(0)), Micros(33 * SECOND));
}

#[test]
fn what_comes_before_the_boundary_is_late_and_windows_before_it_are_refused() {
    let mut slot = Slot::new();
    slot.publish(&[fact("a", 0, Op::Assert, 10), fact("b", 0, Op::Assert, 30)], 40);
    assert_eq!(slot.read(15), Ok(1));
    assert_eq!(slot.base(), Some(23));
    let old = [fact("a", 0, Op::Assert, 10), fact("n", 0, Op::Assert, 22)];
    assert_eq!(slot.publish(&old, 40), [Verdict::Late; 2]);
    assert_eq!(slot.publish(&[fact("m", 0, Op::Assert, 23)], 40), [Verdict::Accepted]);
    // Ten seconds behind the boundary is the first whole window.
    assert_eq!((slot.read(32), slot.read(33), slot.read(34)), (Err(Some(33)), Ok(2), Ok(1)));
    assert_eq!((slot.fold(33), slot.fold(34)), (2, 1));
    assert_eq!(slot.scrub(), 1);
    assert_eq!((slot.fold(33), slot.fold(34)), (2, 1));
    // LATE facts go with the next base chunk.
    slot.publish(&[fact("z", 0, Op::Assert, 60)], 60);
    assert_eq!(slot.base(), Some(43));
    assert_eq!(slot.scrub(), 4);
}

/// Revision 1 of a lies before the boundary, revision 0 does not: without revision 1 the other would be
/// live again.
#[test]
fn an_id_keeps_all_its_facts_while_one_lies_behind_the_boundary() {
    let mut slot = Slot::new();
    slot.publish(&[fact("a", 0, Op::Assert, 30), fact("b", 0, Op::Assert, 30)], 40);
    slot.publish(&[fact("a", 1, Op::Assert, 10)], 40);
    assert_eq!(slot.base(), Some(23));
    assert_eq!(slot.scrub(), 0);
    assert_eq!((slot.read(35), slot.fold(35)), (Ok(1), 1));
}

/// What is forgotten says nothing of a fact of its id that comes later; a RETRACT is not forgotten.
#[test]
fn a_forgotten_id_begins_anew_but_stays_retracted() {
    for scrubs in [false, true] {
        let mut slot = Slot::new();
        slot.publish(&[fact("a", 5, Op::Assert, 10), fact("b", 0, Op::Assert, 10)], 40);
        slot.publish(&[fact("b", 3, Op::Retract, 0)], 40);
        assert_eq!(slot.base(), Some(23));
        if scrubs {
            assert_eq!(slot.scrub(), 2);
        }
        // Both are stale; of b it is known.
        let stale = [fact("a", 4, Op::Assert, 30), fact("b", 2, Op::Assert, 30)];
        assert_eq!(slot.publish(&stale, 40), [Verdict::Accepted; 2]);
        assert_eq!((slot.read(35), slot.fold(35)), (Ok(1), 1), "scrubbed: {scrubs}");
        assert_eq!(
            slot.publish(&[fact("a", 6, Op::Retract, 0)], 40),
            [Verdict::Repaired { rows: 1 }]
        );
        assert_eq!((slot.read(35), slot.fold(35)), (Ok(0), 0));
    }
}

#[test]
fn a_mark_says_what_holds_at_its_position() {
    let mut slot = Slot::new();
    slot.publish(&[fact("a", 0, Op::Assert, 30)], 40);
    let before = slot.core.confirmed().0;
    slot.base();
    slot.scrub();
    // The head is not stored: the mark lies before the first chunk.
    let mark = slot.core.mark().unwrap();
    assert!(mark.position < before);
    assert!(mark.retained.boundaries.is_empty());
    for put in slot.core.heads_to_put(usize::MAX, KnownAt(1_000), Due::ALL) {
        slot.core.head_saved(&put.entity);
    }
    let mark = slot.core.mark().unwrap();
    assert_eq!(mark.position, slot.core.confirmed().0);
    let boundary = Micros(23 * SECOND);
    assert_eq!(mark.retained.boundaries.of(StreamId(0)), boundary);
    assert_eq!(mark.retained.scrubbed.of(StreamId(0)), boundary);
    let mut again = SlotCore::new(SlotId(0), slot.core.plan().clone());
    again.recover_from(&mark);
    assert_eq!(again.boundaries().of(StreamId(0)), boundary);
    assert!(again.scrub_due().is_none());
    let mut undone = mark;
    undone.retained.scrubbed = Boundaries::default();
    again.recover_from(&undone);
    assert_eq!(again.scrub_due().map(|(base, _)| base), undone.retained.base);
}
