//! What base chunks forget (design §3), one id after the other.

use std::collections::HashSet;

use millrace_types::{Entity, Fact, KnownAt, Micros, Op, StreamId};

use super::as_known::window_start;
use super::{Known, Oracle};
use millrace_catalog::Aggregate;

impl Oracle {
    /// A base chunk with this known_at: facts of the stream before the boundary are forgotten in it.
    pub fn forget(&mut self, known_at: KnownAt, stream: StreamId, boundary: Micros) {
        self.bases.push((known_at, stream, boundary));
    }

    /// The boundary of a stream; the earliest instant without one.
    #[must_use]
    pub fn boundary(&self, stream: StreamId) -> Micros {
        let of_stream = self.bases.iter().filter(|(_, of, _)| *of == stream);
        of_stream.map(|(_, _, at)| *at).max().unwrap_or(Micros::MIN)
    }

    /// True when a fact comes too late for ever: before its stream's boundary. A RETRACT never does.
    #[must_use]
    pub fn is_forgotten(&self, fact: &Fact) -> bool {
        fact.body.op != Op::Retract && fact.body.at < self.boundary(fact.stream)
    }

    /// True when one of these features of a view cannot be read at `at`: its window reaches back beyond
    /// the boundary of the events.
    ///
    /// # Panics
    /// When the catalog has no view of this name.
    #[must_use]
    pub fn is_too_early(&self, view: &str, features: &[usize], at: Micros) -> bool {
        let (_, view) = self.view(view);
        let boundary = self.boundary(view.events);
        boundary > Micros::MIN
            && features.iter().map(|index| &view.features[*index]).any(|feature| {
                feature.aggregate != Aggregate::Latest
                    && window_start(feature.window, at) < i128::from(boundary.0)
            })
    }

    /// The facts of an entity that count for who knows what was known at an instant.
    pub(super) fn counted(&self, entity: &Entity, known_at: KnownAt) -> Vec<&Known> {
        let known = self.facts.get(entity).into_iter().flatten();
        let mut known: Vec<&Known> = known.filter(|fact| fact.known_at <= known_at).collect();
        for (base, stream, boundary) in &self.bases {
            let before = |fact: &Known| fact.stream == *stream && fact.chunk < *base;
            let says = |fact: &&&Known| before(fact) && fact.body.op != Op::Retract;
            let ids = |known: &[&Known], old: bool| -> HashSet<Box<[u8]>> {
                let some = known.iter().filter(says).filter(|f| (f.body.at < *boundary) == old);
                some.map(|fact| fact.body.id.clone()).collect()
            };
            let (old, kept) = (ids(&known, true), ids(&known, false));
            known.retain(|fact| {
                let says = before(fact) && fact.body.op != Op::Retract;
                !says || !old.contains(&fact.body.id) || kept.contains(&fact.body.id)
            });
        }
        known
    }
}
