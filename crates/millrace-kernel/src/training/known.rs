//! Rows that see what was known at their own instant, where that is not what happened up to it:
//! facts take effect in the order in which they became known.

use millrace_types::{KnownAt, Micros, Status};

use super::gather::EntityFacts;
use super::sweep::{Sweeper, Swept};
use super::{Cell, Sink};
use crate::entity::EntityState;

impl Sweeper {
    /// Sweeps an entity, whose first live fact is `first`, as it became known.
    pub(super) fn sweep_as_known<B: AsRef<[u8]>>(
        &self,
        entity: &EntityFacts<'_, B>,
        first: Option<Micros>,
        rows: &[Micros],
        sink: &mut impl Sink,
    ) -> Swept {
        let known = |(stream, place)| (entity.known_at(place), stream, place);
        let mut facts: Vec<_> = entity.places().map(known).collect();
        facts.sort_by_key(|(known_at, ..)| *known_at);
        let mut facts = facts.into_iter().peekable();
        let mut state = EntityState::new(entity.plan().clone());
        let mut swept = Swept { rows: rows.len() as u64, ..Swept::default() };
        // What a base chunk forgets depends on what was known, for ids with facts before and after it.
        let is_cut = entity.has_cut_id();
        for t in rows {
            if is_cut {
                state = entity.state(|place| entity.known_at(place).0 <= t.0);
            }
            let is_due = |known_at: KnownAt| !is_cut && known_at.0 <= t.0;
            while let Some((_, stream, place)) = facts.next_if(|(known_at, ..)| is_due(*known_at)) {
                state.apply(stream, &entity.fact(place), u64::MAX);
            }
            let view = &self.plan.views[self.view];
            let absent = !state.has_live_fact(view, *t);
            swept.missing += u64::from(absent);
            swept.unknown += u64::from(absent && first.is_some_and(|first| first <= *t));
            let missing = absent && !view.forgets;
            // A state with all its facts at hand covers every read.
            let evaluation = state.evaluate(self.view, &self.features, *t);
            for (place, outcome) in evaluation.iter().flat_map(|e| &e.features).enumerate() {
                let status = if missing { Status::MissingEntity } else { outcome.status };
                sink.cell(place, Cell::from(&outcome.value), status);
            }
        }
        swept
    }
}
