//! Windows of an entity with thousands of facts, against a fold of a plain list of them, while facts
//! and versions come, change and go between reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_catalog::Catalog;
use millrace_types::{FactBody, FeatureValue, KindId, KnownAt, Micros, Op, Position, Row, Value};
use proptest::prelude::*;

use super::*;
use crate::entity::Outcome;
use crate::plan::Plan;

const CATALOG: &str = "
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: at
    id: id
    revision: revision
    fields: {user_id: int64, id: string, at: timestamp(us), revision: int64, amount: int64, note: string}
  tiers:
    kind: changelog
    keys: {user: user_id}
    at: at
    fields: {user_id: int64, at: timestamp(us), tier: int64}
views:
  activity:
    entity: user
    events: clicks
    join: [tiers]
    features:
      all: {count: {}}
      short: {sum: amount, window: 50s, exact: true}
      long: {sum: amount, window: 500s, exact: true}
      gold: {count: {}, window: 500s, exact: true, where: 'tiers.tier > 1'}
      newest: {last: amount}
      oldest: {first: amount, window: 500s, exact: true}
      recent: {last_n: amount, n: 40}
";

pub(crate) const CLICKS: usize = 0;
pub(crate) const TIERS: usize = 1;
pub(crate) const END_S: i64 = 1_000;

/// What the state must hold, in the plainest form: live events by id, versions by instant.
#[derive(Default)]
struct Model {
    events: BTreeMap<u32, (i64, i64, u64)>,
    tiers: BTreeMap<i64, i64>,
}

impl Model {
    fn tier(&self, at: i64) -> Option<i64> {
        self.tiers.range(..=at).next_back().map(|(_, tier)| *tier)
    }

    fn read(&self, t: i64) -> Vec<FeatureValue> {
        let mut rows: Vec<(i64, u32, i64)> =
            self.events.iter().map(|(id, (at, amount, _))| (*at, *id, *amount)).collect();
        rows.retain(|row| row.0 < t);
        rows.sort_unstable();
        let within = |width_s: i64| rows.iter().filter(move |r| r.0 >= t - width_s * 1_000_000);
        let sum = |width_s| match within(width_s).count() {
            0 => Value::Null,
            _ => Value::Int64(within(width_s).map(|r| r.2).sum()),
        };
        let gold = within(500).filter(|r| self.tier(r.0).is_some_and(|tier| tier > 1)).count();
        let amount = |row: Option<&(i64, u32, i64)>| row.map_or(Value::Null, |r| Value::Int64(r.2));
        let recent = rows.iter().rev().take(40).map(|r| Value::Int64(r.2)).collect();
        let scalars = [
            Value::Int64(rows.len() as i64),
            sum(50),
            sum(500),
            Value::Int64(gold as i64),
            amount(rows.last()),
            amount(within(500).next()),
        ];
        let scalars = scalars.into_iter().map(FeatureValue::Scalar);
        scalars.chain([FeatureValue::List(recent)]).collect()
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Events in order from an instant on.
    Append {
        from: i64,
        count: u32,
    },
    /// Events at scattered instants.
    Scatter {
        ats: Vec<i64>,
    },
    /// Events get another instant and amount.
    Correct {
        nth: Vec<usize>,
        at: i64,
    },
    Retract {
        nth: Vec<usize>,
    },
    Tier {
        at: i64,
        tier: i64,
    },
    Evict {
        before: i64,
    },
    Read {
        at: i64,
    },
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let at = || 0..END_S * 1_000_000;
    prop_oneof![
        3 => (at(), 1..1_500u32).prop_map(|(from, count)| Step::Append { from, count }),
        2 => prop::collection::vec(at(), 1..200).prop_map(|ats| Step::Scatter { ats }),
        1 => (prop::collection::vec(any::<usize>(), 1..5), at())
            .prop_map(|(nth, at)| Step::Correct { nth, at }),
        1 => prop::collection::vec(any::<usize>(), 1..20).prop_map(|nth| Step::Retract { nth }),
        1 => (at(), 0..4i64).prop_map(|(at, tier)| Step::Tier { at, tier }),
        6 => at().prop_map(|at| Step::Read { at }),
        1 => Just(Step::Read { at: END_S * 1_000_000 }),
        1 => (0..END_S / 10).prop_map(|s| Step::Evict { before: s * 1_000_000 }),
    ]
}

pub(crate) struct Harness {
    pub(crate) state: EntityState,
    model: Model,
    next_id: u32,
    /// Spaces in each event's note: large ones make many pages, small ones many runs a page.
    note: usize,
    pub(crate) features: Vec<usize>,
}

impl Harness {
    pub(crate) fn new(note: usize) -> Self {
        let catalog = Catalog::compile(CATALOG, None).unwrap();
        let plan = Plan::new(Arc::new(catalog));
        let state = EntityState::new(plan.kind(KindId(0)).unwrap().clone());
        Self { state, model: Model::default(), next_id: 0, note, features: (0..7).collect() }
    }

