//! The watermark of each stream, folded from its live producers (design §3).
//!
//! A producer's watermark is the greatest event time seen from it minus the stream's
//! out-of-orderness, or what it states, and never goes back. A stream's is the least of its live
//! producers': as long as no producer joins, it never goes back either (the slots keep the running
//! maximum). A producer is left out when it says that it is idle, or when its connection has been
//! gone for `idle_after`; while it is connected, silence is no sign, because Millrace may be the
//! one that withholds its credits. Where all are idle the watermark stays.
//!
//! Pure: `now` is a parameter, in milliseconds of a clock that does not go back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use millrace_types::{Micros, StreamId, StreamWatermark};

/// Greatest number of producers that are remembered after their connection is gone. Beyond it the
/// one that is gone for longest is taken for idle early.
pub const GONE_MAX: usize = 65_536;

/// The fold over all producers of an ingest process.
#[derive(Debug)]
pub struct WatermarkFold {
    idle_after_ms: u64,
    streams: BTreeMap<StreamId, StreamFold>,
    /// Producers by the moment their last connection went; entries that came back are stale.
    gone: VecDeque<(u64, StreamId, Arc<str>)>,
}

#[derive(Debug, Default)]
struct StreamFold {
    producers: HashMap<Arc<str>, Producer>,
    /// The last value; stays when all producers are idle.
    at: Option<Micros>,
    idle: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Producer {
    watermark: Option<Micros>,
    idle: bool,
    connections: u32,
    gone_since: u64,
}

/// What a batch says of its producer's event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advance {
    /// The greatest event time of its facts minus the stream's out-of-orderness.
    pub seen: Option<Micros>,
    /// The watermark it states; it then goes by this.
    pub stated: Option<Micros>,
    /// It has facts, which ends being idle.
    pub has_facts: bool,
    /// It says that it is idle from here on.
    pub idle: bool,
}

/// What an advance replaced, for when the batch could not be handed over after all.
#[derive(Debug)]
pub struct Undo {
    stream: StreamId,
    producer: Arc<str>,
    watermark: Option<Micros>,
    idle: bool,
    folded: (Option<Micros>, bool),
}

impl WatermarkFold {
    /// A fold without producers.
    #[must_use]
    pub fn new(idle_after_ms: u64) -> Self {
        Self { idle_after_ms, streams: BTreeMap::new(), gone: VecDeque::new() }
    }

    /// A connection of a producer to a stream opens.
    pub fn attach(&mut self, stream: StreamId, producer: &Arc<str>) {
        let fold = self.streams.entry(stream).or_default();
        fold.producers.entry(Arc::clone(producer)).or_default().connections += 1;
    }

    /// A connection of a producer to a stream is gone.
    pub fn detach(&mut self, stream: StreamId, producer: &Arc<str>, now_ms: u64) {
        let fold = self.streams.entry(stream).or_default();
        let Some(entry) = fold.producers.get_mut(producer) else { return };
        entry.connections = entry.connections.saturating_sub(1);
        if entry.connections > 0 {
            return;
        }
        entry.gone_since = now_ms;
        self.gone.push_back((now_ms, stream, Arc::clone(producer)));
        if self.gone.len() > GONE_MAX {
            self.leave_first();
        }
    }

    /// A producer's batch is about to be handed over. Gives back what takes it back.
    pub fn advance(&mut self, stream: StreamId, producer: &Arc<str>, advance: Advance) -> Undo {
        let fold = self.streams.entry(stream).or_default();
        let entry = fold.producers.entry(Arc::clone(producer)).or_default();
        let undo = Undo {
            stream,
            producer: Arc::clone(producer),
            watermark: entry.watermark,
            idle: entry.idle,
            folded: (fold.at, fold.idle),
        };
        // `None` is least: a batch without event times changes nothing.
        entry.watermark = entry.watermark.max(advance.stated.or(advance.seen));
        if advance.idle {
            entry.idle = true;
        } else if advance.has_facts || advance.stated.is_some() {
            entry.idle = false;
        }
        fold.refold();
        undo
    }

