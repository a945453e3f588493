//! A backfill beside everything else, as the join service runs it, step by step.

use std::sync::Arc;

use millrace_kernel::slot::{Fillable, Fold, Listing};
use millrace_kernel::{EntityState, Plan};
use millrace_test_support::generate::Rng;
use millrace_types::{Chunk, Entity, KnownAt};

use super::Sim;

/// Where a backfill stands.
pub(super) enum Filling {
    /// Folded: what the entities are to take over, the next time.
    Folded { states: Vec<(Entity, EntityState)>, looked: Fillable, end: Option<u64> },
    /// Taken over; done up to here once the heads are stored.
    Saving(Option<u64>),
}

impl Sim {
    /// From now on another catalog version is in force.
    pub(crate) fn set_plan(&mut self, plan: Arc<Plan>) {
        if let Some(Filling::Folded { looked, .. }) = self.filling.take() {
            looked.lacking.iter().for_each(|(_, entity, _)| self.core.fill_failed(entity));
        }
        self.plan = plan.clone();
        self.core.set_plan(plan);
        self.reach("another catalog");
    }

    /// Takes a backfill one step further.
    pub(crate) fn backfill(&mut self, rng: &mut Rng) {
        match self.filling.take() {
            None if self.core.needs_backfill() => self.filling = Some(self.begin_fill(rng)),
            None => {}
            Some(Filling::Folded { states, looked, end }) => self.fill(states, looked, end),
            Some(Filling::Saving(below)) if self.core.fills_unsaved() == 0 => {
                self.core.filled_below(below);
                self.reach(if below.is_some() { "filled in part" } else { "filled" });
            }
            Some(saving @ Filling::Saving(_)) => self.filling = Some(saving),
        }
    }

    fn begin_fill(&mut self, rng: &mut Rng) -> Filling {
        let from = self.core.filled().below;
        let mut listing = Listing::new(self.plan.clone(), from, rng.between(1, 4));
        for (position, bytes) in &self.log {
            let chunk = Chunk::decode(bytes.as_slice()).expect("the log decodes");
            listing.chunk(*position, &chunk).expect("the log decodes");
        }
        let (entities, end) = listing.finish();
        for (_, entity) in &entities {
            if !self.core.has(entity) {
                let state = self.load(entity);
                self.core.insert_loaded(entity, state);
            }
        }
        let looked = self.core.start_fill(entities.into());
        let lacking = looked.lacking.iter().map(|(_, entity, _)| entity.clone());
        let mut fold = Fold::new(self.plan.clone(), lacking, KnownAt::MAX);
        for (position, bytes) in &self.log {
            let chunk = Chunk::decode(bytes.as_slice()).expect("the log decodes");
            fold.chunk(*position, &chunk).expect("the log decodes");
        }
        if rng.percent(30) {
            fold.shed(rng.below(4_000));
        }
        for (hash, entity, horizon) in &looked.lacking {
            fold.let_leave(*hash, entity, *horizon);
        }
        self.steps.push(format!("backfill from {from:x}: {looked:?}"));
        Filling::Folded { states: fold.finish(), looked, end }
    }

    fn fill(&mut self, states: Vec<(Entity, EntityState)>, looked: Fillable, end: Option<u64>) {
        let mut later = looked.later;
        let mut states: std::collections::BTreeMap<_, _> = states.into_iter().collect();
        for (hash, entity, _) in looked.lacking {
            let done = match states.remove(&entity) {
                Some(state) => self.core.fill(&entity, state),
                None => {
                    self.core.fill_failed(&entity);
                    false
                }
            };
            self.reach(if done { "fill" } else { "fill, later" });
            if !done {
                later.push((hash, entity));
            }
        }
        let below = later.iter().map(|(hash, _)| *hash).min().or(end);
        self.filling = Some(Filling::Saving(below));
    }
}
