//! A naive evaluator that shares nothing with the real one: it walks the expression as it was
//! generated, computes with big rationals and rounds by searching for the nearest double.

use std::fmt;

use millrace_types::{FieldType, Micros, Value};
use num_bigint::BigInt;
use num_rational::Ratio;
use num_traits::{Signed, Zero};
use proptest::prelude::*;

use super::{FIELDS, JoinedRow};

type Rational = Ratio<BigInt>;

/// An expression as it is written.
#[derive(Debug, Clone)]
pub(super) enum Expr {
    Literal(Value),
    /// 0 for `e`, 1 for `c`; then the field.
    Field(usize, usize),
    Negate(Box<Expr>),
    Not(Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    Has(usize, usize),
    Null(&'static str, usize, usize),
    In(Box<Expr>, Vec<Value>),
    Method(&'static str, Box<Expr>, Box<Expr>),
}

fn write_literal(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Null => f.write_str("null"),
        Value::Bool(v) => write!(f, "{v}"),
        Value::Int64(v) => write!(f, "{v}"),
        Value::Double(v) => write!(f, "{v:?}"),
        Value::String(v) => write!(f, "'{v}'"),
        Value::Bytes(v) => {
            f.write_str("b'")?;
            v.iter().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
            f.write_str("'")
        }
        Value::Timestamp(v) => write!(f, "timestamp('{v}')"),
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |side: &usize, field: &usize| format!("{}.{}", ["e", "c"][*side], FIELDS[*field].0);
        match self {
            Self::Literal(value) => {
                f.write_str("(")?;
                write_literal(f, value)?;
                f.write_str(")")
            }
            Self::Field(side, field) => f.write_str(&name(side, field)),
            Self::Negate(a) => write!(f, "(-({a}))"),
            Self::Not(a) => write!(f, "!({a})"),
            Self::Binary(op, a, b) => write!(f, "({a} {op} {b})"),
            Self::Has(side, field) => write!(f, "has({})", name(side, field)),
            Self::Null(op, side, field) => write!(f, "({} {op} null)", name(side, field)),
            Self::In(a, items) => {
                write!(f, "({a} in [")?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    write_literal(f, item)?;
                }
                f.write_str("])")
            }
            Self::Method(method, a, b) => write!(f, "{a}.{method}({b})"),
        }
    }
}

/// A value of the reference.
#[derive(Debug, Clone, PartialEq)]
enum Ref {
    Bool(bool),
    Int(BigInt),
    Double(Rational),
    Bytes(Vec<u8>),
    Time(i64),
}

/// The three-valued result of a condition.
pub(super) fn truth(expr: &Expr, row: &JoinedRow) -> Option<bool> {
    let Ref::Bool(value) = eval(expr, row)? else { panic!("{expr} is no condition") };
    Some(value)
}

fn lift(value: &Value) -> Option<Ref> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(v) => Ref::Bool(*v),
        Value::Int64(v) => Ref::Int(BigInt::from(*v)),
        Value::Double(v) => Ref::Double(exact(*v)),
        Value::String(v) => Ref::Bytes(v.as_bytes().to_vec()),
        Value::Bytes(v) => Ref::Bytes(v.to_vec()),
        Value::Timestamp(v) => Ref::Time(v.0),
    })
}

fn eval(expr: &Expr, row: &JoinedRow) -> Option<Ref> {
    match expr {
        Expr::Literal(value) => lift(value),
        Expr::Field(side, field) => lift(&row.0[*side][*field]),
        Expr::Negate(a) => match eval(a, row)? {
            Ref::Int(a) => int(-a),
            Ref::Double(a) => Some(Ref::Double(-a)),
            other @ (Ref::Bool(_) | Ref::Bytes(_) | Ref::Time(_)) => panic!("-{other:?}"),
        },
        Expr::Not(a) => truth(a, row).map(|a| Ref::Bool(!a)),
        Expr::Has(side, field) => Some(Ref::Bool(row.0[*side][*field] != Value::Null)),
        Expr::Null(op, side, field) => {
            Some(Ref::Bool((row.0[*side][*field] == Value::Null) == (*op == "==")))
        }
        Expr::In(a, items) => {
            let a = eval(a, row)?;
            Some(Ref::Bool(items.iter().any(|item| order(&a, &lift(item).unwrap()).is_eq())))
        }
        Expr::Method(method, a, b) => {
            let (Ref::Bytes(a), Ref::Bytes(b)) = (eval(a, row)?, eval(b, row)?) else {
                panic!("text")
            };
            Some(Ref::Bool(match *method {
                "startsWith" => a.len() >= b.len() && a[..b.len()] == b,
                "endsWith" => a.len() >= b.len() && a[a.len() - b.len()..] == b,
                // The generated patterns are plain letters, for which `matches` is `contains`.
                _ => (0..=a.len()).any(|i| a[i..].starts_with(&b)),
            }))
        }
        Expr::Binary("&&", a, b) => match (truth(a, row), truth(b, row)) {
            (Some(false), _) | (_, Some(false)) => Some(Ref::Bool(false)),
            (Some(true), Some(true)) => Some(Ref::Bool(true)),
            _ => None,
        },
        Expr::Binary("||", a, b) => match (truth(a, row), truth(b, row)) {
            (Some(true), _) | (_, Some(true)) => Some(Ref::Bool(true)),
            (Some(false), Some(false)) => Some(Ref::Bool(false)),
            _ => None,
        },
        Expr::Binary(op, a, b) => binary(op, eval(a, row)?, eval(b, row)?),
    }
}

