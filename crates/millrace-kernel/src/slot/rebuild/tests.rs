//! Folds of a log with imports, fact by fact.

use millrace_catalog::Catalog;
use millrace_types::{
    Entity, EntityKey, Fact, FactBody, FeatureValue, KeyPart, KindId, Micros, Op, Row, SlotId,
    StreamId, Value,
};

use super::*;
use crate::slot::{Input, ReadAnswer, SlotRead};

const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: id
    fields: {id: string, user_id: int64, ts: timestamp}
views:
  activity:
    entity: user
    events: clicks
    features: {clicks: {count: {}}}
";

fn user() -> Entity {
    Entity { kind: KindId(0), key: EntityKey::try_new(&[KeyPart::Int64(42)]).unwrap() }
}

/// A click at 10, and what an import states of it.
fn click(id: &str, stated: Option<i64>) -> Fact {
    let values = [Value::String(id.into()), Value::Int64(42), Value::Timestamp(Micros(10))];
    let body = FactBody {
        id: id.as_bytes().into(),
        revision: 0,
        at: Micros(10),
        seq: 0,
        op: Op::Assert,
        row: Row::from_values(&values),
        known_at: stated.map(KnownAt),
    };
    Fact { stream: StreamId(0), entity: user(), body }
}

struct Slot {
    core: SlotCore,
    log: Vec<(Position, Vec<u8>)>,
}

impl Slot {
    fn new() -> Self {
        let catalog = Arc::new(Catalog::compile(CATALOG, None).unwrap());
        let mut core = SlotCore::new(SlotId(0), Arc::new(Plan::new(catalog)));
        core.set_empty();
        core.open_epoch(1);
        Self { core, log: Vec::new() }
    }

    /// Appends a chunk of these facts; gives what its header says to be the least stated.
    fn chunk(&mut self, known_at: i64, facts: &[Fact]) -> Option<i64> {
        let mut bytes = Vec::new();
        facts.iter().for_each(|fact| fact.encode(&mut bytes));
        let input = Input {
            incarnation: 1,
            facts: &bytes,
            watermarks: &[],
            departs: false,
            replays_late: false,
        };
        let draft = self.core.judge(&[input], KnownAt(known_at)).unwrap().unwrap();
        self.core.confirm(draft.position, draft.known_at);
        let stated = Chunk::decode(draft.bytes.as_slice()).unwrap().header.least_stated;
        self.log.push((draft.position, draft.bytes));
        stated.map(|known_at| known_at.0)
    }

    /// The clicks as known at an instant, by the log.
    fn by_log(&self, known_at: i64) -> i64 {
        let mut fold = Fold::new(self.core.plan().clone(), [user()], KnownAt(known_at));
        for (position, bytes) in &self.log {
            fold.chunk(*position, &Chunk::decode(bytes.as_slice()).unwrap()).unwrap();
        }
        let (_, mut state) = fold.finish().pop().unwrap();
        count(&state.evaluate(0, &[0], Micros(20)).unwrap())
    }

    /// The same by the head; `None` where it leaves the answer to the log.
    fn by_head(&mut self, known_at: i64) -> Option<i64> {
        let (entity, known_at) = (user(), KnownAt(known_at));
        let read = SlotRead {
            entity: &entity,
            view: "activity",
            features: &[0],
            at: Micros(20),
            known_at,
        };
        match self.core.read(read) {
            ReadAnswer::Head(evaluation, _) => Some(count(&evaluation)),
            ReadAnswer::Log(_) => None,
            other @ (ReadAnswer::Load | ReadAnswer::Unconfirmed(_) | ReadAnswer::Unknown) => {
                panic!("{other:?}")
            }
        }
    }
}

fn count(evaluation: &crate::Evaluation) -> i64 {
    let FeatureValue::Scalar(Value::Int64(count)) = evaluation.features[0].value else {
        panic!("{evaluation:?}")
    };
    count
}

#[test]
fn a_later_chunk_may_hold_what_was_known_before() {
    let mut slot = Slot::new();
    assert_eq!(slot.chunk(100, &[click("a", None)]), None);
    assert_eq!(
        slot.chunk(200, &[click("b", None), click("c", Some(50)), click("d", Some(150))]),
        Some(50)
    );
    let by_log = |slot: &Slot, at: [i64; 7]| at.map(|at| slot.by_log(at));
    let instants = [49, 50, 99, 100, 150, 199, 200];
    assert_eq!(by_log(&slot, instants), [0, 1, 1, 2, 3, 3, 4]);
    // The head knows everything, and says so only from its last chunk on.
    assert_eq!(instants.map(|at| slot.by_head(at)), [None, None, None, None, None, None, Some(4)]);
}

#[test]
fn the_least_known_at_of_the_copies_of_a_fact_counts() {
    let mut slot = Slot::new();
    slot.chunk(100, &[click("a", None), click("b", Some(30))]);
    slot.chunk(200, &[click("a", Some(50)), click("b", Some(40)), click("b", None)]);
    slot.chunk(300, &[click("a", Some(20)), click("a", Some(70))]);
    assert_eq!([19, 20, 29, 30, 300].map(|at| slot.by_log(at)), [0, 1, 1, 2, 2]);
}

#[test]
fn what_is_stated_ahead_of_the_chunk_counts_from_the_chunk() {
    let mut slot = Slot::new();
    assert_eq!(slot.chunk(100, &[click("a", Some(1_000))]), Some(1_000));
    assert_eq!([99, 100].map(|at| slot.by_log(at)), [0, 1]);
    assert_eq!(slot.by_head(100), Some(1));
}