    /// Takes the last advance back. Nothing else may have happened to the fold meanwhile.
    pub fn take_back(&mut self, undo: Undo) {
        let Undo { stream, producer, watermark, idle, folded } = undo;
        if let Some(fold) = self.streams.get_mut(&stream)
            && let Some(entry) = fold.producers.get_mut(&producer)
        {
            (entry.watermark, entry.idle) = (watermark, idle);
            (fold.at, fold.idle) = folded;
        }
    }

    /// Leaves out producers whose connection has been gone for long enough.
    pub fn tick(&mut self, now_ms: u64) {
        while let Some((since, ..)) = self.gone.front()
            && now_ms.saturating_sub(*since) >= self.idle_after_ms
        {
            self.leave_first();
        }
    }

    fn leave_first(&mut self) {
        let Some((since, stream, producer)) = self.gone.pop_front() else { return };
        if let Some(fold) = self.streams.get_mut(&stream)
            && let Some(entry) = fold.producers.get(&producer)
            && entry.connections == 0
            && entry.gone_since == since
        {
            fold.producers.remove(&producer);
            fold.refold();
        }
    }

    /// The watermark of every stream that ever had one.
    #[must_use]
    pub fn watermarks(&self) -> Vec<StreamWatermark> {
        let of = |(&stream, fold): (&StreamId, &StreamFold)| {
            fold.at.map(|at| StreamWatermark { stream, at, idle: fold.idle })
        };
        self.streams.iter().filter_map(of).collect()
    }

    /// The number of producers that are connected or remembered, over all streams.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.streams.values().map(|fold| fold.producers.len()).sum()
    }
}

