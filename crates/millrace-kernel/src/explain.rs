//! The facts behind a feature's value, and those left out of it with the reason.
//!
//! An explanation reads the log of one entity's slot, takes its facts in as every reader does, and
//! asks the same functions that compute the value which facts they count.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use millrace_catalog::{Source, Window};
use millrace_types::entity::entity_hash;
use millrace_types::fact::encode_body;
use millrace_types::{
    Boundaries, Chunk, DecodeError, Entity, FactBody, FactView, KnownAt, Micros, Op, Position,
    RowView, StreamId, Value, Verdict,
};

use crate::entity::EntityState;
use crate::evaluate::FeatureOutcome;
use crate::page::id_hash;
use crate::plan::{FeaturePlan, KindPlan, Plan, ViewPlan};
use crate::retention::TooEarly;
use crate::row::{JoinedRow, mark_fields};

/// Why a fact does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOut {
    /// An event before or after the window.
    OutsideWindow,
    /// It was taken back, at its revision or a greater one.
    Retracted,
    /// Another fact of its id counts: one with a greater revision, or the greater one of a conflict.
    Superseded,
    /// It takes other facts back and says nothing itself.
    Retraction,
    /// An event whose aggregated field is one of a changelog that has no version in force.
    NoVersion,
    /// An event for which `where` is not true.
    Filtered,
    /// An event whose aggregated field is NULL.
    Null,
    /// A version that no event counted meets; of `latest`, one not in force at the instant.
    NotInForce,
    /// It came more than `repair` behind the watermark, and was not replayed.
    Late,
    /// It became known after the read's `known_at`.
    AfterKnownAt,
}

/// A version in force at an event's instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedVersion {
    /// Its changelog.
    pub stream: StreamId,
    /// The version, which may be an END; `None` where there is none.
    pub version: Option<FactBody>,
}

/// A fact with its part in a value.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedFact {
    /// Its stream.
    pub stream: StreamId,
    /// The fact.
    pub body: FactBody,
    /// Since when it counts: what an import stated, else when its chunk became known; the least of
    /// its copies.
    pub known_at: KnownAt,
    /// The chunk of that copy.
    pub position: Position,
    /// Why it does not count; `None` when it does.
    pub left_out: Option<LeftOut>,
    /// It is LATE and lies before the instant from which on its slot keeps facts of the stream: a replay
    /// leaves it as it is.
    pub late_for_good: bool,
    /// The start of its tile, for an event and a window with a hop.
    pub tile: Option<Micros>,
    /// What an event counted adds to the aggregate, or the version in force gives to `latest`; NULL
    /// where rows are counted.
    pub value: Value,
    /// For an event in the window: the versions it meets, of the changelogs that the feature reads.
    pub versions: Vec<JoinedVersion>,
}

/// An explained value.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The value.
    pub outcome: FeatureOutcome,
    /// The facts it rests on, the newest `at` first, as many as asked for.
    pub used: Vec<ExplainedFact>,
    /// How many there are.
    pub used_total: u64,
    /// The facts left out, likewise.
    pub left_out: Vec<ExplainedFact>,
    /// How many there are, by reason.
    pub left_out_totals: BTreeMap<LeftOut, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Learned {
    known_at: KnownAt,
    position: Position,
}

impl Learned {
    /// Keeps the copy that was learned first.
    fn first(&mut self, other: Self) {
        if other.known_at < self.known_at {
            *self = other;
        }
    }
}

/// A fact that has no part in the state.
#[derive(Debug)]
struct Apart {
    copy: Copied,
    body: FactBody,
    learned: Learned,
    why: LeftOut,
}

/// What the copies of a fact have in common: its stream and what it says, whatever known_at an import
/// stated. Of RETRACTs only id and revision count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Copied {
    stream: usize,
    bytes: Box<[u8]>,
}

impl Copied {
    fn new(stream: usize, fact: &FactView<'_>) -> Self {
        let FactView { id, revision, at, seq, op, row, .. } = *fact;
        let mut bytes = Vec::with_capacity(fact.bytes.len());
        match op {
            Op::Retract => encode_body(&mut bytes, op, Micros(0), 0, revision, None, id, &[]),
            Op::Assert | Op::End => {
                encode_body(&mut bytes, op, at, seq, revision, None, id, row.as_bytes());
            }
        }
        Self { stream, bytes: bytes.into() }
    }
}

