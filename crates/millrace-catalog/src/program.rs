//! Lowered `where` expressions: the only evaluator of conditions (semantics §1.7).

use millrace_types::ValueRef;

use crate::model::Source;

/// Gives the fields of a joined row to a [`Program`].
pub trait FieldSource {
    /// The value of this field; NULL where a version is absent.
    fn field(&self, source: Source, field: usize) -> ValueRef<'_>;
}

/// A lowered expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {}

impl Program {
    /// True when the expression is true of `row`; false when it is false or U.
    #[must_use]
    pub fn matches(&self, row: &impl FieldSource) -> bool {
        let _ = row;
        true
    }
}
