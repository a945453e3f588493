//! The watermark of each stream in one slot, by the words of design §3: the slot keeps the last
//! statement of each ingest incarnation, and its own is the running maximum of their minimum.

use std::collections::BTreeMap;

use millrace_types::{Micros, StreamId};

/// The watermarks of one slot.
#[derive(Debug, Clone, Default)]
pub struct StatedWatermarks {
    /// By incarnation and stream the greatest instant stated.
    stated: BTreeMap<(u64, StreamId), Micros>,
    own: BTreeMap<StreamId, Micros>,
}

impl StatedWatermarks {
    /// An incarnation states how far a stream is; it never goes back.
    pub fn state(&mut self, incarnation: u64, stream: StreamId, at: Micros) {
        let last = self.stated.entry((incarnation, stream)).or_insert(at);
        *last = at.max(*last);
        self.advance();
    }

    /// An incarnation leaves.
    pub fn depart(&mut self, incarnation: u64) {
        self.stated.retain(|(who, _), _| *who != incarnation);
        self.advance();
    }

    fn advance(&mut self) {
        let streams: Vec<StreamId> = self.stated.keys().map(|(_, stream)| *stream).collect();
        for stream in streams {
            let of_stream = self.stated.iter().filter(|((_, s), _)| *s == stream);
            let Some(least) = of_stream.map(|(_, at)| *at).min() else { continue };
            let own = self.own.entry(stream).or_insert(least);
            *own = least.max(*own);
        }
    }

    /// The slot's watermark of a stream, if it has one.
    #[must_use]
    pub fn of(&self, stream: StreamId) -> Option<Micros> {
        self.own.get(&stream).copied()
    }
}
