//! Checks the types of a parsed expression and lowers it. All errors are found, not only the first:
//! a part that is wrong lowers to `None`, and whatever rests on it says nothing more.

mod call;
mod compare;

use cel::common::ast::{CallExpr, Expr, IdedExpr, SelectExpr, SourceInfo, operators};
use millrace_types::{FieldType, Value};

use super::expr::{Bytes, Cond, Double, Int, Slot, Text, Time};
use super::literal::{NoLiteral, literal};
use super::parse::Problem;
use super::scope::{Resolved, Scope};
use crate::diagnostic::{Rule, listed};
use crate::limits::WHERE_DEPTH_MAX;
use crate::model::FieldRef;

/// A lowered expression of any type.
pub(super) enum Typed {
    Bool(Cond),
    Int(Int),
    Double(Double),
    Text(Text),
    Bytes(Bytes),
    Time(Time),
}

impl Typed {
    fn ty(&self) -> FieldType {
        match self {
            Self::Bool(_) => FieldType::Bool,
            Self::Int(_) => FieldType::Int64,
            Self::Double(_) => FieldType::Double,
            Self::Text(_) => FieldType::String,
            Self::Bytes(_) => FieldType::Bytes,
            Self::Time(_) => FieldType::Timestamp,
        }
    }

    fn field(field: FieldRef) -> Self {
        let slot = Slot { source: field.source, field: field.field };
        match field.ty {
            FieldType::Bool => Self::Bool(Cond::Field(slot)),
            FieldType::Int64 => Self::Int(Int::Field(slot)),
            FieldType::Double => Self::Double(Double::Field(slot)),
            FieldType::String => Self::Text(Text::Field(slot)),
            FieldType::Bytes => Self::Bytes(Bytes::Field(slot)),
            FieldType::Timestamp => Self::Time(Time::Field(slot)),
        }
    }
}

