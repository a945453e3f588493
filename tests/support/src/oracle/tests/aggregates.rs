//! Each aggregate of semantics §2.

use millrace_catalog::Aggregate;
use millrace_types::{Fact, FeatureValue, Micros, Status, Value};

use super::fixture::*;
use crate::order::identical_features;

/// Events at 1, 2, 3 … µs with these values in one field.
fn events(field: usize, values: &[Value]) -> Vec<Fact> {
    let event =
        |(n, value): (usize, &Value)| event(&format!("{n:03}"), n as i64, field, value.clone());
    values.iter().enumerate().map(event).collect()
}

fn ints(values: &[i64]) -> Vec<Fact> {
    events(I, &values.iter().map(|v| Value::Int64(*v)).collect::<Vec<_>>())
}

fn doubles(values: &[f64]) -> Vec<Fact> {
    events(D, &values.iter().map(|v| Value::Double(*v)).collect::<Vec<_>>())
}

fn texts(values: &[&str]) -> Vec<Fact> {
    events(S, &values.iter().map(|v| text(v)).collect::<Vec<_>>())
}

/// Checks a double to the last bit.
fn check_double(aggregate: Aggregate, values: &[f64], expected: f64) {
    let (found, status) = value(feature(aggregate, of_event(D)), doubles(values));
    let wanted = FeatureValue::Scalar(Value::Double(expected));
    assert!(identical_features(&found, &wanted), "{aggregate:?} {values:?}: {found:?}");
    assert_eq!(status, Status::Present);
}

fn overflows(aggregate: Aggregate, field: usize, facts: Vec<Fact>) {
    let expected = (FeatureValue::NULL, Status::Overflow);
    assert_eq!(value(feature(aggregate, of_event(field)), facts), expected);
}

#[test]
fn count_counts_rows_or_values() {
    let facts = events(I, &[Value::Int64(1), Value::Null, Value::Int64(1)]);
    assert_eq!(value(feature(Aggregate::Count, None), facts.clone()), count(3));
    assert_eq!(value(feature(Aggregate::Count, of_event(I)), facts), count(2));
    assert_eq!(value(feature(Aggregate::Count, of_event(I)), events(I, &[Value::Null])), count(0));
}

#[test]
fn sum_is_exact_and_rounds_once() {
    let sum = |facts| value(feature(Aggregate::Sum, of_event(I)), facts);
    assert_eq!(sum(ints(&[i64::MAX, 1, -1])), count(i64::MAX));
    assert_eq!(sum(ints(&[i64::MIN, i64::MAX])), count(-1));
    assert_eq!(sum(events(I, &[Value::Null])), NULL);
    overflows(Aggregate::Sum, I, ints(&[i64::MAX, 1]));
    overflows(Aggregate::Sum, I, ints(&[i64::MIN, -1]));
    // Added one by one in double this would be 0.30000000000000004 and 0.
    check_double(Aggregate::Sum, &[0.1, 0.2, 0.3, -0.3], 0.30000000000000004);
    check_double(Aggregate::Sum, &[0.1, 0.2, 0.3], 0.6);
    check_double(Aggregate::Sum, &[1e308, 1e308, 1.0, -1e308, -1e308], 1.0);
    check_double(Aggregate::Sum, &[1.5, -1.5], 0.0);
    check_double(Aggregate::Sum, &[5e-324, 5e-324], 1e-323);
    overflows(Aggregate::Sum, D, doubles(&[f64::MAX, f64::MAX]));
}

#[test]
fn mean_rounds_the_sum_then_divides() {
    check_double(Aggregate::Mean, &[0.1, 0.2, 0.3], 0.6 / 3.0);
    check_double(Aggregate::Mean, &[1e308, 1e308, -1e308], 1e308 / 3.0);
    overflows(Aggregate::Mean, D, doubles(&[f64::MAX, f64::MAX]));
    let mean = feature(Aggregate::Mean, of_event(I));
    // 2·(2^63 − 1) rounds to 2^64.
    let expected = present(Value::Double(9_223_372_036_854_775_808.0));
    assert_eq!(value(mean.clone(), ints(&[i64::MAX, i64::MAX])), expected);
    assert_eq!(value(mean, events(I, &[Value::Null])), NULL);
}

