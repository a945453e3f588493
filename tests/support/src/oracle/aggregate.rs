//! The aggregates of semantics §2 over the rows of a window.

use millrace_catalog::{Aggregate, Feature};
use millrace_types::{FeatureValue, FieldType, Status, Value};
use num_traits::ToPrimitive;

use crate::exact::{self, Exact, Scaled};
use crate::joined_row::JoinedRow;
use crate::order::compare;

type Read = (FeatureValue, Status);

const NULL: Read = (FeatureValue::NULL, Status::Null);
const OVERFLOW: Read = (FeatureValue::NULL, Status::Overflow);

fn scalar(value: Value) -> Read {
    (FeatureValue::Scalar(value), Status::Present)
}

/// A number of rows or values, as int64.
fn counted(count: usize) -> Value {
    Value::Int64(i64::try_from(count).expect("fewer rows than 2^63 fit in memory"))
}

/// Aggregates `rows`, which are those of the window that the feature's `where` keeps, in the order
/// `(at, seq, id)`.
pub(super) fn aggregate(feature: &Feature, rows: &[&JoinedRow]) -> Read {
    let Some(argument) = feature.argument else {
        return scalar(counted(rows.len()));
    };
    let values: Vec<&Value> = rows
        .iter()
        .map(|row| row.field(argument.source, argument.field))
        .filter(|value| **value != Value::Null)
        .collect();
    let present = |value: Option<&&Value>| value.map_or(NULL, |v| scalar((*v).clone()));
    match feature.aggregate {
        Aggregate::Count => scalar(counted(values.len())),
        Aggregate::Sum => sum(&values, argument.ty),
        Aggregate::Mean => mean(&values),
        Aggregate::Min => present(values.iter().min_by(|a, b| compare(a, b))),
        Aggregate::Max => present(values.iter().max_by(|a, b| compare(a, b))),
        Aggregate::Variance => variance(&values, |variance| variance),
        Aggregate::Stddev => variance(&values, f64::sqrt),
        Aggregate::First => present(values.first()),
        Aggregate::Last => present(values.last()),
        Aggregate::FirstN { n } => list(values.into_iter().take(n)),
        Aggregate::LastN { n } => list(values.into_iter().rev().take(n)),
        Aggregate::CountDistinct { limit } => match distinct(&values).len() {
            n if n > limit => (FeatureValue::Scalar(counted(limit)), Status::Truncated),
            n => scalar(counted(n)),
        },
        Aggregate::TopK { k, limit } => top(&values, k, limit),
        Aggregate::ApproxPercentile { p } => percentile(&values, p),
        Aggregate::Latest => panic!("`latest` has no window"),
    }
}

fn list<'a>(values: impl Iterator<Item = &'a Value>) -> Read {
    (FeatureValue::List(values.cloned().collect()), Status::Present)
}

fn scaled(value: &Value) -> Scaled {
    if let Value::Int64(v) = value {
        return Scaled::of_int(*v);
    }
    let Value::Double(v) = value else { panic!("a checked catalog sums no {value:?}") };
    Scaled::of_double(*v)
}

/// Σx and Σx², exactly.
fn sums(values: &[&Value]) -> (Exact, Exact) {
    exact::sums(&values.iter().map(|v| scaled(v)).collect::<Vec<_>>())
}

fn sum(values: &[&Value], ty: FieldType) -> Read {
    if values.is_empty() {
        return NULL;
    }
    let (sum, _) = sums(values);
    let result = match ty {
        FieldType::Int64 => sum.to_integer().to_i64().map(Value::Int64),
        FieldType::Double => exact::round_to_double(&sum).map(Value::Double),
        FieldType::Bool | FieldType::String | FieldType::Bytes | FieldType::Timestamp => {
            panic!("a checked catalog sums no {ty}")
        }
    };
    result.map_or(OVERFLOW, scalar)
}

/// The sum, rounded, divided by the count in double.
fn mean(values: &[&Value]) -> Read {
    if values.is_empty() {
        return NULL;
    }
    let (sum, _) = sums(values);
    exact::round_to_double(&sum)
        .map_or(OVERFLOW, |sum| scalar(Value::Double(sum / values.len() as f64)))
}

/// `(Σx² − (Σx)²/n)/(n − 1)` in exact arithmetic, rounded once; then `finish`.
fn variance(values: &[&Value], finish: fn(f64) -> f64) -> Read {
    if values.len() < 2 {
        return NULL;
    }
    let n = exact::of_int(i64::try_from(values.len()).expect("fewer rows than 2^63"));
    let (sum, squares) = sums(values);
    let variance = (squares - &sum * &sum / &n) / (n - exact::of_int(1));
    exact::round_to_double(&variance).map_or(OVERFLOW, |v| scalar(Value::Double(finish(v))))
}

/// The distinct values in ascending order, and how often each occurs.
fn distinct(values: &[&Value]) -> Vec<(Value, u64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| compare(a, b));
    let mut counted: Vec<(Value, u64)> = Vec::new();
    for value in sorted {
        match counted.last_mut() {
            Some((last, count)) if last == value => *count += 1,
            _ => counted.push((value.clone(), 1)),
        }
    }
    counted
}

/// Count descending, then value ascending.
fn top(values: &[&Value], k: usize, limit: usize) -> Read {
    let mut counted = distinct(values);
    if counted.len() > limit {
        return (FeatureValue::NULL, Status::Truncated);
    }
    counted.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| compare(a, b)));
    counted.truncate(k);
    (FeatureValue::Counted(counted), Status::Present)
}

/// The midpoint of the bucket that holds rank ⌈p·n⌉.
fn percentile(values: &[&Value], p: f64) -> Read {
    if values.is_empty() {
        return NULL;
    }
    let mut doubles: Vec<f64> = values.iter().map(|value| as_double(value)).collect();
    doubles.sort_by(f64::total_cmp);
    // p·n lies in (0, n], so the rank lies in 1..=n. Buckets are ranges of doubles: the bucket
    // that holds the rank is the one of the value at that rank.
    let rank = (p * doubles.len() as f64).ceil() as usize;
    scalar(Value::Double(midpoint(doubles[rank - 1])))
}

/// Integers count by their nearest double.
fn as_double(value: &Value) -> f64 {
    if let Value::Int64(v) = value {
        return *v as f64;
    }
    let Value::Double(v) = value else {
        panic!("a checked catalog has no percentile of {value:?}");
    };
    *v
}

/// The arithmetic mean of the edges of the value's bucket, rounded to double.
///
/// A bucket holds the doubles of one sign, one exponent and one choice of the top 6 bits of the
/// mantissa: in the order of the magnitudes it starts where the lower 46 bits are 0. Its upper edge
/// is the lower edge of the next one; after the last one that is 2^1024.
fn midpoint(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let bucket = value.abs().to_bits() >> 46;
    let next = f64::from_bits((bucket + 1) << 46);
    let lower = exact::of_double(f64::from_bits(bucket << 46));
    let upper = if next.is_finite() { exact::of_double(next) } else { exact::power_of_two(1024) };
    let middle = exact::round_to_double(&((lower + upper) / exact::of_int(2)))
        .expect("the middle of a bucket lies below 2^1024 by half a bucket");
    middle.copysign(value)
}
