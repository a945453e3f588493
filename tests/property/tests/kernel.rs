//! Random cases through the slot core. `MILLRACE_CASES` says how many (default 10,000), and
//! `MILLRACE_SEED` where to start; a failure prints the seed and the smallest case that fails.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::thread;

use millrace_kernel::PageLimits;
use millrace_property_tests::run;
use millrace_test_support::generate::{Case, Options, shrink};

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.replace('_', "").parse().ok()).unwrap_or(default)
}

fn attempt(case: &Case, variant: u64) -> Result<BTreeMap<&'static str, u64>, String> {
    let outcome = std::panic::catch_unwind(|| run(case, variant, pages(variant)));
    match outcome {
        Ok(Ok(reached)) => Ok(reached),
        Ok(Err(failure)) => Err(failure.0),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default())
        }
    }
}

/// Every other two have pages of a few facts, so that entities have many; in heads of one of the two some
/// stand. Of one in eighteen of these, streams have enough facts for partials beside their pages.
fn pages(seed: u64) -> PageLimits {
    match seed % 4 {
        0 => PageLimits { facts: 2, inline_bytes: 0 },
        1 => PageLimits { facts: 5, inline_bytes: 64 },
        _ => PageLimits::default(),
    }
}

fn records_max(seed: u64) -> usize {
    let usual = Options::default().records_max;
    if seed % 72 < 2 { 5 * usual } else { usual }
}

/// The case of a seed.
fn case(seed: u64) -> Case {
    // Every other one has streams that hold back what comes too late.
    let hold = seed.is_multiple_of(2);
    // One in three has streams with a retention.
    let retention = seed.is_multiple_of(3);
    let records_max = records_max(seed);
    let options = Options { hold, retention, records_max, ..Options::default() };
    Case::generate(seed, &options)
}

/// What some cases reached, and the first of them that failed.
#[derive(Default)]
struct Tried {
    reached: BTreeMap<&'static str, u64>,
    failed: Option<(u64, String)>,
}

/// Tries cases one after the other, as long as there are more and none failed.
fn try_some(seeds: &Mutex<Range<u64>>) -> Tried {
    let mut tried = Tried::default();
    let next = || seeds.lock().expect("no panic").next();
    while let Some(seed) = next() {
        match attempt(&case(seed), seed) {
            Ok(more) => {
                more.into_iter().for_each(|(k, v)| *tried.reached.entry(k).or_default() += v);
            }
            Err(error) => {
                // Those that others are at are finished: the least seed that fails is always the same.
                *seeds.lock().expect("no panic") = 0..0;
                tried.failed = Some((seed, error));
            }
        }
    }
    tried
}

/// Tries all of them, as many at a time as there are cores.
fn try_all(seeds: Range<u64>) -> Tried {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let seeds = Mutex::new(seeds);
    let mut all = Tried::default();
    thread::scope(|scope| {
        let others: Vec<_> = (0..cores).map(|_| scope.spawn(|| try_some(&seeds))).collect();
        for other in others {
            let tried = other.join().expect("no panic outside of a case");
            tried.reached.into_iter().for_each(|(k, v)| *all.reached.entry(k).or_default() += v);
            all.failed = all.failed.take().into_iter().chain(tried.failed).min();
        }
    });
    all
}

#[test]
fn random_histories_equal_the_oracle() {
    let first = from_env("MILLRACE_SEED", 1);
    let cases = from_env("MILLRACE_CASES", 10_000);
    let Tried { reached, failed } = try_all(first..first + cases);
    if let Some((seed, error)) = failed {
        let smallest = shrink(case(seed), |smaller| attempt(smaller, seed).is_err());
        let why = attempt(&smallest, seed).err().unwrap_or_default();
        panic!("seed {seed}: {error}\nsmallest: {why}\n{smallest}");
    }
    // A run that never got somewhere proves nothing about it.
    if cases >= 1_000 {
        for what in [
            "import",
            "another catalog",
            "backfilling",
            "fill",
            "fill, later",
            "filled in part",
            "filled",
            "dirty",
            "rebuild",
            "suspect",
            "restart from a mark",
            "load",
            "unload",
            "put",
            "head",
            "log",
            "stored, head alone",
            "stored, with pages",
            "stored, a page missing",
            "late",
            "late, again, not at hand",
            "late, in effect after a replay",
            "left out: outside the window",
            "left out: retracted",
            "left out: superseded",
            "left out: retraction",
            "left out: no version",
            "left out: filtered",
            "left out: null",
            "left out: not in force",
            "left out: late",
            "left out: late for good",
            "left out: after known_at",
            "training, as known at an instant",
            "training, as known at the event",
            "training, late included",
            "training, late included, with base chunks",
            "erase",
            "bytes to erase",
            "a chunk rewritten",
            "restart while erasing",
            "a fact of an erased entity",
            "base",
            "late for good",
            "too early",
            "a chunk rewritten for its retention",
            "restart while rewriting for a retention",
        ] {
            assert!(reached.contains_key(what), "no case reached {what}: {reached:?}");
        }
    }
}
