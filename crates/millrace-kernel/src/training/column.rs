//! What each series folds, event by event, with the versions the events meet.

use millrace_catalog::Aggregate;
use millrace_types::{Op, RowView, ValueRef};

use super::live::{Live, LiveFact};
use crate::plan::{Series, ViewPlan};
use crate::row::{JoinedRow, mark_fields};

/// The values that a series folds: those of the events it keeps, in order, NULLs left out.
#[derive(Debug)]
pub(super) struct Column<'a> {
    pub(super) ats: Vec<i64>,
    /// Empty for a count, which asks for none.
    pub(super) values: Vec<ValueRef<'a>>,
    keeps_values: bool,
}

impl Column<'_> {
    /// Room for the values of so many events.
    fn of(series: &Series, events: usize) -> Self {
        let keeps_values = series.feature.aggregate != Aggregate::Count;
        let values = Vec::with_capacity(if keeps_values { events } else { 0 });
        Self { ats: Vec::with_capacity(events), values, keeps_values }
    }
}

/// The columns of these series over the live facts of an entity, by stream.
pub(super) fn columns<'a>(
    view: &ViewPlan,
    series: &[&Series],
    live: &[Live<'a>],
) -> Vec<Column<'a>> {
    let mut columns: Vec<Column<'a>> =
        series.iter().map(|s| Column::of(s, live[view.events].facts.len())).collect();
    let fields = mark_fields(series.iter().copied());
    let joins = series.iter().any(|s| s.reads_joins);
    let mut versions = Versions::new(view, live);
    let mut values = Vec::new();
    // A live END of an event stream, were there one, is no event.
    for event in live[view.events].facts.iter().filter(|f| f.op == Op::Assert) {
        if joins {
            versions.go_on_to(event.at);
        }
        event.row.pick(&fields, &mut values);
        let row = JoinedRow { event: &values, versions: &versions.rows };
        for (series, column) in series.iter().zip(&mut columns) {
            if let Some(value) = row.value_for(series)
                && !value.is_null()
            {
                column.ats.push(event.at);
                if column.keeps_values {
                    column.values.push(value);
                }
            }
        }
    }
    columns
}

/// The versions in force while instants go on.
pub(super) struct Versions<'a, 'l> {
    /// By changelog of the view: its versions, and how many of them began.
    versions: Vec<(&'l [LiveFact<'a>], usize)>,
    /// By changelog: the row in force; `None` where none is, or an END.
    pub(super) rows: Vec<Option<RowView<'a>>>,
}

impl<'a, 'l> Versions<'a, 'l> {
    pub(super) fn new(view: &ViewPlan, live: &'l [Live<'a>]) -> Self {
        let versions = view.joins.iter().map(|stream| (live[*stream].facts.as_slice(), 0));
        Self { versions: versions.collect(), rows: vec![None; view.joins.len()] }
    }

    /// Goes on to an instant that is not before the last one.
    #[inline]
    pub(super) fn go_on_to(&mut self, at: i64) {
        for ((versions, begun), row) in self.versions.iter_mut().zip(&mut self.rows) {
            let before = *begun;
            while versions.get(*begun).is_some_and(|v| v.at <= at) {
                *begun += 1;
            }
            if *begun > before {
                let version = &versions[*begun - 1];
                *row = (version.op == Op::Assert).then_some(version.row);
            }
        }
    }
}
