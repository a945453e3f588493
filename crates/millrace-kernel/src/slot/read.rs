//! Reads of features from heads in memory.

use std::sync::Arc;

use millrace_types::entity::entity_hash;
use millrace_types::{Entity, KnownAt, Micros, Position, Status};

use super::{Before, SlotCore};
use crate::entity::EntityState;
use crate::evaluate::{Evaluation, FeatureOutcome};
use crate::retention::TooEarly;

/// What to read of one entity.
#[derive(Debug, Clone, Copy)]
pub struct SlotRead<'a> {
    /// The entity.
    pub entity: &'a Entity,
    /// The view's name.
    pub view: &'a str,
    /// Indexes of features in the view of the slot's plan.
    pub features: &'a [usize],
    /// The instant.
    pub at: Micros,
    /// As known at.
    pub known_at: KnownAt,
}

/// What the slot as of a position says beside the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Exactly the facts up to here are in effect.
    pub position: Position,
    /// The slot's known_at there.
    pub known_at: KnownAt,
    /// The view's watermark there.
    pub watermark: Option<Micros>,
    /// The entity waits for a rebuild.
    pub rebuilding: bool,
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadAnswer {
    /// The features.
    Head(Evaluation, Stamp),
    /// The head does not cover the read: fold the log up to the stamp's position.
    Log(Stamp),
    /// The entity is not in memory: load it, then ask again.
    Load,
    /// A chunk that touches the entity is not confirmed yet: ask again once this one is.
    Unconfirmed(Position),
    /// The features need what their stream's retention let go.
    TooEarly(TooEarly),
    /// The plan has no such kind or view.
    Unknown,
}

impl SlotCore {
    /// Reads features of an entity from its head.
    pub fn read(&mut self, read: SlotRead<'_>) -> ReadAnswer {
        let Some(plan) = self.plan.kind(read.entity.kind) else { return ReadAnswer::Unknown };
        let Some(view) = plan.view_index(read.view) else { return ReadAnswer::Unknown };
        if let Some(early) = plan.too_early(view, read.features, read.at, self.boundaries()) {
            return ReadAnswer::TooEarly(early);
        }
        let key = read.entity.key.as_bytes();
        let hash = entity_hash(&plan.kind_name, key);
        let Some(slab) = self.residents.find(hash, read.entity.kind, key) else {
            if !self.complete {
                return ReadAnswer::Load;
            }
            let stamp = self.stamp(read.view, None);
            return match EntityState::new(Arc::clone(plan)).evaluate(view, read.features, read.at) {
                Some(evaluation) => ReadAnswer::Head(evaluation, stamp),
                None => ReadAnswer::Log(stamp),
            };
        };
        self.residents.note_use(slab);
        let waiting = match self.residents.get(slab).waiting {
            true => self.dirty.get(read.entity).cloned(),
            false => None,
        };
        let since = waiting.as_ref().map(|w| w.since).filter(|s| *s > self.confirmed);
        let applied = self.residents.get(slab).state.applied();
        if let Some(position) = since.or((applied > self.confirmed).then_some(applied)) {
            return ReadAnswer::Unconfirmed(position);
        }
        let stamp = self.stamp(read.view, waiting.as_ref().map(|w| &w.before));
        let state = &mut self.residents.get_mut(slab).state;
        state.replan(plan);
        if read.known_at < state.known_at() {
            return ReadAnswer::Log(self.stamp(read.view, None));
        }
        let evaluation = state.evaluate(view, read.features, read.at);
        // Reads leave partials beside the facts.
        self.residents.recount(slab);
        match evaluation.filter(|evaluation| !self.is_past_filling(evaluation)) {
            Some(evaluation) => ReadAnswer::Head(evaluation, stamp),
            None => {
                let mut stamp = self.stamp(read.view, None);
                stamp.rebuilding = waiting.is_some();
                ReadAnswer::Log(stamp)
            }
        }
    }

    /// True when a feature waits for a backfill that is over: it fills in entities that it finds in the log,
    /// and all that this one had was taken out of it. The log answers.
    fn is_past_filling(&self, evaluation: &Evaluation) -> bool {
        let waits = |f: &FeatureOutcome| f.status == Status::Backfilling;
        self.filled.version >= self.plan.catalog.version
            && !self.boundaries().is_empty()
            && evaluation.features.iter().any(waits)
    }

    /// The slot as of the last confirmed chunk, or as of before the entity became dirty.
    fn stamp(&self, view: &str, before: Option<&Arc<Before>>) -> Stamp {
        match before {
            Some(before) => Stamp {
                position: before.position,
                known_at: before.known_at,
                watermark: before.watermarks.of_view(view),
                rebuilding: true,
            },
            None => Stamp {
                position: self.confirmed,
                known_at: self.confirmed_at,
                watermark: self.shown.of_view(view),
                rebuilding: false,
            },
        }
    }
}
