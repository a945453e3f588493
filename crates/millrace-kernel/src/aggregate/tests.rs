//! Every aggregate against the naive reference, whatever the order, the grouping and the storing on
//! the way.

use millrace_catalog::model::{Aggregate, Feature, FieldRef, Source, Window};
use millrace_types::Micros;
use proptest::prelude::*;
use proptest::sample::Index;

use super::reference::{RefRow, evaluate};
use super::*;

fn feature(aggregate: Aggregate, ty: FieldType) -> Feature {
    let argument = Some(FieldRef { source: Source::Event, field: 0, ty });
    Feature { name: "f".into(), aggregate, argument, window: Window::Unbounded, filter: None }
}

fn add(partial: &mut Partial, ((at, seq, id), value): &RefRow) {
    partial.add(OrderKey { at: Micros(*at), seq: *seq, id }, value.as_ref());
}

fn folded(feature: &Feature, rows: &[RefRow]) -> Partial {
    let mut partial = Partial::new(feature);
    rows.iter().for_each(|row| add(&mut partial, row));
    partial
}

fn bytes(partial: &Partial) -> Vec<u8> {
    let mut out = Vec::new();
    partial.encode(&mut out);
    out
}

fn restored(feature: &Feature, partial: &Partial) -> Partial {
    let bytes = bytes(partial);
    let mut reader = Reader::new(&bytes);
    let restored = Partial::decode(feature, &mut reader).expect("an encoded partial decodes");
    assert!(reader.is_empty());
    restored
}

/// `Debug` tells −0.0 from 0.0 and any two doubles apart.
fn exactly(answer: (FeatureValue, Status)) -> String {
    format!("{answer:?}")
}

/// Magnitudes around everything that can go wrong: overflow, subnormals, half an ulp, wide gaps.
const TELLING: [f64; 20] = [
    f64::MAX,
    1.0e308,
    8.98846567431158e307,   // 2^1023
    9.9792015476736e291,    // 2^970, half an ulp of the greatest double
    1.99584030953472e292,   // 2^971, an ulp of it
    1.3407807929942596e154, // about the root of the greatest double
    9007199254740993.0,
    9007199254740992.0,
    1.0,
    1.0000000000000002,
    1.1102230246251565e-16, // 2^-53, half an ulp of 1
    1.232595164407831e-32,  // 2^-106
    5.551115123125783e-17,  // 2^-54
    0.1,
    1.4916681462400413e-154, // the square is about the least normal double
    2.2227587494850775e-162, // the square is half the least double
    f64::MIN_POSITIVE,
    2.225073858507201e-308, // the greatest subnormal
    1.0e-320,
    5e-324,
];

fn any_double(palette: u8) -> BoxedStrategy<f64> {
    let telling = (0..TELLING.len(), any::<bool>())
        .prop_map(|(i, negative)| if negative { -TELLING[i] } else { TELLING[i] });
    let any_bits = any::<u64>().prop_map(f64::from_bits);
    let price = (-100_000i32..100_000).prop_map(|cents| f64::from(cents) / 100.0);
    let subnormal = any::<u64>().prop_map(|bits| f64::from_bits(bits & 0x800f_ffff_ffff_ffff));
    let huge = any::<u64>().prop_map(|bits| f64::from_bits(bits | 0x7fc0_0000_0000_0000));
    let huge = huge.prop_map(|v| if v.is_finite() { v } else { f64::MAX });
    let strategy = match palette % 6 {
        0 => price.boxed(),
        1 => telling.boxed(),
        2 => any_bits.boxed(),
        3 => subnormal.boxed(),
        4 => prop_oneof![huge, telling].boxed(),
        _ => prop_oneof![telling, any_bits, price, subnormal].boxed(),
    };
    strategy.prop_map(|v| millrace_types::value::canonical_double(v).unwrap_or(0.0)).boxed()
}

fn any_int() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3i64..4,
        any::<i64>(),
        prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1, 1 << 53]),
    ]
}

fn any_value(ty: FieldType, palette: u8) -> BoxedStrategy<Value> {
    let value = match ty {
        FieldType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        FieldType::Int64 => any_int().prop_map(Value::Int64).boxed(),
        FieldType::Double => any_double(palette).prop_map(Value::Double).boxed(),
        FieldType::String => "[abé]{0,2}".prop_map(|s| Value::String(s.into())).boxed(),
        FieldType::Bytes => {
            prop::collection::vec(0u8..3, 0..3).prop_map(|b| Value::Bytes(b.into())).boxed()
        }
        FieldType::Timestamp => any_int().prop_map(|t| Value::Timestamp(Micros(t))).boxed(),
    };
    prop_oneof![1 => Just(Value::Null), 9 => value].boxed()
}

