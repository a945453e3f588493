//! Base chunks, and rewriting the log after them step by step, with restarts in between.

use millrace_kernel::RetentionScrub;
use millrace_test_support::generate::Rng;
use millrace_types::{Boundaries, Chunk, Entity, KnownAt};

use super::Sim;

impl Sim {
    /// Writes a base chunk if one is due. Gives its known_at and boundaries.
    pub(crate) fn base(&mut self) -> Option<(KnownAt, Boundaries)> {
        let boundaries = self.core.base_due()?;
        let known_at = self.next_ver();
        let draft = self.core.draft_base(boundaries.clone(), known_at);
        self.steps.push(format!("base {}", draft.position));
        self.log.push((draft.position, draft.bytes));
        self.core.confirm(draft.position, draft.known_at);
        self.reach("base");
        Some((known_at, boundaries))
    }

    /// Takes what is forgotten out of the log, if that is due; true when all of it is out. It may be restarted
    /// in the middle.
    pub(crate) fn scrub_retention(&mut self, rng: &mut Rng) -> bool {
        let Some((base, boundaries)) = self.core.scrub_due() else { return false };
        let max = *rng.pick(&[1, 40, 1_000]);
        let mut from = 0;
        loop {
            let mut scrub = RetentionScrub::new(self.plan.clone(), boundaries.clone(), from, max);
            let decoded = |bytes: &Vec<u8>| Chunk::decode(bytes.clone()).expect("the log decodes");
            let places = self.log.iter().take_while(|(position, _)| *position < base).count();
            for (_, bytes) in &self.log[..places] {
                scrub.find(&decoded(bytes)).expect("the log decodes");
            }
            for (_, bytes) in &self.log[..places] {
                scrub.keep(&decoded(bytes)).expect("the log decodes");
            }
            if !self.renew(&scrub.entities(), rng) {
                return false;
            }
            for place in 0..places {
                let chunk = decoded(&self.log[place].1);
                if let Some(bytes) = scrub.rest(&chunk).expect("the log decodes") {
                    self.reach("a chunk rewritten for its retention");
                    self.log[place].1 = bytes;
                    if rng.percent(5) {
                        self.reach("restart while rewriting for a retention");
                        self.restart();
                        return false;
                    }
                }
            }
            match scrub.next() {
                Some(next) => from = next,
                None => break,
            }
        }
        self.core.scrubbed(&boundaries);
        true
    }

    /// Stores the heads of these entities once more, and deletes what they do not list any more. False after
    /// a restart in the middle.
    fn renew(&mut self, entities: &[Entity], rng: &mut Rng) -> bool {
        for entity in entities {
            while !self.core.has(entity) || !self.core.renew_head(entity) {
                let state = self.load(entity);
                self.core.insert_loaded(entity, state);
                self.rebuild(100, rng);
            }
        }
        self.save(usize::MAX);
        if rng.percent(5) {
            self.restart();
            return false;
        }
        for entity in entities {
            assert!(self.core.is_renewed(entity), "the head of {entity:?} is stored");
            self.clean(entity);
        }
        true
    }
}
