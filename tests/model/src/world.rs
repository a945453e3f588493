//! What an outside observer writes down, and what it finds wrong on the spot.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millrace_store::{Mark, Part, Put};
use millrace_types::{Entity, KnownAt, Position, SlotId};

use crate::snapshot::Head;

/// Chunks of one slot in log order.
pub type Log = Vec<(Position, Bytes)>;

/// What somebody read as the log of a slot, from its start to a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The slot.
    pub slot: SlotId,
    /// It was taken for the whole log up to here.
    pub up_to: Position,
    /// What was read.
    pub chunks: Log,
}

/// How often the interesting things happened: a search that meets none of them shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Chunks acknowledged.
    pub acknowledged: u64,
    /// Slots taken over from another run.
    pub take_overs: u64,
    /// Slots released.
    pub releases: u64,
    /// Flushes answered "fenced".
    pub fenced: u64,
    /// Epochs that hold a row beyond their end.
    pub beyond: u64,
    /// Nodes and store-writers killed.
    pub kills: u64,
    /// Pages deleted.
    pub deletes: u64,
    /// Writes that landed after everything else was over.
    pub late: u64,
}

/// The observations of one history.
#[derive(Debug, Default)]
pub struct Seen {
    /// Microseconds; every stamp moves it.
    pub clock: i64,
    /// What producers were told.
    pub acknowledged: Vec<(SlotId, Position, Bytes)>,
    /// What owners and readers took for the log.
    pub views: Vec<View>,
    /// Every mark read.
    pub marks: Vec<(SlotId, Mark)>,
    /// Every head read.
    pub heads: Vec<(SlotId, Head)>,
    /// What was wrong.
    pub violations: Vec<String>,
    /// How much happened.
    pub counts: Counts,
    pages: HashMap<(Entity, Part), Bytes>,
    mark_reached: BTreeMap<SlotId, Position>,
    head_reached: BTreeMap<SlotId, Position>,
}

/// The observer, shared by everybody.
#[derive(Debug, Clone, Default)]
pub struct World(Arc<Mutex<Seen>>);

impl World {
    /// The observations.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A promise was broken.
    pub fn blame(&self, what: String) {
        self.seen().violations.push(what);
    }

    /// The wall clock, which goes on by looking at it.
    #[must_use]
    pub fn now(&self) -> i64 {
        let mut seen = self.seen();
        seen.clock += 1;
        seen.clock
    }

    /// Somebody read a slot's mark: it never goes back.
    pub fn saw_mark(&self, slot: SlotId, mark: &Mark) {
        let mut seen = self.seen();
        let reached = seen.mark_reached.entry(slot).or_default();
        let before = std::mem::replace(reached, mark.position.max(*reached));
        if mark.position < before {
            let slot = slot.0;
            let what = format!("FENCE: the mark of {slot} went from {before} to {}", mark.position);
            seen.violations.push(what);
        }
        seen.marks.push((slot, mark.clone()));
    }

    /// Somebody read the head of a slot's entity: it never goes back.
    pub fn saw_head(&self, slot: SlotId, head: Head) {
        let mut seen = self.seen();
        let reached = seen.head_reached.entry(slot).or_default();
        let before = std::mem::replace(reached, head.applied.max(*reached));
        if head.applied < before {
            let slot = slot.0;
            let what = format!("FENCE: the head of {slot} went from {before} to {}", head.applied);
            seen.violations.push(what);
        }
        seen.heads.push((slot, head));
    }

    /// Somebody puts a part: a page is written once, or again with the same bytes.
    pub fn saw_put(&self, put: &Put) {
        if put.part == Part::Head || put.bytes.is_empty() {
            return;
        }
        let mut seen = self.seen();
        let key = (put.entity.clone(), put.part);
        let first = seen.pages.entry(key).or_insert_with(|| put.bytes.clone());
        if *first != put.bytes {
            let what = format!("PAGE: {:?} of slot {} is written anew", put.part, put.slot.0);
            seen.violations.push(what);
        }
    }
}

/// The known_at that a chunk of the model states.
///
/// # Panics
/// When the bytes are no chunk.
#[must_use]
pub fn known_at(bytes: &Bytes) -> KnownAt {
    millrace_types::Chunk::decode(bytes.as_ref()).expect("the model writes chunks").header.known_at
}
