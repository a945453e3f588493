//! What the kernel needs of a catalog for the entities of one kind, resolved once per version.

use std::sync::Arc;

use millrace_catalog::{Aggregate, Catalog, Feature, Source, StreamKind, View, Window};
use millrace_types::{FieldType, KindId, StreamId};
use xxhash_rust::xxh3::xxh3_64;

use crate::page::PageLimits;

/// A stream as seen by an entity.
#[derive(Debug, Clone)]
pub(crate) struct StreamPlan {
    pub(crate) id: StreamId,
    pub(crate) name: String,
    pub(crate) kind: StreamKind,
    /// The types of its fields.
    pub(crate) types: Vec<FieldType>,
    /// True when ids that leave the facts at hand are remembered by hash: further facts of an id
    /// that left can come with another `at`. Otherwise an id is a producer's number, and all a
    /// repeat can do is lie before the horizon again.
    pub(crate) remembers: bool,
    /// R when facts more than R behind the watermark are held as LATE.
    pub(crate) hold_us: Option<i64>,
    /// The stream has or had a retention.
    pub(crate) forgets: bool,
}

/// How the partials of a feature are kept for facts that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sealing {
    /// One partial a tile.
    Tiles,
    /// One partial for everything.
    Base,
    /// None: an exact window is folded from facts at hand or from the log.
    None,
}

/// Partials of one aggregate over one hop, shared by every feature that needs just them.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// Identifies what is folded, over catalog versions.
    pub(crate) key: u64,
    /// Identifies what is folded whatever the tiles, within this plan.
    pub(crate) fold: u32,
    pub(crate) view: usize,
    /// A feature of the series; its window is not used.
    pub(crate) feature: Feature,
    /// The width of a tile; 0 without tiles.
    pub(crate) hop_us: i64,
    pub(crate) sealing: Sealing,
    /// The greatest width among its features.
    pub(crate) width_us: i64,
    pub(crate) reads_joins: bool,
    /// The fields of the event it reads.
    pub(crate) event_fields: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct FeaturePlan {
    pub(crate) feature: Feature,
    /// `None` for `latest`.
    pub(crate) series: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct ViewPlan {
    pub(crate) name: String,
    /// Index of the event stream in [`KindPlan::streams`].
    pub(crate) events: usize,
    /// Indexes of the changelogs.
    pub(crate) joins: Vec<usize>,
    /// Its events may be forgotten: an entity without facts at hand or in the log may have had some.
    pub(crate) forgets: bool,
    pub(crate) features: Vec<FeaturePlan>,
}

impl ViewPlan {
    /// The number of what the feature with this index folds; `None` for `latest`.
    pub(crate) fn folds(&self, plan: &KindPlan, feature: usize) -> Option<u32> {
        self.features[feature].series.map(|series| plan.series[series].fold)
    }
}

/// The part of a catalog that concerns entities of one kind.
#[derive(Debug, Clone)]
pub struct KindPlan {
    pub(crate) kind_name: String,
    pub(crate) catalog_version: u32,
    pub(crate) streams: Vec<StreamPlan>,
    pub(crate) views: Vec<ViewPlan>,
    pub(crate) series: Vec<Series>,
    pub(crate) pages: PageLimits,
    /// What is folded, by number: [`folded_rows`].
    folds: Vec<String>,
    /// Identifies what is folded, over catalog versions, by number.
    pub(crate) fold_keys: Vec<u64>,
}

/// A whole catalog, resolved for the kernel.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The catalog.
    pub catalog: Arc<Catalog>,
    kinds: Vec<Arc<KindPlan>>,
}

impl Plan {
    /// Resolves a catalog.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self::with_pages(catalog, PageLimits::default())
    }

    /// Resolves a catalog for entities with pages of another size.
    #[must_use]
    pub fn with_pages(catalog: Arc<Catalog>, pages: PageLimits) -> Self {
        let kind = |k: &millrace_catalog::Kind| Arc::new(KindPlan::new(&catalog, k.id, pages));
        let kinds = catalog.kinds.iter().map(kind).collect();
        Self { catalog, kinds }
    }

    /// True when heads made under an earlier plan may lack partials that this one needs.
    #[must_use]
    pub fn adds_to(&self, earlier: &Self) -> bool {
        self.kinds.iter().enumerate().any(|(index, kind)| {
            let had = earlier.kinds.get(index).map_or(&[][..], |kind| &kind.series);
            let has = |s: &&Series| {
                !had.iter().any(|have| have.key == s.key && have.width_us >= s.width_us)
            };
            kind.series.iter().any(|s| has(&s))
        })
    }

    /// The plan of a kind, if this version has it.
    #[must_use]
    pub fn kind(&self, kind: KindId) -> Option<&Arc<KindPlan>> {
        self.kinds.get(usize::from(kind.0))
    }
}