#[test]
fn min_and_max_follow_the_order_of_the_type() {
    let least = |field, facts| value(feature(Aggregate::Min, of_event(field)), facts);
    let greatest = |field, facts| value(feature(Aggregate::Max, of_event(field)), facts);
    assert_eq!(least(I, ints(&[3, -1, 2])), count(-1));
    assert_eq!(greatest(D, doubles(&[-5e-324, 0.0, -1e308])), present(Value::Double(0.0)));
    // Bytewise: "Z" < "a" < "é".
    assert_eq!(least(S, texts(&["a", "Z", "é"])), present(text("Z")));
    assert_eq!(greatest(S, texts(&["a", "Z", "é"])), present(text("é")));
    let instants = events(T, &[Value::Timestamp(Micros(-5)), Value::Timestamp(Micros(5))]);
    assert_eq!(least(T, instants), present(Value::Timestamp(Micros(-5))));
    assert_eq!(least(I, events(I, &[Value::Null])), NULL);
}

#[test]
fn variance_is_exact_and_stddev_its_root() {
    check_double(Aggregate::Variance, &[1.0, 2.0, 4.0], 7.0 / 3.0);
    check_double(Aggregate::Stddev, &[1.0, 2.0, 4.0], (7.0f64 / 3.0).sqrt());
    // In double arithmetic the squares would drown the difference.
    check_double(Aggregate::Variance, &[1e15, 1e15 + 1.0], 0.5);
    check_double(Aggregate::Variance, &[0.1, 0.1, 0.1], 0.0);
    overflows(Aggregate::Variance, D, doubles(&[1e200, -1e200]));
    overflows(Aggregate::Stddev, D, doubles(&[1e200, -1e200]));
    let of_ints = |facts| value(feature(Aggregate::Variance, of_event(I)), facts);
    // Two ends of int64: ((2^64 − 1)² / 2) rounds to 2^127.
    let expected = present(Value::Double(2f64.powi(127)));
    assert_eq!(of_ints(ints(&[i64::MAX, i64::MIN])), expected);
    assert_eq!(of_ints(ints(&[7])), NULL);
}

#[test]
fn first_and_last_go_by_at_seq_id_and_skip_nulls() {
    let mut facts = events(I, &[Value::Null, Value::Int64(1), Value::Int64(2), Value::Null]);
    // Two more at the instant of the value 2: a smaller id, and a greater seq.
    facts.push(event("000x", 2, I, Value::Int64(3)));
    let mut late = event("000", 2, I, Value::Int64(4));
    late.body.seq = 1;
    late.body.id = b"0".as_slice().into();
    facts.push(late);
    let list = |values: &[i64]| {
        let values = values.iter().map(|v| Value::Int64(*v)).collect();
        (FeatureValue::List(values), Status::Present)
    };
    let read = |aggregate| value(feature(aggregate, of_event(I)), facts.clone());
    assert_eq!(read(Aggregate::First), count(1));
    assert_eq!(read(Aggregate::Last), count(4));
    assert_eq!(read(Aggregate::FirstN { n: 3 }), list(&[1, 3, 2]));
    assert_eq!(read(Aggregate::LastN { n: 2 }), list(&[4, 2]));
    assert_eq!(read(Aggregate::LastN { n: 9 }), list(&[4, 2, 3, 1]));
    assert_eq!(
        value(feature(Aggregate::LastN { n: 2 }, of_event(I)), events(I, &[Value::Null])),
        list(&[])
    );
    assert_eq!(value(feature(Aggregate::First, of_event(B)), facts), NULL);
}

