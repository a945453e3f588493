//! The audit of every answer: what was served while facts came, entities were dirty and processes were
//! killed equals what the log says up to the position of the answer.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_e2e_tests::{Scrape, wait_until};
use millrace_test_support::generate::reads;

use super::{Run, wire};

/// It rests most of the time, on a machine that builds beside the tests.
const AUDITED_WITHIN: Duration = Duration::from_secs(120);

const SKIPPED: &str = "millrace_parity_skipped_samples_total";

impl Run<'_> {
    /// Reads whatever is served now. Whether it is right only the audit says.
    pub(super) fn read_now(&mut self) {
        for read in reads(&self.oracle, &[], 1, &mut self.rng) {
            let Some(request) = wire::read_request(&read) else { continue };
            // A service may be on its way back.
            let _ = self.ask(request);
        }
    }

    /// Waits until every answer was looked at, or left out; none differs.
    pub(super) fn audit(&self) -> Result<(), String> {
        let mut servings = self.server.admins().into_iter().zip(&self.answers);
        servings.try_for_each(|(admin, answers)| audit_of(admin, *answers))
    }
}

/// The same of one feature-serving, which gave so many answers.
fn audit_of(admin: SocketAddr, answers: u64) -> Result<(), String> {
    let count = |scrape: &Scrape, outcome| {
        scrape.sum("millrace_parity_samples_total", &[("outcome", outcome)]) as u64
    };
    let scrape = wait_until("the audit", AUDITED_WITHIN, || {
        let scrape = Scrape::of(admin).ok()?;
        let seen = ["equal", "mismatch", "skipped"].map(|outcome| count(&scrape, outcome));
        (seen.iter().sum::<u64>() >= answers).then_some(scrape)
    });
    let skipped = |reason| scrape.sum(SKIPPED, &[("reason", reason)]) as u64;
    if count(&scrape, "mismatch") > 0 {
        return Err("an answer was not what the log says up to its position".to_owned());
    }
    // More than may be in a second are left out, and those that no store took: it may have been killed.
    let left_out = count(&scrape, "skipped") - skipped("rate") - skipped("store");
    let compared = count(&scrape, "equal");
    if left_out > 0 || (compared == 0 && answers > 0) {
        let skipped = scrape.values(SKIPPED, "reason");
        return Err(format!("{compared} of {answers} answers compared, left out {skipped:?}"));
    }
    Ok(())
}
