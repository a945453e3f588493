//! The generators make what they promise, and only what the catalog takes.

use std::collections::BTreeSet;

use millrace_catalog::{Catalog, FieldSource, Source, Stream, Window};
use millrace_types::{Fact, KnownAt, Op, RejectReason, Status, ValueRef, Verdict};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::condition::{Condition, Scope};
use crate::ingest;
use crate::joined_row::JoinedRow;
use crate::order::identical_features;

const SEEDS: u64 = 300;

fn facts(case: &Case, catalog: &Catalog) -> Vec<Fact> {
    let records = case.arrivals.iter().map(|a| &a.record);
    records.filter_map(|r| ingest::facts(catalog, r, None).ok()).flatten().collect()
}

#[test]
fn every_catalog_compiles_with_the_windows_it_states() {
    for seed in 0..SEEDS {
        let case = Case::generate(seed, &Options { hold: true, ..Options::default() });
        let catalog = case.compile().unwrap_or_else(|e| panic!("{e:?}\n{case}"));
        let _ = case.oracle(&catalog);
        let features = catalog.views.iter().flat_map(|v| &v.features);
        let specs = case.catalog.views.iter().flat_map(|v| &v.features);
        for (feature, spec) in features.zip(specs) {
            let expected = spec.window.map_or(Window::Unbounded, window);
            assert_eq!(feature.window, expected, "{} {spec:?}", feature.name);
        }
    }
}

/// The window of semantics §1.6.
fn window(spec: WindowSpec) -> Window {
    let width_us = spec.width.us;
    let hops_s = [86_400, 3_600, 300, 60, 10, 1];
    let default = hops_s.iter().map(|s| s * 1_000_000).find(|hop| hop * 60 <= width_us);
    match spec.hop.map(|h| h.us).or(default) {
        Some(hop_us) if !spec.exact => Window::Sliding { width_us, hop_us },
        Some(_) | None => Window::Exact { width_us },
    }
}

#[test]
fn a_seed_determines_its_case() {
    let options = Options::default();
    assert_eq!(Case::generate(5, &options), Case::generate(5, &options));
    assert_ne!(Case::generate(5, &options), Case::generate(6, &options));
}

#[test]
fn everything_a_history_needs_occurs() {
    let (mut statuses, mut verdicts) = (BTreeSet::new(), BTreeSet::new());
    let (mut reasons, mut ops) = (BTreeSet::new(), BTreeSet::new());
    let mut conflicts = 0;
    for seed in 0..SEEDS {
        let case = Case::generate(seed, &Options::default());
        let catalog = case.compile().unwrap();
        let mut oracle = case.oracle(&catalog);
        for (n, arrival) in (1..).zip(&case.arrivals) {
            match ingest::facts(&catalog, &arrival.record, None) {
                Ok(facts) => {
                    for fact in facts {
                        ops.insert(format!("{:?}", fact.body.op));
                        let judged = oracle.insert_judged(KnownAt(n), fact);
                        conflicts += usize::from(judged.conflict);
                        verdicts.insert(judged.verdict.name());
                    }
                }
                Err(reason) => {
                    reasons.insert(reason);
                }
            }
        }
        let mut rng = Rng::new(seed);
        for read in reads(&oracle, &[KnownAt(3)], 3, &mut rng) {
            let features = oracle.read(&read.view, &read.entity, read.at, read.known_at);
            statuses.extend(features.iter().map(|(_, status)| status.name()));
        }
    }
    let all =
        [Status::Present, Status::Null, Status::MissingEntity, Status::Overflow, Status::Truncated];
    assert_eq!(statuses, all.map(Status::name).into());
    let all = [Verdict::Accepted, Verdict::Duplicate, Verdict::Repaired { rows: 1 }];
    assert_eq!(verdicts, all.map(Verdict::name).into());
    assert_eq!(reasons, [RejectReason::BadRow, RejectReason::MissingKey].into());
    assert_eq!(ops, [Op::Assert, Op::End, Op::Retract].map(|op| format!("{op:?}")).into());
    assert!(conflicts > 100);
}

