//! What a chunk changes in a view's joined rows, as retractions and insertions (design §4, §7
//! `Subscribe`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use millrace_catalog::StreamKind;
use millrace_types::{Boundaries, FactView, Micros, Row, RowView, StreamId};

use crate::entity::{EntityState, Outcome};
use crate::page::id_hash;
use crate::plan::ViewPlan;
use crate::retention::is_forgotten;

/// A joined row that appears or disappears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// True for `+`, false for `-`.
    pub plus: bool,
    /// The event's id.
    pub id: Box<[u8]>,
    /// The joined row.
    pub row: EmittedRow,
}

/// A joined row as it is emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmittedRow {
    /// The event's instant.
    pub at: Micros,
    /// The event's row.
    pub event: Row,
    /// By changelog of the view: the version's row, `None` where it is absent.
    pub versions: Vec<Option<Row>>,
}

/// What a chunk changes in a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewChange {
    /// A row of an entity appears or disappears.
    Row(RowChange),
    /// Every row of the entity is gone: it was erased, or had facts of an entity that was. Those that
    /// are left come again.
    Erased,
}

/// Collects what facts change in one view of one entity, from before the first of them to after
/// the last: a pair of equal rows is then no change.
#[derive(Debug, Default)]
pub struct ChangeSet {
    /// By event id: the row before the first fact that touched it.
    before: BTreeMap<Box<[u8]>, Option<EmittedRow>>,
}

impl ChangeSet {
    /// Applies a fact to the state and notes the rows it touches in the view with this index. Gives what
    /// became of it.
    /// The state must have everything at hand.
    ///
    /// # Panics
    /// When the view's index is not one of the state's plan.
    pub fn apply(
        &mut self,
        state: &mut EntityState,
        view: usize,
        stream: usize,
        fact: &FactView<'_>,
    ) -> Outcome {
        let plan = state.plan.clone();
        let view = &plan.views[view];
        let touched = state.touched_events(view, stream, fact);
        for id in touched {
            if let Entry::Vacant(place) = self.before.entry(id) {
                let row = state.emitted(view, place.key());
                place.insert(row);
            }
        }
        let outcome = state.apply(stream, fact, u64::MAX);
        debug_assert!(
            outcome != Outcome::Dirty,
            "a state with everything at hand never needs the log"
        );
        outcome
    }

    /// The state is about to forget events. Rows that go with them are no changes.
    pub(crate) fn forget(&mut self, state: &EntityState, view: usize, boundaries: &Boundaries) {
        let events = state.plan.views[view].events;
        let boundary = boundaries.of(state.plan.streams[events].id);
        let facts = &state.streams[events];
        let of_id = |id: &[u8]| facts.find(id, id_hash(id)).into_iter().map(|p| facts.fact(p));
        self.before.retain(|id, _| !is_forgotten(of_id(id), boundary));
    }

    /// The changes, `-` before the `+` that replaces it.
    ///
    /// # Panics
    /// When the view's index is not one of the state's plan.
    #[must_use]
    pub fn finish(self, state: &EntityState, view: usize) -> Vec<RowChange> {
        let view = &state.plan.views[view];
        let mut changes = Vec::new();
        for (id, before) in self.before {
            let after = state.emitted(view, &id);
            if before == after {
                continue;
            }
            changes.extend(before.map(|row| RowChange { plus: false, id: id.clone(), row }));
            changes.extend(after.map(|row| RowChange { plus: true, id, row }));
        }
        changes
    }
}

impl EntityState {
    /// The ids of the events whose joined row in this view the fact may change.
    fn touched_events(
        &self,
        view: &ViewPlan,
        stream: usize,
        fact: &FactView<'_>,
    ) -> Vec<Box<[u8]>> {
        if view.events == stream {
            return vec![fact.id.into()];
        }
        if self.plan.streams[stream].kind == StreamKind::Event || !view.joins.contains(&stream) {
            return Vec::new();
        }
        let facts = &self.streams[stream];
        let places = facts.find(fact.id, id_hash(fact.id));
        let seated = facts.would_live(fact, &places);
        let old = facts.live_of(&places).filter(|p| seated || facts.retracts(fact, *p));
        let old = old.map(|p| facts.fact(p));
        let spans = self.version_spans(stream, old.as_ref(), seated.then_some(fact));
        spans
            .into_iter()
            .flat_map(|(from, to)| self.streams[view.events].live_range(from, to))
            .map(|event| event.id.into())
            .collect()
    }

    /// Every joined row of a view, by event.
    pub(crate) fn all_emitted(&self, view: usize) -> Vec<RowChange> {
        let view = &self.plan.views[view];
        let row = |event: FactView<'_>| RowChange {
            plus: true,
            id: event.id.into(),
            row: self.emit(view, &event),
        };
        let events = self.streams[view.events].live_range(Micros::MIN, Micros::MAX);
        events.map(row).collect()
    }

    /// Lets go of facts for which `keep` is false. The state must have everything at hand.
    pub(crate) fn scrub(&mut self, keep: impl Fn(StreamId, &FactView<'_>) -> bool) {
        let streams: Vec<StreamId> = self.plan.streams.iter().map(|s| s.id).collect();
        for (stream, facts) in streams.into_iter().zip(&mut self.streams) {
            facts.scrub(|fact| keep(stream, fact));
        }
        self.forget_folds();
    }

    /// The joined row of the live event with this id, if there is one.
    fn emitted(&self, view: &ViewPlan, id: &[u8]) -> Option<EmittedRow> {
        let events = &self.streams[view.events];
        let live = events.live_of(&events.find(id, id_hash(id)))?;
        Some(self.emit(view, &events.fact(live)))
    }

    fn emit(&self, view: &ViewPlan, event: &FactView<'_>) -> EmittedRow {
        let mut versions: Vec<Option<RowView<'_>>> = Vec::new();
        self.versions_at(view, event.at, &mut versions);
        EmittedRow {
            at: event.at,
            event: event.row.to_row(),
            versions: versions.into_iter().map(|v| v.map(RowView::to_row)).collect(),
        }
    }
}
