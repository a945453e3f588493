//! The roles of semantics §3, one by one.

use millrace_catalog::Catalog;
use millrace_types::{
    Entity, EntityKey, Fact, KeyPart, KindId, Micros, Op, RejectReason, Sequence, Value,
};

use super::facts;
use crate::record::RawRecord;

const CATALOG: &str = "
entities: {user: int64, item: string, pair: [int64, string]}
streams:
  clicks:
    kind: event
    keys: {user: u, item: i, pair: [u, i]}
    optional_keys: [item, pair]
    at: ts
    id: id
    seq: seq
    revision: rev
    op: {field: op, retract: [r]}
    retracts: undo
    fields: {u: int64, i: string, ts: timestamp(ms), id: int64, seq: int64, rev: int64, op: string, undo: int64, d: double}
  plain:
    kind: changelog
    keys: {item: i}
    at: ts
    op: {field: op, end: [9]}
    fields: {i: string, ts: timestamp, op: int64}
";

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn record(stream: &str, values: &[(&str, Value)]) -> RawRecord {
    RawRecord {
        stream: stream.into(),
        producer: "p".into(),
        sequence: Sequence(7),
        names: values.iter().map(|(name, _)| (*name).to_owned()).collect(),
        values: values.iter().map(|(_, value)| value.clone()).collect(),
    }
}

fn mapped(stream: &str, values: &[(&str, Value)]) -> Result<Vec<Fact>, RejectReason> {
    let catalog = Catalog::compile(CATALOG, None).unwrap();
    facts(&catalog, &record(stream, values), Some(Micros(1_000_000_000)))
}

/// A click with these values besides a user and an instant.
fn click(values: &[(&str, Value)]) -> Result<Vec<Fact>, RejectReason> {
    let basis = [("u", Value::Int64(42)), ("ts", Value::Timestamp(Micros(5_000)))];
    // Later names do not hide earlier ones, so what is stated comes first.
    mapped("clicks", &[values, &basis].concat())
}

#[test]
fn a_record_is_routed_to_every_key_it_has() {
    let key = |parts: &[KeyPart<'_>]| EntityKey::try_new(parts).unwrap();
    let entities = |facts: Vec<Fact>| facts.into_iter().map(|f| f.entity).collect::<Vec<_>>();
    let (user, item) = (KeyPart::Int64(42), KeyPart::String("k"));
    let all = [(0, key(&[user])), (1, key(&[item])), (2, key(&[user, item]))]
        .map(|(kind, key)| Entity { kind: KindId(kind), key });
    assert_eq!(entities(click(&[("i", text("k"))]).unwrap()), all);
    for missing in [Value::Null, text("")] {
        assert_eq!(entities(click(&[("i", missing)]).unwrap()), all[..1]);
    }
    assert_eq!(click(&[("u", Value::Null), ("i", text("k"))]), Err(RejectReason::MissingKey));
    assert_eq!(click(&[("i", text(&"k".repeat(255)))]), Err(RejectReason::TooLarge));
}

#[test]
fn ids_revisions_and_ops_follow_their_fields() {
    let body = |values: &[(&str, Value)]| click(values).unwrap().remove(0).body;
    let plain = body(&[]);
    assert_eq!(&*plain.id, b"p/00000000000000000007");
    assert_eq!((plain.revision, plain.seq, plain.op), (0, 0, Op::Assert));
    let full = body(&[
        ("id", Value::Int64(-3)),
        ("rev", Value::Int64(2)),
        ("seq", Value::Int64(i64::MAX)),
        ("op", text("r")),
    ]);
    assert_eq!(&*full.id, b"-3");
    assert_eq!((full.revision, full.seq, full.op), (2, i64::MAX as u64, Op::Retract));
    // `retracts` goes before all of that, but not before a bad row.
    let undo = body(&[("id", Value::Int64(1)), ("undo", Value::Int64(5)), ("op", text("c"))]);
    assert_eq!((&*undo.id, undo.revision, undo.op), (b"5".as_slice(), u64::MAX, Op::Retract));
    for role in ["rev", "seq"] {
        let bad = [(role, Value::Int64(-1)), ("undo", Value::Int64(5))];
        assert_eq!(click(&bad), Err(RejectReason::BadRow));
    }
    let ended = [("i", text("k")), ("ts", Value::Timestamp(Micros(1))), ("op", Value::Int64(9))];
    assert_eq!(mapped("plain", &ended).unwrap()[0].body.op, Op::End);
}

#[test]
fn at_is_wanted_where_it_matters() {
    let at = |values: &[(&str, Value)]| click(values).map(|f| f[0].body.at);
    assert_eq!(at(&[("ts", Value::Int64(-5))]), Ok(Micros(-5_000)));
    assert_eq!(at(&[("ts", Value::Int64(i64::MAX))]), Err(RejectReason::BadRow));
    assert_eq!(at(&[("ts", Value::Null)]), Err(RejectReason::BadRow));
    assert!(at(&[("ts", Value::Null), ("op", text("r"))]).is_ok());
    assert!(at(&[("ts", Value::Int64(1_000_000))]).is_ok());
    assert_eq!(at(&[("ts", Value::Int64(1_000_001))]), Err(RejectReason::AtOutOfBounds));
}

#[test]
fn values_fit_their_fields() {
    let d = |value: Value| click(&[("d", value)]).map(|f| f[0].body.row.view().get(8).to_value());
    assert_eq!(d(Value::Double(1.5)), Ok(Value::Double(1.5)));
    assert_eq!(d(Value::Int64(3)), Ok(Value::Double(3.0)));
    assert_eq!(d(Value::Int64((1 << 53) + 1)), Err(RejectReason::BadRow));
    let Ok(Value::Double(zero)) = d(Value::Double(-0.0)) else { panic!("-0.0 is a double") };
    assert_eq!(zero.to_bits(), 0);
    for bad in [Value::Double(f64::NAN), Value::Double(f64::INFINITY), text("1")] {
        assert_eq!(d(bad), Err(RejectReason::BadRow));
    }
    let unknown = facts(&Catalog::compile(CATALOG, None).unwrap(), &record("x", &[]), None);
    assert_eq!(unknown, Err(RejectReason::UnknownStream));
}