impl StreamFold {
    fn refold(&mut self) {
        let live = self.producers.values().filter(|producer| !producer.idle);
        match live.filter_map(|producer| producer.watermark).min() {
            Some(least) => (self.at, self.idle) = (Some(least), false),
            None => self.idle = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLICKS: StreamId = StreamId(3);

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    fn seen(at: i64) -> Advance {
        Advance { seen: Some(Micros(at)), has_facts: true, ..Advance::default() }
    }

    fn at(fold: &WatermarkFold) -> Option<(i64, bool)> {
        fold.watermarks().first().map(|w| (w.at.0, w.idle))
    }

    #[test]
    fn a_stream_is_as_far_as_the_last_of_its_live_producers() {
        let (a, b) = (name("a"), name("b"));
        let mut fold = WatermarkFold::new(30_000);
        fold.attach(CLICKS, &a);
        fold.attach(CLICKS, &b);
        assert_eq!(at(&fold), None);
        fold.advance(CLICKS, &a, seen(100));
        assert_eq!(at(&fold), Some((100, false)));
        fold.advance(CLICKS, &b, seen(40));
        assert_eq!(at(&fold), Some((40, false)));
        // Older facts do not take a producer back, a statement is taken instead of what was seen.
        fold.advance(CLICKS, &b, seen(10));
        assert_eq!(at(&fold), Some((40, false)));
        fold.advance(CLICKS, &b, Advance { stated: Some(Micros(70)), ..seen(500) });
        assert_eq!(at(&fold), Some((70, false)));
    }

    #[test]
    fn who_says_that_it_is_idle_holds_nothing_back_until_its_next_fact() {
        let (a, b) = (name("a"), name("b"));
        let mut fold = WatermarkFold::new(30_000);
        fold.attach(CLICKS, &a);
        fold.attach(CLICKS, &b);
        fold.advance(CLICKS, &a, seen(100));
        fold.advance(CLICKS, &b, seen(40));
        fold.advance(CLICKS, &b, Advance { idle: true, ..Advance::default() });
        assert_eq!(at(&fold), Some((100, false)));
        // A heartbeat without a statement changes nothing.
        fold.advance(CLICKS, &b, Advance::default());
        assert_eq!(at(&fold), Some((100, false)));
        fold.advance(CLICKS, &a, Advance { idle: true, ..seen(120) });
        assert_eq!(at(&fold), Some((100, true)), "all idle: the watermark stays");
        fold.advance(CLICKS, &b, seen(50));
        assert_eq!(at(&fold), Some((50, false)));
    }

    #[test]
    fn a_connection_that_is_gone_counts_until_it_is_gone_for_long() {
        let (a, b) = (name("a"), name("b"));
        let mut fold = WatermarkFold::new(30_000);
        for producer in [&a, &b] {
            fold.attach(CLICKS, producer);
        }
        fold.advance(CLICKS, &a, seen(100));
        fold.advance(CLICKS, &b, seen(40));
        fold.detach(CLICKS, &b, 1_000);
        fold.tick(30_999);
        assert_eq!(at(&fold), Some((40, false)));
        // It comes back in time, and goes again: the time counts afresh.
        fold.attach(CLICKS, &b);
        fold.tick(31_000);
        assert_eq!(at(&fold), Some((40, false)), "connected: silence is no sign");
        fold.detach(CLICKS, &b, 40_000);
        fold.tick(69_999);
        assert_eq!(at(&fold), Some((40, false)));
        fold.tick(70_000);
        assert_eq!(at(&fold), Some((100, false)));
        assert_eq!(fold.producers(), 1);
        fold.detach(CLICKS, &a, 80_000);
        fold.tick(200_000);
        assert_eq!((at(&fold), fold.producers()), (Some((100, true)), 0));
    }

    #[test]
    fn what_could_not_be_handed_over_is_taken_back() {
        let a = name("a");
        let mut fold = WatermarkFold::new(30_000);
        fold.attach(CLICKS, &a);
        fold.advance(CLICKS, &a, seen(100));
        let undo = fold.advance(CLICKS, &a, Advance { idle: true, ..seen(900) });
        fold.take_back(undo);
        assert_eq!(at(&fold), Some((100, false)));
        let first = fold.advance(CLICKS, &name("b"), seen(900));
        fold.take_back(first);
        assert_eq!(at(&fold), Some((100, false)));
        let mut empty = WatermarkFold::new(30_000);
        let only = empty.advance(CLICKS, &a, seen(900));
        empty.take_back(only);
        assert_eq!(at(&empty), None);
    }

    #[test]
    fn producers_that_are_gone_are_bounded() {
        let mut fold = WatermarkFold::new(30_000);
        for i in 0..=GONE_MAX {
            let producer = name(&i.to_string());
            fold.attach(CLICKS, &producer);
            fold.detach(CLICKS, &producer, 0);
        }
        assert_eq!(fold.producers(), GONE_MAX);
    }

    proptest! {
        /// Against the definition, recomputed from a plain list after every step.
        #[test]
        fn the_fold_is_the_least_of_the_live(
            steps in prop::collection::vec((0..3usize, 0..4u8, 0..50i64), 1..40)
        ) {
            let names = [name("a"), name("b"), name("c")];
            let mut fold = WatermarkFold::new(u64::MAX);
            let mut plain = [(None, false); 3];
            let mut last = None;
            for (who, what, value) in steps {
                let before: Vec<usize> = (0..3).filter(|i| plain[*i].0.is_some() && !plain[*i].1).collect();
                let advance = match what {
                    0 => seen(value),
                    1 => Advance { stated: Some(Micros(value)), ..Advance::default() },
                    2 => Advance { idle: true, ..Advance::default() },
                    _ => Advance { has_facts: true, ..Advance::default() },
                };
                fold.advance(CLICKS, &names[who], advance);
                let entry = &mut plain[who];
                entry.0 = entry.0.max((what < 2).then_some(value));
                entry.1 = what == 2;
                let live = plain.iter().filter(|(at, idle)| at.is_some() && !idle);
                let least = live.filter_map(|(at, _)| *at).min();
                let expected = least.or(last.map(|(at, _)| at)).map(|at| (at, least.is_none()));
                prop_assert_eq!(at(&fold), expected);
                // Nobody joined: it did not go back.
                if before.contains(&who)
                    && let (Some((old, false)), Some((new, _))) = (last, expected)
                {
                    prop_assert!(new >= old);
                }
                last = expected;
            }
        }
    }
}
