//! The answer of `millrace doctor` about a database in its four forms.

use std::io::{self, Write};

use serde::Serialize;

use crate::output::{Report, Table};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It goes on so, and somebody should look at it.
    Warn,
    /// Millrace does not work on it, or would lose something.
    Fail,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check; one that found several things stands several times.
    pub check: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do.
    pub next: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), next: None }
    }

    pub(super) fn warn(
        check: &'static str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { check, state: State::Warn, found: found.into(), next: Some(next.into()) }
    }

    pub(super) fn fail(
        check: &'static str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { check, state: State::Fail, found: found.into(), next: Some(next.into()) }
    }
}

/// What was found in a database, and in a Redis beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterDoctorReport {
    /// Where the database was asked for.
    pub nodes: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// Where Redis was asked for.
    pub redis: Option<String>,
    /// True when no check failed; some may warn.
    pub clean: bool,
    /// The greatest state of all checks.
    pub state: State,
    /// What every check that could be made found, in order.
    pub checks: Vec<Finding>,
}

impl ClusterDoctorReport {
    pub(super) fn new(
        nodes: Vec<String>,
        keyspace: String,
        redis: Option<String>,
        checks: Vec<Finding>,
    ) -> Self {
        let state = checks.iter().map(|finding| finding.state).max().unwrap_or(State::Ok);
        Self { nodes, keyspace, redis, clean: state < State::Fail, state, checks }
    }

    /// How many checks found what must not be.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.checks.iter().filter(|finding| finding.state == State::Fail).count() as u64
    }
}

impl Report for ClusterDoctorReport {
    /// A line a finding, and below it what to do.
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        for Finding { check, state, found, next } in &self.checks {
            writeln!(out, "{:<5}{check:<15}{found}", state.word())?;
            if let Some(next) = next {
                writeln!(out, "  next: {next}")?;
            }
        }
        Ok(())
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(&["check", "state", "found", "next"]);
        for Finding { check, state, found, next } in &self.checks {
            let next = next.clone().unwrap_or_default();
            table.push(vec![(*check).to_owned(), state.word().to_owned(), found.clone(), next]);
        }
        table
    }
}
