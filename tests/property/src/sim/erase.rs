//! Erasures step by step, with restarts in between.

use std::sync::Arc;

use millrace_kernel::Head;
use millrace_kernel::erase::{Erasures, scrubbed};
use millrace_kernel::slot::{Draft, Scrub};
use millrace_test_support::generate::Rng;
use millrace_types::{Chunk, Entity, KnownAt};

use super::{PartName, Sim};

impl Sim {
    /// Erases what the list names and the slot has not erased yet, until nothing of it is left.
    pub(crate) fn erase(&mut self, erasures: Arc<Erasures>, rng: &mut Rng) {
        self.core.set_erasures(erasures.clone());
        self.erasures = erasures;
        while self.core.erased_up_to() < self.erasures.last() || self.core.scrub().is_some() {
            match self.core.scrub().cloned() {
                None => self.enter_erasure(rng),
                Some(scrub) => self.scrub(&scrub, rng),
            }
        }
        self.reach("erase");
    }

    fn confirmed(&mut self, draft: Draft) {
        self.steps.push(format!("erase {}", draft.position));
        self.log.push((draft.position, draft.bytes));
        self.core.confirm(draft.position, draft.known_at);
    }

    fn restarted(&mut self, rng: &mut Rng) -> bool {
        let restarts = rng.percent(20);
        if rng.percent(30) {
            self.save(usize::MAX);
        }
        if rng.percent(30) {
            self.write_mark();
        }
        if restarts {
            self.reach("restart while erasing");
            self.restart();
        }
        restarts
    }

    fn enter_erasure(&mut self, rng: &mut Rng) {
        let Some(mut scan) = self.core.start_erasure() else { return };
        for (position, bytes) in &self.log {
            let chunk = Chunk::decode(bytes.as_slice()).expect("the log decodes");
            scan.chunk(*position, &chunk).expect("the log decodes");
        }
        loop {
            let ver = self.next_ver();
            let (draft, is_last) = self.core.draft_erasure(&mut scan, ver);
            scan.pass(draft.position);
            self.confirmed(draft);
            if self.restarted(rng) || is_last {
                return;
            }
        }
    }

    fn scrub(&mut self, scrub: &Scrub, rng: &mut Rng) {
        for place in 0..self.log.len() {
            let (position, bytes) = &self.log[place];
            if *position >= scrub.position {
                break;
            }
            let chunk = Chunk::decode(bytes.as_slice()).expect("the log decodes");
            let left = scrubbed(&self.plan, &self.erasures, scrub.up_to, &chunk);
            if let Some(bytes) = left.expect("the log decodes") {
                self.reach("a chunk rewritten");
                self.log[place].1 = bytes;
                if rng.percent(10) && self.restarted(rng) {
                    return;
                }
            }
        }
        while !self.core.is_rebuilt(scrub) {
            self.rebuild(rng.between(1, 100), rng);
            if rng.percent(10) && self.restarted(rng) {
                return;
            }
        }
        self.save(usize::MAX);
        self.write_mark();
        for entity in &scrub.entities {
            self.clean(entity);
        }
        let ver = self.next_ver();
        let draft = self.core.draft_scrubbed(ver);
        self.confirmed(draft);
        self.restarted(rng);
    }

    /// Deletes what the stored head of an entity does not list. The simulated store keeps no versions:
    /// nothing is put meanwhile.
    pub(super) fn clean(&mut self, entity: &Entity) {
        let Some(bytes) = self.parts.get(&(entity.clone(), PartName::Head)) else { return };
        let kind = self.plan.kind(entity.kind).expect("the plan has the kind");
        let (pages, ids) = Head::decode(kind, bytes).expect("a stored head decodes").part_names();
        self.parts.retain(|(of, name), _| {
            of != entity
                || match name {
                    PartName::Head => true,
                    PartName::Rebuilt(_) => false,
                    PartName::Page(name) => pages.contains(name),
                    PartName::Ids(name) => ids.contains(name),
                }
        });
    }

    /// Whether these bytes stand anywhere in the log or in a stored part.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        let has = |stored: &[u8]| stored.windows(bytes.len()).any(|window| window == bytes);
        self.log.iter().any(|(_, chunk)| has(chunk)) || self.parts.values().any(|part| has(part))
    }

    /// The known_at of the last chunk.
    pub(crate) fn last_known_at(&self) -> KnownAt {
        self.core.confirmed().1
    }
}
