//! LATE facts: listed from the log, and replayed through the join service (design §3).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use millrace_catalog::Stream;
use millrace_client::port::{Holds, JoinError, JoinPort, ProcessRequest, SlotFacts};
use millrace_grpc::PeerNetwork;
use millrace_kernel::Plan;
use millrace_kernel::late::{LateFact, LatePlace, LateScan, pending};
use millrace_store::StoreError;
use millrace_telemetry::TraceContext;
use millrace_types::chunk::fingerprint;
use millrace_types::entity::entity_hash;
use millrace_types::fact::{encode_body, encode_route};
use millrace_types::{
    Chunk, DecodeError, Micros, Position, SlotId, StreamId, Verdict, VerdictCounts,
};
use tokio::time::Instant;

use crate::confirmed::confirmed;
use crate::error::ReadError;
use crate::log_read::Scan;
use crate::read::Reader;

/// Facts of a page where the request does not say.
pub(crate) const PAGE_DEFAULT: u32 = 1_000;
/// Facts of a page at most.
pub(crate) const PAGE_MAX: u32 = 10_000;
/// Bytes of the facts of a page, about; a page always holds one.
const PAGE_BYTES: usize = 4 << 20;
/// Facts looked at to find a page; the next page goes on where this one stopped.
const FIND_FACTS: u64 = 1_000_000;
/// Bytes of a replay's facts that go to the join service together.
const REPLAY_BYTES: usize = 256 << 10;

/// A page of LATE facts, by slot.
#[derive(Debug)]
pub(crate) struct LatePage {
    /// The facts with their slots, in the order of the slots' logs.
    pub(crate) facts: Vec<(SlotId, LateFact)>,
    /// By slot the instant before which facts of the stream are forgotten, where some are.
    pub(crate) boundaries: BTreeMap<SlotId, Micros>,
    /// Where the next page begins; `None` after the last.
    pub(crate) next: Option<Cursor>,
}

impl LatePage {
    /// True when a fact of this slot is LATE for good, by what the slot keeps.
    pub(crate) fn is_for_good(&self, slot: SlotId, fact: &LateFact) -> bool {
        self.boundaries.get(&slot).is_some_and(|boundary| fact.is_for_good(*boundary))
    }
}

/// A place among the LATE facts of a stream: everything before it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    slot: u32,
    /// `None` before the slot's first.
    after: Option<LatePlace>,
}

impl Cursor {
    /// `STREAM@SLOT:POSITION/INDEX`, or `STREAM@SLOT` before the slot's first.
    pub(crate) fn text(self, stream: &str) -> String {
        match self.after {
            None => format!("{stream}@{}", self.slot),
            Some(LatePlace { position, index }) => {
                format!("{stream}@{}:{position}/{index}", self.slot)
            }
        }
    }

    /// Reads what [`Cursor::text`] wrote for this stream; empty text is the beginning.
    pub(crate) fn parse(text: &str, stream: &str, slots: u32) -> Result<Self, ReadError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bad = |why: &str| ReadError::CursorInvalid(why.to_owned());
        let (name, place) = text.rsplit_once('@').ok_or_else(|| bad("it has no '@'"))?;
        if name != stream {
            return Err(ReadError::CursorInvalid(format!("it is one of stream {name:?}")));
        }
        let (slot, after) = match place.split_once(':') {
            None => (place, None),
            Some((slot, after)) => {
                let (position, index) =
                    after.split_once('/').ok_or_else(|| bad("its place has no '/'"))?;
                let position =
                    position.parse().map_err(|_| bad("its position is not epoch.sequence"))?;
                let index = index.parse().map_err(|_| bad("its index is no number"))?;
                (slot, Some(LatePlace { position, index }))
            }
        };
        let slot: u32 = slot.parse().map_err(|_| bad("its slot is no number"))?;
        if slot >= slots {
            return Err(bad("its slot is out of range"));
        }
        Ok(Self { slot, after })
    }
}

impl Reader {
    /// The stream of this name, and the plan that it is of.
    pub(crate) async fn late_stream(&self, name: &str) -> Result<(Arc<Plan>, Stream), ReadError> {
        self.plan_with(|plan| {
            plan.catalog.stream(name).cloned().ok_or_else(|| {
                let names = plan.catalog.streams.iter().map(|s| s.name.as_str());
                let names: Vec<&str> = names.collect();
                let known = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
                ReadError::StreamNotFound { stream: name.to_owned(), known }
            })
        })
        .await
    }

