//! Rows that see what was known at their own instant, where that is not what happened up to it.
//!
//! A row sees the facts that happened, were known and had not been superseded: windows slide over them, what was
//! late enters once it is known, and what is corrected or taken back leaves then. Where that does not do, facts
//! take effect in the order in which they became known, and rows are read from the state they make.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::vec::IntoIter;

use millrace_types::{KnownAt, Micros, Status};

use super::chunks::Place;
use super::gather::EntityFacts;
use super::live::LiveFacts;
use super::sweep::{Sweeper, Swept};
use super::{Cell, Sink};
use crate::entity::EntityState;

/// Facts behind the first that is not known yet, a row on average, which a list of the first or the last looks
/// through: beyond it rows are read from a state, which costs about as much.
const BEYOND_MAX: u64 = 1_000;

/// When facts were known, of one entity: by stream of the kind, of each live fact in order, or nothing
/// where every one was by its instant and still is live.
#[derive(Debug)]
pub(super) struct Known {
    streams: Vec<Vec<i64>>,
    /// Until when each is live, likewise; nothing where all still are.
    until: Vec<Vec<i64>>,
    /// The last row: what is known later is never seen.
    last: i64,
}

/// Every fact was known by its instant, or rows see all of them.
pub(super) static NOTHING: Known = Known { streams: Vec::new(), until: Vec::new(), last: i64::MAX };

impl Known {
    /// True for [`NOTHING`].
    pub(super) fn is_nothing(&self) -> bool {
        self.streams.is_empty()
    }

