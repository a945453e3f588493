//! Forgetting facts that are older than their stream's retention (design §3): which of them go at a
//! base chunk, and which reads can no longer be answered after it.
//!
//! ASSERTs of an id are forgotten together, when all of them lie before the boundary: then the id counts in
//! no window that begins at the boundary or after it, however much of the rest is known to a reader.
//! RETRACTs have no say, since their `at` never matters, and stay. So it makes no difference which of the
//! forgotten facts a reader met: forgetting twice is forgetting once, no ASSERT from before the boundary
//! comes in after the base chunk, and nothing else depends on one.

mod scrub;

use std::sync::Arc;

use millrace_catalog::StreamKind;
use millrace_types::{Boundaries, ChunkHeader, FactView, Micros, Op, StreamId};
use thiserror::Error;

use crate::entity::EntityState;
use crate::facts::{Place, StreamFacts};
use crate::page::id_hash;
use crate::plan::KindPlan;

pub use scrub::RetentionScrub;

/// A read whose windows reach back to what its stream's retention let go.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the feature {feature} at {at} needs facts of {stream} from before {boundary}, which its retention \
     let go; {}",
    earliest.map_or_else(
        || "it cannot be read any more".to_owned(),
        |earliest| format!("the earliest instant that can be read is {earliest}"),
    )
)]
pub struct TooEarly {
    /// The feature of those asked for that can be read again last.
    pub feature: String,
    /// The name of its event stream.
    pub stream: String,
    /// The instant asked for.
    pub at: Micros,
    /// Facts before it are forgotten.
    pub boundary: Micros,
    /// The earliest instant at which all features asked for can be read; `None` where one of them needs
    /// every fact.
    pub earliest: Option<Micros>,
}

impl KindPlan {
    /// The earliest instant at which these features of a view need nothing that lies before its event
    /// stream's boundary, and the feature which decides that. Nothing where every instant will do; no
    /// instant where a feature needs every fact.
    ///
    /// # Panics
    /// When an index is not one of the plan.
    #[must_use]
    pub fn earliest(
        &self,
        view: usize,
        features: &[usize],
        boundaries: &Boundaries,
    ) -> Option<(Option<Micros>, usize)> {
        let view = &self.views[view];
        let boundary = boundaries.of(self.streams[view.events].id);
        if boundary == Micros::MIN {
            return None;
        }
        // `latest` reads no event.
        let folds = features.iter().filter(|index| view.features[**index].series.is_some());
        let earliest = |index: &usize| view.features[*index].feature.window.earliest(boundary);
        let by_instant = |index: &&usize| earliest(index).unwrap_or(Micros::MAX);
        folds.max_by_key(by_instant).map(|index| (earliest(index), *index))
    }

    /// Why these features of a view cannot be read at `at`, if they cannot.
    ///
    /// # Panics
    /// When an index is not one of the plan.
    #[must_use]
    pub fn too_early(
        &self,
        view: usize,
        features: &[usize],
        at: Micros,
        boundaries: &Boundaries,
    ) -> Option<TooEarly> {
        let (earliest, feature) = self.earliest(view, features, boundaries)?;
        if earliest.is_some_and(|earliest| earliest <= at) {
            return None;
        }
        let view = &self.views[view];
        let stream = &self.streams[view.events];
        let (boundary, stream) = (boundaries.of(stream.id), stream.name.clone());
        let feature = view.features[feature].feature.name.clone();
        Some(TooEarly { feature, stream, at, boundary, earliest })
    }
}

impl EntityState {
    /// Forgets what lies before these boundaries; true when facts at hand went.
    pub(crate) fn forget(&mut self, boundaries: &Arc<Boundaries>) -> bool {
        if self.boundaries.reach(boundaries) {
            return false;
        }
        Arc::make_mut(&mut self.boundaries).raise_all(boundaries);
        if self.boundaries == *boundaries {
            // One for all entities of a slot.
            self.boundaries = boundaries.clone();
        }
        let plan = self.plan.clone();
        let mut went = false;
        for (index, stream) in plan.streams.iter().enumerate() {
            let boundary = self.boundaries.of(stream.id);
            if boundary == Micros::MIN || stream.kind != StreamKind::Event {
                continue;
            }
            let doomed = forgotten(&self.streams[index], boundary);
            if !doomed.is_empty() {
                self.streams[index].remove(&doomed);
                went = true;
            }
            // What left lies before the horizon, so that no window reaches it any more.
            self.live_left[index] &= self.horizon > boundary;
        }
        went
    }

