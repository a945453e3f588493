//! Features that come after facts left.

use millrace_catalog::Catalog;
use millrace_types::{
    Entity, EntityKey, Fact, FactBody, FeatureValue, KeyPart, KindId, KnownAt, Micros, Op, Row,
    SlotId, Status, StreamId, Value,
};

use super::*;
use crate::slot::{Draft, Due, Fold, Input, ReadAnswer, SlotRead};

const MINUTE: i64 = 60_000_000;

fn catalog(views: &str, version: Option<&Catalog>) -> Arc<Catalog> {
    let streams = "entities: {user: int64}\nstreams:\n  clicks:\n    kind: event\n    keys: {user: user_id}\n    at: ts\n    id: id\n    fields: {id: string, user_id: int64, ts: timestamp}\n";
    Arc::new(Catalog::compile(&format!("{streams}{views}"), version).unwrap())
}

fn activity(features: &str) -> String {
    format!(
        "views:\n  activity:\n    entity: user\n    events: clicks\n    features: {{{features}}}\n"
    )
}

fn user(key: i64) -> Entity {
    Entity { kind: KindId(0), key: EntityKey::try_new(&[KeyPart::Int64(key)]).unwrap() }
}

fn click(key: i64, number: i64, at: i64) -> Fact {
    let id = format!("{number}");
    let values =
        [Value::String(id.as_str().into()), Value::Int64(key), Value::Timestamp(Micros(at))];
    let body = FactBody {
        id: id.as_bytes().into(),
        revision: 0,
        at: Micros(at),
        seq: 0,
        op: Op::Assert,
        row: Row::from_values(&values),
        known_at: None,
    };
    Fact { stream: StreamId(0), entity: user(key), body }
}

struct Slot {
    core: SlotCore,
    log: Vec<(Position, Vec<u8>)>,
    number: i64,
}

impl Slot {
    fn new(catalog: &Arc<Catalog>) -> Self {
        let mut core = SlotCore::new(SlotId(0), Arc::new(Plan::new(catalog.clone())));
        core.set_empty();
        core.open_epoch(1);
        Self { core, log: Vec::new(), number: 0 }
    }

    fn click(&mut self, key: i64, at: i64) {
        let draft = self.judge(key, at);
        self.confirm(draft);
    }

    fn judge(&mut self, key: i64, at: i64) -> Draft {
        self.number += 1;
        let mut bytes = Vec::new();
        click(key, self.number, at).encode(&mut bytes);
        let input = Input {
            incarnation: 1,
            facts: &bytes,
            watermarks: &[],
            departs: false,
            replays_late: false,
        };
        let known_at = KnownAt(1_000 + self.number);
        self.core.judge(&[input], known_at).unwrap().unwrap()
    }

    fn confirm(&mut self, draft: Draft) {
        self.core.confirm(draft.position, draft.known_at);
        self.log.push((draft.position, draft.bytes));
    }

    fn read(&mut self, key: i64, feature: usize, at: i64) -> (FeatureValue, Status) {
        let read = SlotRead {
            entity: &user(key),
            view: "activity",
            features: &[feature],
            at: Micros(at),
            known_at: KnownAt::MAX,
        };
        match self.core.read(read) {
            ReadAnswer::Head(evaluation, stamp) => {
                assert!(!stamp.rebuilding, "nothing is rebuilt for a new feature");
                let outcome = &evaluation.features[0];
                (outcome.value.clone(), outcome.status)
            }
            other @ (ReadAnswer::Log(_)
            | ReadAnswer::Load
            | ReadAnswer::Unconfirmed(_)
            | ReadAnswer::TooEarly(_)
            | ReadAnswer::Unknown) => panic!("{other:?}"),
        }
    }

    /// Lets everything leave that lies before this instant.
    fn leave(&mut self, before: i64) {
        self.core.horizon = Micros(before);
        self.core.let_leave();
    }

    fn apply(&mut self, catalog: &Arc<Catalog>) {
        self.core.set_plan(Arc::new(Plan::new(catalog.clone())));
    }

    fn fold(&self, lacking: &[(u64, Entity, Micros)]) -> Vec<(Entity, EntityState)> {
        let entities = lacking.iter().map(|(_, entity, _)| entity.clone());
        let mut fold = Fold::new(self.core.plan().clone(), entities, KnownAt::MAX);
        for (position, bytes) in &self.log {
            fold.chunk(*position, &Chunk::decode(bytes.as_slice()).unwrap()).unwrap();
        }
        for (hash, entity, horizon) in lacking {
            fold.let_leave(*hash, entity, *horizon);
        }
        fold.finish()
    }