/// Gathers one entity's facts from the log of its slot, to explain one feature.
#[derive(Debug)]
pub struct Explainer {
    plan: Arc<KindPlan>,
    entity: Entity,
    hash: u64,
    view: usize,
    feature: usize,
    known_at: KnownAt,
    state: EntityState,
    /// Of each fact of the state, the copy that was learned first.
    learned: HashMap<Copied, Learned>,
    /// What was LATE and what came later than `known_at`, each fact once, in the order of arrival.
    apart: Vec<Apart>,
    /// Where each stands in `apart`.
    places: HashMap<(LeftOut, Copied), usize>,
    facts: u64,
    boundaries: Boundaries,
}

impl Explainer {
    /// Explains the feature with this index of a view, as known at `known_at`. `None` when the plan has
    /// no such view or feature.
    #[must_use]
    pub fn new(
        plan: &Plan,
        entity: Entity,
        view: &str,
        feature: usize,
        known_at: KnownAt,
    ) -> Option<Self> {
        let kind = plan.kind(entity.kind)?.clone();
        let view = kind.view_index(view)?;
        kind.views[view].features.get(feature)?;
        Some(Self {
            hash: entity_hash(&kind.kind_name, entity.key.as_bytes()),
            state: EntityState::new(kind.clone()),
            plan: kind,
            entity,
            view,
            feature,
            known_at,
            learned: HashMap::new(),
            apart: Vec::new(),
            places: HashMap::new(),
            facts: 0,
            boundaries: Boundaries::default(),
        })
    }

    /// Takes the next chunk in.
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn chunk<B: AsRef<[u8]>>(
        &mut self,
        position: Position,
        chunk: &Chunk<B>,
    ) -> Result<(), DecodeError> {
        if let Some(notes) = &chunk.header.retention {
            self.boundaries.raise_all(&notes.scrubbed);
            self.boundaries.raise_all(&notes.base);
            self.state.forget(&Arc::new(notes.base.clone()));
        }
        if !chunk.header.may_contain(self.hash) {
            return Ok(());
        }
        for (record, verdict) in chunk.records().zip(chunk.header.all_verdicts()) {
            let record = record?;
            self.facts += 1;
            let here = record.kind == self.entity.kind
                && record.key == self.entity.key.as_bytes()
                && !matches!(verdict, Verdict::Rejected(_));
            let Some(stream) = self.plan.stream_index(record.stream).filter(|_| here) else {
                continue;
            };
            let known_at = record.body.known_in(chunk.header.known_at);
            let (copy, learned) =
                (Copied::new(stream, &record.body), Learned { known_at, position });
            if verdict == Verdict::Late {
                self.set_apart(copy, &record.body, learned, LeftOut::Late);
            } else if known_at > self.known_at {
                self.set_apart(copy, &record.body, learned, LeftOut::AfterKnownAt);
            } else {
                self.state.apply(stream, &record.body, u64::MAX);
                self.learned.entry(copy).or_insert(learned).first(learned);
            }
        }
        Ok(())
    }

    /// Notes a fact that has no part in the state, once.
    fn set_apart(&mut self, copy: Copied, fact: &FactView<'_>, learned: Learned, why: LeftOut) {
        let place = *self.places.entry((why, copy.clone())).or_insert(self.apart.len());
        match self.apart.get_mut(place) {
            Some(apart) => apart.learned.first(learned),
            None => self.apart.push(Apart { copy, body: fact.to_body(), learned, why }),
        }
    }

    /// Facts looked at so far, for budgets.
    #[must_use]
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// Why the feature cannot be read at `t`, if it cannot: its stream's retention let go of what it needs.
    #[must_use]
    pub fn too_early(&self, t: Micros) -> Option<TooEarly> {
        self.plan.too_early(self.view, &[self.feature], t, &self.boundaries)
    }

