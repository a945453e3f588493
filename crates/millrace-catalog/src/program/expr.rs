//! The typed tree and its evaluation. `None` stands for U everywhere.
//!
//! One enum for each type, so that an operand cannot have the wrong type and no value is boxed.

use std::cmp::Ordering;

use millrace_types::{Micros, ValueRef};

use super::FieldSource;
use super::number::{Arithmetic, compare_exact};
use super::pattern::Pattern;
use crate::model::Source;

/// Reads of one type; NULL is U, and so is a value of another type, which no row has.
macro_rules! readers {
    ($($name:ident $variant:ident $ty:ty,)+) => {
        $(
            #[inline]
            fn $name<R: FieldSource>(self, row: &R) -> Option<$ty> {
                if let ValueRef::$variant(value) = self.read(row) { Some(value) } else { None }
            }
        )+
    };
}

/// Where a field is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) source: Source,
    pub(super) field: usize,
}

impl Slot {
    #[inline]
    fn read<R: FieldSource>(self, row: &R) -> ValueRef<'_> {
        row.field(self.source, self.field)
    }

    readers! {
        bool Bool bool,
        int Int64 i64,
        double Double f64,
        text String &str,
        bytes Bytes &[u8],
        time Timestamp Micros,
    }
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Test {
    #[inline]
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// A test of one string by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affix {
    StartsWith,
    EndsWith,
    Contains,
}

/// An expression of type bool.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cond {
    Literal(bool),
    Field(Slot),
    /// `has(f)` and `f != null`: never U.
    Present(Slot),
    Not(Box<Cond>),
    /// Kleene's: false wins over U.
    All(Box<[Cond]>),
    /// Kleene's: true wins over U.
    Any(Box<[Cond]>),
    Bool(Test, Box<Cond>, Box<Cond>),
    Int(Test, Int, Int),
    Double(Test, Double, Double),
    /// An int64 against a double, as exact reals.
    IntDouble(Test, Int, Double),
    Text(Test, Text, Text),
    Bytes(Test, Bytes, Bytes),
    Time(Test, Time, Time),
    /// The lists of these are sorted and hold no value twice.
    InBool(Box<Cond>, Box<[bool]>),
    InInt(Int, Box<[i64]>),
    InDouble(Double, Box<[f64]>),
    InText(Text, Box<[Box<str>]>),
    InBytes(Bytes, Box<[Box<[u8]>]>),
    InTime(Time, Box<[Micros]>),
    Affix(Affix, Text, Text),
    Matches(Text, Pattern),
}

/// An expression of type int64.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Int {
    Literal(i64),
    Field(Slot),
    Negate(Box<Int>),
    Arithmetic(Arithmetic, Box<Int>, Box<Int>),
}

/// An expression of type double; its values are finite and never −0.0.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Double {
    Literal(f64),
    Field(Slot),
    Negate(Box<Double>),
    Arithmetic(Arithmetic, Box<Double>, Box<Double>),
}

/// An expression of type string.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Text {
    Literal(Box<str>),
    Field(Slot),
}

/// An expression of type bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Bytes {
    Literal(Box<[u8]>),
    Field(Slot),
}

/// An expression of type timestamp.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Time {
    Literal(Micros),
    Field(Slot),
}