    /// A page of the LATE facts of a stream, as of what is confirmed now.
    pub(crate) async fn late_page(
        &self,
        peer: PeerNetwork,
        plan: &Arc<Plan>,
        stream: StreamId,
        from: Cursor,
        max: usize,
    ) -> Result<LatePage, ReadError> {
        let status = confirmed(&*self.owner, self.slots, |slot| slot.0 >= from.slot)
            .await
            .map_err(ReadError::Join)?;
        let mut ends: Vec<_> = status.iter().map(|s| (s.slot, s.position)).collect();
        ends.sort_unstable();
        let boundaries = status.iter().map(|s| (s.slot, s.forgotten.of(stream)));
        let boundaries = boundaries.filter(|(_, at)| *at > Micros::MIN).collect();
        let (facts, next) = self.find_late(peer, plan, stream, ends, from, max).await?;
        Ok(LatePage { facts, boundaries, next })
    }

    /// The LATE facts of a page and where the next one begins, in slots that are read up to these ends.
    async fn find_late(
        &self,
        peer: PeerNetwork,
        plan: &Arc<Plan>,
        stream: StreamId,
        ends: Vec<(SlotId, Position)>,
        from: Cursor,
        max: usize,
    ) -> Result<(Vec<(SlotId, LateFact)>, Option<Cursor>), ReadError> {
        self.log
            .within_budget(peer, async {
                // Half of the time is for finding facts, so that a page comes back before its limit.
                let enough = Instant::now() + self.log.time_max() / 2;
                let (mut facts, mut bytes) = (Vec::new(), 0);
                for (slot, end) in ends.into_iter().filter(|(slot, _)| slot.0 >= from.slot) {
                    let after = from.after.filter(|_| slot.0 == from.slot);
                    let left = max - facts.len();
                    let spent = bytes >= PAGE_BYTES || Instant::now() >= enough;
                    if left == 0 || (spent && !facts.is_empty()) {
                        return Ok((facts, Some(Cursor { slot: slot.0, after })));
                    }
                    let scan = LateScan::new(stream, after, left, PAGE_BYTES - bytes);
                    let (scan, stopped) = self.late_of_slot(plan, slot, end, scan, enough).await?;
                    let covered = LatePlace { position: scan.covered(), index: u32::MAX };
                    let stopped = stopped.then_some(covered);
                    let full = scan.is_full();
                    bytes = (bytes + scan.bytes()).min(PAGE_BYTES);
                    facts.extend(scan.finish().into_iter().map(|fact| (slot, fact)));
                    let last = facts.last().map(|(_, fact)| fact.place).filter(|_| full);
                    if let Some(place) = last.or(stopped) {
                        let next = Some(Cursor { slot: slot.0, after: Some(place) });
                        return Ok((facts, next));
                    }
                }
                Ok((facts, None))
            })
            .await
    }

    /// Finds LATE facts of one slot, and which of them are in effect. True when it stopped before
    /// the end was reached.
    async fn late_of_slot(
        &self,
        plan: &Plan,
        slot: SlotId,
        end: Position,
        scan: LateScan,
        enough: Instant,
    ) -> Result<(LateScan, bool), ReadError> {
        let from = scan.covered();
        let mut find = Find { plan, scan, enough, stopped: false };
        self.log.scan(slot, from, end, &mut find).await?;
        let stopped = find.stopped;
        let mut settle = Settle { plan, scan: find.scan };
        if !settle.scan.is_empty() {
            self.log.scan(slot, Position::START, end, &mut settle).await?;
        }
        Ok((settle.scan, stopped))
    }
}

/// Appends those facts of a page anew that are not in effect yet. Gives their verdicts, which
/// are there once the facts are durable. What is LATE for good is not appended.
pub(crate) async fn replay(
    join: &dyn JoinPort,
    plan: &Plan,
    stream: StreamId,
    page: &LatePage,
) -> Result<VerdictCounts, ReadError> {
    let mut counts = VerdictCounts::default();
    for of_slot in page.facts.chunk_by(|a, b| a.0 == b.0) {
        let slot = of_slot[0].0;
        let found: Vec<LateFact> = of_slot.iter().map(|(_, fact)| fact.clone()).collect();
        let mut batch = ReplayBatch::default();
        for fact in pending(&found) {
            if page.is_for_good(slot, fact) {
                counts.add(Verdict::Late);
                continue;
            }
            batch.push(plan, stream, fact);
            if batch.facts.len() >= REPLAY_BYTES {
                counts += send(join, plan, slot, std::mem::take(&mut batch)).await?;
            }
        }
        if !batch.facts.is_empty() {
            counts += send(join, plan, slot, batch).await?;
        }
    }
    Ok(counts)
}

