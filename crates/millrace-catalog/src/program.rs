//! Lowered `where` expressions: the only evaluator of conditions (semantics §1.7).
//!
//! An expression is parsed by the crate `cel`, type-checked against the streams of its view and
//! lowered once into a typed tree. NULL and every error are one third value U, so evaluation needs
//! neither errors nor allocations.

mod check;
mod expr;
mod literal;
mod number;
mod parse;
mod pattern;
mod scope;

use std::fmt;
use std::sync::Arc;

use millrace_types::ValueRef;

use crate::model::{FieldRef, Source};

pub(crate) use parse::compile;
pub(crate) use scope::{Resolved, Scope, ScopeStream};

/// Gives the fields of a joined row to a [`Program`].
pub trait FieldSource {
    /// The value of this field; NULL where a version is absent.
    fn field(&self, source: Source, field: usize) -> ValueRef<'_>;
}

/// A lowered expression. Two are equal when they do the same in the same way: blanks, comments
/// and redundant parentheses do not tell them apart.
#[derive(Clone)]
pub struct Program {
    root: expr::Cond,
    reads: Box<[FieldRef]>,
    source: Arc<str>,
}

impl Program {
    /// True when the expression is true of `row`; false when it is false or U.
    #[inline]
    #[must_use]
    pub fn matches(&self, row: &impl FieldSource) -> bool {
        self.root.eval(row) == Some(true)
    }

    /// The three-valued result; `None` is U.
    #[inline]
    #[must_use]
    pub fn evaluate(&self, row: &impl FieldSource) -> Option<bool> {
        self.root.eval(row)
    }

    /// The expression as the catalog writes it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Every field it reads, each once, in the order of the text.
    #[must_use]
    pub fn reads(&self) -> &[FieldRef] {
        &self.reads
    }

    /// True when it reads the changelog with this index in [`View::joins`](crate::View::joins).
    #[must_use]
    pub fn reads_join(&self, join: usize) -> bool {
        self.reads.iter().any(|f| f.source == Source::Join(join))
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Program").field(&self.source).finish()
    }
}

#[cfg(test)]
mod tests;