    fn listed(&self, from: u64, max: usize) -> (VecDeque<(u64, Entity)>, Option<u64>) {
        let mut listing = Listing::new(self.core.plan().clone(), from, max);
        for (position, bytes) in &self.log {
            listing.chunk(*position, &Chunk::decode(bytes.as_slice()).unwrap()).unwrap();
        }
        listing.finish()
    }

    fn save(&mut self) {
        for put in self.core.heads_to_put(usize::MAX, KnownAt(1 << 40), Due::ALL) {
            self.core.head_saved(&put.entity);
        }
    }

    /// Fills everything in.
    fn backfill(&mut self) {
        assert!(self.core.needs_backfill());
        let (entities, end) = self.listed(0, usize::MAX);
        assert_eq!(end, None);
        let looked = self.core.start_fill(entities.into());
        assert!(looked.later.is_empty());
        for (entity, state) in self.fold(&looked.lacking) {
            assert!(self.core.fill(&entity, state));
        }
        self.save();
        self.core.filled_below(None);
        assert!(!self.core.needs_backfill());
    }
}

fn present(count: i64) -> (FeatureValue, Status) {
    (FeatureValue::Scalar(Value::Int64(count)), Status::Present)
}

const BACKFILLING: (FeatureValue, Status) = (FeatureValue::NULL, Status::Backfilling);

/// A slot whose clicks at minutes 1 and 2 left.
fn evicted(views: &str) -> (Slot, Arc<Catalog>) {
    let first = catalog(views, None);
    let mut slot = Slot::new(&first);
    slot.click(1, MINUTE);
    slot.click(1, 2 * MINUTE);
    slot.leave(2 * MINUTE + 1);
    assert!(slot.core.filled() == Filled::whole(1));
    (slot, first)
}

#[test]
fn a_new_feature_is_backfilled_while_the_others_follow_what_comes() {
    let (mut slot, first) = evicted(&activity("all: {count: {}}"));
    slot.apply(&catalog(
        &activity("all: {count: {}}, lately: {count: {}, window: 1h}"),
        Some(&first),
    ));
    assert_eq!(slot.read(1, 0, 9 * MINUTE), present(2));
    assert_eq!(slot.read(1, 1, 9 * MINUTE), BACKFILLING);
    slot.click(1, 3 * MINUTE);
    assert_eq!(slot.read(1, 0, 9 * MINUTE), present(3));
    assert_eq!(slot.read(1, 1, 9 * MINUTE), BACKFILLING, "never half of it");
    slot.backfill();
    assert_eq!(slot.read(1, 1, 9 * MINUTE), present(3));
    // What leaves from now on is folded for it.
    slot.leave(4 * MINUTE);
    assert_eq!(slot.read(1, 1, 9 * MINUTE), present(3));
}

#[test]
fn a_wider_window_over_the_same_tiles_is_backfilled() {
    let (mut slot, first) = evicted(&activity("lately: {count: {}, window: 61s, hop: 1s}"));
    slot.click(1, 10 * MINUTE);
    slot.leave(11 * MINUTE);
    let wider = "lately: {count: {}, window: 61s, hop: 1s}, long: {count: {}, window: 1h, hop: 1s}";
    slot.apply(&catalog(&activity(wider), Some(&first)));
    assert_eq!(slot.read(1, 0, 11 * MINUTE), present(1));
    assert_eq!(slot.read(1, 1, 11 * MINUTE), BACKFILLING, "tiles were let go that it reaches");
    slot.backfill();
    assert_eq!(slot.read(1, 1, 11 * MINUTE), present(3));
}

#[test]
fn the_first_view_of_an_entity_is_backfilled() {
    let (mut slot, first) = evicted("");
    slot.apply(&catalog(&activity("all: {count: {}}"), Some(&first)));
    assert_eq!(slot.read(1, 0, 9 * MINUTE), BACKFILLING);
    slot.click(1, 3 * MINUTE);
    slot.leave(4 * MINUTE);
    assert_eq!(slot.read(1, 0, 9 * MINUTE), BACKFILLING, "what left before is not forgotten");
    slot.backfill();
    assert_eq!(slot.read(1, 0, 9 * MINUTE), present(3));
}