fn any_type() -> impl Strategy<Value = FieldType> {
    prop::sample::select(vec![
        FieldType::Bool,
        FieldType::Int64,
        FieldType::Double,
        FieldType::String,
        FieldType::Bytes,
        FieldType::Timestamp,
    ])
}

fn any_feature() -> impl Strategy<Value = Feature> {
    let number = prop::sample::select(vec![FieldType::Int64, FieldType::Double]);
    let ordered = any_type()
        .prop_filter("min and max", |ty| !matches!(ty, FieldType::Bool | FieldType::Bytes));
    let of_numbers = prop_oneof![
        Just(Aggregate::Sum),
        Just(Aggregate::Mean),
        Just(Aggregate::Variance),
        Just(Aggregate::Stddev),
        (0u32..=64).prop_map(|p| Aggregate::ApproxPercentile { p: f64::from(p.max(1)) / 64.0 }),
    ];
    let of_ordered = prop_oneof![Just(Aggregate::Min), Just(Aggregate::Max)];
    let of_any = prop_oneof![
        Just(Aggregate::Count),
        Just(Aggregate::First),
        Just(Aggregate::Last),
        (1usize..6).prop_map(|n| Aggregate::FirstN { n }),
        (1usize..6).prop_map(|n| Aggregate::LastN { n }),
        (1usize..12).prop_map(|limit| Aggregate::CountDistinct { limit }),
        (1usize..4, 1usize..12).prop_map(|(k, limit)| Aggregate::TopK { k, limit }),
    ];
    prop_oneof![
        3 => (of_numbers, number).prop_map(|(aggregate, ty)| feature(aggregate, ty)),
        1 => (of_ordered, ordered).prop_map(|(aggregate, ty)| feature(aggregate, ty)),
        3 => (of_any, any_type()).prop_map(|(aggregate, ty)| feature(aggregate, ty)),
    ]
}

/// A feature and rows for it, no two in one place.
fn any_case() -> impl Strategy<Value = (Feature, Vec<RefRow>)> {
    (any_feature(), any::<u8>()).prop_flat_map(|(feature, palette)| {
        let value = any_value(argument_type(&feature), palette);
        let row = ((-3i64..3, 0u64..2, any::<u8>()), value);
        let rows = prop_oneof![
            prop::collection::vec(row.clone(), 0..5),
            prop::collection::vec(row, 0..40)
        ]
        .prop_map(|rows| {
            let place = |(i, ((at, seq, id), value)): (usize, ((i64, u64, u8), Value))| {
                ((at, seq, vec![id, i as u8]), value)
            };
            rows.into_iter().enumerate().map(place).collect::<Vec<RefRow>>()
        });
        (Just(feature), rows)
    })
}