    /// Explains the value at `t`, listing at most `max` facts used and `max` left out. `None` when the
    /// log does not give the value, which a whole log always does.
    #[must_use]
    pub fn finish(mut self, t: Micros, max: usize) -> Option<Explanation> {
        let outcome = self.state.evaluate(self.view, &[self.feature], t)?.features.pop()?;
        let plan = self.plan.clone();
        let view = &plan.views[self.view];
        let feature = &view.features[self.feature];
        let mut explained: Vec<ExplainedFact> = Vec::new();
        let mut met: HashSet<(usize, Micros, u64, Box<[u8]>)> = HashSet::new();
        let reads: Vec<usize> =
            (0..view.joins.len()).filter(|join| reads_join(feature, *join)).collect();
        if feature.series.is_some() {
            self.explain_events(view, feature, (outcome.window_start, t), &reads, &mut explained);
            for version in explained.iter().filter(|e| e.left_out.is_none()) {
                for joined in &version.versions {
                    let stream = self.plan.stream_index(joined.stream)?;
                    let key = |v: &FactBody| (stream, v.at, v.seq, v.id.clone());
                    met.extend(joined.version.as_ref().map(key));
                }
            }
        } else {
            for stream in reads.iter().map(|join| view.joins[*join]) {
                let version = self.state.streams[stream].live_at_or_before(t);
                met.extend(version.map(|v| (stream, v.at, v.seq, v.id.into())));
            }
        }
        for stream in reads.iter().map(|join| view.joins[*join]) {
            self.explain_versions(stream, feature, &met, &mut explained);
        }
        let concerned: Vec<usize> = feature
            .series
            .map(|_| view.events)
            .into_iter()
            .chain(reads.iter().map(|join| view.joins[*join]))
            .collect();
        for apart in std::mem::take(&mut self.apart) {
            let stream = apart.copy.stream;
            // A LATE fact may have had another copy in time, or a replay since.
            let later = |copy| self.places.contains_key(&(LeftOut::AfterKnownAt, copy));
            let known = self.learned.contains_key(&apart.copy)
                || (apart.why == LeftOut::Late && later(apart.copy));
            if concerned.contains(&stream) && !known {
                let boundary = self.boundaries.of(self.plan.streams[stream].id);
                explained.push(ExplainedFact {
                    stream: self.plan.streams[stream].id,
                    late_for_good: apart.why == LeftOut::Late && apart.body.at < boundary,
                    body: apart.body,
                    known_at: apart.learned.known_at,
                    position: apart.learned.position,
                    left_out: Some(apart.why),
                    tile: None,
                    value: Value::Null,
                    versions: Vec::new(),
                });
            }
        }
        Some(limited(outcome, explained, max))
    }

    /// Explains the facts of the view's event stream.
    fn explain_events(
        &self,
        view: &ViewPlan,
        feature: &FeaturePlan,
        window: (Micros, Micros),
        reads: &[usize],
        out: &mut Vec<ExplainedFact>,
    ) {
        let Some(series) = feature.series.map(|index| &self.plan.series[index]) else { return };
        let fields = mark_fields(std::iter::once(series));
        let (mut values, mut rows) = (Vec::new(), Vec::new());
        for (fact, live) in self.facts_of(view.events) {
            let mut explained = self.explained(view.events, &fact);
            if let Window::Sliding { hop_us, .. } = feature.feature.window {
                explained.tile = Some(fact.at.floor(hop_us)).filter(|_| fact.op != Op::Retract);
            }
            explained.left_out = match live {
                false => Some(self.why_not_live(view.events, &fact)),
                true if fact.at < window.0 || fact.at >= window.1 => Some(LeftOut::OutsideWindow),
                true => {
                    explained.versions = self.versions_met(view, reads, fact.at);
                    self.state.versions_at(view, fact.at, &mut rows);
                    fact.row.pick(&fields, &mut values);
                    let row = JoinedRow { event: &values, versions: &rows };
                    let value = row.value_for(series).map(millrace_types::ValueRef::to_value);
                    let why = why_not_counted(feature, &rows, value.as_ref());
                    if why.is_none() && feature.feature.argument.is_some() {
                        explained.value = value.unwrap_or(Value::Null);
                    }
                    why
                }
            };
            out.push(explained);
        }
    }

