//! `millrace apply`: shows what a catalog changes, and applies it.

use std::io::{self, Write};

use millrace_proto::v1;
use serde::Serialize;

use super::Failure;
use super::catalog_file::{self, Problem, Problems};
use super::session;
use crate::cli::{ApplyArgs, Global};
use crate::exit::Exit;
use crate::output::{Printer, Report, Table, json};

/// Checks a catalog against the one in force, shows the difference, and applies it unless told not
/// to.
///
/// # Errors
/// [`Failure::CatalogInvalid`] with every problem shown, [`Failure::CatalogFile`],
/// [`Failure::Client`].
pub async fn run(args: &ApplyArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    let source = catalog_file::read(&args.catalog)?;
    let path = catalog_file::shown(&args.catalog);
    let client = session::client(global)?;
    let checked = client.validate_catalog(source.clone()).await?;
    if !checked.problems.is_empty() {
        let file = path.display().to_string();
        let problems = checked.problems.into_iter().map(|p| problem(&file, p));
        let problems = Problems(problems.collect());
        problems.write_text(&mut io::stderr().lock())?;
        printer.print(&problems)?;
        return Err(Failure::CatalogInvalid { path, problems: problems.0.len() });
    }
    let request = v1::ApplyCatalogRequest { source, dry_run: args.dry_run, expected_version: None };
    let answer = client.apply_catalog(request).await?;
    printer.print(&ApplyReport::new(answer, args.dry_run))?;
    Ok(Exit::Done)
}

fn problem(file: &str, problem: v1::CatalogProblem) -> Problem {
    Problem {
        file: file.to_owned(),
        line: problem.line,
        column: problem.column,
        rule: problem.rule,
        path: String::new(),
        message: problem.message,
        suggestion: Some(problem.suggestion).filter(|s| !s.is_empty()),
    }
}

/// What applying a catalog changed, or would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApplyReport {
    /// The version now in force.
    pub version: u32,
    /// True when a new version was made.
    pub applied: bool,
    /// Only the difference was asked for.
    pub dry_run: bool,
    /// The difference to the version before.
    pub changes: Vec<CatalogChange>,
}

/// One line of the difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatalogChange {
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
    /// What it is, as a path such as `views.user_activity.features.clicks_1h`.
    pub path: String,
    /// What it was; `null` for an addition.
    pub before: Option<String>,
    /// What it will be; `null` for a removal.
    pub after: Option<String>,
}

impl ApplyReport {
    fn new(answer: v1::ApplyCatalogResponse, dry_run: bool) -> Self {
        let text = |text: String| Some(text).filter(|t| !t.is_empty());
        let change = |change: v1::CatalogChange| CatalogChange {
            change: match change.kind() {
                v1::CatalogChangeKind::Added => "added",
                v1::CatalogChangeKind::Removed => "removed",
                v1::CatalogChangeKind::Changed | v1::CatalogChangeKind::Unspecified => "changed",
            },
            path: change.path,
            before: text(change.before),
            after: text(change.after),
        };
        Self {
            version: answer.version,
            applied: answer.applied,
            dry_run,
            changes: answer.changes.into_iter().map(change).collect(),
        }
    }
}

impl Report for ApplyReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        for change in &self.changes {
            let CatalogChange { path, before, after, .. } = change;
            match (before, after) {
                (Some(before), Some(after)) => writeln!(out, "~ {path}: {before} → {after}")?,
                (Some(before), None) => writeln!(out, "- {path}: {before}")?,
                (None, Some(after)) => writeln!(out, "+ {path}: {after}")?,
                (None, None) => writeln!(out, "{} {path}", change.change)?,
            }
        }
        let version = self.version;
        match (self.changes.is_empty(), self.applied) {
            (_, true) => writeln!(out, "applied: version {version} is in force"),
            (true, false) => writeln!(out, "no difference: version {version} stays in force"),
            (false, false) => writeln!(
                out,
                "not applied: version {version} stays in force; run it without --dry-run to apply"
            ),
        }
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(&["change", "path", "before", "after"]);
        for change in &self.changes {
            table.push(vec![
                change.change.to_owned(),
                change.path.clone(),
                change.before.clone().unwrap_or_default(),
                change.after.clone().unwrap_or_default(),
            ]);
        }
        table
    }

    /// A line a change.
    fn write_ndjson(&self, out: &mut dyn Write) -> io::Result<()> {
        self.changes.iter().try_for_each(|change| json::write_line(out, change))
    }
}