proptest! {
    #[test]
    fn any_order_grouping_and_storing_gives_the_reference_answer(
        (feature, rows) in any_case(),
        steps in prop::collection::vec((any::<u8>(), any::<Index>(), any::<Index>()), 1..100),
    ) {
        let mut waiting = rows.clone();
        let mut pool = vec![Partial::new(&feature)];
        for (step, a, b) in &steps {
            let one = a.index(pool.len());
            match step % 6 {
                0 => pool[one] = restored(&feature, &pool[one]),
                1 => pool.push(Partial::new(&feature)),
                2 if pool.len() > 1 => {
                    let partial = pool.swap_remove(one);
                    let other = b.index(pool.len());
                    pool[other].merge(&partial);
                }
                _ if waiting.is_empty() => {}
                _ => add(&mut pool[one], &waiting.swap_remove(b.index(waiting.len()))),
            }
        }
        waiting.iter().for_each(|row| add(&mut pool[0], row));
        let partial = pool.into_iter().rev().reduce(|mut all, partial| {
            all.merge(&partial);
            all
        });
        let partial = partial.expect("the pool is never empty");
        let straight = folded(&feature, &rows);
        let expected = evaluate(feature.aggregate, &rows);
        prop_assert_eq!(exactly(partial.finish(&feature)), exactly(expected));
        prop_assert_eq!(&partial, &straight);
        prop_assert_eq!(bytes(&partial), bytes(&straight));
        prop_assert_eq!(&restored(&feature, &partial), &straight);
    }

    #[test]
    fn a_settled_partial_needs_no_older_row((feature, rows) in any_case()) {
        let mut newest_first = rows.clone();
        newest_first.sort_by(|a, b| b.0.cmp(&a.0));
        let mut partial = Partial::new(&feature);
        for row in &newest_first {
            if !partial.is_settled() {
                add(&mut partial, row);
            }
        }
        prop_assert_eq!(&partial, &folded(&feature, &rows));
        let holds_last = matches!(feature.aggregate, Aggregate::Last)
            && rows.iter().any(|(_, value)| *value != Value::Null);
        prop_assert!(!holds_last || partial.is_settled());
    }

    #[test]
    fn damaged_bytes_are_refused_or_a_partial(
        (feature, rows) in any_case(),
        at in any::<Index>(),
        damage in any::<u8>(),
        cut in any::<Index>(),
    ) {
        let whole = bytes(&folded(&feature, &rows));
        let mut damaged = whole.clone();
        damaged[at.index(whole.len())] ^= damage;
        let cut = &whole[..cut.index(whole.len())];
        prop_assert!(Partial::decode(&feature, &mut Reader::new(cut)).is_err());
        if let Ok(mut partial) = Partial::decode(&feature, &mut Reader::new(&damaged)) {
            prop_assert_eq!(&restored(&feature, &partial), &partial);
            partial.merge(&partial.clone());
            rows.iter().for_each(|row| add(&mut partial, row));
            let _ = partial.finish(&feature);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_a_partial(
        feature in any_feature(),
        tail in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..4], 0..60),
    ) {
        let mut bytes = bytes(&Partial::new(&feature));
        bytes.truncate(1);
        bytes.extend(tail);
        if let Ok(partial) = Partial::decode(&feature, &mut Reader::new(&bytes)) {
            prop_assert_eq!(&restored(&feature, &partial), &partial);
            let _ = partial.finish(&feature);
            prop_assert!(partial.heap_bytes() <= 64 * bytes.len() + 4096);
        }
    }

    #[test]
    fn bytes_of_another_kind_are_refused((feature, rows) in any_case(), other in any_feature()) {
        let partial = folded(&feature, &rows);
        let same_kind = partial.0.kind() == Partial::new(&other).0.kind();
        let empty = partial == Partial::new(&feature);
        // A count, a percentile and what holds no values are the same for every type of argument.
        let same_type = argument_type(&feature) == argument_type(&other)
            || empty
            || partial.finish(&feature).1 == Status::Truncated
            || matches!(feature.aggregate, Aggregate::Count | Aggregate::ApproxPercentile { .. });
        if !(same_kind && same_type) {
            let bytes = bytes(&partial);
            prop_assert!(Partial::decode(&other, &mut Reader::new(&bytes)).is_err());
        }
    }
}

fn of_doubles(aggregate: Aggregate, values: &[f64]) -> String {
    answer(&feature(aggregate, FieldType::Double), values.iter().map(|&v| Value::Double(v)))
}

fn of_ints(aggregate: Aggregate, values: &[i64]) -> String {
    answer(&feature(aggregate, FieldType::Int64), values.iter().map(|&v| Value::Int64(v)))
}

fn answer(feature: &Feature, values: impl Iterator<Item = Value>) -> String {
    let rows: Vec<RefRow> =
        values.enumerate().map(|(i, value)| ((i as i64, 0, Vec::new()), value)).collect();
    let (value, status) = folded(feature, &rows).finish(feature);
    match value {
        FeatureValue::Scalar(value) => format!("{value:?} {}", status.name()),
        FeatureValue::List(_) | FeatureValue::Counted(_) => panic!("scalars only"),
    }
}

#[test]
fn sums_pass_through_overflow_and_come_back() {
    let max = f64::MAX;
    assert_eq!(of_doubles(Aggregate::Sum, &[max, max, -max]), format!("Double({max:?}) PRESENT"));
    assert_eq!(of_doubles(Aggregate::Sum, &[max, 2f64.powi(970)]), "Null OVERFLOW");
    assert_eq!(
        of_doubles(Aggregate::Sum, &[max, 2f64.powi(970), -5e-324]),
        format!("Double({max:?}) PRESENT")
    );
    assert_eq!(of_doubles(Aggregate::Sum, &[1e300, 1e-300, -1e300]), "Double(1e-300) PRESENT");
    // Ties go to the even double, and the least bit beyond a tie decides it.
    let (one, half_ulp) = (1.0, 2f64.powi(-53));
    assert_eq!(of_doubles(Aggregate::Sum, &[one, half_ulp]), "Double(1.0) PRESENT");
    assert_eq!(
        of_doubles(Aggregate::Sum, &[one, half_ulp, 5e-324]),
        "Double(1.0000000000000002) PRESENT"
    );
    assert_eq!(
        of_doubles(Aggregate::Sum, &[one, 3.0 * half_ulp]),
        "Double(1.0000000000000004) PRESENT"
    );
    assert_eq!(of_doubles(Aggregate::Sum, &[0.1, -0.1]), "Double(0.0) PRESENT");
    assert_eq!(of_doubles(Aggregate::Mean, &[max, max]), "Null OVERFLOW");
    assert_eq!(of_doubles(Aggregate::Mean, &[-5e-324, 0.0]), "Double(-0.0) PRESENT");
    assert_eq!(of_ints(Aggregate::Sum, &[i64::MAX, 1]), "Null OVERFLOW");
    assert_eq!(of_ints(Aggregate::Sum, &[i64::MAX, 1, -1]), format!("Int64({}) PRESENT", i64::MAX));
    assert_eq!(of_ints(Aggregate::Mean, &[i64::MAX; 3]), "Double(9.223372036854776e18) PRESENT");
}