/// The oracle itself does not depend on the order of its facts.
#[test]
fn any_order_of_arrival_gives_the_same_answer() {
    for seed in 0..SEEDS {
        let case = Case::generate(seed, &Options::default());
        let catalog = case.compile().unwrap();
        let mut rng = Rng::new(!seed);
        let (mut one, mut other) = (case.oracle(&catalog), case.oracle(&catalog));
        let shuffled = case.rearranged(Order::Shuffled, &mut rng);
        facts(&case, &catalog).into_iter().for_each(|f| one.insert(KnownAt(1), f));
        facts(&shuffled, &catalog).into_iter().for_each(|f| other.insert(KnownAt(1), f));
        for read in reads(&one, &[], 3, &mut rng) {
            let answer = |o: &Oracle| o.read(&read.view, &read.entity, read.at, read.known_at);
            for ((a, x), (b, y)) in answer(&one).iter().zip(&answer(&other)) {
                assert!(x == y && identical_features(a, b), "{a:?} {b:?} {read:?}\n{case}");
            }
        }
    }
}

#[test]
fn shrinking_keeps_only_what_fails() {
    let case = (0..).map(|seed| Case::generate(seed, &Options::default()));
    let fails = |case: &Case| case.arrivals.iter().filter(|a| a.batch == 1).count() >= 2;
    let case = case.into_iter().find(|c| fails(c) && c.arrivals.len() > 20).unwrap();
    let small = shrink(case, fails);
    assert_eq!((small.arrivals.len(), small.catalog.views.len()), (2, 0));
}

#[test]
fn the_strategy_shrinks_by_dropping_records() {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(Config::default().rng_algorithm),
    );
    let fails = |case: &Case| case.arrivals.len() >= 3;
    let mut tree = loop {
        let tree = cases(Options::default()).new_tree(&mut runner).unwrap();
        if tree.current().arrivals.len() > 10 {
            break tree;
        }
    };
    while if fails(&tree.current()) { tree.simplify() } else { tree.complicate() } {}
    assert_eq!(tree.current().arrivals.len(), 3);
}

#[test]
fn arrivals_keep_their_batches_and_requests_their_sequences() {
    let case = Case::generate(11, &Options::default());
    let batches: usize = case.batches().iter().map(Vec::len).sum();
    assert_eq!(batches, case.arrivals.len());
    let records: Vec<RawRecord> = case.arrivals.iter().map(|a| a.record.clone()).collect();
    for request in crate::record::requests(&records) {
        assert!(request.is_sorted_by(|a, b| a.sequence < b.sequence && a.stream == b.stream));
    }
}

struct Fields<'a>(&'a JoinedRow);

impl FieldSource for Fields<'_> {
    fn field(&self, source: Source, field: usize) -> ValueRef<'_> {
        self.0.field(source, field).as_ref()
    }
}

/// Two evaluators written apart, the catalog's lowered program and the oracle's tree, keep the same
/// rows.
#[test]
fn lowered_conditions_keep_what_the_oracle_keeps() {
    let (mut kept, mut rows) = (0, 0);
    for seed in 0..2 * SEEDS {
        let case = Case::generate(seed, &Options::default());
        let catalog = case.compile().unwrap();
        let (mut oracle, wheres) = (case.oracle(&catalog), case.wheres());
        facts(&case, &catalog).into_iter().for_each(|f| oracle.insert(KnownAt(1), f));
        for view in &catalog.views {
            let stream = |id| catalog.stream_by_id(id).unwrap();
            let joins: Vec<&Stream> = view.joins.iter().map(|id| stream(*id)).collect();
            let scope = Scope::new(stream(view.events), &joins);
            let joined: Vec<JoinedRow> = oracle
                .entities()
                .into_iter()
                .filter(|e| e.kind == view.entity)
                .flat_map(|e| oracle.joined_rows(&view.name, e, KnownAt::MAX))
                .collect();
            for feature in &view.features {
                let Some(program) = &feature.filter else { continue };
                let text = wheres.get(&view.name, &feature.name).unwrap();
                let condition = Condition::parse(text, &scope).unwrap();
                for row in &joined {
                    let keeps = condition.keeps(row);
                    assert_eq!(program.matches(&Fields(row)), keeps, "{text}\n{row:?}\n{case}");
                    kept += usize::from(keeps);
                    rows += 1;
                }
            }
        }
    }
    // A condition that keeps nothing or everything would show little.
    assert!(kept > rows / 10 && kept < rows * 9 / 10, "{kept} of {rows}");
}
