//! What is decoded and what is passed over: a set that reads little equals one that reads everything.

use std::sync::Arc;

use millrace_catalog::Catalog;
use millrace_types::chunk::{encode_chunk, fingerprint};
use millrace_types::entity::entity_hash;
use millrace_types::{
    Chunk, ChunkHeader, Entity, EntityKey, Fact, FactBody, FeatureValue, KeyPart, KindId, KnownAt,
    Micros, Op, Row, Status, StreamId, Value, ValueRef,
};
use proptest::prelude::*;

use super::*;
use crate::plan::Plan;

mod known;

/// The catalog; a later version has two more fields of clicks, and a feature that reads one.
fn plan(later: bool) -> Arc<Plan> {
    let (fields, feature) = match later {
        true => (
            ", shop: string, paid: bool",
            "      paid: {count: {}, window: 100s, exact: true, where: 'clicks.paid'}\n",
        ),
        false => ("", ""),
    };
    let text = format!(
        "
entities: {{user: int64}}
streams:
  clicks:
    kind: event
    keys: {{user: user_id}}
    at: at
    id: id
    revision: revision
    fields: {{user_id: int64, id: string, at: timestamp(us), revision: int64, flag: bool, amount: int64,
             price: double, note: string, raw: bytes, seen: timestamp(us){fields}}}
  tiers:
    kind: changelog
    keys: {{user: user_id}}
    at: at
    op: {{field: op, end: [gone]}}
    fields: {{user_id: int64, at: timestamp(us), op: string, tier: int64, name: string}}
views:
  activity:
    entity: user
    events: clicks
    join: [tiers]
    features:
      all: {{count: {{}}}}
      flags: {{count: flag, window: 100s, exact: true}}
      amount: {{sum: amount, window: 100s, exact: true}}
      amount_mean: {{mean: amount}}
      price: {{sum: price, window: 100s, exact: true}}
      spread: {{stddev: price}}
      dearest: {{max: price, window: 300s, exact: true}}
      note: {{last: note}}
      raw: {{first: raw, window: 100s, exact: true}}
      seen: {{min: seen}}
      notes: {{last_n: note, n: 3}}
      kinds: {{count_distinct: note}}
      gold: {{sum: amount, window: 300s, exact: true, where: \"tiers.tier > 1 && clicks.note != 'b'\"}}
      tier_sum: {{sum: tiers.tier}}
      tier: {{latest: tiers.tier}}
      name: {{latest: tiers.name}}
{feature}"
    );
    let catalog = Catalog::compile(&text, None).unwrap();
    Arc::new(Plan::new(Arc::new(catalog)))
}

const CLICKS: StreamId = StreamId(0);
const TIERS: StreamId = StreamId(1);

fn key(user: i64) -> EntityKey {
    EntityKey::try_new(&[KeyPart::Int64(user)]).unwrap()
}

fn fact(
    stream: StreamId,
    user: i64,
    (id, revision, at): (u8, u64, i64),
    op: Op,
    row: Vec<Value>,
) -> Fact {
    let body = FactBody {
        id: [id].into(),
        revision,
        at: Micros(at * 1_000_000),
        seq: 0,
        op,
        row: Row::from_values(&row),
        known_at: None,
    };
    Fact { stream, entity: Entity { kind: KindId(0), key: key(user) }, body }
}

fn any_click() -> impl Strategy<Value = Fact> {
    let op = prop_oneof![9 => Just(Op::Assert), 1 => Just(Op::Retract)];
    let text = |values: &'static [&'static str]| {
        let values = prop::sample::select(values);
        prop::option::of(values.prop_map(|text| Value::String(text.into())))
    };
    let null = |value: Option<Value>| value.unwrap_or(Value::Null);
    let values = (
        prop::option::of(any::<bool>().prop_map(Value::Bool)),
        prop::option::of((-9..9i64).prop_map(Value::Int64)),
        prop::option::of((-9..9i32).prop_map(|v| Value::Double(f64::from(v) / 4.0 + 0.0))),
        text(&["a", "b", "", "größer"]),
        prop::option::of(any::<[u8; 2]>().prop_map(|raw| Value::Bytes(raw.into()))),
        prop::option::of((0..9i64).prop_map(|at| Value::Timestamp(Micros(at)))),
        text(&["shop"]),
        prop::option::of(any::<bool>().prop_map(Value::Bool)),
    );
    // Rows written before fields were added end with the fields there were.
    let place = (0..4i64, 0..40u8, 0..2u64, 0..400i64, 4..=12usize);
    (place, op, values).prop_map(move |((user, id, revision, at, fields), op, values)| {
        let (flag, amount, price, note, raw, seen, shop, paid) = values;
        let own = [flag, amount, price, note, raw, seen, shop, paid].map(null);
        let named = [Value::Int64(user), Value::Null, Value::Null, Value::Null];
        let row = named.into_iter().chain(own).take(fields).collect();
        fact(CLICKS, user, (id, revision, at), op, row)
    })
}

fn any_tier() -> impl Strategy<Value = Fact> {
    let op = prop_oneof![4 => Just(Op::Assert), 1 => Just(Op::End)];
    (0..4i64, 0..40u8, 0..400i64, op, 0..4i64).prop_map(|(user, id, at, op, tier)| {
        let tier_value = if tier == 0 { Value::Null } else { Value::Int64(tier) };
        let name = Value::String(format!("tier {tier}").into());
        let row = vec![Value::Int64(user), Value::Null, Value::Null, tier_value, name];
        fact(TIERS, user, (id, 0, at), op, row)
    })
}

fn any_log() -> impl Strategy<Value = Vec<Vec<Fact>>> {
    let fact = prop_oneof![3 => any_click(), 1 => any_tier()];
    prop::collection::vec(prop::collection::vec(fact, 0..30), 0..8)
}

/// The chunks of these facts, each known a second after the one before.
fn encoded(log: &[Vec<Fact>]) -> Vec<Vec<u8>> {
    let chunk = |(number, facts): (usize, &Vec<Fact>)| {
        let mut bytes = Vec::new();
        facts.iter().for_each(|fact| fact.encode(&mut bytes));
        let hash = |fact: &Fact| fingerprint(entity_hash("user", fact.entity.key.as_bytes()));
        let mut filter: Vec<u32> = facts.iter().map(hash).collect();
        filter.sort_unstable();
        filter.dedup();
        let known_at = KnownAt((number as i64 + 1) * 1_000_000);
        let header =
            ChunkHeader { known_at, facts: facts.len() as u32, filter, ..Default::default() };
        encode_chunk(&header, [bytes.as_slice()])
    };
    log.iter().enumerate().map(chunk).collect()
}

/// The same chunks with other headers.
fn with_headers(chunks: &[Vec<u8>], change: impl Fn(&mut ChunkHeader)) -> Vec<Vec<u8>> {
    let changed = |bytes: &Vec<u8>| {
        let mut chunk = Chunk::decode(bytes).unwrap();
        change(&mut chunk.header);
        encode_chunk(&chunk.header, [chunk.fact_bytes()])
    };
    chunks.iter().map(changed).collect()
}

type Cells = Vec<(FeatureValue, Status)>;

struct Collect(Cells);

impl Sink for Collect {
    fn cell(&mut self, _: usize, cell: Cell<'_>, status: Status) {
        let own = |values: Vec<ValueRef<'_>>| values.into_iter().map(ValueRef::to_value).collect();
        let value = match cell {
            Cell::Scalar(value) => FeatureValue::Scalar(value.to_value()),
            Cell::List(values) => FeatureValue::List(own(values)),
            Cell::Counted(values) => FeatureValue::Counted(
                values.into_iter().map(|(value, rows)| (value.to_value(), rows)).collect(),
            ),
        };
        self.0.push((value, status));
    }
}

/// The cells of users at every 40 s for these features, and how many facts were looked at. All that the
/// views read is decoded unless only what the features read is.
fn swept(
    plan: &Plan,
    chunks: &[Vec<u8>],
    known: AsKnown,
    (features, narrowed): (&[usize], bool),
    users: &[i64],
) -> (Cells, u64) {
    let facts = SlotFacts::new(plan, KindId(0), &[CLICKS, TIERS], known, false).unwrap();
    let mut facts = match narrowed {
        true => facts.for_features(&[("activity", features)]).unwrap(),
        false => facts,
    };
    let named: Vec<u32> = users.iter().map(|user| facts.name(key(*user).as_bytes())).collect();
    chunks.iter().for_each(|chunk| facts.chunk(chunk.as_slice()).unwrap());
    let looked_at = facts.looked_at();
    let slot = facts.finish();
    let sweeper = Sweeper::new(&slot, "activity", features).unwrap();
    let instants: Vec<Micros> = (0..12).map(|step| Micros(step * 40_000_000)).collect();
    let mut cells = Collect(Vec::new());
    for number in named {
        sweeper.sweep(&slot.entity(number), &instants, &mut cells);
    }
    (cells.0, looked_at)
}

fn all(plan: &Plan) -> Vec<usize> {
    (0..plan.catalog.views[0].features.len()).collect()
}

const LATEST: AsKnown = AsKnown::At(KnownAt::MAX);

proptest! {
    /// Each feature alone, of which only what it reads was decoded, is what it is among all.
    #[test]
    fn a_feature_that_reads_little_equals_one_that_reads_everything(
        log in any_log(),
        later: bool,
        at_event: bool,
    ) {
        let (plan, chunks) = (plan(later), encoded(&log));
        let known = if at_event { AsKnown::AtEvent } else { LATEST };
        let features = all(&plan);
        let (whole, _) = swept(&plan, &chunks, known, (&features, false), &[0, 1, 2, 3]);
        for feature in &features {
            let of_feature = whole.iter().skip(*feature).step_by(features.len());
            let (alone, _) = swept(&plan, &chunks, known, (&[*feature], true), &[0, 1, 2, 3]);
            prop_assert!(of_feature.eq(&alone), "feature {feature}");
        }
    }

    /// Chunks that a header says hold nothing that is wanted hold nothing that is wanted.
    #[test]
    fn what_a_header_passes_over_is_not_missed(log in any_log(), user in 0..4i64, known in 0..9i64) {
        let (plan, chunks) = (plan(false), encoded(&log));
        let of_user = fingerprint(entity_hash("user", key(user).as_bytes()));
        // These may hold everything, as far as their headers tell.
        let open = with_headers(&chunks, |header| {
            header.filter.push(of_user);
            header.filter.sort_unstable();
            header.filter.dedup();
            header.least_stated = Some(KnownAt(i64::MIN));
        });
        let (features, known) = (all(&plan), AsKnown::At(KnownAt(known * 1_000_000)));
        let (passed, few) = swept(&plan, &chunks, known, (&features, false), &[user]);
        let (read, most) = swept(&plan, &open, known, (&features, false), &[user]);
        prop_assert_eq!(passed, read);
        prop_assert!(few <= most);
    }
}

/// Two users in two chunks: one of them is all that a read of one user looks at. A header that lies
/// shows: were chunks not passed over by their headers, nothing would be missed.
#[test]
fn chunks_are_passed_over_by_their_headers() {
    let click =
        |user, id, at| fact(CLICKS, user, (id, 0, at), Op::Assert, vec![Value::Int64(user)]);
    let plan = plan(false);
    let chunks = encoded(&[vec![click(0, 1, 10), click(0, 2, 20)], vec![click(1, 3, 30)]]);
    let read = |chunks: &[Vec<u8>], known| {
        let (cells, looked_at) = swept(&plan, chunks, known, (&[0], false), &[0]);
        (cells.last().unwrap().0.clone(), looked_at)
    };
    let count = |rows| FeatureValue::Scalar(Value::Int64(rows));
    assert_eq!(read(&chunks, LATEST), (count(2), 2), "the chunk of the other user is passed over");
    let none_known = AsKnown::At(KnownAt(999_999));
    assert_eq!(read(&chunks, none_known), (count(0), 0), "nothing was known then");
    let lying = with_headers(&chunks, |header| header.filter.clear());
    assert_eq!(read(&lying, LATEST), (count(0), 0));
    let lying = with_headers(&chunks, |header| header.known_at = KnownAt(i64::MAX));
    assert_eq!(read(&lying, AsKnown::At(KnownAt(5_000_000))), (count(0), 0));
}

/// Facts gathered for one feature answer no other, instead of giving NULLs.
#[test]
fn facts_are_swept_for_the_features_they_were_gathered_for() {
    let plan = plan(false);
    let of = |view, features: &[usize]| {
        let facts = SlotFacts::<Vec<u8>>::new(&plan, KindId(0), &[CLICKS, TIERS], LATEST, false);
        facts.unwrap().for_features(&[(view, features)])
    };
    let slot = of("activity", &[2, 14]).unwrap().finish();
    assert!(Sweeper::new(&slot, "activity", &[2, 14]).is_some());
    assert!(
        Sweeper::new(&slot, "activity", &[0, 3]).is_some(),
        "a count, and a mean of the same field"
    );
    assert!(Sweeper::new(&slot, "activity", &[2, 4]).is_none(), "prices were not decoded");
    assert!(of("activity", &[99]).is_none());
    assert!(of("nowhere", &[0]).is_none());
}
