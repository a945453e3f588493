//! Training sets from the log, row by row against the oracle.

use std::collections::BTreeMap;

use millrace_kernel::training::{AsKnown, Cell, Sink, SlotFacts, Sweeper};
use millrace_test_support::generate::{Read, reads};
use millrace_test_support::order::identical_features;
use millrace_test_support::{Oracle, ingest};
use millrace_types::chunk::{encode_chunk, fingerprint};
use millrace_types::entity::entity_hash;
use millrace_types::{
    ChunkHeader, Entity, Fact, FeatureValue, KnownAt, Micros, Status, StreamId, Value, ValueRef,
};

use super::{Answer, Check, Failure};

impl Check<'_> {
    /// Training sets of this slot's log equal the oracle's rows, whatever counts as known.
    pub(super) fn compare_training(&mut self) -> Result<(), Failure> {
        let log: Vec<Vec<u8>> = self.sim.log.iter().map(|(_, bytes)| bytes.clone()).collect();
        let known_at = match self.known_ats.as_slice() {
            [] => KnownAt::MAX,
            some => *self.rng.pick(some),
        };
        let oracle = self.oracle.clone();
        let ways = [AsKnown::At(KnownAt::MAX), AsKnown::At(known_at), AsKnown::AtEvent];
        for known in ways {
            self.compare_sweep(&oracle, &log, known, false)?;
        }
        if !self.judged_late.is_empty() {
            let mut with_late = self.oracle.clone();
            for (chunk, fact) in &self.judged_late {
                with_late.insert(*chunk, fact.clone());
            }
            self.sim.reach("training, late included");
            if !self.bases.is_empty() {
                self.sim.reach("training, late included, with base chunks");
            }
            for known in ways {
                self.compare_sweep(&with_late, &log, known, true)?;
            }
        }
        self.compare_stated()
    }

    /// The same over a log whose facts state when they became known, about when they happened.
    fn compare_stated(&mut self) -> Result<(), Failure> {
        let catalog = self.oracle.catalog().clone();
        let mut oracle = self.case.oracle(&catalog);
        // In some cases everything is known in time, as where history was imported.
        let in_time = self.rng.percent(30);
        let mut log = Vec::new();
        for (index, batch) in self.case.batches().into_iter().enumerate() {
            let known_at = KnownAt(1_000_000_000_000_000 + index as i64);
            let mut facts: Vec<Fact> = Vec::new();
            for record in batch {
                facts.extend(ingest::facts(&catalog, record, None).unwrap_or_default());
            }
            for fact in &mut facts {
                let at = fact.body.at.0;
                let stated = match self.rng.below(4) {
                    _ if in_time => Some(at),
                    0 => None,
                    1 => Some(at),
                    2 => Some(at.saturating_sub(self.rng.below(3_000_000) as i64)),
                    _ => Some(at.saturating_add(self.rng.below(3_000_000) as i64)),
                };
                fact.body.known_at = stated.map(KnownAt);
                oracle.insert(known_at, fact.clone());
            }
            log.push(chunk(&catalog, known_at, &facts));
        }
        for known in [AsKnown::AtEvent, AsKnown::At(KnownAt::MAX)] {
            self.compare_sweep(&oracle, &log, known, false)?;
        }
        Ok(())
    }

    fn compare_sweep(
        &mut self,
        oracle: &Oracle,
        log: &[Vec<u8>],
        known: AsKnown,
        include_late: bool,
    ) -> Result<(), Failure> {
        let wanted = reads(oracle, &[], 8, &mut self.rng);
        for view in &oracle.catalog().views {
            let of_view: Vec<&Read> = wanted.iter().filter(|r| r.view == view.name).collect();
            let streams: Vec<StreamId> = view.streams().collect();
            let plan = self.sim.plan.clone();
            let mut slot = SlotFacts::new(&plan, view.entity, &streams, known, include_late)
                .ok_or_else(|| Failure("the plan lacks a kind".to_owned()))?;
            let mut rows: BTreeMap<u32, Vec<Micros>> = BTreeMap::new();
            for read in &of_view {
                rows.entry(slot.name(read.entity.key.as_bytes())).or_default().push(read.at);
            }
            for bytes in log {
                slot.chunk(bytes.as_slice()).map_err(|e| Failure(e.to_string()))?;
            }
            let slot = slot.finish();
            let kind = plan.kind(view.entity).ok_or_else(|| Failure("no such kind".to_owned()))?;
            let at = kind.view_index(&view.name).ok_or_else(|| Failure("no view".to_owned()))?;
            let features: Vec<usize> = (0..view.features.len()).collect();
            let sweeper = Sweeper::new(&slot, &view.name, &features)
                .ok_or_else(|| Failure("the plan lacks a view".to_owned()))?;
            for (number, mut instants) in rows {
                instants.sort_unstable();
                for instant in &instants {
                    let early = kind.too_early(at, &features, *instant, slot.boundaries());
                    if early.is_some() != oracle.is_too_early(&view.name, &features, *instant) {
                        return Err(Failure(format!("a training set at {instant}: {early:?}")));
                    }
                }
                instants.retain(|at| !oracle.is_too_early(&view.name, &features, *at));
                let mut sink = Rows { width: features.len(), rows: Vec::new() };
                let swept = sweeper.sweep(&slot.entity(number), &instants, &mut sink);
                let key = slot.key(number).clone();
                let entity = Entity { kind: view.entity, key };
                let mut missing = 0;
                for (row, at) in instants.iter().enumerate() {
                    let known_at = match known {
                        AsKnown::AtEvent => KnownAt(at.0),
                        AsKnown::At(known_at) => known_at,
                    };
                    let expected = oracle.read(&view.name, &entity, *at, known_at);
                    missing += u64::from(expected.iter().any(|e| e.1 == Status::MissingEntity));
                    let width = features.len();
                    let answer = sink.rows[row * width..(row + 1) * width].to_vec();
                    let read =
                        Read { view: view.name.clone(), entity: entity.clone(), at: *at, known_at };
                    self.compare_row(&read, &answer, &expected, known)?;
                }
                let forgets = oracle.catalog().stream_by_id(view.events).is_some_and(|s| s.forgets);
                if !features.is_empty() && !forgets && swept.missing != missing {
                    return Err(Failure(format!("{swept:?}, but {missing} rows are missing")));
                }
            }
        }
        Ok(())
    }

    fn compare_row(
        &mut self,
        read: &Read,
        answer: &Answer,
        expected: &Answer,
        known: AsKnown,
    ) -> Result<(), Failure> {
        self.sim.reach(match known {
            AsKnown::AtEvent => "training, as known at the event",
            AsKnown::At(_) => "training, as known at an instant",
        });
        let same = answer.len() == expected.len()
            && answer
                .iter()
                .zip(expected)
                .all(|(a, b)| a.1 == b.1 && identical_features(&a.0, &b.0));
        if same {
            return Ok(());
        }
        let text = self.describe(read, answer, expected);
        Err(Failure(format!("a training set, {known:?}: {text}")))
    }
}

