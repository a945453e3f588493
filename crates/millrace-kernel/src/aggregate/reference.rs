//! The naive aggregates that the tests compare with: all rows in one list, integers and fractions
//! without bound, no code shared with what is tested.

use std::cmp::Ordering;

use millrace_catalog::model::Aggregate;
use millrace_types::{FeatureValue, Status, Value};
use num_bigint::{BigInt, BigUint};

/// A row: `(at, seq, id)` and the argument's value.
pub(super) type RefRow = ((i64, u64, Vec<u8>), Value);

/// The value and status of `aggregate` over `rows`.
pub(super) fn evaluate(aggregate: Aggregate, rows: &[RefRow]) -> (FeatureValue, Status) {
    let mut rows: Vec<&RefRow> = rows.iter().filter(|(_, value)| *value != Value::Null).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let mut values: Vec<Value> = rows.iter().map(|(_, value)| value.clone()).collect();
    let in_order = values.clone();
    values.sort_by(order);
    let optional = |value: Option<Value>| match value {
        Some(value) => (FeatureValue::Scalar(value), Status::Present),
        None => (FeatureValue::NULL, Status::Null),
    };
    match aggregate {
        Aggregate::Count => optional(Some(Value::Int64(values.len() as i64))),
        Aggregate::Sum => sum(&values),
        Aggregate::Mean => {
            if values.is_empty() {
                return (FeatureValue::NULL, Status::Null);
            }
            double(total(&values), values.len())
        }
        Aggregate::Variance => spread(&values, false),
        Aggregate::Stddev => spread(&values, true),
        Aggregate::Min => optional(values.first().cloned()),
        Aggregate::Max => optional(values.last().cloned()),
        Aggregate::First => optional(in_order.first().cloned()),
        Aggregate::Last => optional(in_order.last().cloned()),
        Aggregate::FirstN { n } => {
            (FeatureValue::List(in_order.into_iter().take(n).collect()), Status::Present)
        }
        Aggregate::LastN { n } => {
            (FeatureValue::List(in_order.into_iter().rev().take(n).collect()), Status::Present)
        }
        Aggregate::CountDistinct { limit } => {
            let distinct = counted(&values).len();
            let status = if distinct > limit { Status::Truncated } else { Status::Present };
            (FeatureValue::Scalar(Value::Int64(distinct.min(limit) as i64)), status)
        }
        Aggregate::TopK { k, limit } => {
            let mut counted = counted(&values);
            if counted.len() > limit {
                return (FeatureValue::NULL, Status::Truncated);
            }
            counted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| order(&a.0, &b.0)));
            counted.truncate(k);
            (FeatureValue::Counted(counted), Status::Present)
        }
        Aggregate::ApproxPercentile { p } => optional(percentile(p, &values).map(Value::Double)),
        Aggregate::Latest => unreachable!("latest folds nothing"),
    }
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int64(a), Value::Int64(b)) => a.cmp(b),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b).expect("doubles are finite"),
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.0.cmp(&b.0),
        (a, b) => panic!("{a:?} and {b:?} are of two types"),
    }
}

fn counted(sorted: &[Value]) -> Vec<(Value, u64)> {
    let mut counted: Vec<(Value, u64)> = Vec::new();
    for value in sorted {
        match counted.last_mut() {
            Some((last, count)) if last == value => *count += 1,
            Some(_) | None => counted.push((value.clone(), 1)),
        }
    }
    counted
}

