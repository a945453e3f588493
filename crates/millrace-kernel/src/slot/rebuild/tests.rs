//! Folds of a log with imports, fact by fact.

use millrace_catalog::Catalog;
use millrace_types::{
    ChunkHeader, Entity, EntityKey, Fact, FactBody, FeatureValue, KeyPart, KindId, Micros, Op, Row,
    SlotId, StreamId, Value,
};

use super::*;
use crate::slot::{Draft, Input, ReadAnswer, SlotRead, Suspected};

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

pub(in crate::slot) fn user() -> Entity {
    Entity { kind: KindId(0), key: EntityKey::try_new(&[KeyPart::Int64(42)]).unwrap() }
}

/// A click at 10, and what an import states of it.
pub(in crate::slot) fn click(id: &str, stated: Option<i64>) -> Fact {
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

pub(in crate::slot) struct Slot {
    pub(in crate::slot) core: SlotCore,
    log: Vec<(Position, Vec<u8>)>,
}

impl Slot {
    pub(in crate::slot) fn new() -> Self {
        let catalog = Arc::new(Catalog::compile(CATALOG, None).unwrap());
        let mut core = SlotCore::new(SlotId(0), Arc::new(Plan::new(catalog)));
        core.set_empty();
        core.open_epoch(1);
        Self { core, log: Vec::new() }
    }

    /// A chunk of these facts that is not confirmed yet.
    pub(in crate::slot) fn draft(&mut self, known_at: i64, facts: &[Fact]) -> Draft {
        let mut bytes = Vec::new();
        facts.iter().for_each(|fact| fact.encode(&mut bytes));
        let input = Input {
            incarnation: 1,
            facts: &bytes,
            watermarks: &[],
            departs: false,
            replays_late: false,
        };
        self.core.judge(&[input], KnownAt(known_at)).unwrap().unwrap()
    }

    /// Appends a chunk of these facts; gives what its header says to be the least stated.
    fn chunk(&mut self, known_at: i64, facts: &[Fact]) -> Option<i64> {
        let draft = self.draft(known_at, facts);
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
            other @ (ReadAnswer::Load
            | ReadAnswer::Unconfirmed(_)
            | ReadAnswer::TooEarly(_)
            | ReadAnswer::Unknown) => panic!("{other:?}"),
        }
    }
}

