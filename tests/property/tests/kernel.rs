//! Random cases through the slot core. `MILLRACE_CASES` says how many (default 20,000), and
//! `MILLRACE_SEED` where to start; a failure prints the seed and the smallest case that fails.

use std::collections::BTreeMap;

use millrace_property_tests::run;
use millrace_test_support::generate::{Case, Options, shrink};

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.replace('_', "").parse().ok()).unwrap_or(default)
}

fn attempt(case: &Case, variant: u64) -> Result<BTreeMap<&'static str, u64>, String> {
    let outcome = std::panic::catch_unwind(|| run(case, variant));
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

#[test]
fn random_histories_equal_the_oracle() {
    let first = from_env("MILLRACE_SEED", 1);
    let cases = from_env("MILLRACE_CASES", 20_000);
    let mut reached: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in first..first + cases {
        // Every other one has streams that hold back what comes too late.
        let options = Options { hold: seed % 2 == 0, ..Options::default() };
        let case = Case::generate(seed, &options);
        match attempt(&case, seed) {
            Ok(more) => more.into_iter().for_each(|(k, v)| *reached.entry(k).or_default() += v),
            Err(error) => {
                let smallest = shrink(case, |smaller| attempt(smaller, seed).is_err());
                let why = attempt(&smallest, seed).err().unwrap_or_default();
                panic!("seed {seed}: {error}\nsmallest: {why}\n{smallest}");
            }
        }
    }
    // A run that never got somewhere proves nothing about it.
    if cases >= 1_000 {
        for what in [
            "dirty",
            "rebuild",
            "restart from a mark",
            "load",
            "unload",
            "put",
            "head",
            "log",
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
            "left out: after known_at",
        ] {
            assert!(reached.contains_key(what), "no case reached {what}: {reached:?}");
        }
    }
}
