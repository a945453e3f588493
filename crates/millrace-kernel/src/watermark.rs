//! A slot's watermarks (design §3): how far event time is complete in each stream and each view.
//!
//! The slot keeps the last statement of each ingest incarnation; a stream's own watermark is the
//! running maximum of their minimum, and a view's the running maximum of the minimum over its
//! streams that are not idle. So neither ever goes back. Incarnations leave when they say so or
//! when they are lost.

use std::collections::BTreeMap;

use millrace_catalog::Catalog;
use millrace_types::entity::view_key;
use millrace_types::{ChunkHeader, IncarnationWatermarks, Micros, StreamId, StreamWatermark};

/// The watermarks of one slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotWatermarks {
    incarnations: BTreeMap<u64, BTreeMap<StreamId, StreamWatermark>>,
    own: BTreeMap<StreamId, Micros>,
    views: BTreeMap<u64, Micros>,
}

impl SlotWatermarks {
    /// Starts from what a mark states.
    #[must_use]
    pub fn from_parts(
        own: &[(StreamId, Micros)],
        views: &[(u64, Micros)],
        incarnations: &[IncarnationWatermarks],
    ) -> Self {
        Self {
            own: own.iter().copied().collect(),
            views: views.iter().copied().collect(),
            incarnations: incarnations
                .iter()
                .map(|i| (i.incarnation, i.streams.iter().map(|s| (s.stream, *s)).collect()))
                .collect(),
        }
    }

    /// Takes in what an incarnation states; an instant behind its last one is not taken back.
    /// True when something changed.
    pub fn state(
        &mut self,
        catalog: &Catalog,
        incarnation: u64,
        statements: &[StreamWatermark],
    ) -> bool {
        if statements.is_empty() {
            return false;
        }
        let known = self.incarnations.entry(incarnation).or_default();
        let mut changed = false;
        for statement in statements {
            let last = known.entry(statement.stream).or_insert(StreamWatermark {
                stream: statement.stream,
                at: Micros::MIN,
                idle: !statement.idle,
            });
            changed |= statement.at > last.at || statement.idle != last.idle;
            last.at = last.at.max(statement.at);
            last.idle = statement.idle;
        }
        if changed {
            self.advance(catalog);
        }
        changed
    }

    /// An incarnation leaves: it holds nothing back any more. True when it was there.
    pub fn depart(&mut self, catalog: &Catalog, incarnation: u64) -> bool {
        let was_there = self.incarnations.remove(&incarnation).is_some();
        if was_there {
            self.advance(catalog);
        }
        was_there
    }

