//! Arithmetic and functions.

use cel::common::ast::{CallExpr, IdedExpr, operators};
use millrace_types::{FieldType, Value};

use super::{Checker, Typed, functions};
use crate::diagnostic::{Rule, did_you_mean};
use crate::limits::PATTERNS_MAX;
use crate::program::expr::{Affix, Cond, Double, Int, Text};
use crate::program::literal::literal;
use crate::program::number::Arithmetic;
use crate::program::pattern::Pattern;

/// The arithmetic that an operator of CEL's tree stands for, and how it is written.
pub(super) fn arithmetic(operator: &str) -> Option<(Arithmetic, char)> {
    Some(match operator {
        operators::ADD => (Arithmetic::Add, '+'),
        operators::SUBSTRACT => (Arithmetic::Subtract, '-'),
        operators::MULTIPLY => (Arithmetic::Multiply, '*'),
        operators::DIVIDE => (Arithmetic::Divide, '/'),
        operators::MODULO => (Arithmetic::Remainder, '%'),
        _ => return None,
    })
}

impl Checker<'_> {
    pub(super) fn arithmetic(
        &mut self,
        node: &IdedExpr,
        operator: &str,
        a: &IdedExpr,
        b: &IdedExpr,
    ) -> Option<Typed> {
        let (operation, sign) = arithmetic(operator)?;
        let (left, right) = (self.value(a), self.value(b));
        let (left, right) = (left?, right?);
        let (left_ty, right_ty) = (left.ty(), right.ty());
        match (left, right) {
            (Typed::Int(a), Typed::Int(b)) => {
                Some(Typed::Int(Int::Arithmetic(operation, Box::new(a), Box::new(b))))
            }
            (Typed::Double(a), Typed::Double(b)) if operation != Arithmetic::Remainder => {
                Some(Typed::Double(Double::Arithmetic(operation, Box::new(a), Box::new(b))))
            }
            (Typed::Double(_), Typed::Double(_)) => {
                let message = "`%` takes two int64; these are double".to_owned();
                self.problem(node, Rule::WhereType, message, None);
                None
            }
            (Typed::Int(_), Typed::Double(_)) | (Typed::Double(_), Typed::Int(_)) => {
                let message = format!("`{sign}` does not mix {left_ty} and {right_ty}");
                self.problem(node, Rule::WhereType, message, number_help(&[a, b]));
                None
            }
            _ => {
                let message = format!(
                    "`{sign}` takes two numbers of one type; these are {left_ty} and {right_ty}"
                );
                self.problem(node, Rule::WhereType, message, None);
                None
            }
        }
    }

    pub(super) fn negate(&mut self, node: &IdedExpr, a: &IdedExpr) -> Option<Typed> {
        match self.value(a)? {
            Typed::Int(a) => Some(Typed::Int(Int::Negate(Box::new(a)))),
            Typed::Double(a) => Some(Typed::Double(Double::Negate(Box::new(a)))),
            other @ (Typed::Bool(_) | Typed::Text(_) | Typed::Bytes(_) | Typed::Time(_)) => {
                let message = format!("`-` takes a number; this is {}", other.ty());
                self.problem(node, Rule::WhereType, message, None);
                None
            }
        }
    }

    pub(super) fn function(&mut self, node: &IdedExpr, call: &CallExpr) -> Option<Typed> {
        let name = call.func_name.as_str();
        match (name, &call.target, call.args.as_slice()) {
            ("startsWith", Some(target), [b]) => self.affix(Affix::StartsWith, target, b),
            ("endsWith", Some(target), [b]) => self.affix(Affix::EndsWith, target, b),
            ("contains", Some(target), [b]) => self.affix(Affix::Contains, target, b),
            ("matches", Some(target), [b]) => self.matches(target, b),
            ("startsWith" | "endsWith" | "contains" | "matches", _, _) => {
                let help = format!("write `stream.field.{name}('…')`");
                self.unsupported(node, &format!("`{name}` is a method of one text"), Some(&help))
            }
            ("timestamp", None, _) => {
                let help = Some("write timestamp('2026-03-01T12:00:00Z')");
                self.unsupported(node, "`timestamp` takes one literal text", help)
            }
            _ => {
                let known = ["has", "startsWith", "endsWith", "contains", "matches", "timestamp"];
                let message = format!("there is no function `{name}`; there are {}", functions());
                let help = did_you_mean(name, known);
                self.problem(node, Rule::WhereUnsupported, message, help);
                None
            }
        }
    }

    fn affix(&mut self, affix: Affix, target: &IdedExpr, argument: &IdedExpr) -> Option<Typed> {
        let (text, part) = (self.text_value(target), self.text_value(argument));
        Some(Typed::Bool(Cond::Affix(affix, text?, part?)))
    }

    fn matches(&mut self, target: &IdedExpr, argument: &IdedExpr) -> Option<Typed> {
        let text = self.text_value(target);
        let Ok(Value::String(pattern)) = literal(argument) else {
            let message = "the pattern of `matches` must be a literal text";
            return self.unsupported(argument, message, None);
        };
        if *self.patterns_left == 0 {
            let message = format!("a catalog holds at most {PATTERNS_MAX} patterns");
            let help = "use `startsWith`, `endsWith`, `contains` or `in` where they do".to_owned();
            self.problem(argument, Rule::Limit, message, Some(help));
            return None;
        }
        *self.patterns_left -= 1;
        match Pattern::try_new(&pattern) {
            Ok(pattern) => Some(Typed::Bool(Cond::Matches(text?, pattern))),
            Err(reason) => {
                let message = format!("not a regular expression: {reason}");
                self.problem(argument, Rule::Value, message, None);
                None
            }
        }
    }

    fn text_value(&mut self, node: &IdedExpr) -> Option<Text> {
        match self.value(node)? {
            Typed::Text(text) => Some(text),
            other @ (Typed::Bool(_)
            | Typed::Int(_)
            | Typed::Double(_)
            | Typed::Bytes(_)
            | Typed::Time(_)) => {
                let message = format!("a text is wanted here; this is {}", other.ty());
                self.problem(node, Rule::WhereType, message, None);
                None
            }
        }
    }
}

/// How to write an int64 literal among `nodes` as a double.
fn number_help(nodes: &[&IdedExpr]) -> Option<String> {
    nodes.iter().find_map(|node| match literal(node) {
        Ok(Value::Int64(v)) => Some(format!("write {v}.0, which is a {}", FieldType::Double)),
        _ => None,
    })
}