/// A number as a whole count of `2^-1074`, of which every double is one.
fn units(value: &Value) -> BigInt {
    match value {
        Value::Int64(v) => BigInt::from(*v) << 1074,
        Value::Double(v) => {
            // Doubling is exact on this side of the greatest double, and a fraction is far from it.
            let (mut v, mut left) = (*v, 1074);
            while v.fract() != 0.0 {
                v *= 2.0;
                left -= 1;
            }
            big(v) << left
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Bytes(_) | Value::Timestamp(_) => {
            panic!("{value:?} is no number")
        }
    }
}

/// A double that is an integer.
fn big(value: f64) -> BigInt {
    assert_eq!(value.fract(), 0.0);
    let mut rest = value.abs();
    let mut digits = Vec::new();
    while rest > 0.0 {
        digits.push((rest % 4_294_967_296.0) as u32);
        rest = (rest / 4_294_967_296.0).trunc();
    }
    let magnitude = BigInt::from(BigUint::new(digits));
    if value < 0.0 { -magnitude } else { magnitude }
}

fn total(values: &[Value]) -> BigInt {
    values.iter().map(units).sum()
}

fn sum(values: &[Value]) -> (FeatureValue, Status) {
    match values.first() {
        None => (FeatureValue::NULL, Status::Null),
        Some(Value::Int64(_)) => match i64::try_from(total(values) >> 1074) {
            Ok(sum) => (FeatureValue::Scalar(Value::Int64(sum)), Status::Present),
            Err(_) => (FeatureValue::NULL, Status::Overflow),
        },
        Some(_) => double(total(values), 1),
    }
}

fn double(units: BigInt, divided_by: usize) -> (FeatureValue, Status) {
    match nearest(&units, &BigInt::from(1)) {
        Some(sum) => {
            let value = Value::Double(sum / divided_by as f64);
            (FeatureValue::Scalar(value), Status::Present)
        }
        None => (FeatureValue::NULL, Status::Overflow),
    }
}

fn spread(values: &[Value], root: bool) -> (FeatureValue, Status) {
    let n = BigInt::from(values.len());
    if values.len() < 2 {
        return (FeatureValue::NULL, Status::Null);
    }
    let sum = total(values);
    // Σx² − (Σx)²/n over n − 1, in units of 2^-2148, brought to units of 2^-1074.
    let squares: BigInt = values.iter().map(|v| units(v) * units(v)).sum();
    let numerator = &n * squares - &sum * &sum;
    let denominator = (&n * (&n - 1)) << 1074;
    match nearest(&numerator, &denominator) {
        Some(variance) => {
            let value = if root { variance.sqrt() } else { variance };
            (FeatureValue::Scalar(Value::Double(value)), Status::Present)
        }
        None => (FeatureValue::NULL, Status::Overflow),
    }
}

/// The double nearest to `numerator / denominator` units, ties to even; `None` beyond the greatest.
/// Found by bisection over all doubles, with nothing but comparisons of fractions.
fn nearest(numerator: &BigInt, denominator: &BigInt) -> Option<f64> {
    if numerator < &BigInt::ZERO {
        return nearest(&-numerator, denominator).map(|value| -value);
    }
    // Positive doubles are in the order of their bits; the one after the greatest stands for 2^1024.
    let exact = |bits: u64| match bits {
        0x7ff0_0000_0000_0000 => BigInt::from(1) << (1024 + 1074),
        bits => units(&Value::Double(f64::from_bits(bits))),
    };
    let (mut low, mut high) = (0, 0x7ff0_0000_0000_0000);
    if numerator >= &(exact(high) * denominator) {
        return None;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if &(exact(middle) * denominator) <= numerator {
            low = middle;
        } else {
            high = middle;
        }
    }
    let below = numerator - exact(low) * denominator;
    let above = exact(high) * denominator - numerator;
    let bits = match below.cmp(&above) {
        Ordering::Less => low,
        Ordering::Greater => high,
        Ordering::Equal => low + low % 2,
    };
    Some(f64::from_bits(bits)).filter(|value| value.is_finite())
}

fn percentile(p: f64, sorted: &[Value]) -> Option<f64> {
    let rank = (p * sorted.len() as f64).ceil() as usize;
    let mut value = sorted.get(rank.checked_sub(1)?)?.clone();
    if let Value::Int64(v) = value {
        value = Value::Double(v as f64);
    }
    let value = units(&value);
    let magnitude = value.magnitude();
    // Subnormals and the first binade share a scale; above it, 64 buckets to a power of two.
    let width = BigUint::from(1u8) << magnitude.bits().saturating_sub(1).max(52).saturating_sub(6);
    let middle = magnitude / &width * &width + (width >> 1);
    let middle = match *magnitude == BigUint::ZERO {
        true => BigInt::ZERO,
        false => BigInt::from_biguint(value.sign(), middle),
    };
    nearest(&middle, &BigInt::from(1))
}