/// Hands facts to the join service and waits for their verdicts.
async fn send(
    join: &dyn JoinPort,
    plan: &Plan,
    slot: SlotId,
    batch: ReplayBatch,
) -> Result<VerdictCounts, ReadError> {
    let request = ProcessRequest {
        // No ingest process has this number, and a replay says nothing of watermarks.
        incarnation: 0,
        catalog_version: plan.catalog.version,
        slots: vec![SlotFacts {
            slot,
            count: batch.fingerprints.len() as u32,
            facts: Bytes::from(batch.facts),
            fingerprints: batch.fingerprints,
        }],
        watermarks: Vec::new(),
        routes: Default::default(),
        order: Default::default(),
        departs: false,
        replays_late: true,
        trace: TraceContext::current(),
    };
    let pending = join.process(request, &Holds::default()).await.map_err(ReadError::Join)?;
    let gone = |_| {
        let reason = "the service stopped".to_owned();
        JoinError::Store(StoreError::Unavailable { operation: "replay", reason })
    };
    let verdicts = pending.await.map_err(gone).map_err(ReadError::Join)?;
    let verdicts = verdicts.map_err(|failed| ReadError::Join(failed.error))?;
    let mut counts = VerdictCounts::default();
    verdicts.iter().flat_map(|v| &v.judged).for_each(|j| counts.add(j.verdict));
    Ok(counts)
}

/// Facts of one slot to append anew.
#[derive(Debug, Default)]
struct ReplayBatch {
    facts: Vec<u8>,
    fingerprints: Vec<u32>,
}

impl ReplayBatch {
    fn push(&mut self, plan: &Plan, stream: StreamId, late: &LateFact) {
        let (kind, key) = (late.entity.kind, late.entity.key.as_bytes());
        let name = plan.catalog.kind(kind).map_or("", |k| k.name.as_str());
        self.fingerprints.push(fingerprint(entity_hash(name, key)));
        encode_route(&mut self.facts, kind, key, stream);
        let body = &late.body;
        // It becomes known with its new chunk, whatever it stated before.
        encode_body(
            &mut self.facts,
            body.op,
            body.at,
            body.seq,
            body.revision,
            None,
            &body.id,
            body.row.as_bytes(),
        );
    }
}

/// The first pass.
struct Find<'a> {
    plan: &'a Plan,
    scan: LateScan,
    enough: Instant,
    stopped: bool,
}

impl Scan for Find<'_> {
    fn chunk(
        &mut self,
        position: Position,
        chunk: &Chunk<&[u8]>,
    ) -> Result<ControlFlow<()>, DecodeError> {
        self.scan.chunk(self.plan, position, chunk)?;
        let spent = self.scan.facts() >= FIND_FACTS || Instant::now() >= self.enough;
        self.stopped = spent && !self.scan.is_full();
        Ok(match self.scan.is_full() || self.stopped {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }

    fn facts(&self) -> u64 {
        self.scan.facts()
    }
}

/// The second pass.
struct Settle<'a> {
    plan: &'a Plan,
    scan: LateScan,
}

impl Scan for Settle<'_> {
    fn chunk(
        &mut self,
        position: Position,
        chunk: &Chunk<&[u8]>,
    ) -> Result<ControlFlow<()>, DecodeError> {
        self.scan.settle(self.plan, position, chunk)?;
        Ok(ControlFlow::Continue(()))
    }

    fn facts(&self) -> u64 {
        self.scan.facts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_bad_ones_say_why() {
        let position = Position { epoch: 2, sequence: 7 };
        for after in [None, Some(LatePlace { position, index: 5 })] {
            let cursor = Cursor { slot: 3, after };
            assert_eq!(Cursor::parse(&cursor.text("s"), "s", 4).unwrap(), cursor);
        }
        assert_eq!(Cursor::parse("", "s", 4).unwrap(), Cursor::default());
        for bad in ["s", "t@1", "s@4", "s@x", "s@1:2.7", "s@1:x/1", "s@1:2.7/x"] {
            let parsed = Cursor::parse(bad, "s", 4);
            assert!(matches!(parsed, Err(ReadError::CursorInvalid(_))), "{bad}");
        }
    }
}
