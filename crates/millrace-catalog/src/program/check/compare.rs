//! Comparisons and `in`.

use cel::common::ast::{Expr, IdedExpr, operators};
use millrace_types::{FieldType, Micros, Value};

use super::{Checker, Typed, present};
use crate::diagnostic::Rule;
use crate::program::expr::{Cond, Test};
use crate::program::literal::literal;
use crate::program::number::{exact_double, exact_int};

/// The comparison that an operator of CEL's tree stands for.
pub(super) fn test(operator: &str) -> Option<Test> {
    Some(match operator {
        operators::EQUALS => Test::Equal,
        operators::NOT_EQUALS => Test::NotEqual,
        operators::LESS => Test::Less,
        operators::LESS_EQUALS => Test::LessOrEqual,
        operators::GREATER => Test::Greater,
        operators::GREATER_EQUALS => Test::GreaterOrEqual,
        _ => return None,
    })
}

/// `a ⋚ b` as `b ⋛ a`.
fn turned(test: Test) -> Test {
    match test {
        Test::Equal => Test::Equal,
        Test::NotEqual => Test::NotEqual,
        Test::Less => Test::Greater,
        Test::LessOrEqual => Test::GreaterOrEqual,
        Test::Greater => Test::Less,
        Test::GreaterOrEqual => Test::LessOrEqual,
    }
}

fn is_null(node: &IdedExpr) -> bool {
    matches!(literal(node), Ok(Value::Null))
}

impl Checker<'_> {
    pub(super) fn compare(
        &mut self,
        node: &IdedExpr,
        operator: &str,
        a: &IdedExpr,
        b: &IdedExpr,
    ) -> Option<Typed> {
        let test = test(operator)?;
        if is_null(a) || is_null(b) {
            return self.compare_null(node, test, if is_null(a) { b } else { a });
        }
        let (left, right) = (self.value(a), self.value(b));
        let (left, right) = (left?, right?);
        let (left_ty, right_ty) = (left.ty(), right.ty());
        Some(Typed::Bool(match (left, right) {
            (Typed::Bool(a), Typed::Bool(b)) => Cond::Bool(test, Box::new(a), Box::new(b)),
            (Typed::Int(a), Typed::Int(b)) => Cond::Int(test, a, b),
            (Typed::Double(a), Typed::Double(b)) => Cond::Double(test, a, b),
            (Typed::Int(a), Typed::Double(b)) => Cond::IntDouble(test, a, b),
            (Typed::Double(a), Typed::Int(b)) => Cond::IntDouble(turned(test), b, a),
            (Typed::Text(a), Typed::Text(b)) => Cond::Text(test, a, b),
            (Typed::Bytes(a), Typed::Bytes(b)) => Cond::Bytes(test, a, b),
            (Typed::Time(a), Typed::Time(b)) => Cond::Time(test, a, b),
            _ => {
                let message = format!("{left_ty} is compared with {right_ty}");
                let literal = literal(a).is_ok() || literal(b).is_ok();
                let help = mismatch_help(left_ty, right_ty).filter(|_| literal);
                self.problem(node, Rule::WhereType, message, help);
                return None;
            }
        }))
    }

    fn compare_null(&mut self, node: &IdedExpr, test: Test, other: &IdedExpr) -> Option<Typed> {
        let equal = match test {
            Test::Equal => true,
            Test::NotEqual => false,
            Test::Less | Test::LessOrEqual | Test::Greater | Test::GreaterOrEqual => {
                let message = "null is only compared by `==` and `!=`";
                return self.unsupported(node, message, None);
            }
        };
        let present = present(self.field(other)?);
        Some(Typed::Bool(if equal { Cond::Not(Box::new(present)) } else { present }))
    }

    /// `a in [literals]`.
    pub(super) fn member(&mut self, a: &IdedExpr, list: &IdedExpr) -> Option<Cond> {
        let Expr::List(items) = &list.expr else {
            let help = Some("write `x in [1, 2, 3]`");
            return self.unsupported(list, "`in` takes a list of literals", help);
        };
        let value = self.value(a);
        let mut values = Vec::with_capacity(items.elements.len());
        let mut fine = true;
        for item in &items.elements {
            match self.item(item, value.as_ref().map(Typed::ty)) {
                Some(value) => values.push(value),
                None => fine = false,
            }
        }
        let value = value?;
        fine.then(|| membership(value, values))
    }

    /// One item of the list of a value of type `ty`.
    fn item(&mut self, item: &IdedExpr, ty: Option<FieldType>) -> Option<Value> {
        let value = match literal(item) {
            Ok(value) => value,
            Err(reason) => return self.no_literal(item, reason, "`in` takes a list of literals"),
        };
        let Some(found) = value.as_ref().field_type() else {
            let help = Some("write `f == null || f in […]`");
            return self.unsupported(item, "null is never in a list", help);
        };
        let number = |t| matches!(t, FieldType::Int64 | FieldType::Double);
        match ty {
            Some(ty) if ty != found && !(number(ty) && number(found)) => {
                let message = format!("{ty} is compared with {found}");
                self.problem(item, Rule::WhereType, message, mismatch_help(ty, found));
                None
            }
            Some(_) | None => Some(value),
        }
    }
}

