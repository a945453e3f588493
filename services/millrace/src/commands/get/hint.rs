//! What to try when a read finds nothing.

use millrace_catalog::{Aggregate, View, Window};
use millrace_types::{FeatureValue, Value};

use super::report::{GetReport, GetRow};
use crate::cli::ReadInstant;

/// A hint, when a read at `now` finds every window empty.
pub(super) fn of(report: &GetReport, view: &View, at: ReadInstant) -> Option<String> {
    let at_now = match at {
        ReadInstant::Now => true,
        ReadInstant::Latest | ReadInstant::At(_) => false,
    };
    let windowed: Vec<&str> = view
        .features
        .iter()
        .filter(|feature| match feature.window {
            Window::Sliding { .. } | Window::Exact { .. } => true,
            Window::Unbounded => false,
        })
        .map(|feature| feature.name.as_str())
        .collect();
    let mut cells = report.rows.iter().flat_map(|row| windowed_cells(row, &windowed));
    let any = report.rows.iter().any(|row| windowed_cells(row, &windowed).next().is_some());
    if !at_now || !any || !cells.all(|(name, value)| is_empty(view, name, value)) {
        return None;
    }
    Some(
        "every window is empty at now; for history, read at the greatest event time seen with \
         --at latest, or at an instant of its time with --at T"
            .to_owned(),
    )
}

fn windowed_cells<'a>(
    row: &'a GetRow,
    windowed: &'a [&str],
) -> impl Iterator<Item = (&'a str, &'a FeatureValue)> {
    row.features
        .0
        .iter()
        .filter(|(name, _)| windowed.contains(&name.as_str()))
        .map(|(name, cell)| (name.as_str(), &cell.value.0))
}

/// True when no row is left in the feature's window, as far as its value tells.
fn is_empty(view: &View, name: &str, value: &FeatureValue) -> bool {
    let counts = view.feature(name).is_some_and(|feature| {
        matches!(feature.aggregate, Aggregate::Count | Aggregate::CountDistinct { .. })
    });
    match value {
        FeatureValue::Scalar(Value::Null) => true,
        FeatureValue::Scalar(Value::Int64(0)) => counts,
        FeatureValue::Scalar(
            Value::Bool(_)
            | Value::Int64(_)
            | Value::Double(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::Timestamp(_),
        ) => false,
        FeatureValue::List(values) => values.is_empty(),
        FeatureValue::Counted(values) => values.is_empty(),
    }
}