    fn apply(&mut self, stream: usize, body: &FactBody) {
        let mut buffer = Vec::new();
        let outcome = self.state.apply(stream, &body.view(&mut buffer), u64::MAX);
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        self.state.set_applied(Position { epoch: 1, sequence: 1 }, KnownAt(1));
    }

    pub(crate) fn event(&mut self, id: u32, at: i64, amount: i64, revision: u64, op: Op) {
        let id = id.to_be_bytes();
        let values = [
            Value::Int64(1),
            Value::String("x".into()),
            Value::Timestamp(Micros(at)),
            Value::Int64(revision as i64),
            Value::Int64(amount),
            Value::String(" ".repeat(self.note).into()),
        ];
        let row = Row::from_values(if op == Op::Retract { &[] } else { &values });
        let body = FactBody {
            id: id.as_slice().into(),
            revision,
            at: Micros(at),
            seq: 0,
            op,
            row,
            known_at: None,
        };
        self.apply(CLICKS, &body);
    }

    pub(crate) fn add(&mut self, at: i64) {
        if Micros(at) < self.state.horizon() {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        let amount = i64::from(id) * 7 - 50;
        self.event(id, at, amount, 0, Op::Assert);
        self.model.events.insert(id, (at, amount, 0));
    }

    /// A live event at hand.
    fn nth(&self, nth: usize) -> Option<(u32, i64, i64, u64)> {
        let horizon = self.state.horizon().0;
        let at_hand: Vec<_> = self.model.events.iter().filter(|(_, e)| e.0 >= horizon).collect();
        let (id, (at, amount, revision)) = at_hand.get(nth % at_hand.len().max(1))?;
        Some((**id, *at, *amount, *revision))
    }

    pub(crate) fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Append { from, count } => {
                (0..i64::from(*count)).for_each(|n| self.add(from + n * 1_000));
            }
            Step::Scatter { ats } => ats.iter().for_each(|at| self.add(*at)),
            Step::Correct { nth, at } => {
                for nth in nth {
                    let Some((id, _, amount, revision)) = self.nth(*nth) else { continue };
                    let at = (*at).max(self.state.horizon().0);
                    self.event(id, at, amount + 1, revision + 1, Op::Assert);
                    self.model.events.insert(id, (at, amount + 1, revision + 1));
                }
            }
            Step::Retract { nth } => {
                for nth in nth {
                    let Some((id, at, amount, revision)) = self.nth(*nth) else { continue };
                    self.event(id, at, amount, revision + 1, Op::Retract);
                    self.model.events.remove(&id);
                }
            }
            Step::Tier { at, tier } => self.tier(*at, *tier),
            Step::Evict { before } => self.state.evict(Micros(*before)),
            Step::Read { at } => self.read(*at)?,
        }
        Ok(())
    }

    pub(crate) fn tier(&mut self, at: i64, tier: i64) {
        if Micros(at) < self.state.horizon() || self.model.tiers.contains_key(&at) {
            return;
        }
        let values = [Value::Int64(1), Value::Timestamp(Micros(at)), Value::Int64(tier)];
        let body = FactBody {
            id: at.to_be_bytes().as_slice().into(),
            revision: 0,
            at: Micros(at),
            seq: 0,
            op: Op::Assert,
            row: Row::from_values(&values),
            known_at: None,
        };
        self.apply(TIERS, &body);
        self.model.tiers.insert(at, tier);
    }