#[test]
fn count_distinct_is_exact_up_to_its_limit() {
    let read =
        |limit, facts| value(feature(Aggregate::CountDistinct { limit }, of_event(S)), facts);
    let three = texts(&["a", "b", "a", "c", "b"]);
    assert_eq!(read(3, three.clone()), count(3));
    let truncated = (FeatureValue::Scalar(Value::Int64(2)), Status::Truncated);
    assert_eq!(read(2, three), truncated);
    assert_eq!(read(2, events(S, &[Value::Null])), count(0));
}

#[test]
fn top_k_counts_then_orders_by_value() {
    let read = |k, limit, facts| value(feature(Aggregate::TopK { k, limit }, of_event(S)), facts);
    let facts = texts(&["b", "c", "a", "c", "b", "d"]);
    let counted = |pairs: &[(&str, u64)]| {
        let pairs = pairs.iter().map(|(v, n)| (text(v), *n)).collect();
        (FeatureValue::Counted(pairs), Status::Present)
    };
    assert_eq!(read(3, 4, facts.clone()), counted(&[("b", 2), ("c", 2), ("a", 1)]));
    assert_eq!(read(9, 4, facts.clone()), counted(&[("b", 2), ("c", 2), ("a", 1), ("d", 1)]));
    assert_eq!(read(3, 3, facts), (FeatureValue::NULL, Status::Truncated));
    assert_eq!(read(3, 3, events(S, &[Value::Null])), counted(&[]));
}

#[test]
fn approx_percentile_gives_the_middle_of_a_bucket() {
    let check = |p, values: &[f64], expected| {
        check_double(Aggregate::ApproxPercentile { p }, values, expected)
    };
    // 1 lies in [1, 1 + 1/64), 100 in [100, 101) (2^6 · [1 + 36/64, 1 + 37/64)).
    check(0.5, &[1.0], 1.0 + 1.0 / 128.0);
    check(0.5, &[1.0, 100.0], 1.0 + 1.0 / 128.0);
    check(0.51, &[1.0, 100.0], 100.5);
    check(1.0, &[100.9, 3.0, 1.0], 100.5);
    check(1e-9, &[-1.0, 0.0, 1.0], -(1.0 + 1.0 / 128.0));
    check(0.5, &[-1.0, 0.0, 1.0], 0.0);
    // The last bucket below a power of two, the topmost one, and the tiny subnormals.
    check(0.5, &[f64::from_bits(2f64.to_bits() - 1)], 2.0 - 1.0 / 128.0);
    check(0.5, &[f64::MAX], f64::MAX - 2f64.powi(1016) + 2f64.powi(970));
    check(0.5, &[-f64::MAX], -f64::from_bits(0x7fef_e000_0000_0000));
    check(0.5, &[5e-324], f64::from_bits(1 << 45));
    check(0.5, &[f64::from_bits(3 << 46)], f64::from_bits(7 << 45));
    let of_ints = feature(Aggregate::ApproxPercentile { p: 0.5 }, of_event(I));
    assert_eq!(value(of_ints.clone(), ints(&[100])), present(Value::Double(100.5)));
    // The nearest double of 2^63 − 1 is 2^63.
    let expected = present(Value::Double(2f64.powi(63) * (1.0 + 1.0 / 128.0)));
    assert_eq!(value(of_ints.clone(), ints(&[i64::MAX])), expected);
    assert_eq!(value(of_ints, events(I, &[Value::Null])), NULL);
}

#[test]
fn aggregates_take_fields_of_the_version_an_event_meets() {
    let facts = vec![
        profile("p", 1, 3),
        profile("q", 5, 4),
        fact(0, "a", 0, &[]),
        fact(0, "b", 1, &[]),
        fact(0, "c", 9, &[]),
    ];
    assert_eq!(value(feature(Aggregate::Sum, of_profile(0)), facts.clone()), count(7));
    assert_eq!(value(feature(Aggregate::Latest, of_profile(1)), facts), NULL);
}