fn order(a: &Ref, b: &Ref) -> std::cmp::Ordering {
    match (a, b) {
        (Ref::Bool(a), Ref::Bool(b)) => a.cmp(b),
        (Ref::Int(a), Ref::Int(b)) => a.cmp(b),
        (Ref::Double(a), Ref::Double(b)) => a.cmp(b),
        (Ref::Int(a), Ref::Double(b)) => Rational::from_integer(a.clone()).cmp(b),
        (Ref::Double(a), Ref::Int(b)) => a.cmp(&Rational::from_integer(b.clone())),
        (Ref::Bytes(a), Ref::Bytes(b)) => a.cmp(b),
        (Ref::Time(a), Ref::Time(b)) => a.cmp(b),
        _ => panic!("{a:?} against {b:?}"),
    }
}

fn binary(op: &str, a: Ref, b: Ref) -> Option<Ref> {
    let compared = match op {
        "==" => Some(order(&a, &b).is_eq()),
        "!=" => Some(order(&a, &b).is_ne()),
        "<" => Some(order(&a, &b).is_lt()),
        "<=" => Some(order(&a, &b).is_le()),
        ">" => Some(order(&a, &b).is_gt()),
        ">=" => Some(order(&a, &b).is_ge()),
        _ => None,
    };
    if let Some(result) = compared {
        return Some(Ref::Bool(result));
    }
    match (a, b) {
        (Ref::Int(a), Ref::Int(b)) => match op {
            "+" => int(a + b),
            "-" => int(a - b),
            "*" => int(a * b),
            _ if b.is_zero() => None,
            "/" => int(a / b),
            // Without a quotient there is no remainder.
            _ => int(&a / &b).and(int(a % b)),
        },
        (Ref::Double(a), Ref::Double(b)) => match op {
            "+" => nearest(&(a + b)),
            "-" => nearest(&(a - b)),
            "*" => nearest(&(a * b)),
            _ if b.is_zero() => None,
            _ => nearest(&(a / b)),
        },
        (a, b) => panic!("{a:?} {op} {b:?}"),
    }
}

fn int(value: BigInt) -> Option<Ref> {
    i64::try_from(&value).is_ok().then_some(Ref::Int(value))
}

/// A finite double as the fraction it is.
fn exact(value: f64) -> Rational {
    let bits = value.to_bits();
    let (exponent, rest) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
    let whole = if exponent == 0 { rest } else { rest + (1 << 52) };
    let shift = i32::try_from(exponent.max(1)).unwrap() - 1075;
    let power = BigInt::from(2).pow(shift.unsigned_abs());
    let whole = BigInt::from(whole) * if value < 0.0 { -1 } else { 1 };
    if shift < 0 { Rational::new(whole, power) } else { Rational::from_integer(whole * power) }
}

/// Rounds to the nearest double, ties to even; `None` when that is not finite.
fn nearest(value: &Rational) -> Option<Ref> {
    let size = value.abs();
    let double = |bits: u64| exact(f64::from_bits(bits));
    let greatest = f64::MAX.to_bits();
    // The bits of positive doubles ascend with them: find the greatest that is not above.
    let (mut low, mut high) = (0, greatest);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if double(middle) <= size { low = middle } else { high = middle - 1 }
    }
    let below = double(low);
    let above = if low == greatest {
        Rational::from_integer(BigInt::from(2).pow(1024))
    } else {
        double(low + 1)
    };
    let (down, up) = (&size - &below, &above - &size);
    let rounds_up = up < down || (up == down && low % 2 == 1);
    if rounds_up && low == greatest {
        return None;
    }
    let rounded = if rounds_up { above } else { below };
    Some(Ref::Double(if value.is_negative() { -rounded } else { rounded }))
}

/// Values that meet, overflow and round.
pub(super) fn value(ty: FieldType) -> BoxedStrategy<Value> {
    match ty {
        FieldType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        FieldType::Int64 => prop_oneof![
            3 => -3_i64..4,
            1 => prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1]),
            1 => (1_i64 << 53) - 2..(1 << 53) + 3,
            1 => any::<i64>(),
        ]
        .prop_map(Value::Int64)
        .boxed(),
        FieldType::Double => prop_oneof![
            3 => (-6_i32..7).prop_map(|n| f64::from(n) / 2.0),
            1 => prop::sample::select(vec![
                9_007_199_254_740_992.0, 9_007_199_254_740_994.0, 9_223_372_036_854_775_808.0,
                -9_223_372_036_854_775_808.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 1e300,
            ]),
            1 => any::<f64>().prop_filter("finite", |d| d.is_finite()),
        ]
        .prop_map(|d| Value::Double(d + 0.0))
        .boxed(),
        FieldType::String => "[abé]{0,3}".prop_map(|s| Value::String(s.into())).boxed(),
        FieldType::Bytes => {
            prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255)], 0..3)
                .prop_map(|b| Value::Bytes(b.into()))
                .boxed()
        }
        FieldType::Timestamp => {
            prop_oneof![-2_i64..3, -1_000_000_000_000_i64..4_000_000_000_000_000]
                .prop_map(|t| Value::Timestamp(Micros(t)))
                .boxed()
        }
    }
}

