//! The answer of `millrace doctor` in its four forms.

use std::io::{self, Write};
use std::path::Path;

use millrace_store::StoreError;
use serde::Serialize;

use crate::output::{Report, Table};

/// Problems of one check that are listed; all are counted.
const LISTED: usize = 1_000;

/// What was found in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoctorReport {
    /// The folder.
    pub folder: String,
    /// True when nothing is wrong.
    pub clean: bool,
    /// Every check that could be made, in order.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub check: &'static str,
    /// True when nothing is wrong.
    pub ok: bool,
    /// How many things were looked at.
    pub looked_at: u64,
    /// How many problems there are.
    pub problem_count: u64,
    /// The first 1,000 of them.
    pub problems: Vec<Problem>,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The item.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub next: String,
}

impl Check {
    pub(super) fn new(check: &'static str) -> Self {
        Self { check, ok: true, looked_at: 0, problem_count: 0, problems: Vec::new() }
    }

    /// One more thing was looked at.
    pub(super) fn look(&mut self) {
        self.looked_at += 1;
    }

    /// Something is wrong with an item.
    pub(super) fn problem(&mut self, what: &str, problem: impl Into<String>, next: &str) {
        self.ok = false;
        self.problem_count += 1;
        if self.problems.len() < LISTED {
            let (what, problem, next) = (what.to_owned(), problem.into(), next.to_owned());
            self.problems.push(Problem { what, problem, next });
        }
    }

    /// The store could not read something.
    pub(super) fn error(&mut self, error: &StoreError, next: &str) {
        match error {
            StoreError::Damaged { what, reason } => {
                // The store points to this command.
                let reason = reason.split("; `millrace doctor`").next().unwrap_or(reason);
                self.problem(what, reason, next);
            }
            StoreError::Unknown { .. }
            | StoreError::Unavailable { .. }
            | StoreError::NotTrusted { .. }
            | StoreError::RetriesSpent { .. }
            | StoreError::ClockSkew { .. }
            | StoreError::Failed { .. } => self.problem("store", error.to_string(), next),
        }
    }
}

impl DoctorReport {
    pub(super) fn new(folder: &Path, checks: Vec<Check>) -> Self {
        let clean = checks.iter().all(|check| check.ok);
        Self { folder: folder.display().to_string(), clean, checks }
    }
}

impl Report for DoctorReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["check", "state", "looked at", "problems"]);
        for check in &self.checks {
            let state = if check.ok { "ok" } else { "wrong" };
            let numbers = [check.looked_at, check.problem_count].map(|number| number.to_string());
            let [looked_at, problems] = numbers;
            table.push(vec![check.check.to_owned(), state.to_owned(), looked_at, problems]);
        }
        table.write_framed(out, &[2, 3])?;
        for problem in self.checks.iter().flat_map(|check| &check.problems) {
            writeln!(out, "{}: {}\n  next: {}", problem.what, problem.problem, problem.next)?;
        }
        Ok(())
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(&["check", "what", "problem", "next"]);
        for check in &self.checks {
            for problem in &check.problems {
                let Problem { what, problem, next } = problem.clone();
                table.push(vec![check.check.to_owned(), what, problem, next]);
            }
        }
        table
    }
}