pub(super) struct Checker<'a> {
    scope: &'a Scope<'a>,
    text: &'a str,
    info: &'a SourceInfo,
    patterns_left: &'a mut usize,
    problems: Vec<Problem>,
    reads: Vec<FieldRef>,
    depth: usize,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        scope: &'a Scope<'a>,
        text: &'a str,
        info: &'a SourceInfo,
        patterns_left: &'a mut usize,
    ) -> Self {
        Self { scope, text, info, patterns_left, problems: vec![], reads: vec![], depth: 0 }
    }

    /// What is wrong, and the fields read.
    pub(super) fn finish(self) -> (Vec<Problem>, Box<[FieldRef]>) {
        (self.problems, self.reads.into_boxed_slice())
    }

    /// Lowers an expression that must be of type bool.
    pub(super) fn condition(&mut self, node: &IdedExpr) -> Option<Cond> {
        match self.value(node)? {
            Typed::Bool(cond) => Some(cond),
            other @ (Typed::Int(_)
            | Typed::Double(_)
            | Typed::Text(_)
            | Typed::Bytes(_)
            | Typed::Time(_)) => {
                let message = format!("a condition must be of type bool; this is {}", other.ty());
                self.problem(node, Rule::WhereType, message, None);
                None
            }
        }
    }

    /// Lowers an expression of any type.
    fn value(&mut self, node: &IdedExpr) -> Option<Typed> {
        if self.depth == WHERE_DEPTH_MAX {
            let message = format!("the expression nests deeper than {WHERE_DEPTH_MAX} levels");
            self.problem(node, Rule::Limit, message, None);
            return None;
        }
        self.depth += 1;
        let typed = self.any(node);
        self.depth -= 1;
        typed
    }

    fn any(&mut self, node: &IdedExpr) -> Option<Typed> {
        match literal(node) {
            Ok(value) => return self.literal_value(node, value),
            Err(NoLiteral::Other) => {}
            Err(reason @ (NoLiteral::Unsigned | NoLiteral::Instant(_))) => {
                return self.no_literal(node, reason, "");
            }
        }
        match &node.expr {
            Expr::Select(select) if select.test => self.presence(node, select),
            Expr::Select(_) => self.field(node).map(Typed::field),
            Expr::Call(call) => self.call(node, call),
            Expr::Ident(name) => {
                let message = format!("`{name}` alone is no field; write `stream.field`");
                let help = self.scope.elsewhere(name);
                self.problem(node, Rule::UnknownField, message, help);
                None
            }
            Expr::List(_) => self.unsupported(node, "a list stands only behind `in`", None),
            Expr::Map(_) | Expr::Struct(_) => {
                self.unsupported(node, "maps and messages are not supported", None)
            }
            Expr::Comprehension(_) => self.unsupported(
                node,
                "`all`, `exists`, `map` and `filter` are not supported: there are no list fields",
                None,
            ),
            Expr::Literal(_) | Expr::Unspecified => {
                self.unsupported(node, "this is not supported", None)
            }
        }
    }

    fn literal_value(&mut self, node: &IdedExpr, value: Value) -> Option<Typed> {
        Some(match value {
            Value::Bool(v) => Typed::Bool(Cond::Literal(v)),
            Value::Int64(v) => Typed::Int(Int::Literal(v)),
            Value::Double(v) => Typed::Double(Double::Literal(v)),
            Value::String(v) => Typed::Text(Text::Literal(v)),
            Value::Bytes(v) => Typed::Bytes(Bytes::Literal(v)),
            Value::Timestamp(v) => Typed::Time(Time::Literal(v)),
            Value::Null => {
                let message = "null is only compared with a field, by `==` or `!=`";
                return self.unsupported(node, message, None);
            }
        })
    }

    /// Reports why an expression is no literal; `other` when it is something else.
    fn no_literal<T>(&mut self, node: &IdedExpr, reason: NoLiteral, other: &str) -> Option<T> {
        match reason {
            NoLiteral::Other => self.unsupported(node, other, None),
            NoLiteral::Unsigned => {
                let help = "write the number without `u`";
                self.unsupported(node, "there are no unsigned integers", Some(help))
            }
            NoLiteral::Instant(message) => {
                self.problem(node, Rule::Value, message, None);
                None
            }
        }
    }

    /// The field that `node` refers to, if it is a reference that holds.
    fn field(&mut self, node: &IdedExpr) -> Option<FieldRef> {
        if let Expr::Select(select) = &node.expr
            && !select.test
        {
            return self.select(node, select);
        }
        self.unsupported(node, "only a field `stream.field` can stand here", None)
    }

    fn select(&mut self, node: &IdedExpr, select: &SelectExpr) -> Option<FieldRef> {
        let Expr::Ident(stream) = &select.operand.expr else {
            return self.unsupported(node, "fields have no parts; write `stream.field`", None);
        };
        match self.scope.qualified(stream, &select.field) {
            Resolved::Field(field) => {
                if !self.reads.contains(&field) {
                    self.reads.push(field);
                }
                Some(field)
            }
            Resolved::Silent => None,
            Resolved::Wrong { rule, message, help } => {
                self.problem(node, rule, message, help);
                None
            }
        }
    }

    /// `has(stream.field)`.
    fn presence(&mut self, node: &IdedExpr, select: &SelectExpr) -> Option<Typed> {
        let field = self.select(node, select)?;
        Some(Typed::Bool(present(field)))
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Option<Typed> {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, _]) => self.logic(node, name),
            (operators::LOGICAL_NOT, [a]) => {
                let a = self.condition(a)?;
                Some(Typed::Bool(Cond::Not(Box::new(a))))
            }
            (operators::IN, [a, list]) => self.member(a, list).map(Typed::Bool),
            (_, [a, b]) if compare::test(name).is_some() => self.compare(node, name, a, b),
            (operators::NEGATE, [a]) => self.negate(node, a),
            (_, [a, b]) if call::arithmetic(name).is_some() => self.arithmetic(node, name, a, b),
            (operators::CONDITIONAL, _) => {
                let help = Some("write `c && a || !c && b`");
                self.unsupported(node, "`c ? a : b` is not supported", help)
            }
            (operators::INDEX, _) => {
                self.unsupported(node, "`[…]` is not supported: there are no list fields", None)
            }
            _ => self.function(node, call),
        }
    }

    /// `&&` and `||`: the terms of a chain become one list.
    fn logic(&mut self, node: &IdedExpr, operator: &str) -> Option<Typed> {
        let mut nodes = Vec::new();
        let mut rest = vec![node];
        while let Some(next) = rest.pop() {
            if let Expr::Call(call) = &next.expr
                && call.func_name == operator
            {
                rest.extend(call.args.iter().rev());
            } else {
                nodes.push(next);
            }
        }
        let terms: Vec<Option<Cond>> = nodes.into_iter().map(|n| self.condition(n)).collect();
        let terms: Box<[Cond]> = terms.into_iter().collect::<Option<Vec<_>>>()?.into_boxed_slice();
        let all = operator == operators::LOGICAL_AND;
        Some(Typed::Bool(if all { Cond::All(terms) } else { Cond::Any(terms) }))
    }

    fn problem(&mut self, node: &IdedExpr, rule: Rule, message: String, help: Option<String>) {
        let at = self.place(node);
        self.problems.push(Problem { at, rule, message, help });
    }

    fn unsupported<T>(&mut self, node: &IdedExpr, message: &str, help: Option<&str>) -> Option<T> {
        let help = help.map(str::to_owned);
        self.problem(node, Rule::WhereUnsupported, message.to_owned(), help);
        None
    }

    /// Where a node starts, in characters: a reference at its stream, an operation at its operator.
    fn place(&self, node: &IdedExpr) -> usize {
        if let Expr::Select(select) = &node.expr {
            return self.place(&select.operand);
        }
        let mut start = self.info.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        if let Expr::Call(call) = &node.expr {
            if let Some(target) = &call.target {
                return self.place(target);
            }
            // The parser places a function at its parenthesis.
            if let Some(first) = start.checked_sub(call.func_name.len())
                && self.text.get(first..start) == Some(&call.func_name)
            {
                start = first;
            }
        }
        self.text.get(..start).map_or(0, |before| before.chars().count())
    }
}

fn present(field: FieldRef) -> Cond {
    Cond::Present(Slot { source: field.source, field: field.field })
}

/// What is supported beside operators, for messages.
fn functions() -> String {
    listed(["has", "startsWith", "endsWith", "contains", "matches", "timestamp"])
}
