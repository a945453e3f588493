//! Base chunks and what they forget: reads are answered as if nothing were gone, or refused.

use std::collections::BTreeMap;

use millrace_kernel::TooEarly;
use millrace_test_support::Oracle;
use millrace_test_support::generate::Read;
use millrace_types::{Chunk, Entity, KnownAt, Micros, Op, StreamId};

use super::{Check, Failure};

impl Check<'_> {
    /// A base chunk, or the log rewritten after one, now and then.
    pub(super) fn retain_some(&mut self) -> Result<(), Failure> {
        if self.rng.percent(40) {
            self.base();
        }
        if self.rng.percent(20) {
            self.scrub()?;
        }
        Ok(())
    }

    /// All that is due. True when any base chunk was written.
    pub(super) fn retain_all(&mut self) -> Result<bool, Failure> {
        self.base();
        self.scrub()?;
        Ok(!self.bases.is_empty())
    }

    fn base(&mut self) {
        let Some((known_at, boundaries)) = self.sim.base() else { return };
        for (stream, at) in boundaries.iter() {
            self.oracle.forget(known_at, stream, at);
        }
        self.known_ats.push(known_at);
        self.bases.push((known_at, boundaries));
    }

    fn scrub(&mut self) -> Result<(), Failure> {
        if !self.sim.scrub_retention(&mut self.rng) {
            return Ok(());
        }
        // Ids with their least and greatest ASSERT before the last base chunk.
        let mut ids: BTreeMap<(Entity, StreamId, Vec<u8>), (Micros, Micros)> = BTreeMap::new();
        let last = self.bases.last().map_or(KnownAt(i64::MIN), |(known_at, _)| *known_at);
        for (_, bytes) in &self.sim.log {
            let chunk = Chunk::decode(bytes.as_slice()).map_err(|e| Failure(e.to_string()))?;
            let records = chunk.records().filter(|_| chunk.header.known_at < last);
            for record in records {
                let fact = record.and_then(|r| r.to_fact()).map_err(|e| Failure(e.to_string()))?;
                if fact.body.op == Op::Retract {
                    continue;
                }
                let at = fact.body.at;
                let id = (fact.entity, fact.stream, fact.body.id.to_vec());
                let span = ids.entry(id).or_insert((at, at));
                *span = (span.0.min(at), span.1.max(at));
            }
        }
        for ((entity, stream, id), (_, greatest)) in ids {
            if greatest < self.oracle.boundary(stream) {
                let text = format!("{entity:?} still has {}", id.escape_ascii());
                return Err(Failure(format!("{text}; {}", self.sim.steps.join(", "))));
            }
        }
        Ok(())
    }

    /// Makes an oracle forget what the log up to this instant forgets.
    pub(super) fn forget_in(&self, oracle: &mut Oracle, up_to: KnownAt) {
        for (known_at, base) in self.bases.iter().filter(|(known_at, _)| *known_at <= up_to) {
            base.iter().for_each(|(stream, at)| oracle.forget(*known_at, stream, at));
        }
    }

    fn is_too_early(&self, view: &str, at: Micros) -> bool {
        let features = self.oracle.catalog().view(view).map_or(0, |view| view.features.len());
        self.oracle.is_too_early(view, &(0..features).collect::<Vec<_>>(), at)
    }

    pub(super) fn not_too_early(&self, read: &Read) -> Result<(), Failure> {
        match self.is_too_early(&read.view, read.at) {
            true => Err(Failure(format!("{read:?} is answered though it is too early"))),
            false => Ok(()),
        }
    }

    /// The read is refused with reason, and the instant that the error names will do, as the first one.
    pub(super) fn compare_too_early(&self, error: &TooEarly, read: &Read) -> Result<(), Failure> {
        let early = |at| self.is_too_early(&read.view, at);
        let earliest = error.earliest;
        let right = early(read.at)
            && earliest.is_none_or(|at| !early(at) && early(Micros(at.0.saturating_sub(1))));
        match right {
            true => Ok(()),
            false => Err(Failure(format!("{read:?} is refused: {error:?}"))),
        }
    }
}
