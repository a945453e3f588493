//! The one function `f(facts of an entity, at, known_at)`: every reader of features calls it, so that
//! online and offline agree bit for bit (design §1.3, semantics §1).
//!
//! The caller chooses the facts (`known_at`): a live head for what is confirmed, or a state folded
//! from the log up to an instant. This function then computes at `t`, from sealed partials, cached
//! tiles and facts alike, with the same result, since every partial is exact and order-free.

use millrace_catalog::Window;
use millrace_types::{FeatureValue, Micros, OrderKey, RowView, Status};

use crate::aggregate::Partial;
use crate::entity::EntityState;
use crate::plan::{FeaturePlan, Sealing, Series, ViewPlan};
use crate::row::JoinedRow;
use crate::series::{CachedSeries, Keeping};

/// Up to this many events in a window are folded one by one; beyond it tiles are cached.
const FOLD_MAX: u64 = 256;

/// A feature's value, its status and the first instant of its window.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureOutcome {
    /// The value.
    pub value: FeatureValue,
    /// Its status.
    pub status: Status,
    /// The window's first instant; the earliest instant without a width.
    pub window_start: Micros,
}

/// The answer of a read for one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// One outcome a feature asked for, in order.
    pub features: Vec<FeatureOutcome>,
    /// By changelog of the view: `at` and id of the version in force at the read's instant.
    pub versions: Vec<Option<(Micros, Box<[u8]>)>>,
}

/// A feature whose events are folded one by one.
struct Direct<'p> {
    slot: usize,
    start: Micros,
    series: &'p Series,
}

impl EntityState {
    /// Computes the features with these indexes of the view with this index at the instant `t`.
    ///
    /// `None` when the state does not cover the read: facts it needs left, or a partial was given
    /// up for its size. The log then answers it by this same function.
    ///
    /// # Panics
    /// When an index is not one of the state's plan.
    #[must_use]
    pub fn evaluate(&mut self, view: usize, features: &[usize], t: Micros) -> Option<Evaluation> {
        let plan = self.plan.clone();
        let view = &plan.views[view];
        if self.horizon > Micros::MIN && t < self.horizon {
            return None;
        }
        let missing = !self.has_live_fact(view, t);
        let mut partials: Vec<Option<Partial>> = Vec::with_capacity(features.len());
        let mut direct = Vec::new();
        for (slot, index) in features.iter().enumerate() {
            let feature = &view.features[*index];
            let Some(series_index) = feature.series else {
                partials.push(None);
                continue;
            };
            let series = &plan.series[series_index];
            let start = feature.feature.window.start(t);
            let mut partial = Partial::new(&feature.feature);
            self.merge_sealed(series_index, series, start, view, &mut partial)?;
            if self.streams[view.events].live_between(start, t) > FOLD_MAX {
                self.merge_cached(series_index, series, view, start, t, &mut partial);
            } else {
                direct.push(Direct { slot, start, series });
            }
            partials.push(Some(partial));
        }
        self.fold_direct(view, &direct, t, &mut partials);
        let features = features
            .iter()
            .zip(partials)
            .map(|(index, partial)| {
                let feature = &view.features[*index];
                let (value, status) = match partial {
                    Some(partial) => partial.finish(&feature.feature),
                    None => self.latest(view, feature, t),
                };
                let status = if missing { Status::MissingEntity } else { status };
                // `latest` has no width, so its window starts where time does.
                let window_start = feature.feature.window.start(t);
                FeatureOutcome { value, status, window_start }
            })
            .collect();
        let versions = view
            .joins
            .iter()
            .map(|j| self.version_at(*j, t).map(|f| (f.at, f.id.into())))
            .collect();
        Some(Evaluation { features, versions })
    }

    /// True when a live fact of one of the view's streams has `at ≤ t`.
    fn has_live_fact(&self, view: &ViewPlan, t: Micros) -> bool {
        std::iter::once(view.events).chain(view.joins.iter().copied()).any(|stream| {
            self.live_left[stream]
                || self.streams[stream].live_bounds().is_some_and(|(first, _)| first <= t)
        })
    }

