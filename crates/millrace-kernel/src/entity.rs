//! The state of one entity: its facts at hand, the partials of those that left, and where in the
//! log it stands.

use std::sync::Arc;

use millrace_catalog::StreamKind;
use millrace_types::{Boundaries, FactView, KnownAt, Micros, Op, Position, RowView, StreamId};

use crate::facts::{Known, Place, StreamFacts};
use crate::left::LeftIds;
use crate::page::id_hash;
use crate::plan::{KindPlan, Series};
use crate::series::SealedSeries;

/// Everything Millrace holds of one entity.
#[derive(Debug, Clone)]
pub struct EntityState {
    pub(crate) plan: Arc<KindPlan>,
    /// In the order of [`KindPlan::streams`].
    pub(crate) streams: Vec<StreamFacts>,
    /// Ids that left, by stream.
    pub(crate) left: Vec<LeftIds>,
    /// Everything with `at` from here on is at hand; the earliest instant until something left.
    pub(crate) horizon: Micros,
    /// By stream: whether a live fact left.
    pub(crate) live_left: Vec<bool>,
    /// In the order of [`KindPlan::series`]; empty until something left.
    pub(crate) sealed: Vec<SealedSeries>,
    /// What is held of facts that left, in bytes; counted anew when some leave.
    pub(crate) left_bytes: usize,
    /// The last chunk whose facts are in effect here.
    pub(crate) applied: Position,
    /// The known_at of that chunk.
    pub(crate) known_at: KnownAt,
    /// Before which facts are forgotten here.
    pub(crate) boundaries: Arc<Boundaries>,
}

/// What becomes of one fact of one entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the set now. `rows` joined rows emitted before were retracted by it.
    Applied {
        /// Retracted rows over all views.
        rows: u64,
        /// Another fact of its id and revision has another payload.
        conflict: bool,
    },
    /// It was in the set already.
    Duplicate,
    /// It needs what is not at hand: its entity is dirty, and nothing was changed.
    Dirty,
}

/// What a fact would change, found before anything is changed.
#[derive(Debug)]
struct Effect {
    conflict: bool,
    /// The live fact that stops being live.
    unseated: Option<Place>,
    /// Whether the new fact becomes live.
    seated: bool,
}

impl EntityState {
    /// An entity without facts.
    #[must_use]
    pub fn new(plan: Arc<KindPlan>) -> Self {
        let n = plan.streams.len();
        Self {
            streams: vec![StreamFacts::default(); n],
            left: vec![LeftIds::default(); n],
            live_left: vec![false; n],
            plan,
            horizon: Micros::MIN,
            sealed: Vec::new(),
            left_bytes: 0,
            applied: Position::START,
            known_at: KnownAt::default(),
            boundaries: Arc::default(),
        }
    }

    /// The last chunk whose facts are in effect.
    #[must_use]
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// The known_at of that chunk.
    #[must_use]
    pub fn known_at(&self) -> KnownAt {
        self.known_at
    }

    /// Everything with `at` from here on is at hand.
    #[must_use]
    pub fn horizon(&self) -> Micros {
        self.horizon
    }

    /// States that every fact up to this chunk is in effect.
    pub fn set_applied(&mut self, position: Position, known_at: KnownAt) {
        self.applied = position;
        self.known_at = known_at;
    }