impl Cond {
    #[inline]
    pub(super) fn eval<R: FieldSource>(&self, row: &R) -> Option<bool> {
        match self {
            Self::Literal(value) => Some(*value),
            Self::Field(slot) => slot.bool(row),
            Self::Present(slot) => Some(!slot.read(row).is_null()),
            Self::Not(a) => a.eval(row).map(|v| !v),
            Self::All(terms) => kleene(terms, row, true),
            Self::Any(terms) => kleene(terms, row, false),
            Self::Bool(test, a, b) => Some(test.holds(a.eval(row)?.cmp(&b.eval(row)?))),
            Self::Int(test, a, b) => Some(test.holds(a.eval(row)?.cmp(&b.eval(row)?))),
            Self::Double(test, a, b) => Some(test.holds(a.eval(row)?.partial_cmp(&b.eval(row)?)?)),
            Self::IntDouble(test, a, b) => {
                Some(test.holds(compare_exact(a.eval(row)?, b.eval(row)?)))
            }
            Self::Text(test, a, b) => {
                Some(test.holds(a.eval(row)?.as_bytes().cmp(b.eval(row)?.as_bytes())))
            }
            Self::Bytes(test, a, b) => Some(test.holds(a.eval(row)?.cmp(b.eval(row)?))),
            Self::Time(test, a, b) => Some(test.holds(a.eval(row)?.cmp(&b.eval(row)?))),
            Self::InBool(a, list) => Some(list.contains(&a.eval(row)?)),
            Self::InInt(a, list) => Some(list.binary_search(&a.eval(row)?).is_ok()),
            Self::InDouble(a, list) => {
                let value = a.eval(row)?;
                Some(list.binary_search_by(|v| v.total_cmp(&value)).is_ok())
            }
            Self::InText(a, list) => {
                let value = a.eval(row)?;
                Some(list.binary_search_by(|v| (**v).cmp(value)).is_ok())
            }
            Self::InBytes(a, list) => {
                let value = a.eval(row)?;
                Some(list.binary_search_by(|v| (**v).cmp(value)).is_ok())
            }
            Self::InTime(a, list) => Some(list.binary_search(&a.eval(row)?).is_ok()),
            Self::Affix(affix, a, b) => {
                let (text, part) = (a.eval(row)?, b.eval(row)?);
                Some(match affix {
                    Affix::StartsWith => text.starts_with(part),
                    Affix::EndsWith => text.ends_with(part),
                    Affix::Contains => text.contains(part),
                })
            }
            Self::Matches(a, pattern) => Some(pattern.is_match(a.eval(row)?)),
        }
    }
}

/// `neutral` until a term is its opposite, which decides; U if a term is U and none decides.
#[inline]
fn kleene<R: FieldSource>(terms: &[Cond], row: &R, neutral: bool) -> Option<bool> {
    let mut result = Some(neutral);
    for term in terms {
        match term.eval(row) {
            Some(value) if value != neutral => return Some(value),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

impl Int {
    #[inline]
    fn eval<R: FieldSource>(&self, row: &R) -> Option<i64> {
        match self {
            Self::Literal(value) => Some(*value),
            Self::Field(slot) => slot.int(row),
            Self::Negate(_) | Self::Arithmetic(..) => self.compute(row),
        }
    }

    /// Apart from `eval`, so that reading a field or a literal is inlined where it is used.
    #[inline(never)]
    fn compute<R: FieldSource>(&self, row: &R) -> Option<i64> {
        match self {
            Self::Literal(_) | Self::Field(_) => self.eval(row),
            Self::Negate(a) => a.eval(row)?.checked_neg(),
            Self::Arithmetic(op, a, b) => op.int(a.eval(row)?, b.eval(row)?),
        }
    }
}

impl Double {
    #[inline]
    fn eval<R: FieldSource>(&self, row: &R) -> Option<f64> {
        match self {
            Self::Literal(value) => Some(*value),
            Self::Field(slot) => slot.double(row),
            Self::Negate(_) | Self::Arithmetic(..) => self.compute(row),
        }
    }

    /// Apart from `eval`, so that reading a field or a literal is inlined where it is used.
    #[inline(never)]
    fn compute<R: FieldSource>(&self, row: &R) -> Option<f64> {
        match self {
            Self::Literal(_) | Self::Field(_) => self.eval(row),
            // 0.0 − x is −x but for 0.0, which stays positive.
            Self::Negate(a) => Some(0.0 - a.eval(row)?),
            Self::Arithmetic(op, a, b) => op.double(a.eval(row)?, b.eval(row)?),
        }
    }
}

impl Text {
    #[inline]
    fn eval<'r, R: FieldSource>(&'r self, row: &'r R) -> Option<&'r str> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Field(slot) => slot.text(row),
        }
    }
}

impl Bytes {
    #[inline]
    fn eval<'r, R: FieldSource>(&'r self, row: &'r R) -> Option<&'r [u8]> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Field(slot) => slot.bytes(row),
        }
    }
}

impl Time {
    #[inline]
    fn eval<R: FieldSource>(&self, row: &R) -> Option<Micros> {
        match self {
            Self::Literal(value) => Some(*value),
            Self::Field(slot) => slot.time(row),
        }
    }
}
