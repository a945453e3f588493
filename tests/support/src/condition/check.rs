//! The types of an expression: a mistyped one is refused.

use millrace_types::FieldType;

use super::{Expr, Operation};

/// Checks that an expression is well typed and true or false.
pub(super) fn check_condition(expr: &Expr) -> Result<(), String> {
    expect(expr, FieldType::Bool)
}

fn expect(expr: &Expr, wanted: FieldType) -> Result<(), String> {
    match type_of(expr)? {
        found if found == wanted => Ok(()),
        found => Err(format!("{wanted} is wanted where {found} stands")),
    }
}

fn is_number(ty: FieldType) -> bool {
    matches!(ty, FieldType::Int64 | FieldType::Double)
}

fn type_of(expr: &Expr) -> Result<FieldType, String> {
    match expr {
        Expr::Literal(value) => value
            .as_ref()
            .field_type()
            .ok_or_else(|| "null only stands beside a field and == or !=".to_owned()),
        Expr::Field(field) => Ok(field.ty),
        Expr::IsNull(_) | Expr::HasValue(_) => Ok(FieldType::Bool),
        Expr::Not(inner) => expect(inner, FieldType::Bool).map(|()| FieldType::Bool),
        Expr::Negate(inner) => match type_of(inner)? {
            ty if is_number(ty) => Ok(ty),
            ty => Err(format!("{ty} has no negative")),
        },
        Expr::And(left, right) | Expr::Or(left, right) => {
            expect(left, FieldType::Bool)?;
            expect(right, FieldType::Bool)?;
            Ok(FieldType::Bool)
        }
        Expr::Compare(_, left, right) => comparable(type_of(left)?, type_of(right)?),
        Expr::In(left, items) => {
            let wanted = type_of(left)?;
            items.iter().try_for_each(|i| comparable(wanted, type_of(i)?).map(drop))?;
            Ok(FieldType::Bool)
        }
        Expr::Arithmetic(op, left, right) => arithmetic(*op, type_of(left)?, type_of(right)?),
        Expr::Text(_, left, right) => {
            expect(left, FieldType::String)?;
            expect(right, FieldType::String)?;
            Ok(FieldType::Bool)
        }
        Expr::Matches(left, _) => expect(left, FieldType::String).map(|()| FieldType::Bool),
    }
}

/// Equal types compare, and int64 with double.
fn comparable(left: FieldType, right: FieldType) -> Result<FieldType, String> {
    if left == right || (is_number(left) && is_number(right)) {
        return Ok(FieldType::Bool);
    }
    Err(format!("{left} does not compare with {right}"))
}

/// Both int64 or both double; `%` is for integers only, as in CEL.
fn arithmetic(op: Operation, left: FieldType, right: FieldType) -> Result<FieldType, String> {
    let allowed = left == right
        && match left {
            FieldType::Int64 => true,
            FieldType::Double => op != Operation::Remainder,
            FieldType::Bool | FieldType::String | FieldType::Bytes | FieldType::Timestamp => false,
        };
    if allowed { Ok(left) } else { Err(format!("{op:?} does not take {left} and {right}")) }
}
