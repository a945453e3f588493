//! The value of an expression; `None` is U, the third value that NULL and every error are.

use std::cmp::Ordering;

use millrace_types::Value;

use super::{Comparison, Expr, Operation, TextTest};
use crate::exact;
use crate::joined_row::JoinedRow;
use crate::order;

/// Evaluates a checked expression.
pub(super) fn evaluate(expr: &Expr, row: &JoinedRow) -> Option<Value> {
    let truth = |expr: &Expr| evaluate(expr, row).map(|v| v == Value::Bool(true));
    match expr {
        Expr::Literal(value) => known(value),
        Expr::Field(f) => known(row.field(f.source, f.field)),
        Expr::IsNull(f) => Some(Value::Bool(*row.field(f.source, f.field) == Value::Null)),
        Expr::HasValue(f) => Some(Value::Bool(*row.field(f.source, f.field) != Value::Null)),
        Expr::Not(inner) => truth(inner).map(|t| Value::Bool(!t)),
        Expr::Negate(inner) => negate(&evaluate(inner, row)?),
        // Kleene: one side may decide although the other is U.
        Expr::And(left, right) => match (truth(left), truth(right)) {
            (Some(false), _) | (_, Some(false)) => Some(Value::Bool(false)),
            (Some(true), Some(true)) => Some(Value::Bool(true)),
            (None, _) | (_, None) => None,
        },
        Expr::Or(left, right) => match (truth(left), truth(right)) {
            (Some(true), _) | (_, Some(true)) => Some(Value::Bool(true)),
            (Some(false), Some(false)) => Some(Value::Bool(false)),
            (None, _) | (_, None) => None,
        },
        Expr::Compare(comparison, left, right) => {
            let order = compare(&evaluate(left, row)?, &evaluate(right, row)?);
            Some(Value::Bool(holds(*comparison, order)))
        }
        Expr::Arithmetic(op, left, right) => {
            arithmetic(*op, &evaluate(left, row)?, &evaluate(right, row)?)
        }
        Expr::In(left, items) => {
            let left = evaluate(left, row)?;
            let items: Option<Vec<Value>> = items.iter().map(|i| evaluate(i, row)).collect();
            Some(Value::Bool(items?.iter().any(|item| compare(&left, item).is_eq())))
        }
        Expr::Text(test, left, right) => {
            let (left, right) = (text(evaluate(left, row)?), text(evaluate(right, row)?));
            Some(Value::Bool(match test {
                TextTest::StartsWith => left.starts_with(&*right),
                TextTest::EndsWith => left.ends_with(&*right),
                TextTest::Contains => left.contains(&*right),
            }))
        }
        Expr::Matches(left, regex) => {
            Some(Value::Bool(regex.is_match(&text(evaluate(left, row)?))))
        }
    }
}

fn known(value: &Value) -> Option<Value> {
    (*value != Value::Null).then(|| value.clone())
}

fn text(value: Value) -> Box<str> {
    let Value::String(text) = value else {
        panic!("a checked expression has no {value:?} where text stands");
    };
    text
}

/// int64 against double compares as exact reals.
fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Int64(a), Value::Double(b)) => exact::of_int(*a).cmp(&exact::of_double(*b)),
        (Value::Double(a), Value::Int64(b)) => exact::of_double(*a).cmp(&exact::of_int(*b)),
        (a, b) => order::compare(a, b),
    }
}

fn holds(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    }
}

fn negate(value: &Value) -> Option<Value> {
    if let Value::Int64(v) = value {
        return v.checked_neg().map(Value::Int64);
    }
    let Value::Double(v) = value else { panic!("a checked expression negates no {value:?}") };
    Some(Value::Double(-v))
}

/// Overflow, division by 0 and results that are not finite are U; integers truncate.
fn arithmetic(op: Operation, left: &Value, right: &Value) -> Option<Value> {
    match (left, right) {
        (Value::Int64(a), Value::Int64(b)) => match op {
            Operation::Add => a.checked_add(*b),
            Operation::Subtract => a.checked_sub(*b),
            Operation::Multiply => a.checked_mul(*b),
            Operation::Divide => a.checked_div(*b),
            // Also U for the least int64 % −1, as CEL defines it.
            Operation::Remainder => a.checked_rem(*b),
        }
        .map(Value::Int64),
        (Value::Double(a), Value::Double(b)) => {
            let result = match op {
                Operation::Add => a + b,
                Operation::Subtract => a - b,
                Operation::Multiply => a * b,
                Operation::Divide => a / b,
                Operation::Remainder => panic!("a checked expression has no % of doubles"),
            };
            result.is_finite().then_some(Value::Double(result))
        }
        (a, b) => panic!("a checked expression has no {op:?} of {a:?} and {b:?}"),
    }
}
