//! What judging one chunk keeps in mind.

use std::sync::Arc;

use millrace_types::fact::RecordView;
use millrace_types::{Judged, KnownAt, Op, Position};

use super::Before;
use super::resident::Slab;
use crate::plan::StreamPlan;
use crate::watermark::SlotWatermarks;

/// What judging one chunk keeps in mind.
pub(super) struct Work {
    pub(super) position: Position,
    pub(super) known_at: KnownAt,
    pub(super) before: Arc<Before>,
    pub(super) judged: Vec<Judged>,
    /// By record: its entity.
    pub(super) owners: Vec<Slab>,
    /// The entities of the chunk.
    pub(super) touched: Vec<Slab>,
    /// The record at hand comes from a replay of LATE facts.
    pub(super) replays_late: bool,
}

/// True when a stream holds facts back that lie too far behind the watermark before the chunk. The
/// `at` of a RETRACT never matters.
pub(super) fn is_late(
    stream: &StreamPlan,
    record: &RecordView<'_>,
    watermarks: &SlotWatermarks,
) -> bool {
    let (Some(repair_us), false) = (stream.hold_us, record.body.op == Op::Retract) else {
        return false;
    };
    watermarks.of(stream.id).is_some_and(|w| record.body.at < w.minus(repair_us))
}