    /// Why these features of a view cannot be read at `at`, if they cannot.
    ///
    /// # Panics
    /// When an index is not one of the state's plan.
    #[must_use]
    pub fn too_early(&self, view: usize, features: &[usize], at: Micros) -> Option<TooEarly> {
        self.plan.too_early(view, features, at, &self.boundaries)
    }
}

/// The places of the facts that a boundary takes, in order.
fn forgotten(facts: &StreamFacts, boundary: Micros) -> Vec<Place> {
    let mut doomed = Vec::new();
    for (page, p) in facts.pages().iter().enumerate() {
        if p.first_at() >= boundary.0 {
            break;
        }
        for (index, r) in p.refs().iter().enumerate() {
            if r.at >= boundary.0 {
                break;
            }
            let fact = p.fact(index);
            if fact.op == Op::Retract {
                continue;
            }
            let same_id = facts.find(fact.id, id_hash(fact.id));
            if is_forgotten(same_id.iter().map(|place| facts.fact(*place)), boundary) {
                doomed.push(Place { page, index });
            }
        }
    }
    doomed
}

/// True when the ASSERTs of an id with these facts are forgotten at a boundary.
pub(crate) fn is_forgotten<'a>(
    same_id: impl IntoIterator<Item = FactView<'a>>,
    boundary: Micros,
) -> bool {
    let says = |fact: &FactView<'a>| fact.op != Op::Retract;
    let last = same_id.into_iter().filter(says).map(|fact| fact.at).max();
    last.is_some_and(|last| last < boundary)
}

/// What base chunks forgot, for a reader that has facts as references in the order of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cuts {
    /// Facts with smaller numbers stand before the base chunk.
    cuts: Vec<(u32, Arc<Boundaries>)>,
    /// The furthest boundaries that a chunk told of, whether it is a base chunk or lost facts.
    pub(crate) boundaries: Boundaries,
}

impl Cuts {
    /// Takes the next chunk's notes in; facts from number `next` on stand in or after it.
    pub(crate) fn chunk(&mut self, header: &ChunkHeader, next: u32) {
        let Some(notes) = &header.retention else { return };
        self.boundaries.raise_all(&notes.scrubbed);
        self.boundaries.raise_all(&notes.base);
        if !notes.base.is_empty() {
            self.cuts.push((next, Arc::new(notes.base.clone())));
        }
    }

    /// True when nothing was forgotten by a base chunk.
    pub(crate) fn is_empty(&self) -> bool {
        self.cuts.is_empty()
    }

    /// True when one of them lies between facts with these numbers.
    pub(crate) fn is_between(&self, first: u32, last: u32) -> bool {
        self.cuts.iter().any(|(next, _)| first < *next && *next <= last)
    }

    /// Of the facts of one id of a stream, in the order of the log and with their numbers: the indexes of
    /// those that are not forgotten.
    pub(crate) fn left<'a>(&self, stream: StreamId, same_id: &[(u32, FactView<'a>)]) -> Vec<usize> {
        let mut left: Vec<usize> = (0..same_id.len()).collect();
        for (next, boundaries) in &self.cuts {
            let before = |index: &usize| same_id[*index].0 < *next;
            let facts = left.iter().filter(|index| before(index)).map(|index| same_id[*index].1);
            if is_forgotten(facts, boundaries.of(stream)) {
                left.retain(|index| !before(index) || same_id[*index].1.op == Op::Retract);
            }
        }
        left
    }

    /// The boundaries that take effect before the fact with this number, from the cut with index
    /// `from` on, which moves on.
    pub(crate) fn before(&self, number: u32, from: &mut usize) -> Option<&Arc<Boundaries>> {
        let (next, boundaries) = self.cuts.get(*from)?;
        if *next > number {
            return None;
        }
        *from += 1;
        Some(boundaries)
    }
}