/// The lowered list of each type: sorted, without repeats; numbers that no value of the other type
/// equals are left out. Items are of the value's type, or numbers beside a number.
fn membership(value: Typed, items: Vec<Value>) -> Cond {
    let mut lists = Lists::default();
    let ints = matches!(value, Typed::Int(_));
    for item in items {
        match item {
            Value::Null => {}
            Value::Bool(v) => lists.bools.push(v),
            Value::Int64(v) if ints => lists.ints.push(v),
            Value::Int64(v) => lists.doubles.extend(exact_double(v)),
            Value::Double(v) if ints => lists.ints.extend(exact_int(v)),
            Value::Double(v) => lists.doubles.push(v),
            Value::String(v) => lists.texts.push(v),
            Value::Bytes(v) => lists.bytes.push(v),
            Value::Timestamp(v) => lists.times.push(v),
        }
    }
    match value {
        Typed::Bool(a) => Cond::InBool(Box::new(a), sorted(lists.bools)),
        Typed::Int(a) => Cond::InInt(a, sorted(lists.ints)),
        Typed::Double(a) => {
            lists.doubles.sort_by(f64::total_cmp);
            lists.doubles.dedup();
            Cond::InDouble(a, lists.doubles.into_boxed_slice())
        }
        Typed::Text(a) => Cond::InText(a, sorted(lists.texts)),
        Typed::Bytes(a) => Cond::InBytes(a, sorted(lists.bytes)),
        Typed::Time(a) => Cond::InTime(a, sorted(lists.times)),
    }
}

/// The items of a list by type.
#[derive(Default)]
struct Lists {
    bools: Vec<bool>,
    ints: Vec<i64>,
    doubles: Vec<f64>,
    texts: Vec<Box<str>>,
    bytes: Vec<Box<[u8]>>,
    times: Vec<Micros>,
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Box<[T]> {
    list.sort_unstable();
    list.dedup();
    list.into_boxed_slice()
}

fn mismatch_help(a: FieldType, b: FieldType) -> Option<String> {
    match (a, b) {
        (FieldType::Timestamp, FieldType::String) | (FieldType::String, FieldType::Timestamp) => {
            Some("write an instant as timestamp('2026-03-01T12:00:00Z')".to_owned())
        }
        (FieldType::String, FieldType::Int64 | FieldType::Double) => {
            Some("put the literal in quotes to compare text".to_owned())
        }
        (FieldType::Int64 | FieldType::Double, FieldType::String) => {
            Some("write a number without quotes".to_owned())
        }
        (FieldType::Bytes, FieldType::String) => Some("write bytes as b'…'".to_owned()),
        _ => None,
    }
}