    /// Merges the partials of facts that left; `None` when they do not suffice.
    fn merge_sealed(
        &self,
        index: usize,
        series: &Series,
        start: Micros,
        view: &ViewPlan,
        partial: &mut Partial,
    ) -> Option<()> {
        if !self.live_left[view.events] {
            return Some(());
        }
        if series.sealing == Sealing::None {
            return (start >= self.horizon).then_some(());
        }
        let sealed =
            self.sealed.get(index).filter(|s| s.keeping == Keeping::Kept && s.key == series.key)?;
        for tile in sealed.tiles.iter().filter(|t| t.start >= start.0) {
            partial.merge(&tile.partial);
        }
        Some(())
    }

    /// Merges cached tiles inside `[start, t)` and folds what the bounds cut from facts.
    fn merge_cached(
        &mut self,
        index: usize,
        series: &Series,
        view: &ViewPlan,
        start: Micros,
        t: Micros,
        partial: &mut Partial,
    ) {
        if self.cache.len() != self.plan.series.len() {
            self.cache = vec![None; self.plan.series.len()];
        }
        let mut cached = match self.cache[index].take() {
            Some(cached) => cached,
            None => {
                let all = self.streams[view.events].live_range(Micros::MIN, Micros::MAX);
                CachedSeries::new(series, all.map(|f| f.at))
            }
        };
        let first =
            cached.tiles.partition_point(|tile| Micros(tile.start).plus(series.hop_us) <= start);
        for tile in &mut cached.tiles[first..] {
            if tile.start >= t.0 {
                break;
            }
            let end = Micros(tile.start).plus(series.hop_us);
            if tile.start >= start.0 && (end <= t || tile.greatest_at < t.0) {
                let whole = tile.partial.get_or_insert_with(|| {
                    let mut fresh = Partial::new(&series.feature);
                    self.fold_range(view, series, Micros(tile.start), end, &mut fresh);
                    fresh
                });
                partial.merge(whole);
            } else {
                let from = start.max(Micros(tile.start));
                self.fold_range(view, series, from, t.min(end), partial);
            }
        }
        self.cache[index] = Some(cached);
    }

    /// Folds the live events with `from ≤ at < to` into a partial.
    fn fold_range(
        &self,
        view: &ViewPlan,
        series: &Series,
        from: Micros,
        to: Micros,
        partial: &mut Partial,
    ) {
        let mut versions: Vec<Option<RowView<'_>>> = Vec::new();
        for event in self.streams[view.events].live_range(from, to) {
            if series.reads_joins {
                self.versions_at(view, event.at, &mut versions);
            }
            let row = JoinedRow { event: event.row, versions: &versions };
            if let Some(value) = row.value_for(series) {
                partial.add(event.order_key(), value);
            }
        }
    }

    /// Folds the events of all small windows in one pass.
    fn fold_direct(
        &self,
        view: &ViewPlan,
        direct: &[Direct<'_>],
        t: Micros,
        partials: &mut [Option<Partial>],
    ) {
        let Some(first) = direct.iter().map(|d| d.start).min() else { return };
        let joins = direct.iter().any(|d| d.series.reads_joins);
        let mut versions: Vec<Option<RowView<'_>>> = Vec::new();
        for event in self.streams[view.events].live_range(first, t) {
            if joins {
                self.versions_at(view, event.at, &mut versions);
            }
            let row = JoinedRow { event: event.row, versions: &versions };
            let key: OrderKey<'_> = event.order_key();
            for fold in direct.iter().filter(|d| event.at >= d.start) {
                if let (Some(value), Some(partial)) =
                    (row.value_for(fold.series), &mut partials[fold.slot])
                {
                    partial.add(key, value);
                }
            }
        }
    }

    fn latest(&self, view: &ViewPlan, feature: &FeaturePlan, t: Micros) -> (FeatureValue, Status) {
        let value = feature.feature.argument.and_then(|argument| {
            let millrace_catalog::Source::Join(join) = argument.source else { return None };
            let version = self.version_at(view.joins[join], t)?;
            Some(version.row.get(argument.field).to_value())
        });
        debug_assert!(matches!(feature.feature.window, Window::Unbounded), "latest has no window");
        match value {
            Some(value) if !value.as_ref().is_null() => {
                (FeatureValue::Scalar(value), Status::Present)
            }
            _ => (FeatureValue::NULL, Status::Null),
        }
    }
}
