//! Letting facts leave: those before a horizon are folded into sealed partials and forgotten, oldest
//! first (design §3, "At hand").

use std::sync::Arc;

use millrace_catalog::StreamKind;
use millrace_types::{FactView, Micros, Op, RowView};

use crate::entity::EntityState;
use crate::facts::Place;
use crate::page::id_hash;
use crate::plan::KindPlan;
use crate::row::{JoinedRow, mark_fields};
use crate::series::{Keeping, SealedSeries};

impl EntityState {
    /// Lets every id leave whose live fact lies before `horizon` (or, without one, all of whose
    /// facts do). Per changelog the version in force just before the horizon stays: one at the horizon
    /// stays as well, and may go later. Nothing happens when the horizon does not move forward.
    pub fn evict(&mut self, horizon: Micros) {
        if horizon <= self.horizon {
            return;
        }
        let plan = self.plan.clone();
        if self.sealed.len() != plan.series.len() {
            self.sealed = plan.series.iter().map(|s| SealedSeries::new(s.key)).collect();
        }
        // Events first: folding them needs the versions they meet, which may leave after them.
        for kind in [StreamKind::Event, StreamKind::Changelog] {
            for stream in 0..plan.streams.len() {
                if plan.streams[stream].kind == kind {
                    self.evict_stream(&plan, stream, horizon);
                }
            }
        }
        self.horizon = horizon;
        for (sealed, series) in self.sealed.iter_mut().zip(&plan.series) {
            sealed.forget_before(series, horizon);
        }
        self.count_left();
    }

    fn evict_stream(&mut self, plan: &Arc<KindPlan>, stream: usize, horizon: Micros) {
        let doomed = self.leaving(stream, horizon);
        if doomed.is_empty() {
            return;
        }
        if plan.streams[stream].kind == StreamKind::Event {
            let mut sealed = std::mem::take(&mut self.sealed);
            let here = plan.series.iter().filter(|s| plan.views[s.view].events == stream);
            let fields = mark_fields(here);
            for place in &doomed {
                if self.streams[stream].live_of(&[*place]).is_some() {
                    let event = self.streams[stream].fact(*place);
                    self.seal(plan, stream, &event, &fields, &mut sealed);
                }
            }
            self.sealed = sealed;
        }
        let facts = &self.streams[stream];
        self.live_left[stream] |= doomed.iter().any(|p| facts.live_of(&[*p]).is_some());
        if plan.streams[stream].remembers {
            let hashes: Vec<u64> = doomed.iter().map(|p| id_hash(facts.fact(*p).id)).collect();
            self.left[stream].extend(hashes.into_iter());
        }
        self.streams[stream].remove(&doomed);
    }

    /// The places of the facts that leave, in order.
    fn leaving(&self, stream: usize, horizon: Micros) -> Vec<Place> {
        let facts = &self.streams[stream];
        let kept = match self.plan.streams[stream].kind {
            StreamKind::Event => None,
            StreamKind::Changelog => {
                facts.live_at_or_before(horizon.minus(1)).map(|f| f.order_key())
            }
        };
        let mut doomed = Vec::new();
        for (page, p) in facts.pages().iter().enumerate() {
            if p.first_at() >= horizon.0 {
                break;
            }
            for (index, r) in p.refs().iter().enumerate() {
                if r.at >= horizon.0 {
                    break;
                }
                let fact = p.fact(index);
                if r.live && kept == Some(fact.order_key()) {
                    continue;
                }
                self.doom_group(
                    stream,
                    &fact,
                    Place { page, index },
                    horizon,
                    kept.is_some(),
                    &mut doomed,
                );
            }
        }
        doomed.sort_unstable_by_key(|p| (p.page, p.index));
        doomed.dedup();
        doomed
    }

    /// Adds the places of this fact's id when the whole id leaves.
    fn doom_group(
        &self,
        stream: usize,
        fact: &FactView<'_>,
        place: Place,
        horizon: Micros,
        keeps_version: bool,
        doomed: &mut Vec<Place>,
    ) {
        let facts = &self.streams[stream];
        let group = facts.find(fact.id, id_hash(fact.id));
        if group.len() == 1 {
            doomed.push(place);
            return;
        }
        let leaves = match facts.live_of(&group) {
            Some(live) => {
                let live = facts.fact(live);
                let in_force = keeps_version
                    && facts
                        .live_at_or_before(horizon.minus(1))
                        .is_some_and(|v| v.bytes == live.bytes && v.id == live.id);
                live.at < horizon && !in_force
            }
            None => group.iter().all(|p| facts.fact(*p).at < horizon),
        };
        if leaves {
            doomed.extend(group);
        }
    }