    /// Memory held, in bytes, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let per_stream = size_of::<StreamFacts>() + size_of::<LeftIds>() + 1;
        let streams: usize = self.streams.iter().map(StreamFacts::heap_bytes).sum();
        size_of::<Self>() + self.streams.len() * per_stream + streams + self.left_bytes
    }

    /// Memory held by facts at hand, in bytes, about: what is free once all of them left.
    #[must_use]
    pub fn fact_bytes(&self) -> usize {
        self.streams.iter().map(StreamFacts::fact_bytes).sum()
    }

    pub(crate) fn count_left(&mut self) {
        self.left_bytes = self.left.iter().map(LeftIds::heap_bytes).sum::<usize>()
            + self.sealed.iter().map(SealedSeries::heap_bytes).sum::<usize>();
    }

    /// Judges a fact of the stream with this index and, unless the entity becomes dirty, takes it
    /// into the set. `rows_max` bounds the rows one fact may touch at once.
    pub(crate) fn apply(&mut self, stream: usize, fact: &FactView<'_>, rows_max: u64) -> Outcome {
        let hash = id_hash(fact.id);
        let facts = &self.streams[stream];
        let places = facts.find(fact.id, hash);
        let conflict = match facts.known(fact, &places) {
            Known::Same => return Outcome::Duplicate,
            Known::NewId if self.left[stream].contains(hash) => return Outcome::Dirty,
            Known::NewId => false,
            Known::Others { conflict } => conflict,
        };
        let live = facts.live_of(&places);
        let seated = facts.would_live(fact, &places);
        let unseated = live.filter(|p| seated || facts.retracts(fact, *p));
        let effect = Effect { conflict, unseated, seated };
        let Some(rows) = self.rows_touched(stream, fact, &effect, rows_max) else {
            return Outcome::Dirty;
        };
        self.commit(stream, fact, hash, &effect);
        Outcome::Applied { rows, conflict: effect.conflict }
    }

    /// Reads where this fact will be looked for, or put behind all others, so that it is in the cache then.
    pub(crate) fn fetch(&self, stream: StreamId, fact: &FactView<'_>) -> i64 {
        let facts = self.plan.stream_index(stream).and_then(|index| self.streams.get(index));
        facts.map_or(0, |facts| facts.fetch(id_hash(fact.id)))
    }

    /// True when this very fact is at hand.
    pub(crate) fn has(&self, stream: usize, fact: &FactView<'_>) -> bool {
        let facts = &self.streams[stream];
        facts.known(fact, &facts.find(fact.id, id_hash(fact.id))) == Known::Same
    }

    /// How many emitted rows the effect retracts, or `None` when it needs what is not at hand or
    /// touches too many.
    fn rows_touched(
        &self,
        stream: usize,
        fact: &FactView<'_>,
        effect: &Effect,
        rows_max: u64,
    ) -> Option<u64> {
        let old = effect.unseated.map(|p| self.streams[stream].fact(p));
        let earliest = match (old.map(|f| f.at), effect.seated.then_some(fact.at)) {
            (None, None) => return Some(0),
            (a, b) => a.unwrap_or(Micros::MAX).min(b.unwrap_or(Micros::MAX)),
        };
        if self.horizon > Micros::MIN && earliest < self.horizon {
            return None;
        }
        let new = effect.seated.then_some(fact);
        let rows = match self.plan.streams[stream].kind {
            StreamKind::Event => self.event_rows_touched(stream, old.as_ref(), new),
            StreamKind::Changelog => self.version_rows_touched(stream, old.as_ref(), new),
        };
        (rows <= rows_max).then_some(rows)
    }

    fn event_rows_touched(
        &self,
        stream: usize,
        old: Option<&FactView<'_>>,
        new: Option<&FactView<'_>>,
    ) -> u64 {
        let Some(old) = old else { return 0 };
        // The versions an event meets depend on its `at` alone: equal instants and rows emit equal
        // joined rows in every view.
        if new.is_some_and(|new| new.at == old.at && new.row == old.row) {
            return 0;
        }
        self.plan.views.iter().filter(|v| v.events == stream).count() as u64
    }

    /// Counts by rank the events whose version differs once `old` goes and `new` comes.
    fn version_rows_touched(
        &self,
        stream: usize,
        old: Option<&FactView<'_>>,
        new: Option<&FactView<'_>>,
    ) -> u64 {
        let spans = self.version_spans(stream, old, new);
        let views = self.plan.views.iter().filter(|v| v.joins.contains(&stream));
        views
            .map(|view| {
                let events = &self.streams[view.events];
                spans.iter().map(|(a, b)| events.live_between(*a, *b)).sum::<u64>()
            })
            .sum()
    }

    /// The disjoint intervals of instants at which another version is in force once `old` goes and
    /// `new` comes. Outside `[f.at, next version)` of either nothing changes.
    pub(crate) fn version_spans(
        &self,
        stream: usize,
        old: Option<&FactView<'_>>,
        new: Option<&FactView<'_>>,
    ) -> Vec<(Micros, Micros)> {
        let versions = &self.streams[stream];
        let reach: Vec<(Micros, Micros)> = [old, new]
            .into_iter()
            .flatten()
            .map(|f| (f.at, versions.next_live_after(f.at).unwrap_or(Micros::MAX)))
            .collect();
        let mut cuts: Vec<Micros> = reach.iter().flat_map(|(a, b)| [*a, *b]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2)
            .map(|pair| (pair[0], pair[1]))
            .filter(|(from, _)| reach.iter().any(|(a, b)| a <= from && from < b))
            .filter(|(from, _)| {
                let before = versions.live_at_or_before(*from);
                let after = version_after(versions, *from, old, new);
                version_row(before.as_ref()) != version_row(after.as_ref())
            })
            .collect()
    }

    fn commit(&mut self, stream: usize, fact: &FactView<'_>, hash: u64, effect: &Effect) {
        self.forget_joined(stream, fact, effect);
        if let Some(place) = effect.unseated {
            self.streams[stream].set_live(place, false);
        }
        self.streams[stream].insert(fact, hash, effect.seated, self.plan.pages);
    }

    /// Forgets the partials over events that the effect joins with another version.
    fn forget_joined(&mut self, stream: usize, fact: &FactView<'_>, effect: &Effect) {
        if self.plan.streams[stream].kind == StreamKind::Event {
            return;
        }
        let plan = self.plan.clone();
        let joining = |s: &Series| s.reads_joins && plan.views[s.view].joins.contains(&stream);
        let mut spans = None;
        for view in plan.views.iter().filter(|v| v.joins.contains(&stream)) {
            if !self.streams[view.events].is_folded() {
                continue;
            }
            let spans = spans.get_or_insert_with(|| {
                let old = effect.unseated.map(|p| self.streams[stream].fact(p));
                self.version_spans(stream, old.as_ref(), effect.seated.then_some(fact))
            });
            let forgets = |fold| plan.series.iter().any(|s| s.fold == fold && joining(s));
            for (from, to) in spans.iter() {
                self.streams[view.events].forget_between(*from, *to, &forgets);
            }
        }
    }

    /// Forgets the partials that reads left.
    pub(crate) fn forget_folds(&mut self) {
        self.streams.iter_mut().for_each(StreamFacts::forget);
    }

    /// Takes facts back that were applied since the chunk before: their entity became dirty in the
    /// same chunk, so all its facts of that chunk wait.
    pub(crate) fn unapply(&mut self, stream: usize, fact: &FactView<'_>) {
        let hash = id_hash(fact.id);
        let facts = &mut self.streams[stream];
        let same = |p: &Place| facts.fact(*p).bytes == fact.bytes;
        let gone = facts.find(fact.id, hash).into_iter().find(same);
        facts.retain(|place, _| Some(place) != gone);
        facts.settle(fact.id, hash);
        self.forget_folds();
    }
}

/// The version in force at `at` once `old` is gone and `new` is there.
fn version_after<'a>(
    versions: &'a StreamFacts,
    at: Micros,
    old: Option<&FactView<'a>>,
    new: Option<&FactView<'a>>,
) -> Option<FactView<'a>> {
    let mut best = match versions.live_at_or_before(at) {
        Some(found) if old.is_some_and(|o| o.bytes == found.bytes && o.id == found.id) => {
            // The one that goes is the last: look for the one before it, in the same order.
            versions.live_before(&found.order_key())
        }
        other => other,
    };
    if let Some(new) = new.filter(|n| n.at <= at)
        && best.is_none_or(|b| b.order_key() < new.order_key())
    {
        best = Some(*new);
    }
    best
}

/// The row a version gives to the events it meets; END gives none.
fn version_row<'a>(version: Option<&FactView<'a>>) -> Option<RowView<'a>> {
    version.filter(|f| f.op == Op::Assert).map(|f| f.row)
}