    fn new(live: &[LiveFacts<'_>], rows: &[Micros]) -> Self {
        let until: Vec<Vec<i64>> = live.iter().map(LiveFacts::until).collect();
        let of = |(facts, until): (&LiveFacts<'_>, &Vec<i64>)| match facts.are.in_time {
            true if until.is_empty() => Vec::new(),
            true | false => facts.known(),
        };
        Self {
            streams: live.iter().zip(&until).map(of).collect(),
            until,
            last: rows.last().map_or(i64::MIN, |row| row.0),
        }
    }

    /// When the facts of a stream of the kind were known; nothing where all were by their instants.
    #[inline]
    pub(super) fn of_stream(&self, stream: usize) -> &[i64] {
        self.streams.get(stream).map_or(&[], Vec::as_slice)
    }

    /// Until when the facts of a stream of the kind are live; nothing where all still are.
    #[inline]
    pub(super) fn until(&self, stream: usize) -> &[i64] {
        self.until.get(stream).map_or(&[], Vec::as_slice)
    }

    /// Whether no row sees a fact.
    #[inline]
    pub(super) fn is_never(&self, stream: usize, fact: usize) -> bool {
        self.of_stream(stream).get(fact).is_some_and(|known| *known > self.last)
    }

    /// Whether there is a fact of a stream that no row sees.
    pub(super) fn any_never(&self, stream: usize) -> bool {
        self.of_stream(stream).iter().any(|known| *known > self.last)
    }

    /// The first instant at which a fact of a stream had happened and was known.
    fn first(&self, stream: usize, ats: &[i64]) -> Option<i64> {
        match self.of_stream(stream) {
            [] => ats.first().copied(),
            known => known.iter().zip(ats).map(|(known, at)| *known.max(at)).min(),
        }
    }

    /// How many facts of a stream stand behind the first that is not known, over all rows.
    fn beyond(&self, stream: usize, ats: &[i64], rows: &[Micros]) -> u64 {
        let known = self.of_stream(stream);
        if known.is_empty() {
            return 0;
        }
        let (mut front, mut end, mut beyond) = (0, 0, 0);
        for t in rows {
            while ats.get(end).is_some_and(|at| *at < t.0) {
                end += 1;
            }
            while front < end && (known[front] <= t.0 || known[front] > self.last) {
                front += 1;
            }
            beyond += (end - front) as u64;
        }
        beyond
    }
}

impl Sweeper {
    /// When the facts of an entity were known, if windows can slide over them nevertheless.
    pub(super) fn known(&self, live: &[LiveFacts<'_>], rows: &[Micros]) -> Option<Known> {
        let view = &self.plan.views[self.view];
        if !self.streams.iter().all(|stream| live[*stream].are.timed) {
            return None;
        }
        // What an event meets changes when a version becomes known later, or is corrected.
        let reads_joins = self.series.iter().any(|series| self.plan.series[*series].reads_joins);
        let stand = |join: &usize| live[*join].are.in_time && live[*join].are.single;
        if reads_joins && !view.joins.iter().all(stand) {
            return None;
        }
        let known = Known::new(live, rows);
        if !self.lists {
            return Some(known);
        }
        let beyond = known.beyond(view.events, live[view.events].ats, rows);
        (beyond <= BEYOND_MAX * rows.len() as u64).then_some(known)
    }

    /// When the view has a fact of the entity that is known.
    pub(super) fn presence(&self, live: &[LiveFacts<'_>], known: &Known) -> Presence {
        if self.streams.iter().all(|stream| known.until(*stream).is_empty()) {
            let first = |stream: &usize| known.first(*stream, live[*stream].ats);
            let first = self.streams.iter().filter_map(first).min();
            return Presence { spans: first.map(|first| (first, i64::MAX)).into_iter().collect() };
        }
        let spans = self.streams.iter().flat_map(|stream| {
            let (known, until) = (known.of_stream(*stream), known.until(*stream));
            let told = |of: &[i64], fact: usize, none| of.get(fact).copied().unwrap_or(none);
            let span = move |(fact, at): (usize, &i64)| {
                (told(known, fact, *at).max(*at), told(until, fact, i64::MAX))
            };
            live[*stream].ats.iter().enumerate().map(span)
        });
        let mut spans: Vec<(i64, i64)> = spans.filter(|(from, until)| from < until).collect();
        spans.sort_unstable();
        spans.dedup_by(|next, before| {
            let touches = next.0 <= before.1;
            before.1 = if touches { before.1.max(next.1) } else { before.1 };
            touches
        });
        Presence { spans: spans.into() }
    }

    /// Sweeps an entity, whose first live fact is `first`, as it became known.
    pub(super) fn sweep_as_known<B: AsRef<[u8]>>(
        &self,
        entity: &EntityFacts<'_, B>,
        first: Option<Micros>,
        rows: &[Micros],
        sink: &mut impl Sink,
    ) -> Swept {
        let mut growing = Growing::new(entity);
        let mut swept = Swept { rows: rows.len() as u64, ..Swept::default() };
        for t in rows {
            let state = growing.at(*t);
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

/// From when to when a view has a fact of an entity that is live and known, in order.
#[derive(Debug)]
pub(super) struct Presence {
    spans: VecDeque<(i64, i64)>,
}

impl Presence {
    /// Whether it has one at an instant that is not before the last one asked for.
    #[inline]
    pub(super) fn at(&mut self, t: Micros) -> bool {
        while self.spans.front().is_some_and(|(_, until)| *until <= t.0) {
            self.spans.pop_front();
        }
        self.spans.front().is_some_and(|(from, _)| *from <= t.0)
    }
}

/// The state of an entity as its facts become known.
pub(super) struct Growing<'e, 'a, B> {
    entity: &'e EntityFacts<'a, B>,
    facts: Peekable<IntoIter<(KnownAt, usize, Place)>>,
    state: EntityState,
    /// What a base chunk forgets depends on what was known, for ids with facts before and after it.
    is_cut: bool,
}

impl<'e, 'a, B: AsRef<[u8]>> Growing<'e, 'a, B> {
    pub(super) fn new(entity: &'e EntityFacts<'a, B>) -> Self {
        let known = |(stream, place)| (entity.known_at(place), stream, place);
        let mut facts: Vec<_> = entity.places().map(known).collect();
        facts.sort_by_key(|(known_at, ..)| *known_at);
        Self {
            entity,
            facts: facts.into_iter().peekable(),
            state: EntityState::new(entity.plan().clone()),
            is_cut: entity.has_cut_id(),
        }
    }

    /// The state as known at an instant that is not before the last one.
    pub(super) fn at(&mut self, t: Micros) -> &mut EntityState {
        if self.is_cut {
            self.state = self.entity.state(|place| self.entity.known_at(place).0 <= t.0);
            return &mut self.state;
        }
        while let Some((_, stream, place)) = self.facts.next_if(|(known_at, ..)| known_at.0 <= t.0)
        {
            self.state.apply(stream, &self.entity.fact(place), u64::MAX);
        }
        &mut self.state
    }
}