/// The rows of a sweep.
struct Rows {
    width: usize,
    rows: Answer,
}

impl Sink for Rows {
    fn cell(&mut self, feature: usize, cell: Cell<'_>, status: Status) {
        assert_eq!(feature, self.rows.len() % self.width, "features come in order");
        let values = |values: Vec<ValueRef<'_>>| -> Vec<Value> {
            values.into_iter().map(ValueRef::to_value).collect()
        };
        let value = match cell {
            Cell::Scalar(value) => FeatureValue::Scalar(value.to_value()),
            Cell::List(list) => FeatureValue::List(values(list)),
            Cell::Counted(list) => {
                FeatureValue::Counted(list.into_iter().map(|(v, n)| (v.to_value(), n)).collect())
            }
        };
        self.rows.push((value, status));
    }
}

/// A chunk of facts that are all ACCEPTED.
fn chunk(catalog: &millrace_catalog::Catalog, known_at: KnownAt, facts: &[Fact]) -> Vec<u8> {
    let mut bytes = Vec::new();
    facts.iter().for_each(|fact| fact.encode(&mut bytes));
    let hash = |fact: &Fact| {
        let kind = catalog.kind(fact.entity.kind).map_or("", |k| k.name.as_str());
        fingerprint(entity_hash(kind, fact.entity.key.as_bytes()))
    };
    let mut filter: Vec<u32> = facts.iter().map(hash).collect();
    filter.sort_unstable();
    filter.dedup();
    let header = ChunkHeader { known_at, facts: facts.len() as u32, filter, ..Default::default() };
    encode_chunk(&header, [bytes.as_slice()])
}
