//! One entity swept once in time order.

use std::sync::Arc;

use millrace_catalog::{Aggregate, Source, Window};
use millrace_types::{Micros, OrderKey, Status, ValueRef};

use super::column::{Column, Versions, columns};
use super::gather::{EntityFacts, GatheredSlot};
use super::known::{Growing, Known, NOTHING};
use super::live::LiveFacts;
use super::slide::{Reach, Slide, slides};
use super::{AsKnown, Cell, Sink};
use crate::entity::EntityState;
use crate::evaluate::Evaluation;
use crate::plan::{FeaturePlan, KindPlan, Series};

/// How a feature is answered.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Its window, by its number, slides over the column with this index.
    Slides { window: usize, column: usize },
    /// A field of the version in force of this changelog.
    Latest { join: usize, field: usize },
    /// By [`EntityState::evaluate`].
    Evaluated,
}

/// Counts of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Rows.
    pub rows: u64,
    /// Rows for which no live fact of the view's streams has an `at` up to theirs.
    pub missing: u64,
    /// Of those, rows that have such facts, but none known by then.
    pub unknown: u64,
}

/// Sweeps the entities of one view.
#[derive(Debug)]
pub struct Sweeper {
    pub(super) plan: Arc<KindPlan>,
    pub(super) view: usize,
    pub(super) features: Vec<usize>,
    /// The streams of the view.
    pub(super) streams: Vec<usize>,
    ways: Vec<Way>,
    /// The windows that slide, each once.
    windows: Vec<Window>,
    /// By column: its series.
    pub(super) series: Vec<usize>,
    /// Whether one that slides gives the first or the last few.
    pub(super) lists: bool,
    /// The features that are evaluated, and their places among all.
    evaluated: Vec<usize>,
}

impl Sweeper {
    /// Sweeps these features of a view; `None` when the kind of the facts has no such view or feature, or
    /// the facts were gathered for others.
    #[must_use]
    pub fn new<B: AsRef<[u8]>>(
        slot: &GatheredSlot<B>,
        view: &str,
        features: &[usize],
    ) -> Option<Self> {
        let plan = slot.plan.clone();
        let view = plan.view_index(view)?;
        let of_view = &plan.views[view];
        let (mut ways, mut series, mut evaluated) = (Vec::new(), Vec::<usize>::new(), Vec::new());
        let mut windows: Vec<Window> = Vec::new();
        for index in features {
            let feature = of_view.features.get(*index)?;
            let way = match feature.series {
                None => latest(feature),
                Some(of) if slides(&feature.feature) => {
                    let fold = plan.series[of].fold;
                    let same = |have: &usize| plan.series[*have].fold == fold;
                    let column = series.iter().position(same).unwrap_or_else(|| {
                        series.push(of);
                        series.len() - 1
                    });
                    let wanted = feature.feature.window;
                    let window = windows.iter().position(|have| *have == wanted);
                    let window = window.unwrap_or_else(|| {
                        windows.push(wanted);
                        windows.len() - 1
                    });
                    Way::Slides { window, column }
                }
                Some(_) => Way::Evaluated,
            };
            if matches!(way, Way::Evaluated) {
                evaluated.push(*index);
            }
            ways.push(way);
        }
        if !slot.has_read(of_view, features) {
            return None;
        }
        let is_list = |(way, index): (&Way, &usize)| {
            let aggregate = of_view.features[*index].feature.aggregate;
            let is_list = matches!(aggregate, Aggregate::FirstN { .. } | Aggregate::LastN { .. });
            matches!(way, Way::Slides { .. }) && is_list
        };
        let lists = ways.iter().zip(features).any(is_list);
        let streams = std::iter::once(of_view.events).chain(of_view.joins.iter().copied());
        let streams = streams.collect();
        let features = features.to_vec();
        Some(Self { plan, view, features, streams, ways, windows, series, lists, evaluated })
    }

    /// Sweeps one entity over these instants, which ascend.
    pub fn sweep<B: AsRef<[u8]>>(
        &self,
        entity: &EntityFacts<'_, B>,
        rows: &[Micros],
        sink: &mut impl Sink,
    ) -> Swept {
        debug_assert!(rows.is_sorted(), "rows ascend");
        let live: Vec<LiveFacts<'_>> =
            (0..self.plan.streams.len()).map(|stream| entity.live(stream)).collect();
        let first = self.first(&live);
        let is_plain = |stream: &usize| live[*stream].are.in_time && live[*stream].are.single;
        let is_plain = entity.known() != AsKnown::AtEvent || self.streams.iter().all(is_plain);
        if is_plain {
            return self.slide(entity, (&live, &NOTHING, first), rows, sink);
        }
        match self.known(&live, rows) {
            Some(known) => self.slide(entity, (&live, &known, first), rows, sink),
            None => self.sweep_as_known(entity, first, rows, sink),
        }
    }

