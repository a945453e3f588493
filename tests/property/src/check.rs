//! Runs a case through the simulated slot and compares everything with the oracle.

mod erasures;
mod evolution;
mod explain;
mod imports;
mod late;
mod retention;
mod stored;
mod training;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use millrace_catalog::Catalog;
use millrace_kernel::slot::{Fold, ReadAnswer, SlotRead};
use millrace_kernel::{PageLimits, Plan, ViewFollower};
use millrace_test_support::generate::{Case, Read, Rng, reads};
use millrace_test_support::oracle::StatedWatermarks;
use millrace_test_support::order::identical_features;
use millrace_test_support::{Oracle, ingest};
use millrace_types::{
    Boundaries, Chunk, Entity, Fact, FeatureValue, Judged, KnownAt, Micros, Status, StreamId,
    Value, VerdictCounts,
};

use crate::sim::Sim;

/// What went wrong, in words.
#[derive(Debug)]
pub struct Failure(pub String);

type Answer = Vec<(FeatureValue, Status)>;

struct Check<'a> {
    case: &'a Case,
    sim: Sim,
    oracle: Oracle,
    /// Those of chunks, and what imports stated.
    known_ats: Vec<KnownAt>,
    /// What is in effect, with the known_at of its chunk.
    in_effect: Vec<(KnownAt, Fact)>,
    /// Base chunks, with their known_at.
    bases: Vec<(KnownAt, Boundaries)>,
    rng: Rng,
    watermarks: StatedWatermarks,
    /// By stream the greatest `at` so far.
    latest: BTreeMap<StreamId, Micros>,
    /// What is LATE and was not replayed, in the order of arrival.
    late: Vec<Fact>,
    /// What was judged LATE, replayed since or not, with the known_at of its chunk.
    judged_late: Vec<(KnownAt, Fact)>,
    /// In the order of their erasures.
    erased: Vec<Entity>,
    /// The case as of the catalog in force.
    now: Case,
    /// The catalogs that follow.
    next: VecDeque<evolution::Next>,
    pages: PageLimits,
    /// Nothing ever leaves or waits, so that every verdict is known.
    all_at_hand: bool,
}

/// Runs a case; `variant` seeds the budget, the restarts and the reads, `pages` says how large pages are. Gives how often each
/// interesting thing was reached.
///
/// # Errors
/// [`Failure`] when something differs from the oracle.
pub fn run(
    case: &Case,
    variant: u64,
    pages: PageLimits,
) -> Result<BTreeMap<&'static str, u64>, Failure> {
    // Shrinking takes things away that others need: what is no catalog is no case.
    let Ok(catalog) = case.compile().map(Arc::new) else { return Ok(BTreeMap::new()) };
    let mut rng = Rng::new(variant);
    let (catalog, now, next) = evolution::versions(case, variant, catalog);
    let budget = *rng.pick(&[0, 300, 500, 2_000, 8_000, usize::MAX]);
    let rows_max = *rng.pick(&[10_000, 10_000, 2]);
    let plan = Plan::with_pages(catalog.clone(), pages);
    let sim = Sim::new(Arc::new(plan), budget, rows_max);
    let oracle = now.oracle(&catalog);
    let mut check = Check {
        case,
        sim,
        oracle,
        known_ats: Vec::new(),
        in_effect: Vec::new(),
        bases: Vec::new(),
        rng,
        watermarks: StatedWatermarks::default(),
        latest: BTreeMap::new(),
        late: Vec::new(),
        judged_late: Vec::new(),
        erased: Vec::new(),
        now,
        next,
        pages,
        all_at_hand: budget == usize::MAX && rows_max > 2,
    };
    check.publish_all(&catalog)?;
    check.evolve(usize::MAX)?;
    let catalog = check.sim.plan.catalog.clone();
    check.settle()?;
    check.compare_reads(4)?;
    check.compare_tail(&catalog)?;
    check.compare_training()?;
    if check.replay_late()? {
        check.settle()?;
        check.compare_reads(2)?;
        check.compare_tail(&catalog)?;
        check.nothing_is_pending()?;
    }
    check.sim.restart();
    check.settle()?;
    check.compare_reads(2)?;
    if check.retain_all()? {
        check.settle()?;
        check.compare_reads(4)?;
        check.compare_tail(&catalog)?;
        check.compare_training()?;
    }
    if check.rng.percent(30) {
        check.erase_some()?;
        check.settle()?;
        check.compare_reads(4)?;
        check.compare_tail(&catalog)?;
        check.compare_training()?;
    }
    Ok(check.sim.reached)
}

