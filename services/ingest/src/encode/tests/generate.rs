//! Random columns for the stream `all`, each in one of the Arrow types its field accepts.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Float32Array, Float64Array, Int8Array,
    Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, NullArray, StringArray,
    StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt32Array,
};
use millrace_types::limits::{ID_BYTES_MAX, KEY_BYTES_MAX};
use proptest::prelude::*;

use super::LATEST;
use crate::testing::NOON;

/// What a cell holds before any rule is applied.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// A count and the nanoseconds of its unit.
    Instant(i64, i64),
}

/// A column in one of the Arrow types its field accepts.
pub(super) type Column = (ArrayRef, Vec<Cell>);

fn numbers(max: i64) -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        4 => (0..5i64).prop_map(Some),
        1 => (-3..0i64).prop_map(Some),
        1 => Just(None),
        1 => Just(Some(max)),
    ]
}

fn cells<T: Clone>(values: &[Option<T>], cell: impl Fn(T) -> Cell) -> Vec<Cell> {
    values.iter().cloned().map(|v| v.map_or(Cell::Null, &cell)).collect()
}

fn int_column(rows: usize, max: i64) -> impl Strategy<Value = Column> {
    (prop::collection::vec(numbers(max), rows), 0..5u8).prop_map(|(values, form)| {
        let narrow = |v: &Option<i64>, max: i64| v.map(|v| v.clamp(-max, max));
        let natural = |v: &Option<i64>| v.map(|v| v.clamp(0, i64::from(u32::MAX)));
        match form {
            0 => {
                let values: Vec<_> = values.iter().map(|v| narrow(v, 127)).collect();
                let array = values.iter().map(|v| v.map(|v| v as i8)).collect::<Int8Array>();
                (Arc::new(array) as ArrayRef, cells(&values, Cell::Int))
            }
            1 => {
                let values: Vec<_> = values.iter().map(|v| narrow(v, 1 << 30)).collect();
                let array = values.iter().map(|v| v.map(|v| v as i32)).collect::<Int32Array>();
                (Arc::new(array) as ArrayRef, cells(&values, Cell::Int))
            }
            2 => {
                let values: Vec<_> = values.iter().map(natural).collect();
                let array = values.iter().map(|v| v.map(|v| v as u32)).collect::<UInt32Array>();
                (Arc::new(array) as ArrayRef, cells(&values, Cell::Int))
            }
            3 => {
                (Arc::new(NullArray::new(values.len())) as ArrayRef, vec![Cell::Null; values.len()])
            }
            _ => (
                Arc::new(values.iter().copied().collect::<Int64Array>()) as ArrayRef,
                cells(&values, Cell::Int),
            ),
        }
    })
}

fn text_column(rows: usize, texts: &'static [&'static str]) -> impl Strategy<Value = Column> {
    let long = prop_oneof![
        8 => prop::sample::select(texts).prop_map(|t| Some(t.to_owned())),
        1 => Just(None),
        1 => prop_oneof![Just(KEY_BYTES_MAX), Just(ID_BYTES_MAX + 1), Just(60_000usize)]
            .prop_map(|n| Some("x".repeat(n))),
    ];
    (prop::collection::vec(long, rows), 0..3u8).prop_map(|(values, form)| {
        let array: ArrayRef = match form {
            0 => Arc::new(values.iter().collect::<StringArray>()),
            1 => Arc::new(values.iter().collect::<LargeStringArray>()),
            _ => Arc::new(values.iter().collect::<StringViewArray>()),
        };
        (array, cells(&values, Cell::Text))
    })
}

fn bytes_column(rows: usize) -> impl Strategy<Value = Column> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..4));
    (prop::collection::vec(value, rows), 0..3u8).prop_map(|(values, form)| {
        let array: ArrayRef = match form {
            0 => Arc::new(BinaryArray::from_iter(values.iter())),
            1 => Arc::new(LargeBinaryArray::from_iter(values.iter())),
            _ => Arc::new(BinaryViewArray::from_iter(values.iter())),
        };
        (array, cells(&values, Cell::Bytes))
    })
}

