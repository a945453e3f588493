//! Literals and the lists of `in`.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};
use millrace_types::value::canonical_double;
use millrace_types::{Micros, Value};

/// Why an expression is no literal.
pub(super) enum NoLiteral {
    /// It is something else.
    Other,
    /// An unsigned literal such as `5u`.
    Unsigned,
    /// The text of `timestamp('…')` is no instant.
    Instant(String),
}

/// The value of a literal, of a negated number or of `timestamp('…')`.
pub(super) fn literal(node: &IdedExpr) -> Result<Value, NoLiteral> {
    match &node.expr {
        Expr::Literal(value) => match value {
            LiteralValue::Boolean(v) => Ok(Value::Bool(*v.inner())),
            LiteralValue::Int(v) => Ok(Value::Int64(*v.inner())),
            // The parser refuses doubles that are not finite.
            LiteralValue::Double(v) => {
                canonical_double(*v.inner()).map(Value::Double).ok_or(NoLiteral::Other)
            }
            LiteralValue::String(v) => Ok(Value::String(v.inner().into())),
            LiteralValue::Bytes(v) => Ok(Value::Bytes(v.inner().into())),
            LiteralValue::Null => Ok(Value::Null),
            LiteralValue::UInt(_) => Err(NoLiteral::Unsigned),
        },
        Expr::Call(call) if call.func_name == operators::NEGATE && call.args.len() == 1 => {
            match literal(&call.args[0])? {
                Value::Int64(v) => v.checked_neg().map(Value::Int64).ok_or(NoLiteral::Other),
                Value::Double(v) => Ok(Value::Double(0.0 - v)),
                Value::Null
                | Value::Bool(_)
                | Value::String(_)
                | Value::Bytes(_)
                | Value::Timestamp(_) => Err(NoLiteral::Other),
            }
        }
        Expr::Call(call) if call.func_name == "timestamp" && call.target.is_none() => {
            let [argument] = call.args.as_slice() else { return Err(NoLiteral::Other) };
            let Ok(Value::String(text)) = literal(argument) else { return Err(NoLiteral::Other) };
            Micros::parse_rfc3339(&text)
                .map(Value::Timestamp)
                .map_err(|error| NoLiteral::Instant(error.to_string()))
        }
        Expr::Unspecified
        | Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => Err(NoLiteral::Other),
    }
}