impl Check<'_> {
    fn publish_all(&mut self, catalog: &Catalog) -> Result<(), Failure> {
        for (number, batch) in self.case.batches().into_iter().enumerate() {
            self.evolve(number)?;
            let mut facts = Vec::new();
            for record in batch {
                // What ingest rejects never reaches a slot.
                facts.extend(ingest::facts(catalog, record, None).unwrap_or_default());
            }
            if facts.is_empty() {
                continue;
            }
            self.import_some(&mut facts);
            let beside = self.watermarks_after(&facts);
            let (known_at, judged) = self.sim.publish(&facts, &beside);
            self.known_ats.push(known_at);
            self.compare_verdicts(known_at, facts, &judged)?;
            self.follow_watermarks(&beside);
            self.disturb();
            self.retain_some()?;
            if self.rng.percent(5) {
                self.replay_late()?;
            }
            if self.rng.percent(2) {
                self.erase_some()?;
            }
            if self.rng.percent(30) {
                self.compare_reads(1)?;
            }
        }
        Ok(())
    }

    /// Verdicts are the oracle's, where it can know them.
    fn compare_verdicts(
        &mut self,
        known_at: KnownAt,
        facts: Vec<millrace_types::Fact>,
        judged: &[Judged],
    ) -> Result<(), Failure> {
        let mut counts = VerdictCounts::default();
        judged.iter().for_each(|j| counts.add(j.verdict));
        if counts.total() != facts.len() as u64 {
            return Err(Failure(format!("{} facts have {} verdicts", facts.len(), counts.total())));
        }
        for (fact, judged) in facts.into_iter().zip(judged) {
            if self.names_erased(&fact) {
                self.sim.reach("a fact of an erased entity");
                if *judged != Self::refused() {
                    return Err(Failure(format!("{judged:?}, but it names an erased entity")));
                }
                continue;
            }
            let shown = format!("{fact:?}");
            let expected = self.expect(known_at, fact, *judged);
            if !self.may_be(*judged, expected) {
                let steps = self.sim.steps.join(", ");
                let bases = &self.bases;
                return Err(Failure(format!(
                    "{judged:?} instead of {expected:?} of {shown}\n  steps: {steps}\n  bases: {bases:?}"
                )));
            }
        }
        Ok(())
    }

    /// Saves, marks, unloads, rebuilds, restarts, each now and then.
    fn disturb(&mut self) {
        if self.rng.percent(30) {
            let bytes = *self.rng.pick(&[1, usize::MAX]);
            self.sim.save(bytes);
        }
        if self.rng.percent(20) {
            self.sim.write_mark();
        }
        if self.rng.percent(20) {
            self.sim.collect_garbage();
        }
        if self.rng.percent(20) {
            self.sim.unload();
        }
        if self.rng.percent(40) {
            let max = self.rng.between(1, 3);
            self.sim.rebuild(max, &mut self.rng);
        }
        // What is under suspicion is dirty: verdicts are not the oracle's then.
        if !self.all_at_hand && self.rng.percent(15) {
            let entities: Vec<Entity> = self.oracle.entities().into_iter().cloned().collect();
            if !entities.is_empty() {
                let entity = self.rng.pick(&entities).clone();
                let alone = self.rng.percent(50);
                self.sim.suspect(entity, alone);
            }
        }
        if self.rng.percent(15) {
            self.sim.restart();
        }
        if self.rng.percent(50) {
            self.sim.backfill(&mut self.rng);
        }
    }

    /// Rebuilds until no entity is dirty, and backfills until none lacks anything.
    fn settle(&mut self) -> Result<(), Failure> {
        for _ in 0..1_000 {
            let is_filled = !self.sim.core.needs_backfill();
            if self.sim.core.dirty_len() == 0 && is_filled {
                return Ok(());
            }
            self.sim.rebuild(100, &mut self.rng);
            self.sim.backfill(&mut self.rng);
            self.sim.save(usize::MAX);
        }
        Err(Failure(format!("entities stay dirty or lack features: {:?}", self.sim.core.filled())))
    }

    fn compare_reads(&mut self, each: usize) -> Result<(), Failure> {
        for read in reads(&self.oracle, &self.known_ats, each, &mut self.rng) {
            self.compare_read(&read)?;
            if self.rng.percent(25) {
                self.compare_explanation(&read)?;
            }
            if self.rng.percent(40) {
                self.compare_stored(&read)?;
            }
        }
        Ok(())
    }

    fn compare_read(&mut self, read: &Read) -> Result<(), Failure> {
        let expected = self.oracle.read(&read.view, &read.entity, read.at, read.known_at);
        let Some((answer, rebuilding, position_at)) = self.answer(read)? else { return Ok(()) };
        let expected = match position_at {
            // A dirty entity answers as of the chunk before it became dirty.
            Some(known_at) if rebuilding => {
                let before = self.oracle_up_to(known_at);
                before.read(&read.view, &read.entity, read.at, KnownAt::MAX)
            }
            _ => expected,
        };
        if answer.iter().any(|(_, status)| *status == Status::Backfilling) {
            self.sim.reach("backfilling");
        }
        let same = answer.len() == expected.len()
            && answer.iter().zip(&expected).all(|(a, b)| match a.1 {
                Status::Backfilling => self.may_lack(&a.0),
                Status::Present
                | Status::Null
                | Status::MissingEntity
                | Status::Overflow
                | Status::Truncated => a.1 == b.1 && identical_features(&a.0, &b.0),
            });
        if !same {
            return Err(Failure(self.describe(read, &answer, &expected)));
        }
        Ok(())
    }

    /// The slot's answer; from the log where its head does not cover the read.
    fn answer(&mut self, read: &Read) -> Result<Option<(Answer, bool, Option<KnownAt>)>, Failure> {
        let plan = self.sim.plan.clone();
        let kind = plan.kind(read.entity.kind).ok_or_else(|| Failure("no such kind".to_owned()))?;
        let view = kind.view_index(&read.view).ok_or_else(|| Failure("no such view".to_owned()))?;
        let features = kind.feature_indexes(view, &[]).map_err(Failure)?;
        for _ in 0..2 {
            let slot_read = SlotRead {
                entity: &read.entity,
                view: &read.view,
                features: &features,
                at: read.at,
                known_at: read.known_at,
            };
            match self.sim.core.read(slot_read) {
                ReadAnswer::TooEarly(error) => {
                    self.sim.reach("too early");
                    return self.compare_too_early(&error, read).map(|()| None);
                }
                ReadAnswer::Head(evaluation, stamp) => {
                    self.not_too_early(read)?;
                    self.sim.reach("head");
                    let known_at = stamp.known_at.min(read.known_at);
                    return Ok(Some((pairs(evaluation), stamp.rebuilding, Some(known_at))));
                }
                ReadAnswer::Log(_) => {
                    self.not_too_early(read)?;
                    self.sim.reach("log");
                    return Ok(Some((self.fold_log(read, view, &features)?, false, None)));
                }
                ReadAnswer::Load => {
                    let state = self.sim.load(&read.entity);
                    self.sim.core.insert_loaded(&read.entity, state);
                }
                ReadAnswer::Unconfirmed(_) | ReadAnswer::Unknown => {
                    return Err(Failure(format!("{read:?} is not answered")));
                }
            }
        }
        Err(Failure("a loaded entity is still not there".to_owned()))
    }

    fn fold_log(&self, read: &Read, view: usize, features: &[usize]) -> Result<Answer, Failure> {
        let mut fold = Fold::new(self.sim.plan.clone(), [read.entity.clone()], read.known_at);
        for (position, bytes) in &self.sim.log {
            let chunk = Chunk::decode(bytes.as_slice()).map_err(|e| Failure(e.to_string()))?;
            fold.chunk(*position, &chunk).map_err(|e| Failure(e.to_string()))?;
        }
        let kind = &self.sim.plan.kind(read.entity.kind);
        if kind.is_none_or(|k| k.too_early(view, features, read.at, fold.boundaries()).is_some()) {
            return Err(Failure(format!("{read:?} is too early for the log alone")));
        }
        let (_, mut state) =
            fold.finish().pop().ok_or_else(|| Failure("the fold lost its entity".to_owned()))?;
        let evaluation = state.evaluate(view, features, read.at);
        evaluation.map(pairs).ok_or_else(|| Failure("a fold covers every read".to_owned()))
    }

    /// The changes of a tail, summed up, are the joined rows; every `-` repeats its `+`.
    fn compare_tail(&mut self, catalog: &Catalog) -> Result<(), Failure> {
        for view in &catalog.views {
            let Some(mut follower) = ViewFollower::new(&self.sim.plan, &view.name) else {
                return Err(Failure(format!("view {} cannot be followed", view.name)));
            };
            let mut rows = BTreeMap::new();
            let boundary = self.oracle.boundary(view.events);
            erasures::follow(&mut follower, &mut rows, &self.sim.log, boundary)?;
            self.compare_rows(&view.name, &rows)?;
        }
        Ok(())
    }

    fn compare_rows(
        &self,
        view: &str,
        rows: &BTreeMap<(Entity, Box<[u8]>), millrace_kernel::EmittedRow>,
    ) -> Result<(), Failure> {
        let view_of = self.oracle.catalog().view(view);
        let kind = view_of.map(|v| v.entity);
        let boundary = view_of.map_or(Micros::MIN, |v| self.oracle.boundary(v.events));
        let mut expected = 0;
        for entity in self.oracle.entities().into_iter().filter(|e| Some(e.kind) == kind) {
            for row in self.oracle.joined_rows(view, entity, KnownAt::MAX) {
                let key = (entity.clone(), row.id.clone().into_boxed_slice());
                if row.at < boundary && !rows.contains_key(&key) {
                    return Err(Failure(format!("tail of {view} lacks {row:?}")));
                }
                expected += usize::from(row.at >= boundary);
                let same = rows.get(&key).is_some_and(|have| {
                    let versions = have.versions.iter().zip(&row.joined).all(|(a, b)| {
                        a.as_ref().map(|r| values(r.view())) == b.as_ref().map(|r| trimmed(r))
                    });
                    have.at == row.at
                        && values(have.event.view()) == trimmed(&row.event)
                        && versions
                });
                if !same {
                    return Err(Failure(format!("tail of {view} lacks {row:?}")));
                }
            }
        }
        // Rows of what was forgotten are left as they were.
        let rows: BTreeMap<_, _> = rows.iter().filter(|(_, row)| row.at >= boundary).collect();
        match rows.len() == expected {
            true => Ok(()),
            false => {
                let id = |id: &[u8]| id.escape_ascii().to_string();
                let ids: Vec<_> = rows.keys().map(|(e, of)| (e, id(of))).collect();
                let steps = self.sim.steps.join(", ");
                Err(Failure(format!("tail of {view}: {ids:?}, {expected} expected; {steps}")))
            }
        }
    }

    fn describe(&self, read: &Read, answer: &Answer, expected: &Answer) -> String {
        let mut text = format!("{read:?} (at {}) differs", Micros(read.at.0));
        if let Some(view) = self.oracle.catalog().view(&read.view) {
            for ((feature, a), b) in view.features.iter().zip(answer).zip(expected) {
                if a.1 != b.1 || !identical_features(&a.0, &b.0) {
                    let _ = write!(text, "\n  {}: {a:?} instead of {b:?}", feature.name);
                }
            }
        }
        let _ = write!(text, "\n  steps: {}", self.sim.steps.join(", "));
        text
    }
}

fn pairs(evaluation: millrace_kernel::Evaluation) -> Answer {
    evaluation.features.into_iter().map(|f| (f.value, f.status)).collect()
}

fn values(row: millrace_types::RowView<'_>) -> Vec<Value> {
    trimmed(&row.values().map(millrace_types::ValueRef::to_value).collect::<Vec<_>>())
}

/// A row without trailing NULLs.
fn trimmed(row: &[Value]) -> Vec<Value> {
    let end = row.iter().rposition(|v| *v != Value::Null).map_or(0, |last| last + 1);
    row[..end].to_vec()
}