fn double_column(rows: usize) -> impl Strategy<Value = Column> {
    let value = prop_oneof![
        6 => prop::sample::select(vec![0.0, -0.0, 1.5, -2.25, 1e300, f64::MIN_POSITIVE / 2.0]),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ];
    (prop::collection::vec(prop::option::of(value), rows), any::<bool>()).prop_map(
        |(values, narrow)| match narrow {
            true => {
                let values: Vec<_> = values.iter().map(|v| v.map(|v| v as f32)).collect();
                let array = values.iter().copied().collect::<Float32Array>();
                (Arc::new(array) as ArrayRef, cells(&values, |v| Cell::Double(f64::from(v))))
            }
            false => (
                Arc::new(values.iter().copied().collect::<Float64Array>()) as ArrayRef,
                cells(&values, Cell::Double),
            ),
        },
    )
}

/// `unit` is what an integer counts, in nanoseconds.
fn instant_column(rows: usize, unit: i64) -> impl Strategy<Value = Column> {
    let micros = prop_oneof![
        6 => (NOON - 10_000_000..NOON).prop_map(Some),
        2 => (-2_000_000..2_000_000i64).prop_map(Some),
        1 => (LATEST.0 - 1..LATEST.0 + 2).prop_map(Some),
        1 => Just(None),
    ];
    let extreme = prop::option::weighted(0.05, prop::sample::select(vec![i64::MAX, i64::MIN]));
    let value = (micros, extreme);
    (prop::collection::vec(value, rows), 0..6u8).prop_map(move |(values, form)| {
        let nanos = match form {
            0 => 1_000_000_000,
            1 => 1_000_000,
            2 => 1_000,
            3 => 1,
            _ => unit,
        };
        // Half a microsecond more, to be cut off.
        let count = |m: i64| (i128::from(m) * 1_000 + 500).div_euclid(i128::from(nanos)) as i64;
        let values: Vec<Option<i64>> =
            values.into_iter().map(|(m, extreme)| m.map(|m| extreme.unwrap_or(count(m)))).collect();
        let counts = values.iter().copied();
        let array: ArrayRef = match form {
            0 => Arc::new(counts.collect::<TimestampSecondArray>()),
            1 => Arc::new(counts.collect::<TimestampMillisecondArray>().with_timezone("UTC")),
            2 => Arc::new(counts.collect::<TimestampMicrosecondArray>().with_timezone("+00:00")),
            3 => Arc::new(counts.collect::<TimestampNanosecondArray>()),
            _ => Arc::new(counts.collect::<Int64Array>()),
        };
        (array, cells(&values, |v| Cell::Instant(v, nanos)))
    })
}

fn bool_column(rows: usize) -> impl Strategy<Value = Column> {
    prop::collection::vec(any::<Option<bool>>(), rows).prop_map(|values| {
        let array = values.iter().copied().collect::<BooleanArray>();
        (Arc::new(array) as ArrayRef, cells(&values, Cell::Bool))
    })
}

/// Columns for the stream `all`, in the order of its fields.
pub(super) fn columns() -> impl Strategy<Value = Vec<Column>> {
    (1..12usize).prop_flat_map(|rows| {
        let first = (
            int_column(rows, i64::MAX),
            text_column(rows, &["a", "b", "é", ""]),
            instant_column(rows, 1_000_000),
            text_column(rows, &["i1", "i2", "i3", ""]),
            int_column(rows, i64::MAX),
            int_column(rows, 3),
        );
        let second = (
            text_column(rows, &["upsert", "delete", "undo", ""]),
            text_column(rows, &["", "", "", "i1"]),
            bool_column(rows),
            double_column(rows),
            bytes_column(rows),
            instant_column(rows, 1_000_000_000),
        );
        (first, second).prop_map(|((a, b, c, d, e, f), (g, h, i, j, k, l))| {
            vec![a, b, c, d, e, f, g, h, i, j, k, l]
        })
    })
}