    /// Explains the facts of a changelog that the feature reads.
    fn explain_versions(
        &self,
        stream: usize,
        feature: &FeaturePlan,
        met: &HashSet<(usize, Micros, u64, Box<[u8]>)>,
        out: &mut Vec<ExplainedFact>,
    ) {
        for (fact, live) in self.facts_of(stream) {
            let mut explained = self.explained(stream, &fact);
            explained.left_out = match live {
                false => Some(self.why_not_live(stream, &fact)),
                true if met.contains(&(stream, fact.at, fact.seq, fact.id.into())) => None,
                true => Some(LeftOut::NotInForce),
            };
            let latest = feature.series.is_none() && explained.left_out.is_none();
            if let Some(argument) = feature.feature.argument.filter(|_| latest)
                && fact.op == Op::Assert
            {
                explained.value = fact.row.get(argument.field).to_value();
            }
            out.push(explained);
        }
    }

    /// The facts of a stream, each with whether it is live.
    fn facts_of(&self, stream: usize) -> impl Iterator<Item = (FactView<'_>, bool)> {
        self.state.streams[stream].pages().iter().flat_map(|page| {
            page.refs().iter().enumerate().map(|(index, r)| (page.fact(index), r.live))
        })
    }

    fn explained(&self, stream: usize, fact: &FactView<'_>) -> ExplainedFact {
        let learned = self.learned.get(&Copied::new(stream, fact)).copied();
        let never = Learned { known_at: KnownAt::default(), position: Position::START };
        debug_assert!(learned.is_some(), "the state holds only facts that were learned");
        let Learned { known_at, position } = learned.unwrap_or(never);
        ExplainedFact {
            stream: self.plan.streams[stream].id,
            body: fact.to_body(),
            known_at,
            position,
            left_out: None,
            late_for_good: false,
            tile: None,
            value: Value::Null,
            versions: Vec::new(),
        }
    }

    fn why_not_live(&self, stream: usize, fact: &FactView<'_>) -> LeftOut {
        if fact.op == Op::Retract {
            return LeftOut::Retraction;
        }
        let facts = &self.state.streams[stream];
        let same_id = facts.find(fact.id, id_hash(fact.id));
        let retracted = same_id
            .iter()
            .map(|place| facts.fact(*place))
            .any(|other| other.op == Op::Retract && other.revision >= fact.revision);
        if retracted { LeftOut::Retracted } else { LeftOut::Superseded }
    }

    fn versions_met(&self, view: &ViewPlan, reads: &[usize], at: Micros) -> Vec<JoinedVersion> {
        let version = |join: &usize| {
            let stream = view.joins[*join];
            JoinedVersion {
                stream: self.plan.streams[stream].id,
                version: self.state.streams[stream].live_at_or_before(at).map(|v| v.to_body()),
            }
        };
        reads.iter().map(version).collect()
    }
}

/// True when the feature reads this changelog of its view.
fn reads_join(feature: &FeaturePlan, join: usize) -> bool {
    let argument = feature.feature.argument.is_some_and(|a| a.source == Source::Join(join));
    argument || feature.feature.filter.as_ref().is_some_and(|filter| filter.reads_join(join))
}

/// Why an event in the window does not count, given what the series folds for it.
fn why_not_counted(
    feature: &FeaturePlan,
    versions: &[Option<RowView<'_>>],
    value: Option<&Value>,
) -> Option<LeftOut> {
    match (value, feature.feature.argument.map(|a| a.source)) {
        (None, _) => Some(LeftOut::Filtered),
        (Some(Value::Null), Some(Source::Join(join))) if versions[join].is_none() => {
            Some(LeftOut::NoVersion)
        }
        (Some(Value::Null), _) => Some(LeftOut::Null),
        (Some(_), _) => None,
    }
}

fn limited(outcome: FeatureOutcome, mut explained: Vec<ExplainedFact>, max: usize) -> Explanation {
    let key = |e: &ExplainedFact| (e.body.at, e.body.seq, e.body.id.clone(), e.body.revision);
    explained.sort_by_cached_key(|e| std::cmp::Reverse(key(e)));
    let (mut used, mut left_out): (Vec<_>, Vec<_>) =
        explained.into_iter().partition(|e| e.left_out.is_none());
    let used_total = used.len() as u64;
    let mut left_out_totals = BTreeMap::new();
    for why in left_out.iter().filter_map(|e| e.left_out) {
        *left_out_totals.entry(why).or_default() += 1;
    }
    used.truncate(max);
    left_out.truncate(max);
    Explanation { outcome, used, used_total, left_out, left_out_totals }
}