    /// The incarnations that hold a statement.
    pub fn incarnations(&self) -> impl Iterator<Item = u64> + '_ {
        self.incarnations.keys().copied()
    }

    fn advance(&mut self, catalog: &Catalog) {
        // By stream: the least instant, and whether every incarnation says idle.
        let mut folded: BTreeMap<StreamId, (Micros, bool)> = BTreeMap::new();
        for statement in self.incarnations.values().flat_map(BTreeMap::values) {
            let entry = folded.entry(statement.stream).or_insert((Micros::MAX, true));
            entry.0 = entry.0.min(statement.at);
            entry.1 &= statement.idle;
        }
        for (stream, (at, _)) in &folded {
            let own = self.own.entry(*stream).or_insert(Micros::MIN);
            *own = (*own).max(*at);
        }
        for view in &catalog.views {
            // A stream that nobody ever spoke for is not known to be idle: anything may come.
            if view.streams().any(|s| !self.own.contains_key(&s)) {
                continue;
            }
            let active = view.streams().filter(|s| folded.get(s).is_some_and(|(_, idle)| !idle));
            // All idle: the view's watermark stays.
            let Some(least) = active.filter_map(|s| self.own.get(&s).copied()).min() else {
                continue;
            };
            let own = self.views.entry(view_key(&view.name)).or_insert(Micros::MIN);
            *own = (*own).max(least);
        }
    }

    /// The slot's watermark of a stream; `None` before the first.
    #[must_use]
    pub fn of(&self, stream: StreamId) -> Option<Micros> {
        self.own.get(&stream).copied().filter(|at| *at > Micros::MIN)
    }

    /// A view's watermark; `None` before the first.
    #[must_use]
    pub fn of_view(&self, name: &str) -> Option<Micros> {
        self.views.get(&view_key(name)).copied().filter(|at| *at > Micros::MIN)
    }

    /// The slot's own watermarks.
    #[must_use]
    pub fn own(&self) -> Vec<(StreamId, Micros)> {
        self.own.iter().map(|(s, at)| (*s, *at)).collect()
    }

    /// The views' watermarks by key.
    #[must_use]
    pub fn views(&self) -> Vec<(u64, Micros)> {
        self.views.iter().map(|(v, at)| (*v, *at)).collect()
    }

    /// What each incarnation stated last.
    #[must_use]
    pub fn by_incarnation(&self) -> Vec<IncarnationWatermarks> {
        self.incarnations
            .iter()
            .map(|(incarnation, streams)| IncarnationWatermarks {
                incarnation: *incarnation,
                streams: streams.values().copied().collect(),
            })
            .collect()
    }

    /// Follows a chunk that was judged before.
    pub fn replay(&mut self, header: &ChunkHeader) {
        for stated in &header.watermarks {
            let streams = stated.streams.iter().map(|s| (s.stream, *s)).collect();
            self.incarnations.insert(stated.incarnation, streams);
        }
        for incarnation in &header.departures {
            self.incarnations.remove(incarnation);
        }
        for (stream, at) in &header.slot_watermarks {
            let own = self.own.entry(*stream).or_insert(Micros::MIN);
            *own = (*own).max(*at);
        }
        for (view, at) in &header.view_watermarks {
            let own = self.views.entry(*view).or_insert(Micros::MIN);
            *own = (*own).max(*at);
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_catalog::Catalog;

    use super::*;

    const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks: {kind: event, keys: {user: u}, at: ts, fields: {u: int64, ts: timestamp}}
  profiles: {kind: changelog, keys: {user: u}, at: ts, fields: {u: int64, ts: timestamp}}
views:
  v: {entity: user, events: clicks, join: [profiles], features: {n: {count: {}}}}
";
    const CLICKS: StreamId = StreamId(0);
    const PROFILES: StreamId = StreamId(1);

    fn says(stream: StreamId, at: i64, idle: bool) -> StreamWatermark {
        StreamWatermark { stream, at: Micros(at), idle }
    }

    #[test]
    fn a_slot_follows_the_slowest_incarnation_and_never_goes_back() {
        let catalog = Catalog::compile(CATALOG, None).unwrap();
        let mut slot = SlotWatermarks::default();
        assert!(slot.state(&catalog, 1, &[says(CLICKS, 10, false)]));
        slot.state(&catalog, 2, &[says(CLICKS, 5, false)]);
        assert_eq!(slot.of(CLICKS), Some(Micros(10)), "a newcomer behind pulls nothing back");
        slot.state(&catalog, 1, &[says(CLICKS, 20, false)]);
        assert_eq!(slot.of(CLICKS), Some(Micros(10)), "the slowest holds it");
        assert!(slot.depart(&catalog, 2));
        assert_eq!(slot.of(CLICKS), Some(Micros(20)));
        assert!(!slot.state(&catalog, 1, &[says(CLICKS, 15, false)]));
        assert!(slot.depart(&catalog, 1));
        assert_eq!(slot.of(CLICKS), Some(Micros(20)), "all gone: it stays");
    }

    #[test]
    fn an_idle_stream_holds_no_view_back_and_an_unknown_one_does() {
        let catalog = Catalog::compile(CATALOG, None).unwrap();
        let mut slot = SlotWatermarks::default();
        slot.state(&catalog, 1, &[says(CLICKS, 10, false)]);
        assert_eq!(slot.of_view("v"), None, "nobody spoke for the profiles yet");
        slot.state(&catalog, 1, &[says(PROFILES, 3, false)]);
        assert_eq!(slot.of_view("v"), Some(Micros(3)));
        slot.state(&catalog, 1, &[says(PROFILES, 3, true)]);
        assert_eq!(slot.of_view("v"), Some(Micros(10)));
        slot.state(&catalog, 1, &[says(PROFILES, 4, false)]);
        assert_eq!(slot.of_view("v"), Some(Micros(10)), "it never goes back");
        slot.state(&catalog, 1, &[says(CLICKS, 12, true), says(PROFILES, 4, true)]);
        assert_eq!(slot.of_view("v"), Some(Micros(10)), "all idle: it stays");
        let mut copy =
            SlotWatermarks::from_parts(&slot.own(), &slot.views(), &slot.by_incarnation());
        assert_eq!(copy, slot);
        copy.replay(&ChunkHeader::default());
        assert_eq!(copy, slot);
    }
}
