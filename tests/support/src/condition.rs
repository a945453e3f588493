//! `where` expressions, parsed, checked and evaluated from semantics §1.7 alone: an implementation
//! of its own, so that a mistake in the catalog's lowering shows.

mod check;
mod evaluate;
mod parse;
mod token;

#[cfg(test)]
mod tests;

use millrace_catalog::{FieldRef, Source, Stream};
use millrace_types::Value;
use regex::Regex;
use thiserror::Error;

use crate::joined_row::JoinedRow;

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}`: {problem}")]
pub struct ConditionError {
    /// The whole expression.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The streams whose fields an expression may name: `stream.field`.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    streams: Vec<(Source, &'a Stream)>,
}

impl<'a> Scope<'a> {
    /// The event stream of a view and its changelogs in the view's order.
    #[must_use]
    pub fn new(events: &'a Stream, joins: &[&'a Stream]) -> Self {
        let joined = joins.iter().enumerate().map(|(i, s)| (Source::Join(i), *s));
        Self { streams: std::iter::once((Source::Event, events)).chain(joined).collect() }
    }

    fn resolve(&self, stream: &str, field: &str) -> Option<FieldRef> {
        let (source, stream) = self.streams.iter().find(|(_, s)| s.name == stream)?;
        let index = stream.fields.iter().position(|f| f.name == field)?;
        Some(FieldRef { source: *source, field: index, ty: stream.fields[index].ty })
    }
}

/// A parsed and checked expression.
#[derive(Debug, Clone)]
pub struct Condition {
    root: Expr,
}

#[derive(Debug, Clone)]
enum Expr {
    Literal(Value),
    Field(FieldRef),
    /// `f == null`
    IsNull(FieldRef),
    /// `has(f)`, `f != null`
    HasValue(FieldRef),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    Arithmetic(Operation, Box<Expr>, Box<Expr>),
    In(Box<Expr>, Vec<Expr>),
    Text(TextTest, Box<Expr>, Box<Expr>),
    Matches(Box<Expr>, Regex),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

impl Condition {
    /// Parses and type-checks `text`.
    ///
    /// # Errors
    /// [`ConditionError`] when it is not an expression of semantics §1.7 over the fields in
    /// `scope`, or not one that is true or false.
    pub fn parse(text: &str, scope: &Scope<'_>) -> Result<Self, ConditionError> {
        let refuse = |problem| ConditionError { text: text.to_owned(), problem };
        let root = parse::parse(text, scope).map_err(refuse)?;
        check::check_condition(&root).map_err(refuse)?;
        Ok(Self { root })
    }

    /// True when the expression is true of `row`; neither when it is false nor when it is U.
    #[must_use]
    pub fn keeps(&self, row: &JoinedRow) -> bool {
        evaluate::evaluate(&self.root, row) == Some(Value::Bool(true))
    }
}
