//! Watermarks, LATE facts and their replay.

use millrace_kernel::late::{LateFact, LatePlace, LateScan, pending};
use millrace_types::{
    Chunk, Fact, Judged, KnownAt, Micros, Op, StreamId, StreamWatermark, Verdict,
};

use super::{Check, Failure};
use crate::sim::Beside;

impl Check<'_> {
    /// What one of two ingest incarnations says after these facts: mostly that its streams are
    /// complete up to the greatest instant seen.
    pub(super) fn watermarks_after(&mut self, facts: &[Fact]) -> Beside {
        for fact in facts.iter().filter(|f| f.body.op != Op::Retract) {
            let latest = self.latest.entry(fact.stream).or_insert(fact.body.at);
            *latest = fact.body.at.max(*latest);
        }
        let mut beside = Beside { incarnation: 1, ..Beside::default() };
        if self.rng.percent(20) {
            beside.incarnation = 2;
            beside.departs = self.rng.percent(30);
        }
        for (stream, latest) in &self.latest {
            if self.rng.percent(60) {
                let behind = *self.rng.pick(&[0, 0, 1, 1_000_000, 3_600_000_000]);
                let at = Micros(latest.0.saturating_sub(behind));
                let idle = self.rng.percent(10);
                beside.watermarks.push(StreamWatermark { stream: *stream, at, idle });
            }
        }
        beside
    }

    pub(super) fn follow_watermarks(&mut self, beside: &Beside) {
        for stated in &beside.watermarks {
            self.watermarks.state(beside.incarnation, stated.stream, stated.at);
        }
        if beside.departs {
            self.watermarks.depart(beside.incarnation);
        }
    }

    /// The oracle's verdict; a LATE fact stays out of it, and so does the repeat of a fact in effect
    /// that went LATE because that one is not at hand.
    pub(super) fn expect(&mut self, known_at: KnownAt, fact: Fact, judged: Judged) -> Judged {
        if judged.verdict == Verdict::Late {
            self.judged_late.push((known_at, fact.clone()));
        }
        if self.oracle.is_forgotten(&fact) {
            self.sim.reach("late for good");
            self.late.push(fact);
            return Verdict::Late.into();
        }
        if self.oracle.is_late(&fact, &self.watermarks) {
            self.sim.reach("late");
            self.late.push(fact);
            return Verdict::Late.into();
        }
        if judged.verdict == Verdict::Late {
            let verdict = self.oracle.clone().insert_judged(known_at, fact);
            return verdict;
        }
        self.in_effect.push((known_at, fact.clone()));
        self.oracle.insert_judged(known_at, fact)
    }

    /// LATE is decided by the fact and the watermark alone. The facts of a dirty entity are queued,
    /// and a repeat is only known as one while what it repeats is at hand.
    pub(super) fn may_be(&mut self, judged: Judged, expected: Judged) -> bool {
        if judged == expected {
            return true;
        }
        match (judged.verdict, expected.verdict) {
            (Verdict::Late, Verdict::Duplicate) if !self.all_at_hand => {
                self.sim.reach("late, again, not at hand");
                true
            }
            (Verdict::Queued, verdict) => verdict != Verdict::Late && !self.all_at_hand,
            _ => false,
        }
    }

    /// The LATE facts of a stream, page by page.
    fn list_late(&mut self, stream: StreamId) -> Result<Vec<LateFact>, Failure> {
        let plan = self.sim.plan.clone();
        let max = self.rng.between(1, 20);
        let bytes_max = *self.rng.pick(&[0, 500, usize::MAX]);
        let mut all: Vec<LateFact> = Vec::new();
        let mut after: Option<LatePlace> = None;
        loop {
            let mut scan = LateScan::new(stream, after, max, bytes_max);
            let from = scan.covered();
            let chunk = |bytes: &Vec<u8>| Chunk::decode(bytes.clone()).map_err(failed);
            for (position, bytes) in self.sim.log.iter().filter(|(p, _)| *p > from) {
                if !scan.is_full() {
                    scan.chunk(&plan, *position, &chunk(bytes)?).map_err(failed)?;
                }
            }
            for (position, bytes) in &self.sim.log {
                scan.settle(&plan, *position, &chunk(bytes)?).map_err(failed)?;
            }
            let full = scan.is_full();
            all.extend(scan.finish());
            if !full {
                return Ok(all);
            }
            after = all.last().map(|f| f.place);
        }
    }

    /// Replays what is LATE; true when there was something.
    pub(super) fn replay_late(&mut self) -> Result<bool, Failure> {
        let streams: Vec<StreamId> = self.oracle.catalog().streams.iter().map(|s| s.id).collect();
        let mut replayed = false;
        for stream in streams {
            let listed = self.list_late(stream)?;
            let mut facts: Vec<Fact> = pending(&listed)
                .into_iter()
                .map(|late| Fact { stream, entity: late.entity.clone(), body: late.body.clone() })
                .collect();
            // What is LATE for good stays so, and goes with the next base chunk.
            let boundary = self.oracle.boundary(stream);
            let for_good = |fact: &Fact| fact.body.at < boundary;
            facts.retain(|fact| !for_good(fact));
            let mut expected: Vec<&Fact> = Vec::new();
            for fact in self.late.iter().filter(|f| f.stream == stream && !for_good(f)) {
                if !expected.contains(&fact) {
                    expected.push(fact);
                }
            }
            if facts.iter().collect::<Vec<_>>() != expected {
                return Err(Failure(format!("late: {facts:?} instead of {expected:?}")));
            }
            self.late.retain(|f| f.stream != stream || for_good(f));
            while !facts.is_empty() {
                replayed = true;
                let rest = facts.split_off(self.rng.between(1, facts.len()));
                let beside = Beside { replays_late: true, ..Beside::default() };
                let (known_at, judged) = self.sim.publish(&facts, &beside);
                self.known_ats.push(known_at);
                for (fact, judged) in facts.into_iter().zip(judged) {
                    self.in_effect.push((known_at, fact.clone()));
                    let expected = self.oracle.insert_judged(known_at, fact);
                    if !self.may_be(judged, expected) || judged.verdict == Verdict::Late {
                        return Err(Failure(format!("replayed: {judged:?}, not {expected:?}")));
                    }
                    self.sim.reach("late, in effect after a replay");
                }
                facts = rest;
            }
        }
        Ok(replayed)
    }

    /// After a replay every LATE fact is in effect: another replay would send nothing.
    pub(super) fn nothing_is_pending(&mut self) -> Result<(), Failure> {
        let streams: Vec<StreamId> = self.oracle.catalog().streams.iter().map(|s| s.id).collect();
        for stream in streams {
            let listed = self.list_late(stream)?;
            let boundary = self.oracle.boundary(stream);
            if pending(&listed).iter().any(|late| late.body.at >= boundary) {
                return Err(Failure(format!("still pending after a replay: {listed:?}")));
            }
        }
        Ok(())
    }
}

fn failed(error: millrace_types::DecodeError) -> Failure {
    Failure(error.to_string())
}