    pub(crate) fn read(&mut self, at: i64) -> Result<(), TestCaseError> {
        let counted = self.state.heap_bytes();
        let features = self.features.clone();
        // Exact windows are not sealed: those that reach before the horizon are the log's to answer.
        let Some(answer) = self.state.evaluate(0, &features, Micros(at)) else {
            prop_assert!(
                self.state.horizon() > Micros(at - 500_000_000),
                "covered, but not answered"
            );
            return Ok(());
        };
        let found: Vec<FeatureValue> = answer.features.into_iter().map(|f| f.value).collect();
        let wanted = self.model.read(at);
        prop_assert_eq!(found, wanted, "read at {}", at);
        prop_assert!(self.state.heap_bytes() >= counted, "partials are counted as memory");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn windows_over_many_facts_equal_a_plain_fold(
        note in prop_oneof![Just(0usize), Just(40), Just(900)],
        steps in prop::collection::vec(step(), 1..24),
    ) {
        let mut harness = Harness::new(note);
        for step in &steps {
            harness.step(step)?;
        }
        for at in [0, END_S * 250_000, END_S * 500_000 + 1, END_S * 1_000_000, END_S * 3_000_000] {
            harness.read(at)?;
            // Once more, from what the first read left.
            harness.read(at)?;
        }
        // Counting byte by byte what is kept does not drift from counting anew.
        let counted = harness.state.heap_bytes();
        harness.state.streams.iter_mut().for_each(StreamFacts::count_pages);
        prop_assert_eq!(counted, harness.state.heap_bytes());
        harness.state.forget_folds();
        prop_assert!(harness.state.heap_bytes() <= counted);
    }
}

#[test]
fn a_version_that_comes_late_changes_what_was_kept() {
    let mut harness = Harness::new(900);
    // Enough for groups of pages.
    (0..4_000).for_each(|n| harness.add(n * 200_000));
    let read = |harness: &mut Harness| {
        let answer = harness.state.evaluate(0, &[3], Micros(800_000_000)).unwrap();
        answer.features[0].value.clone()
    };
    assert_eq!(read(&mut harness), FeatureValue::Scalar(Value::Int64(0)));
    harness.tier(400_000_000, 3);
    harness.tier(600_000_000, 0);
    assert_eq!(read(&mut harness), FeatureValue::Scalar(Value::Int64(1_000)));
}

/// What goes may bring back the version before it, so that one stays too.
#[test]
fn the_version_before_the_horizon_is_at_hand_when_the_one_at_it_goes() {
    let mut harness = Harness::new(0);
    let at = 200_000_000_i64;
    harness.tier(at / 2, 3);
    harness.tier(at, 0);
    harness.add(at);
    harness.state.evict(Micros(at));
    let body = FactBody {
        id: at.to_be_bytes().as_slice().into(),
        revision: 1,
        at: Micros(at),
        seq: 0,
        op: Op::Retract,
        row: Row::default(),
        known_at: None,
    };
    let mut buffer = Vec::new();
    let outcome = harness.state.apply(TIERS, &body.view(&mut buffer), u64::MAX);
    assert!(matches!(outcome, Outcome::Applied { rows: 1, .. }), "{outcome:?}");
}

/// The first page keeps one fact, of an event that was corrected to a later instant; the second keeps
/// the rest: too few to fold as blocks, and not all in one page.
#[test]
fn few_facts_that_stay_in_several_pages_all_count() {
    let mut harness = Harness::new(0);
    for step in [
        Step::Append { from: 0, count: 1 },
        Step::Correct { nth: vec![0], at: 62_000_000 },
        Step::Append { from: 0, count: 1_023 },
        Step::Evict { before: 1_000_000 },
        Step::Read { at: END_S * 1_000_000 },
    ] {
        harness.step(&step).unwrap();
    }
}