impl KindPlan {
    fn new(catalog: &Catalog, kind: KindId, pages: PageLimits) -> Self {
        let streams: Vec<StreamPlan> = catalog
            .streams
            .iter()
            .filter(|s| s.key_for(kind).is_some())
            .map(|s| StreamPlan {
                id: s.id,
                name: s.name.clone(),
                kind: s.kind,
                types: s.fields.iter().map(|field| field.ty).collect(),
                remembers: s.id_field.is_some()
                    || s.retracts.is_some()
                    || s.revision.is_some()
                    || s.op.as_ref().is_some_and(|op| !op.retract.is_empty()),
                hold_us: (s.beyond_repair == millrace_catalog::BeyondRepair::Hold)
                    .then_some(s.repair_us),
                forgets: s.forgets,
            })
            .collect();
        let mut plan = Self {
            kind_name: catalog.kind(kind).map(|k| k.name.clone()).unwrap_or_default(),
            catalog_version: catalog.version,
            streams,
            views: Vec::new(),
            series: Vec::new(),
            pages,
            folds: Vec::new(),
            fold_keys: Vec::new(),
        };
        for view in catalog.views_of(kind) {
            plan.add_view(view);
        }
        plan
    }

    fn add_view(&mut self, view: &View) {
        let index = |id: StreamId| self.streams.iter().position(|s| s.id == id);
        // The catalog refuses views whose streams are not keyed by the view's entity.
        let (Some(events), Some(joins)) =
            (index(view.events), view.joins.iter().map(|j| index(*j)).collect::<Option<Vec<_>>>())
        else {
            debug_assert!(false, "view {} has a stream its entity does not see", view.name);
            return;
        };
        let forgets = self.streams[events].forgets;
        let mut plan =
            ViewPlan { name: view.name.clone(), events, joins, forgets, features: Vec::new() };
        for feature in &view.features {
            let reads_joins = reads_joins(feature, view.joins.len());
            let series = (feature.aggregate != Aggregate::Latest)
                .then(|| self.series_for(view, feature, reads_joins));
            plan.features.push(FeaturePlan { feature: feature.clone(), series });
        }
        self.views.push(plan);
    }

    fn series_for(&mut self, view: &View, feature: &Feature, reads_joins: bool) -> usize {
        let (sealing, hop_us, width_us) = match feature.window {
            Window::Unbounded => (Sealing::Base, 0, i64::MAX),
            Window::Sliding { width_us, hop_us } => (Sealing::Tiles, hop_us, width_us),
            Window::Exact { width_us } => (Sealing::None, 0, width_us),
        };
        let rows = folded_rows(view, feature);
        let key = xxh3_64(format!("{rows}|{sealing:?}|{hop_us}").as_bytes());
        if let Some(found) = self.series.iter().position(|s| s.key == key) {
            let series = &mut self.series[found];
            series.width_us = series.width_us.max(width_us);
            return found;
        }
        let fold = match self.folds.iter().position(|have| *have == rows) {
            Some(found) => found,
            None => {
                self.fold_keys.push(xxh3_64(rows.as_bytes()));
                self.folds.push(rows);
                self.folds.len() - 1
            }
        } as u32;
        let view = self.views.len();
        self.series.push(Series {
            key,
            fold,
            view,
            feature: feature.clone(),
            hop_us,
            sealing,
            width_us,
            reads_joins,
            event_fields: event_fields(feature),
        });
        self.series.len() - 1
    }

    /// What is folded of the events of the stream with this index, each once, by view: a fold of several
    /// views is told of with the first.
    pub(crate) fn folds_of(&self, stream: usize) -> Vec<(usize, Vec<&Series>)> {
        let mut folds: Vec<(usize, Vec<&Series>)> = Vec::new();
        let mut seen = vec![false; self.folds.len()];
        for series in self.series.iter().filter(|s| self.views[s.view].events == stream) {
            if std::mem::replace(&mut seen[series.fold as usize], true) {
                continue;
            }
            match folds.iter_mut().find(|(view, _)| *view == series.view) {
                Some((_, same)) => same.push(series),
                None => folds.push((series.view, vec![series])),
            }
        }
        folds
    }

    /// The index of this stream among those its entities see.
    #[inline]
    pub(crate) fn stream_index(&self, id: StreamId) -> Option<usize> {
        self.streams.iter().position(|s| s.id == id)
    }

    /// The index of a view by name.
    #[must_use]
    pub fn view_index(&self, name: &str) -> Option<usize> {
        self.views.iter().position(|v| v.name == name)
    }

    /// The indexes of the features with these names, or all of them when `names` is empty.
    ///
    /// # Errors
    /// The first name that is none of the view's features.
    pub fn feature_indexes(&self, view: usize, names: &[String]) -> Result<Vec<usize>, String> {
        let features = &self.views[view].features;
        if names.is_empty() {
            return Ok((0..features.len()).collect());
        }
        names
            .iter()
            .map(|n| features.iter().position(|f| f.feature.name == *n).ok_or_else(|| n.clone()))
            .collect()
    }
}

fn reads_joins(feature: &Feature, joins: usize) -> bool {
    let argument = feature.argument.is_some_and(|a| a.source != Source::Event);
    let filter = feature.filter.as_ref().is_some_and(|p| (0..joins).any(|j| p.reads_join(j)));
    argument || filter
}

fn event_fields(feature: &Feature) -> Vec<usize> {
    let filter = feature.filter.iter().flat_map(|p| p.reads());
    let reads = feature.argument.iter().chain(filter);
    reads.filter(|f| f.source == Source::Event).map(|f| f.field).collect()
}

/// Everything that decides what a feature folds, apart from its window. Field numbers never change
/// and streams keep theirs, so equal texts of two catalog versions mean equal partials.
fn folded_rows(view: &View, feature: &Feature) -> String {
    format!(
        "{:?}|{:?}|{:?}|{:?}|{:?}|{:?}",
        view.entity, view.events, view.joins, feature.aggregate, feature.argument, feature.filter,
    )
}
