//! The facts of one entity as known at one instant: the as-of join and the reads (semantics §1).

use millrace_catalog::{Aggregate, Feature, Source, View, Window};
use millrace_types::{FeatureValue, Micros, Status, StreamId, Value};

use super::aggregate::aggregate;
use super::live::Live;
use crate::condition::Condition;
use crate::joined_row::JoinedRow;

/// What was known of one entity at one instant, through one view.
#[derive(Debug, Clone)]
pub struct AsKnown<'a> {
    view: &'a View,
    conditions: &'a [Option<Condition>],
    /// In the order `(at, seq, id)`.
    rows: Vec<JoinedRow>,
    /// Per changelog of the view its versions in the order `(at, seq, id)`.
    versions: Vec<Vec<Live>>,
    /// The least `at` of a live fact of the view's streams.
    first_at: Option<Micros>,
    /// Events are forgotten, so that no entity is missing.
    forgets: bool,
}

impl<'a> AsKnown<'a> {
    pub(super) fn new(
        view: &'a View,
        conditions: &'a [Option<Condition>],
        forgets: bool,
        live_facts: impl Fn(StreamId) -> Vec<Live>,
    ) -> Self {
        let events = live_facts(view.events);
        let versions: Vec<Vec<Live>> = view.joins.iter().map(|id| live_facts(*id)).collect();
        let first_at = versions.iter().flatten().chain(&events).map(|f| f.at).min();
        let rows = events
            .into_iter()
            .filter(|event| event.assert)
            .map(|event| JoinedRow {
                joined: versions.iter().map(|v| version_at(v, event.at).cloned()).collect(),
                id: event.id,
                at: event.at,
                seq: event.seq,
                event: event.row,
            })
            .collect();
        Self { view, conditions, rows, versions, first_at, forgets }
    }

    /// The joined rows in the order `(at, seq, id)`.
    #[must_use]
    pub fn rows(&self) -> &[JoinedRow] {
        &self.rows
    }

    /// The joined rows in the order `(at, seq, id)`.
    #[must_use]
    pub fn into_rows(self) -> Vec<JoinedRow> {
        self.rows
    }

    /// The value and status of every feature at `at`, in the catalog's order.
    #[must_use]
    pub fn read(&self, at: Micros) -> Vec<(FeatureValue, Status)> {
        let missing = !self.forgets && self.first_at.is_none_or(|first| first > at);
        let features = self.view.features.iter().zip(self.conditions);
        let read = features.map(|(feature, condition)| self.feature(feature, condition, at));
        if missing {
            // No row and no version lies before `at`, so the values are those of an empty entity.
            return read.map(|(value, _)| (value, Status::MissingEntity)).collect();
        }
        read.collect()
    }

    fn feature(
        &self,
        feature: &Feature,
        condition: &Option<Condition>,
        at: Micros,
    ) -> (FeatureValue, Status) {
        if feature.aggregate == Aggregate::Latest {
            return self.latest(feature, at);
        }
        let start = window_start(feature.window, at);
        let rows: Vec<&JoinedRow> = self
            .rows
            .iter()
            .filter(|row| start <= i128::from(row.at.0) && row.at < at)
            .filter(|row| condition.as_ref().is_none_or(|c| c.keeps(row)))
            .collect();
        aggregate(feature, &rows)
    }

    /// The field of the version at `at`.
    fn latest(&self, feature: &Feature, at: Micros) -> (FeatureValue, Status) {
        let argument = feature.argument.expect("`latest` names a field");
        let Source::Join(changelog) = argument.source else {
            panic!("`latest` names a field of a changelog");
        };
        let version = version_at(&self.versions[changelog], at);
        let value = version.map_or(Value::Null, |row| row[argument.field].clone());
        let status = if value == Value::Null { Status::Null } else { Status::Present };
        (FeatureValue::Scalar(value), status)
    }
}

/// The row of the last version with `at ≤ x`; `None` where there is none, or where it is an END.
fn version_at(versions: &[Live], x: Micros) -> Option<&Vec<Value>> {
    let version = versions.iter().rev().find(|version| version.at <= x)?;
    version.assert.then_some(&version.row)
}

/// The first instant of the window at `at`. In 128 bits, where nothing overflows.
pub(super) fn window_start(window: Window, at: Micros) -> i128 {
    let at = i128::from(at.0);
    match window {
        Window::Unbounded => i128::MIN,
        Window::Sliding { width_us, hop_us } => {
            let start = at - i128::from(width_us);
            start - start.rem_euclid(i128::from(hop_us))
        }
        Window::Exact { width_us } => at - i128::from(width_us),
    }
}
