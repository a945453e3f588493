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
    pub(crate) fn new(plan: &'p KindPlan, view: &ViewPlan, features: &[usize], t: Micros) -> Self {
        let mut asked = Vec::with_capacity(features.len());
        for (place, index) in features.iter().enumerate() {
            let feature = &view.features[*index];
            if let Some(series) = feature.series {
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
    /// The partials of these features at `t`, each at its place; `None` for features that fold
    /// nothing. Nothing at all when what left does not suffice.
    ///
    /// # Errors
    /// [`MissingPage`] when a page that it needs is not in memory.
    pub(crate) fn fold_windows(
        &mut self,
        plan: &KindPlan,
        view: &ViewPlan,
        features: &[usize],
        t: Micros,
    ) -> Result<Option<Vec<Option<Partial>>>, MissingPage> {
        let windows = Windows::new(plan, view, features, t);
        let mut partials = vec![None; features.len()];
        for one in &windows.asked {
            let series = &plan.series[one.series];
            let sealed = self.sealed_partial(one.series, series, one.start, view);
            let Some(sealed) = sealed else { return Ok(None) };
            partials[one.place] = Some(sealed);
        }
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
                if let Some(partial) = &mut partials[one.place] {
                    partial.merge(&folded[one.fold]);
                }
            }
            end = start;
        }
        self.streams[view.events] = events;
        missing.map_or(Ok(Some(partials)), Err)
    }

    /// The partial of facts that left; `None` when they do not suffice.
    pub(crate) fn sealed_partial(
        &self,
        index: usize,
        series: &Series,
        start: Micros,
        view: &ViewPlan,
    ) -> Option<Partial> {
        let mut partial = Partial::new(&series.feature);
        if !self.live_left[view.events] {
            return Some(partial);
        }
        if series.sealing == Sealing::None {
            return (start >= self.horizon).then_some(partial);
        }
        let sealed =
            self.sealed.get(index).filter(|s| s.keeping == Keeping::Kept && s.key == series.key)?;
        for tile in sealed.tiles.iter().filter(|t| t.start >= start.0) {
            partial.merge(&tile.partial);
        }
        Some(partial)
    }
}