#[test]
fn variances_are_rounded_once() {
    assert_eq!(of_ints(Aggregate::Variance, &[7]), "Null NULL");
    assert_eq!(of_ints(Aggregate::Variance, &[7, 7, 7]), "Double(0.0) PRESENT");
    assert_eq!(
        of_ints(Aggregate::Variance, &[2, 4, 4, 4, 5, 5, 7, 9]),
        "Double(4.571428571428571) PRESENT"
    );
    // (Σx² …) is a tie of doubles and a third: what the division leaves over decides.
    assert_eq!(
        of_ints(Aggregate::Variance, &[0, 1, 12_884_987_904]),
        "Double(5.534097109111378e19) PRESENT"
    );
    // Around 1e9 the textbook formula in doubles has lost every digit.
    assert_eq!(
        of_doubles(Aggregate::Variance, &[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]),
        "Double(30.0) PRESENT"
    );
    assert_eq!(
        of_ints(Aggregate::Stddev, &[i64::MIN, i64::MAX]),
        "Double(1.3043817825332783e19) PRESENT"
    );
    assert_eq!(of_doubles(Aggregate::Variance, &[f64::MAX, -f64::MAX]), "Null OVERFLOW");
    assert_eq!(of_doubles(Aggregate::Stddev, &[f64::MAX, 0.0]), "Null OVERFLOW");
    assert_eq!(of_doubles(Aggregate::Variance, &[5e-324, 0.0]), "Double(0.0) PRESENT");
}

#[test]
fn percentiles_answer_the_middle_of_a_bucket() {
    let p = |p| Aggregate::ApproxPercentile { p };
    assert_eq!(of_doubles(p(0.5), &[]), "Null NULL");
    assert_eq!(of_doubles(p(0.5), &[-1.0, 0.0, 1.0]), "Double(0.0) PRESENT");
    assert_eq!(of_doubles(p(0.01), &[-1.0, 0.0, 1.0]), "Double(-1.0078125) PRESENT");
    assert_eq!(of_ints(p(1.0), &[1, 2, 100]), "Double(100.5) PRESENT");
    assert_eq!(of_doubles(p(1.0), &[f64::MAX]), "Double(1.79067089605426e308) PRESENT");
}

#[test]
fn sums_as_wide_as_their_integer_are_stored() {
    let wide = 2f64.powi(127);
    let rows = [wide, 1.0, wide].map(|v| ((0, 0, Vec::new()), Value::Double(v)));
    for aggregate in [Aggregate::Sum, Aggregate::Variance] {
        let feature = feature(aggregate, FieldType::Double);
        for rows in [&rows[..1], &rows[..2], &rows[..]] {
            let partial = folded(&feature, rows);
            assert_eq!(restored(&feature, &partial), partial);
        }
    }
}

#[test]
fn a_partial_is_small() {
    assert!(size_of::<Partial>() <= 40, "{} bytes", size_of::<Partial>());
    let prices: Vec<RefRow> = [19.99, 5.49, 120.0, 0.99]
        .iter()
        .map(|&price| ((0, 0, Vec::new()), Value::Double(price)))
        .collect();
    let sum_of_doubles = feature(Aggregate::Sum, FieldType::Double);
    let sum = folded(&sum_of_doubles, &prices);
    assert_eq!(sum.heap_bytes(), 0);
    assert!(bytes(&sum).len() <= 13, "{} bytes", bytes(&sum).len());
    // Far exponents stay small as long as the bits between them are few.
    let far = [2f64.powi(100), 1.0].map(|v| ((0, 0, Vec::new()), Value::Double(v)));
    assert_eq!(folded(&sum_of_doubles, &far).heap_bytes(), 0);
    let farther = [2f64.powi(200), 1.0].map(|v| ((0, 0, Vec::new()), Value::Double(v)));
    assert_ne!(folded(&sum_of_doubles, &farther).heap_bytes(), 0);
}
