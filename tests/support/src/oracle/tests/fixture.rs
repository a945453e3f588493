//! A small catalog made by hand, and short ways to state facts and read features.
//!
//! Stream 0 `e`: events with `b` bool, `i` int64, `d` double, `s` string, `t` timestamp.
//! Stream 1 `p`: a changelog with `tier` int64 and `name` string. View `v` over both.

use std::sync::Arc;

use millrace_catalog::{
    Aggregate, BeyondRepair, Catalog, Feature, Field, FieldRef, KeyMapping, Kind, Source, Stream,
    StreamKind, TimeUnit, View, Window,
};
use millrace_types::{
    Entity, EntityKey, Fact, FactBody, FeatureValue, FieldType, KeyPart, KeyType, KindId, KnownAt,
    Micros, Op, Row, Status, StreamId, Value,
};

use crate::oracle::Oracle;
use crate::wheres::Wheres;

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;

pub(super) const B: usize = 0;
pub(super) const I: usize = 1;
pub(super) const D: usize = 2;
pub(super) const S: usize = 3;
pub(super) const T: usize = 4;

fn stream(id: u16, name: &str, kind: StreamKind, fields: &[(&str, FieldType)]) -> Stream {
    let field = |(name, ty): &(&str, FieldType)| Field {
        name: (*name).to_owned(),
        ty: *ty,
        unit: TimeUnit::Micros,
    };
    Stream {
        id: StreamId(id),
        name: name.to_owned(),
        kind,
        keys: vec![KeyMapping { kind: KindId(0), fields: vec![], optional: false }],
        at: 0,
        id_field: None,
        seq: None,
        revision: None,
        op: None,
        retracts: None,
        out_of_orderness_us: 0,
        repair_us: 24 * HOUR,
        beyond_repair: BeyondRepair::Rebuild,
        retention_us: None,
        forgets: false,
        fields: fields.iter().map(field).collect(),
    }
}

/// The catalog with these features in its only view.
pub(crate) fn catalog(features: Vec<Feature>) -> Catalog {
    use FieldType::{Bool, Double, Int64, String, Timestamp};
    let event = [("b", Bool), ("i", Int64), ("d", Double), ("s", String), ("t", Timestamp)];
    Catalog {
        version: 1,
        kinds: vec![Kind { id: KindId(0), name: "user".to_owned(), parts: vec![KeyType::Int64] }],
        streams: vec![
            stream(0, "e", StreamKind::Event, &event),
            stream(1, "p", StreamKind::Changelog, &[("tier", Int64), ("name", String)]),
        ],
        views: vec![View {
            name: "v".to_owned(),
            entity: KindId(0),
            events: StreamId(0),
            joins: vec![StreamId(1)],
            features,
        }],
        source: Arc::from(""),
    }
}

/// A feature over everything before the read.
pub(super) fn feature(aggregate: Aggregate, argument: Option<FieldRef>) -> Feature {
    let name = format!("{aggregate:?}");
    Feature { name, aggregate, argument, window: Window::Unbounded, filter: None }
}

pub(super) fn within(window: Window) -> Feature {
    Feature { window, ..feature(Aggregate::Count, None) }
}

pub(super) fn of_event(field: usize) -> Option<FieldRef> {
    use FieldType::{Bool, Double, Int64, String, Timestamp};
    let ty = [Bool, Int64, Double, String, Timestamp][field];
    Some(FieldRef { source: Source::Event, field, ty })
}

pub(super) fn of_profile(field: usize) -> Option<FieldRef> {
    let ty = [FieldType::Int64, FieldType::String][field];
    Some(FieldRef { source: Source::Join(0), field, ty })
}

pub(super) fn user() -> Entity {
    let key = EntityKey::try_new(&[KeyPart::Int64(42)]).unwrap();
    Entity { kind: KindId(0), key }
}

/// An ASSERT of revision 0 and seq 0.
pub(super) fn fact(stream: u16, id: &str, at: i64, row: &[Value]) -> Fact {
    let body = FactBody {
        id: id.as_bytes().into(),
        revision: 0,
        at: Micros(at),
        seq: 0,
        op: Op::Assert,
        row: Row::from_values(row),
        known_at: None,
    };
    Fact { stream: StreamId(stream), entity: user(), body }
}

pub(super) fn event(id: &str, at: i64, field: usize, value: Value) -> Fact {
    let mut row = vec![Value::Null; field + 1];
    row[field] = value;
    fact(0, id, at, &row)
}

pub(super) fn profile(id: &str, at: i64, tier: i64) -> Fact {
    fact(1, id, at, &[Value::Int64(tier)])
}

pub(super) fn revised(mut fact: Fact, revision: u64) -> Fact {
    fact.body.revision = revision;
    fact
}

pub(super) fn with_op(mut fact: Fact, op: Op) -> Fact {
    fact.body.op = op;
    fact
}

pub(super) fn text(text: &str) -> Value {
    Value::String(text.into())
}

pub(super) fn oracle(features: Vec<Feature>, facts: Vec<Fact>) -> Oracle {
    let mut oracle = Oracle::new(&catalog(features), &Wheres::default()).unwrap();
    facts.into_iter().for_each(|fact| oracle.insert(KnownAt(0), fact));
    oracle
}

/// Reads the only feature at `at`.
pub(super) fn read(oracle: &Oracle, at: i64) -> (FeatureValue, Status) {
    oracle.read("v", &user(), Micros(at), KnownAt::MAX).remove(0)
}

/// The only feature over these facts, long after all of them.
pub(super) fn value(feature: Feature, facts: Vec<Fact>) -> (FeatureValue, Status) {
    read(&oracle(vec![feature], facts), 1_000 * HOUR)
}

pub(super) fn present(value: Value) -> (FeatureValue, Status) {
    (FeatureValue::Scalar(value), Status::Present)
}

pub(super) fn count(n: i64) -> (FeatureValue, Status) {
    present(Value::Int64(n))
}

pub(super) const NULL: (FeatureValue, Status) = (FeatureValue::NULL, Status::Null);