    /// Folds an event that leaves into the sealed partials.
    fn seal(
        &self,
        plan: &KindPlan,
        stream: usize,
        event: &FactView<'_>,
        fields: &[bool],
        sealed: &mut [SealedSeries],
    ) {
        debug_assert!(event.op == Op::Assert, "a live event is an ASSERT");
        let mut versions: Vec<Option<RowView<'_>>> = Vec::new();
        let mut values = Vec::new();
        event.row.pick(fields, &mut values);
        for (series, target) in plan.series.iter().zip(sealed) {
            let view = &plan.views[series.view];
            if view.events != stream {
                continue;
            }
            if series.reads_joins {
                self.versions_at(view, event.at, &mut versions);
            }
            let row = JoinedRow { event: &values, versions: &versions };
            if let Some(value) = row.value_for(series) {
                target.add(series, event.order_key(), value);
            }
        }
    }

    /// True when the sealed partials know every feature of the plan. Otherwise a feature came, or reaches
    /// further back, since something left, and a backfill has to complete them.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        (0..self.sealed.len()).all(|index| self.is_series_filled(index))
    }

    fn is_series_filled(&self, index: usize) -> bool {
        let series = &self.plan.series[index];
        let nothing_left = !self.live_left[self.plan.views[series.view].events];
        nothing_left || self.sealed[index].is_filled(series, self.horizon)
    }

    /// Takes the sealed partials that are lacking from `whole`: this entity under the same plan and with
    /// the same horizon, folded from the log up to a chunk that holds every fact that left here. Gives true
    /// when it took any.
    ///
    /// What was sealed depends on the facts that left and the horizon alone: a fact that would change it
    /// makes the entity dirty. So `whole` need not hold what came meanwhile.
    pub(crate) fn fill_from(&mut self, whole: Self) -> bool {
        debug_assert!(Arc::ptr_eq(&self.plan, &whole.plan), "states of one plan");
        debug_assert!(self.horizon == whole.horizon, "states of one horizon");
        let mut filled = false;
        for (index, sealed) in whole.sealed.into_iter().enumerate() {
            if index < self.sealed.len() && !self.is_series_filled(index) {
                self.sealed[index] = sealed;
                filled = true;
            }
        }
        self.count_left();
        filled
    }

    /// Takes sealed partials over to the plan's series, matched by what they fold. A series that is not
    /// among them lacks everything that left, which may be nothing.
    pub(crate) fn adopt_sealed(&mut self, mut sealed: Vec<SealedSeries>) {
        if self.horizon == Micros::MIN {
            self.sealed = Vec::new();
            return;
        }
        let plan = self.plan.clone();
        let adopt = |series: &crate::plan::Series| {
            if !self.live_left[plan.views[series.view].events] {
                return SealedSeries::new(series.key);
            }
            match sealed.iter().position(|have| have.key == series.key) {
                Some(found) => sealed.swap_remove(found),
                None => SealedSeries::without(series.key, Keeping::Unknown),
            }
        };
        self.sealed = plan.series.iter().map(adopt).collect();
    }

    /// Moves to another version's plan. Sealed partials are matched by what they fold.
    pub fn replan(&mut self, plan: &Arc<KindPlan>) {
        // Nearly always; what is not counted up waits for no store that is under way.
        if Arc::ptr_eq(plan, &self.plan) {
            return;
        }
        let old = std::mem::replace(&mut self.plan, Arc::clone(plan));
        let n = plan.streams.len();
        let mut streams = vec![Default::default(); n];
        let mut left = vec![Default::default(); n];
        let mut live_left = vec![false; n];
        for (index, stream) in old.streams.iter().enumerate() {
            // Streams are never removed, so every old one has a new index.
            if let Some(new) = plan.stream_index(stream.id) {
                streams[new] = std::mem::take(&mut self.streams[index]);
                left[new] = std::mem::take(&mut self.left[index]);
                live_left[new] = self.live_left[index];
            }
        }
        (self.streams, self.left, self.live_left) = (streams, left, live_left);
        let sealed = std::mem::take(&mut self.sealed);
        self.adopt_sealed(sealed);
        self.count_left();
        // Folds are numbered within a plan.
        self.forget_folds();
    }

    /// Calls `weigh` with the instant and about the memory of each fact at hand.
    pub fn weigh(&self, mut weigh: impl FnMut(Micros, usize)) {
        for page in self.streams.iter().flat_map(|s| s.pages()) {
            let each = page.heap_bytes() / page.len().max(1);
            page.refs().iter().for_each(|r| weigh(Micros(r.at), each));
        }
    }
}