fn field_of(ty: FieldType) -> BoxedStrategy<(usize, usize)> {
    let fields: Vec<usize> = (0..FIELDS.len()).filter(|f| FIELDS[*f].1 == ty).collect();
    (0_usize..2, prop::sample::select(fields)).boxed()
}

fn leaf(ty: FieldType) -> BoxedStrategy<Expr> {
    prop_oneof![
        2 => field_of(ty).prop_map(|(side, field)| Expr::Field(side, field)),
        1 => value(ty).prop_map(Expr::Literal),
    ]
    .boxed()
}

fn number(ty: FieldType) -> BoxedStrategy<Expr> {
    let operators = if ty == FieldType::Int64 { "+-*/%" } else { "+-*/" };
    let operators: Vec<&'static str> = operators.split("").filter(|s| !s.is_empty()).collect();
    leaf(ty)
        .prop_recursive(2, 6, 2, move |inner| {
            prop_oneof![
                inner.clone().prop_map(|a| Expr::Negate(Box::new(a))),
                (prop::sample::select(operators.clone()), inner.clone(), inner)
                    .prop_map(|(op, a, b)| Expr::Binary(op, Box::new(a), Box::new(b))),
            ]
        })
        .boxed()
}

fn of(ty: FieldType) -> BoxedStrategy<Expr> {
    match ty {
        FieldType::Int64 | FieldType::Double => number(ty),
        FieldType::Bool | FieldType::String | FieldType::Bytes | FieldType::Timestamp => leaf(ty),
    }
}

fn any_type() -> impl Strategy<Value = FieldType> {
    prop::sample::select(FIELDS.map(|(_, ty)| ty).to_vec())
}

/// What a value of this type is compared with: numbers of either type.
fn partner(ty: FieldType) -> BoxedStrategy<FieldType> {
    match ty {
        FieldType::Int64 | FieldType::Double => {
            prop_oneof![Just(FieldType::Int64), Just(FieldType::Double)].boxed()
        }
        FieldType::Bool | FieldType::String | FieldType::Bytes | FieldType::Timestamp => {
            Just(ty).boxed()
        }
    }
}

fn comparison() -> BoxedStrategy<Expr> {
    let operators = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    any_type()
        .prop_flat_map(|ty| (Just(ty), partner(ty)))
        .prop_flat_map(move |(a, b)| (operators.clone(), of(a), of(b)))
        .prop_map(|(op, a, b)| Expr::Binary(op, Box::new(a), Box::new(b)))
        .boxed()
}

fn membership() -> BoxedStrategy<Expr> {
    let list = |ty| prop::collection::vec(partner(ty).prop_flat_map(value), 0..4);
    any_type()
        .prop_flat_map(move |ty| (of(ty), list(ty)))
        .prop_map(|(a, items)| Expr::In(Box::new(a), items))
        .boxed()
}

fn method() -> BoxedStrategy<Expr> {
    let part = prop_oneof![leaf(FieldType::String)];
    let pattern = value(FieldType::String).prop_map(Expr::Literal);
    prop_oneof![
        3 => (prop::sample::select(vec!["startsWith", "endsWith", "contains"]), part),
        1 => (Just("matches"), pattern),
    ]
    .prop_flat_map(|(method, b)| (Just(method), leaf(FieldType::String), Just(b)))
    .prop_map(|(method, a, b)| Expr::Method(method, Box::new(a), Box::new(b)))
    .boxed()
}

/// A random condition.
pub(super) fn condition() -> impl Strategy<Value = Expr> {
    let any_field = any_type().prop_flat_map(field_of).boxed();
    let null = (prop::sample::select(vec!["==", "!="]), any_field.clone());
    let leaf = prop_oneof![
        6 => comparison(),
        2 => membership(),
        1 => method(),
        1 => leaf(FieldType::Bool),
        1 => any_field.prop_map(|(side, field)| Expr::Has(side, field)),
        1 => null.prop_map(|(op, (side, field))| Expr::Null(op, side, field)),
    ];
    leaf.prop_recursive(3, 10, 2, |inner| {
        let operators = prop::sample::select(vec!["&&", "||", "==", "!=", "<"]);
        prop_oneof![
            1 => inner.clone().prop_map(|a| Expr::Not(Box::new(a))),
            4 => (operators, inner.clone(), inner)
                .prop_map(|(op, a, b)| Expr::Binary(op, Box::new(a), Box::new(b))),
        ]
    })
}
