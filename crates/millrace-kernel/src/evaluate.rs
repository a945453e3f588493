//! The one function `f(facts of an entity, at, known_at)`: every reader of features calls it, so that
//! online and offline agree bit for bit (design §1.3, semantics §1).
//!
//! The caller chooses the facts (`known_at`): a live head for what is confirmed, or a state folded
//! from the log up to an instant. This function then computes at `t`, from sealed partials and from
//! facts alike, with the same result, since every partial is exact and order-free.

use millrace_catalog::{Source, Window};
use millrace_types::{FactView, FeatureValue, Micros, Op, Status};

use crate::entity::EntityState;
use crate::page::MissingPage;
use crate::plan::{FeaturePlan, ViewPlan};
use crate::windows::Left;

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

impl EntityState {
    /// Computes the features with these indexes of the view with this index at the instant `t`.
    ///
    /// `None` when the state does not cover the read: facts it needs left, or a partial was given
    /// up for its size. The log then answers it by this same function. Nothing answers what is
    /// [too early](Self::too_early). A feature that came after facts
    /// had left is [`Status::Backfilling`] until they are filled in, beside the others' values.
    ///
    /// # Panics
    /// When an index is not one of the state's plan.
    #[must_use]
    pub fn evaluate(&mut self, view: usize, features: &[usize], t: Micros) -> Option<Evaluation> {
        // All pages of a whole state are in memory. Were one missing, the log would answer.
        self.try_evaluate(view, features, t).ok().flatten()
    }

    /// As [`EntityState::evaluate`], where pages may not be in memory.
    ///
    /// # Errors
    /// [`MissingPage`] when the read needs one of them.
    pub(crate) fn try_evaluate(
        &mut self,
        view_index: usize,
        features: &[usize],
        t: Micros,
    ) -> Result<Option<Evaluation>, MissingPage> {
        let plan = self.plan.clone();
        let view = &plan.views[view_index];
        if self.horizon > Micros::MIN && t < self.horizon {
            return Ok(None);
        }
        if self.too_early(view_index, features, t).is_some() {
            return Ok(None);
        }
        let missing = self.is_missing(view, t);
        let Some(partials) = self.fold_windows(&plan, view, features, t)? else {
            return Ok(None);
        };
        let versions: Vec<Option<FactView<'_>>> = view
            .joins
            .iter()
            .map(|join| Ok(self.streams[*join].in_force(t)?.filter(|f| f.op == Op::Assert)))
            .collect::<Result<_, MissingPage>>()?;
        let features = features
            .iter()
            .zip(partials)
            .map(|(index, partial)| {
                let feature = &view.features[*index];
                let (value, status) = match partial {
                    Left::Partial(Some(partial)) => partial.finish(&feature.feature),
                    Left::Partial(None) => latest(feature, &versions),
                    Left::Unfilled => (FeatureValue::NULL, Status::Backfilling),
                };
                let status = if missing { Status::MissingEntity } else { status };
                // `latest` has no width, so its window starts where time does.
                let window_start = feature.feature.window.start(t);
                FeatureOutcome { value, status, window_start }
            })
            .collect();
        let versions = versions.iter().map(|v| v.map(|f| (f.at, f.id.into()))).collect();
        Ok(Some(Evaluation { features, versions }))
    }

    /// True when the entity is missing at `t`. Where events are forgotten nobody can tell, and it has the
    /// values of an empty one.
    fn is_missing(&self, view: &ViewPlan, t: Micros) -> bool {
        !view.forgets && !self.has_live_fact(view, t)
    }

    /// True when a live fact of one of the view's streams has `at ≤ t`.
    pub(crate) fn has_live_fact(&self, view: &ViewPlan, t: Micros) -> bool {
        std::iter::once(view.events).chain(view.joins.iter().copied()).any(|stream| {
            self.live_left[stream] || self.streams[stream].first_live().is_some_and(|at| at <= t)
        })
    }
}

/// The value of a field of the version in force at the read's instant, given those of the view's
/// changelogs.
fn latest(feature: &FeaturePlan, versions: &[Option<FactView<'_>>]) -> (FeatureValue, Status) {
    debug_assert!(matches!(feature.feature.window, Window::Unbounded), "latest has no window");
    let value = feature.feature.argument.and_then(|argument| {
        let Source::Join(join) = argument.source else { return None };
        let version = versions.get(join).copied().flatten()?;
        Some(version.row.get(argument.field).to_value())
    });
    match value {
        Some(value) if !value.as_ref().is_null() => (FeatureValue::Scalar(value), Status::Present),
        _ => (FeatureValue::NULL, Status::Null),
    }
}
