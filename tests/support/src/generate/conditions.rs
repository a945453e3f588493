//! Random `where` texts, well typed over the fields of a view.

use millrace_types::FieldType;

use super::rng::Rng;
use super::values::literal;

/// A field as a `where` text names it: `stream.field`.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) ty: FieldType,
}

const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];

/// An expression that is true or false, at most so deep.
pub(super) fn condition(rng: &mut Rng, names: &[Name], depth: usize) -> String {
    if depth > 0 && rng.percent(55) {
        let mut part = || {
            let inner = condition(rng, names, depth - 1);
            format!("({inner})")
        };
        let (left, right) = (part(), part());
        return match rng.below(5) {
            0 | 1 => format!("{left} && {right}"),
            2 | 3 => format!("{left} || {right}"),
            _ => format!("!{left}"),
        };
    }
    let name = rng.pick(names).clone();
    if rng.percent(20) {
        return match rng.below(4) {
            0 => format!("has({})", name.text),
            1 => format!("!has({})", name.text),
            2 => format!("{} == null", name.text),
            _ => format!("{} != null", name.text),
        };
    }
    test(rng, names, &name)
}

/// A test of one field.
fn test(rng: &mut Rng, names: &[Name], name: &Name) -> String {
    let field = &name.text;
    match name.ty {
        FieldType::Bool if rng.percent(60) => {
            format!("{}{field}", if rng.percent(50) { "!" } else { "" })
        }
        FieldType::String if rng.percent(50) => {
            let argument = literal(rng, FieldType::String);
            match rng.below(4) {
                0 => format!("{field}.startsWith({argument})"),
                1 => format!("{field}.endsWith({argument})"),
                2 => format!("{field}.contains({argument})"),
                _ => format!("{field}.matches('^[a-z]+$')"),
            }
        }
        FieldType::Int64 | FieldType::Double => {
            let comparison = rng.pick(&COMPARISONS);
            let left = number(rng, names, name.ty, field);
            // The other side may be of the other number type: they compare as reals.
            let other = *rng.pick(&[FieldType::Int64, FieldType::Double, name.ty, name.ty]);
            if rng.percent(25) {
                let (a, b) = (literal(rng, other), literal(rng, other));
                return format!("{left} in [{a}, {b}]");
            }
            format!("{left} {comparison} {}", operand(rng, names, other))
        }
        ty @ (FieldType::Bool | FieldType::String | FieldType::Bytes | FieldType::Timestamp) => {
            if rng.percent(25) {
                let (a, b) = (literal(rng, ty), literal(rng, ty));
                return format!("{field} in [{a}, {b}]");
            }
            format!("{field} {} {}", rng.pick(&COMPARISONS), operand(rng, names, ty))
        }
    }
}

/// A field of a type or a literal.
fn operand(rng: &mut Rng, names: &[Name], ty: FieldType) -> String {
    let same: Vec<&Name> = names.iter().filter(|n| n.ty == ty).collect();
    if !same.is_empty() && rng.percent(35) {
        return rng.pick(&same).text.clone();
    }
    literal(rng, ty)
}

/// The field, alone or in a calculation.
fn number(rng: &mut Rng, names: &[Name], ty: FieldType, field: &str) -> String {
    let operators: &[&str] =
        if ty == FieldType::Int64 { &["+", "-", "*", "/", "%"] } else { &["+", "-", "*", "/"] };
    match rng.below(10) {
        0..=5 => field.to_owned(),
        6 => format!("-{field}"),
        _ => {
            let other = operand(rng, names, ty);
            format!("{field} {} {other}", rng.pick(operators))
        }
    }
}
