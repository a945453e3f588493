//! The windows of one read, folded together.
//!
//! Windows end at the same instant, so a shorter one lies inside a longer one. Events are folded once,
//! from the newest back, and what is folded when a window's start is reached is that window's.

use millrace_types::Micros;

use crate::aggregate::Partial;
use crate::entity::EntityState;
use crate::fold::Folder;
use crate::page::MissingPage;
use crate::plan::{KindPlan, Sealing, Series, ViewPlan};
use crate::series::Keeping;

/// What the partials of facts that left give for one feature of a read.
#[derive(Debug, Clone)]
pub(crate) enum Left {
    /// All there is of the window; for a feature that folds nothing, nothing.
    Partial(Option<Partial>),
    /// The feature came after facts had left, and its partials were not filled in yet.
    Unfilled,
}

/// A feature asked for.
pub(crate) struct Asked {
    pub(crate) start: Micros,
    /// Its place among the features asked for.
    place: usize,
    /// Its series in the plan.
    pub(crate) series: usize,
    /// Its fold among those of the read.
    fold: usize,
}

/// What a read folds.
pub(crate) struct Windows<'p> {
    /// Those that begin last first.
    pub(crate) asked: Vec<Asked>,
    /// What is folded, that which reaches back furthest first, and how far that is.
    folds: Vec<&'p Series>,
    reach: Vec<Micros>,
}

impl<'p> Windows<'p> {
    /// The windows of these features, those apart that are [`Left::Unfilled`] in `left`.
    pub(crate) fn new(
        plan: &'p KindPlan,
        view: &ViewPlan,
        features: &[usize],
        t: Micros,
        left: &[Left],
    ) -> Self {
        let mut asked = Vec::with_capacity(features.len());
        for (place, (index, left)) in features.iter().zip(left).enumerate() {
            let feature = &view.features[*index];
            if let (Some(series), Left::Partial(_)) = (feature.series, left) {
                let start = feature.feature.window.start(t);
                asked.push(Asked { start, place, series, fold: 0 });
            }
        }
        asked.sort_unstable_by_key(|a| a.start);
        let (mut folds, mut reach): (Vec<&Series>, Vec<Micros>) = (Vec::new(), Vec::new());
        for one in &mut asked {
            let series = &plan.series[one.series];
            one.fold = match folds.iter().position(|have| have.fold == series.fold) {
                Some(found) => found,
                None => {
                    folds.push(series);
                    reach.push(one.start);
                    folds.len() - 1
                }
            };
        }
        asked.reverse();
        Self { asked, folds, reach }
    }

    /// What is folded of the events since an instant at which a window begins.
    pub(crate) fn reaching(&self, start: Micros) -> &[&'p Series] {
        &self.folds[..self.reach.partition_point(|reach| *reach <= start)]
    }
}

impl EntityState {
    /// The partials of these features at `t`, each at its place. Nothing at all when what left does not
    /// suffice and the log has to answer.
    ///
    /// # Errors
    /// [`MissingPage`] when a page that it needs is not in memory.
    pub(crate) fn fold_windows(
        &mut self,
        plan: &KindPlan,
        view: &ViewPlan,
        features: &[usize],
        t: Micros,
    ) -> Result<Option<Vec<Left>>, MissingPage> {
        let Some(mut partials) = self.left_of(plan, view, features, t) else { return Ok(None) };
        let windows = Windows::new(plan, view, features, t, &partials);
        let mut folded: Vec<Partial> =
            windows.folds.iter().map(|series| Partial::new(&series.feature)).collect();
        // Folding leaves partials among the events while it looks up versions beside them.
        let mut events = std::mem::take(&mut self.streams[view.events]);
        let folder = Folder::new(self, view, &windows.folds);
        let mut missing = None;
        let mut end = t;
        for same in windows.asked.chunk_by(|a, b| a.start == b.start) {
            let start = same[0].start;
            let folds = windows.reaching(start);
            let into = &mut folded[..folds.len()];
            if let Err(page) = folder.window(&mut events, start, end, folds, into) {
                missing = Some(page);
                break;
            }
            for one in same {
                if let Left::Partial(Some(partial)) = &mut partials[one.place] {
                    partial.merge(&folded[one.fold]);
                }
            }
            end = start;
        }
        self.streams[view.events] = events;
        missing.map_or(Ok(Some(partials)), Err)
    }

    /// What left of the windows of these features at `t`; `None` when the log has to answer.
    pub(crate) fn left_of(
        &self,
        plan: &KindPlan,
        view: &ViewPlan,
        features: &[usize],
        t: Micros,
    ) -> Option<Vec<Left>> {
        let of_feature = |index: &usize| {
            let feature = &view.features[*index];
            let Some(series) = feature.series else { return Some(Left::Partial(None)) };
            self.sealed_partial(series, &plan.series[series], feature.feature.window.start(t), view)
        };
        features.iter().map(of_feature).collect()
    }

    fn sealed_partial(
        &self,
        index: usize,
        series: &Series,
        start: Micros,
        view: &ViewPlan,
    ) -> Option<Left> {
        let mut partial = Partial::new(&series.feature);
        if !self.live_left[view.events] {
            return Some(Left::Partial(Some(partial)));
        }
        if series.sealing == Sealing::None {
            return (start >= self.horizon).then_some(Left::Partial(Some(partial)));
        }
        let sealed = self.sealed.get(index).filter(|s| s.key == series.key)?;
        if !sealed.reaches(start) {
            return match sealed.keeping {
                Keeping::TooLarge => None,
                Keeping::Kept | Keeping::Unknown => Some(Left::Unfilled),
            };
        }
        for tile in sealed.tiles.iter().filter(|t| t.start >= start.0) {
            partial.merge(&tile.partial);
        }
        Some(Left::Partial(Some(partial)))
    }
}