    /// Sweeps an entity, whose first live fact is `first`, by windows that slide over what is known.
    fn slide<B: AsRef<[u8]>>(
        &self,
        entity: &EntityFacts<'_, B>,
        (live, known, first): (&[LiveFacts<'_>], &Known, Option<Micros>),
        rows: &[Micros],
        sink: &mut impl Sink,
    ) -> Swept {
        let mut evaluates = Evaluates::new(self, entity, known);
        let view = &self.plan.views[self.view];
        let series: Vec<&Series> = self.series.iter().map(|s| &self.plan.series[*s]).collect();
        let columns: Vec<Column<'_>> = columns(view, &series, live, known);
        let (mut spans, mut slides) = self.slides(&series, &columns);
        let mut versions = Versions::new(view, live, known);
        let mut presence = self.presence(live, known);
        let mut swept = Swept { rows: rows.len() as u64, ..Swept::default() };
        for t in rows {
            let absent = !presence.at(*t);
            swept.missing += u64::from(absent);
            swept.unknown += u64::from(absent && first.is_some_and(|first| first <= *t));
            let missing = absent && !view.forgets;
            let status = |status| if missing { Status::MissingEntity } else { status };
            versions.go_on_to(t.0);
            for Spanned { window, column, reach } in &mut spans {
                reach.go_on_to(*t, self.windows[*window], &columns[*column]);
            }
            let evaluation = evaluates.at(self, *t);
            let mut evaluated = evaluation.iter().flat_map(|e| &e.features);
            for (place, (way, slide)) in self.ways.iter().zip(&mut slides).enumerate() {
                match (way, slide) {
                    (Way::Slides { column, .. }, Some((span, slide))) => {
                        let (column, reach) = (&columns[*column], &spans[*span].reach);
                        slide.hand(reach, column, |cell, s| sink.cell(place, cell, status(s)));
                    }
                    (Way::Latest { join, field }, _) => {
                        let value = versions.value(*join, *field);
                        let is = if value.is_null() { Status::Null } else { Status::Present };
                        sink.cell(place, Cell::Scalar(value), status(is));
                    }
                    (Way::Evaluated | Way::Slides { .. }, _) => {
                        // A state with all its facts at hand covers every read.
                        let outcome = evaluated.next();
                        let null = (Cell::Scalar(ValueRef::Null), Status::Null);
                        let (cell, is) = outcome.map_or(null, |o| ((&o.value).into(), o.status));
                        sink.cell(place, cell, status(is));
                    }
                }
            }
        }
        swept
    }

    /// The live events of an entity with `from ≤ at < to`, in order: the rows of a training set that
    /// has no spine.
    pub fn events<'a, B: AsRef<[u8]>>(
        &self,
        entity: &EntityFacts<'a, B>,
        (from, to): (Micros, Micros),
        mut take: impl FnMut(OrderKey<'a>),
    ) {
        let live = entity.live(self.plan.views[self.view].events);
        let within = |(_, at): &(usize, i64)| from.0 <= *at && *at < to.0;
        for (fact, _) in live.still_live().filter(within) {
            take(entity.fact(live.place(fact)).order_key());
        }
    }

    /// The first instant at which the view has a fact of the entity.
    fn first(&self, live: &[LiveFacts<'_>]) -> Option<Micros> {
        let first = |stream: &usize| live[*stream].still_live().next().map(|(_, at)| Micros(at));
        self.streams.iter().filter_map(first).min()
    }

    /// The windows that slide, and by feature the slide over one of them. Features that count the same
    /// instants over the same window share it.
    fn slides<'p>(
        &'p self,
        series: &[&Series],
        columns: &[Column<'_>],
    ) -> (Vec<Spanned>, Slides<'p>) {
        let features = &self.plan.views[self.view].features;
        let mut spans: Vec<Spanned> = Vec::with_capacity(self.ways.len());
        let slide = |(way, index): (&Way, &usize)| {
            let Way::Slides { window, column } = *way else { return None };
            let same_ats = |other: usize| {
                other == column || (columns[other].is_whole() && columns[column].is_whole())
            };
            let same = |s: &Spanned| s.window == window && same_ats(s.column);
            let span = spans.iter().position(same).unwrap_or_else(|| {
                spans.push(Spanned { window, column, reach: Reach::default() });
                spans.len() - 1
            });
            Some((span, Slide::new(&features[*index].feature, series[column], &columns[column])))
        };
        let slides = self.ways.iter().zip(&self.features).map(slide).collect();
        (spans, slides)
    }
}

/// A window, by its number, that slides over the instants of a column.
#[derive(Debug)]
struct Spanned {
    window: usize,
    column: usize,
    reach: Reach,
}

/// What features that do not slide are evaluated from.
enum Evaluates<'e, 'a, B> {
    /// There are none.
    Nothing,
    /// All facts.
    Whole(Box<EntityState>),
    /// Those that are known.
    Known(Box<Growing<'e, 'a, B>>),
}

impl<'e, 'a, B: AsRef<[u8]>> Evaluates<'e, 'a, B> {
    fn new(sweeper: &Sweeper, entity: &'e EntityFacts<'a, B>, known: &Known) -> Self {
        if sweeper.evaluated.is_empty() {
            return Self::Nothing;
        }
        match known.is_nothing() {
            true => Self::Whole(Box::new(entity.state(|_| true))),
            false => Self::Known(Box::new(Growing::new(entity))),
        }
    }

    fn at(&mut self, sweeper: &Sweeper, t: Micros) -> Option<Evaluation> {
        let state = match self {
            Self::Nothing => return None,
            Self::Whole(state) => &mut **state,
            Self::Known(growing) => growing.at(t),
        };
        state.evaluate(sweeper.view, &sweeper.evaluated, t)
    }
}

/// By feature: which window it has, and what is kept of it.
type Slides<'p> = Vec<Option<(usize, Slide<'p>)>>;

fn latest(feature: &FeaturePlan) -> Way {
    match feature.feature.argument.map(|argument| (argument.source, argument.field)) {
        Some((Source::Join(join), field)) => Way::Latest { join, field },
        // The catalog gives `latest` a field of a changelog.
        Some((Source::Event, _)) | None => Way::Evaluated,
    }
}
