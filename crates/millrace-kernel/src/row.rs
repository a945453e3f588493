//! Joined rows: an event with the version of each changelog in force at its instant.

use millrace_catalog::{FieldSource, Source};
use millrace_types::{FactView, Micros, Op, RowView, ValueRef};

use crate::entity::EntityState;
use crate::plan::{Series, ViewPlan};

/// The values of an event's fields that are read, by index (those beyond are NULL), and the rows of
/// the versions it meets; `None` where a version is absent or an END.
pub(crate) struct JoinedRow<'a, 'b> {
    pub(crate) event: &'b [ValueRef<'a>],
    pub(crate) versions: &'b [Option<RowView<'a>>],
}

impl FieldSource for JoinedRow<'_, '_> {
    #[inline]
    fn field(&self, source: Source, field: usize) -> ValueRef<'_> {
        self.value(source, field)
    }
}

/// Marks the fields of an event that any of these series reads.
pub(crate) fn mark_fields<'s>(series: impl Iterator<Item = &'s Series>) -> Vec<bool> {
    let mut marks = Vec::new();
    for field in series.flat_map(|s| &s.event_fields) {
        if marks.len() <= *field {
            marks.resize(field + 1, false);
        }
        marks[*field] = true;
    }
    marks
}

impl<'a> JoinedRow<'a, '_> {
    /// The value a series folds for this row: `None` when the row is filtered out.
    #[inline]
    pub(crate) fn value_for(&self, series: &Series) -> Option<ValueRef<'a>> {
        let feature = &series.feature;
        if feature.filter.as_ref().is_some_and(|f| !f.matches(self)) {
            return None;
        }
        // `count: {}` has no argument and counts every row.
        Some(match feature.argument {
            Some(argument) => self.value(argument.source, argument.field),
            None => ValueRef::Bool(true),
        })
    }

    #[inline]
    fn value(&self, source: Source, field: usize) -> ValueRef<'a> {
        match source {
            Source::Event => self.event.get(field).copied().unwrap_or(ValueRef::Null),
            Source::Join(join) => {
                self.versions.get(join).copied().flatten().map_or(ValueRef::Null, |r| r.get(field))
            }
        }
    }
}

impl EntityState {
    /// The rows of the versions in force at an instant, one a changelog of the view, into `out`.
    pub(crate) fn versions_at<'a>(
        &'a self,
        view: &ViewPlan,
        at: Micros,
        out: &mut Vec<Option<RowView<'a>>>,
    ) {
        out.clear();
        out.extend(view.joins.iter().map(|join| self.version_at(*join, at).map(|f| f.row)));
    }

    /// The version of a changelog in force at an instant; `None` for an END.
    pub(crate) fn version_at(&self, stream: usize, at: Micros) -> Option<FactView<'_>> {
        self.streams[stream].live_at_or_before(at).filter(|f| f.op == Op::Assert)
    }
}
