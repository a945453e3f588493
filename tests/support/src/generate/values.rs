//! Random values: few enough to collide, with those at the edges of their types.

use millrace_types::{FieldType, Micros, Value};

use super::rng::Rng;

/// Doubles that cancel, overflow, are subnormal, or round when they are added.
const DOUBLES: [f64; 26] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    0.2,
    0.3,
    -0.3,
    2.5,
    100.0,
    1e16,
    -1e16,
    9_007_199_254_740_993.0,
    1e200,
    -1e200,
    1e308,
    -1e308,
    f64::MAX,
    f64::MIN,
    5e-324,
    -5e-324,
    3e-310,
    f64::MIN_POSITIVE,
    -f64::MIN_POSITIVE,
    1e-160,
    1.015_625,
];

const INTS: [i64; 14] = [
    0,
    1,
    2,
    3,
    -1,
    7,
    100,
    -100,
    (1 << 53) + 1,
    1 << 62,
    i64::MAX,
    i64::MAX - 1,
    i64::MIN,
    i64::MIN + 1,
];

const TEXTS: [&str; 10] =
    ["", "a", "b", "ab", "gift", "Zebra", "é", "a\nb", "\u{10ffff}", "a rather long text value"];

const BYTES: [&[u8]; 5] = [b"", b"\x00", b"a", b"ab", b"\xff\xfe"];

/// A value of a type, NULL in one of eight cases. Instants are taken from `instants`.
pub(super) fn value(rng: &mut Rng, ty: FieldType, instants: &[i64]) -> Value {
    if rng.percent(12) {
        return Value::Null;
    }
    match ty {
        FieldType::Bool => Value::Bool(rng.percent(50)),
        FieldType::Int64 => Value::Int64(int(rng)),
        FieldType::Double => Value::Double(double(rng)),
        FieldType::String => Value::String((*rng.pick(&TEXTS)).into()),
        FieldType::Bytes => Value::Bytes((*rng.pick(&BYTES)).into()),
        FieldType::Timestamp => Value::Timestamp(Micros(*rng.pick(instants))),
    }
}

fn int(rng: &mut Rng) -> i64 {
    match rng.below(10) {
        0 => rng.next_u64() as i64,
        1..=5 => rng.below(6) as i64 - 1,
        _ => *rng.pick(&INTS),
    }
}

fn double(rng: &mut Rng) -> f64 {
    match rng.below(10) {
        // Any finite double: an exponent of all ones would be none, so its top bit is cleared then.
        0 => {
            let bits = rng.next_u64();
            let any = f64::from_bits(bits);
            if any.is_finite() { any } else { f64::from_bits(bits & !(1 << 62)) }
        }
        1..=4 => rng.below(2_000) as f64 / 8.0 - 50.0,
        _ => *rng.pick(&DOUBLES),
    }
}

/// Literals of a type for a `where` text, some of them equal to values above.
pub(super) fn literal(rng: &mut Rng, ty: FieldType) -> String {
    match ty {
        FieldType::Bool => (*rng.pick(&["true", "false"])).to_owned(),
        FieldType::Int64 => (*rng.pick(&[
            "0",
            "1",
            "2",
            "-1",
            "100",
            "9007199254740993",
            "9223372036854775807",
            "-9223372036854775808",
        ]))
        .to_owned(),
        FieldType::Double => (*rng.pick(&[
            "0.0",
            "0.1",
            "2.5",
            "-0.3",
            "1e308",
            "9007199254740992.0",
            "5e-324",
            "9223372036854775808.0",
        ]))
        .to_owned(),
        FieldType::String => {
            (*rng.pick(&["''", "'a'", "'gift'", "'Z'", "'é'", "'it\\'s'"])).to_owned()
        }
        FieldType::Bytes => (*rng.pick(&["b''", "b'a'", "b'ab'"])).to_owned(),
        FieldType::Timestamp => (*rng.pick(&[
            "timestamp('2024-03-01T00:00:00Z')",
            "timestamp('1970-01-01T00:00:00.000001Z')",
            "timestamp('2024-03-02T01:00:00+01:00')",
        ]))
        .to_owned(),
    }
}