pub(in crate::slot) fn count(evaluation: &crate::Evaluation) -> i64 {
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

impl Slot {
    /// Judges these facts, and suspects; gives the header and the verdicts.
    fn judge(&mut self, known_at: i64, facts: &[Fact]) -> (ChunkHeader, Vec<Verdict>) {
        let mut bytes = Vec::new();
        facts.iter().for_each(|fact| fact.encode(&mut bytes));
        let input = Input {
            incarnation: 1,
            facts: &bytes,
            watermarks: &[],
            departs: false,
            replays_late: false,
        };
        let inputs = if facts.is_empty() { Vec::new() } else { vec![input] };
        let draft = self.core.judge(&inputs, KnownAt(known_at)).unwrap().unwrap();
        self.core.confirm(draft.position, draft.known_at);
        let header = Chunk::decode(draft.bytes.as_slice()).unwrap().header;
        self.log.push((draft.position, draft.bytes));
        let verdicts = draft.judged.into_iter().flatten().map(|judged| judged.verdict);
        (header, verdicts.collect())
    }

    fn stamp(&mut self) -> (i64, crate::slot::Stamp) {
        let entity = user();
        let read = SlotRead {
            entity: &entity,
            view: "activity",
            features: &[0],
            at: Micros(20),
            known_at: KnownAt::MAX,
        };
        match self.core.read(read) {
            ReadAnswer::Head(evaluation, stamp) => (count(&evaluation), stamp),
            other @ (ReadAnswer::Load
            | ReadAnswer::Unconfirmed(_)
            | ReadAnswer::Log(_)
            | ReadAnswer::TooEarly(_)
            | ReadAnswer::Unknown) => panic!("{other:?}"),
        }
    }

    /// Rebuilds what is dirty.
    fn rebuild(&mut self, known_at: i64) {
        let (entities, up_to) = self.core.start_rebuild(10).unwrap();
        let mut fold = Fold::new(self.core.plan().clone(), entities, KnownAt::MAX);
        for (position, bytes) in self.log.iter().filter(|(position, _)| *position <= up_to) {
            fold.chunk(*position, &Chunk::decode(bytes.as_slice()).unwrap()).unwrap();
        }
        let (ver, known_at) = (KnownAt(known_at), KnownAt(known_at + 1));
        let marker = (self.core.marker_position(), known_at);
        let puts: Vec<_> = fold
            .finish()
            .into_iter()
            .map(|(entity, state)| self.core.prepare_rebuilt(entity, state, ver, marker))
            .collect();
        let rebuilt = puts
            .iter()
            .map(|put| millrace_types::Rebuilt { entity: put.entity.clone(), part: put.ver })
            .collect();
        let draft = self.core.draft_marker(rebuilt, known_at);
        self.core.confirm(draft.position, draft.known_at);
        self.core.install_rebuilt(puts);
        self.log.push((draft.position, draft.bytes));
    }
}

#[test]
fn a_suspect_is_dirty_from_the_next_chunk_on_until_it_is_rebuilt() {
    let mut slot = Slot::new();
    slot.judge(100, &[click("a", None), click("b", None)]);
    // The head loses a fact, as no step of the protocol lets it.
    let mut wrong = crate::EntityState::new(slot.core.plan().kind(KindId(0)).unwrap().clone());
    wrong.set_applied(slot.log[0].0, KnownAt(100));
    slot.core.install(user(), wrong, None);
    assert_eq!((slot.by_head(100), slot.by_log(100)), (Some(0), 2));
    assert_eq!(slot.core.suspect(user()), Suspected::Noted);
    assert_eq!(slot.core.suspect(user()), Suspected::Noted, "it is noted once");
    assert!(!slot.stamp().1.rebuilding, "not before a chunk says so");
    let (header, _) = slot.judge(200, &[]);
    assert_eq!((header.dirtied, header.facts), (vec![user()], 0));
    assert!(!slot.core.has_suspects());
    assert_eq!(slot.core.suspect(user()), Suspected::Dirty);
    // Its value is as it was, of the chunk before, and says so.
    let (count, stamp) = slot.stamp();
    assert_eq!((count, stamp.rebuilding, stamp.position), (0, true, slot.log[0].0));
    assert_eq!(slot.judge(300, &[click("c", None)]).1, [Verdict::Queued]);
    slot.rebuild(400);
    let (count, stamp) = slot.stamp();
    assert_eq!((count, stamp.rebuilding, stamp.position), (3, false, slot.log[3].0));
    // Nothing is left to be written.
    assert!(slot.core.judge(&[], KnownAt(500)).unwrap().is_none());
}

#[test]
fn facts_beside_a_suspect_wait_and_whoever_follows_the_log_sees_the_same() {
    let mut slot = Slot::new();
    slot.judge(100, &[click("a", None)]);
    assert_eq!(slot.core.suspect(user()), Suspected::Noted);
    let (header, verdicts) = slot.judge(200, &[click("b", None)]);
    assert_eq!((header.dirtied, verdicts), (vec![user()], vec![Verdict::Queued]));
    let follow = |log: &[(Position, Vec<u8>)]| {
        let mut next = Slot::new();
        for (position, bytes) in log {
            let chunk = Chunk::decode(bytes.as_slice()).unwrap();
            // Only the marker's head would have to be loaded.
            next.core.replay(*position, &chunk, Vec::new()).unwrap();
        }
        next
    };
    let mut next = follow(&slot.log);
    assert_eq!(next.core.dirty_len(), 1);
    assert_eq!(next.stamp(), slot.stamp());
    next.log = slot.log;
    next.rebuild(300);
    assert_eq!((next.stamp().0, next.core.dirty_len()), (2, 0));
}

/// A head that has nothing of an entity is as wrong as one that has too little.
#[test]
fn an_entity_that_nobody_knows_may_be_under_suspicion() {
    let mut slot = Slot::new();
    assert_eq!(slot.core.suspect(user()), Suspected::Noted);
    assert_eq!(slot.judge(100, &[]).0.dirtied, vec![user()]);
    assert!(slot.stamp().1.rebuilding);
    slot.rebuild(200);
    assert_eq!((slot.stamp().0, slot.core.dirty_len()), (0, 0));
    let other = Entity { kind: KindId(9), ..user() };
    assert_eq!(slot.core.suspect(other), Suspected::Unknown);
}

#[test]
fn suspicions_that_wait_are_bounded() {
    let mut slot = Slot::new();
    let of = |n| Entity { kind: KindId(0), key: EntityKey::try_new(&[KeyPart::Int64(n)]).unwrap() };
    let noted = (0..1_000).take_while(|n| slot.core.suspect(of(*n)) == Suspected::Noted).count();
    assert_eq!(noted, 128);
    assert_eq!(slot.core.suspect(of(1_000)), Suspected::Full);
    assert_eq!(slot.judge(100, &[]).0.dirtied.len(), 128);
    assert_eq!(slot.core.suspect(of(1_000)), Suspected::Noted);
}