#[test]
fn what_leaves_after_a_feature_came_is_folded_for_it() {
    let first = catalog(&activity("all: {count: {}}"), None);
    let mut slot = Slot::new(&first);
    slot.click(1, MINUTE);
    slot.apply(&catalog(
        &activity("all: {count: {}}, lately: {count: {}, window: 1h}"),
        Some(&first),
    ));
    assert!(!slot.core.needs_backfill(), "all is at hand");
    slot.leave(4 * MINUTE);
    assert_eq!(slot.read(1, 1, 9 * MINUTE), present(1));
}

#[test]
fn what_was_in_flight_when_a_feature_came_is_folded_for_it() {
    let (mut slot, first) = evicted(&activity("all: {count: {}}"));
    // The scan for entities does not see the chunk.
    let draft = slot.judge(2, 3 * MINUTE);
    let added = "all: {count: {}}, lately: {count: {}, window: 1h}";
    slot.apply(&catalog(&activity(added), Some(&first)));
    slot.backfill();
    slot.confirm(draft);
    slot.leave(4 * MINUTE);
    assert_eq!(slot.read(2, 1, 9 * MINUTE), present(1));
}

#[test]
fn a_mark_says_only_what_heads_know() {
    let (mut slot, first) = evicted(&activity("all: {count: {}}"));
    slot.click(2, 2 * MINUTE + 1);
    slot.save();
    slot.leave(3 * MINUTE);
    slot.apply(&catalog(
        &activity("all: {count: {}}, lately: {count: {}, window: 1h}"),
        Some(&first),
    ));
    assert!(slot.core.needs_backfill());
    // One entity at a time: the list says where it ends.
    let (entities, end) = slot.listed(0, 1);
    assert_eq!(entities.len(), 1);
    let looked = slot.core.start_fill(entities.into());
    let folded = slot.fold(&looked.lacking);
    // A put that was under way before knows nothing of it.
    slot.click(1, 3 * MINUTE);
    slot.click(2, 3 * MINUTE);
    let puts = slot.core.heads_to_put(usize::MAX, KnownAt(1 << 40), Due::ALL);
    assert_eq!(puts.len(), 2);
    for (entity, state) in folded {
        assert!(slot.core.fill(&entity, state));
    }
    puts.iter().for_each(|put| slot.core.head_saved(&put.entity));
    assert_eq!(slot.core.fills_unsaved(), 1);
    assert_eq!(slot.core.mark().unwrap().filled, Filled { version: 1, toward: 2, below: 0 });
    slot.save();
    assert_eq!(slot.core.fills_unsaved(), 0);
    slot.core.filled_below(end);
    let filled = slot.core.mark().unwrap().filled;
    assert_eq!((filled.version, filled.toward), (1, 2));
    assert_eq!(Some(filled.below), end);
    let (entities, end) = slot.listed(filled.below, 1);
    assert_eq!((entities.len(), end), (1, None));
}

#[test]
fn what_a_plan_does_not_add_needs_no_backfill() {
    let (mut slot, first) = evicted(&activity("all: {count: {}}, lately: {count: {}, window: 1h}"));
    slot.apply(&catalog(&activity("everything: {count: {}}"), Some(&first)));
    assert!(!slot.core.needs_backfill());
    assert_eq!(slot.core.filled(), Filled::whole(2));
}

#[test]
fn a_head_that_lacks_what_memory_does_not_is_put_before_the_mark_says_so() {
    let (mut slot, first) = evicted(&activity("lately: {count: {}, window: 61s, hop: 1s}"));
    slot.leave(5 * MINUTE);
    slot.save();
    let wider = "lately: {count: {}, window: 61s, hop: 1s}, long: {count: {}, window: 2m, hop: 1s}";
    slot.apply(&catalog(&activity(wider), Some(&first)));
    assert_eq!(slot.read(1, 1, 5 * MINUTE), BACKFILLING);
    // From here on no window reaches what was let go; the stored head is as of before.
    slot.leave(20 * MINUTE);
    assert_eq!(slot.read(1, 1, 20 * MINUTE), present(0));
    assert!(slot.core.needs_backfill());
    let looked = slot.core.start_fill(slot.listed(0, usize::MAX).0.into());
    assert!(looked.lacking.is_empty() && looked.later.is_empty());
    assert_eq!(slot.core.fills_unsaved(), 1);
    slot.save();
    assert_eq!(slot.core.fills_unsaved(), 0);
}
