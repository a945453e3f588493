//! `millrace validate`: all errors of a catalog, without a server.

use std::io;

use millrace_catalog::{Catalog, Diagnostic};

use super::Failure;
use super::catalog_file::{self, Problem, Problems};
use crate::cli::{OutputFormat, ValidateArgs};
use crate::exit::Exit;
use crate::output::Printer;

/// Checks a catalog and prints what is wrong with it.
///
/// # Errors
/// [`Failure::CatalogFile`] when it cannot be read, [`Failure::CatalogInvalid`] when it is wrong.
pub fn run(args: &ValidateArgs, printer: Printer) -> Result<Exit, Failure> {
    let text = catalog_file::read(&args.catalog)?;
    let file = catalog_file::shown(&args.catalog);
    match Catalog::compile(&text, None) {
        Ok(catalog) => {
            match printer.format() {
                OutputFormat::Table => print_summary(&file.display().to_string(), &catalog)?,
                OutputFormat::Json | OutputFormat::Ndjson | OutputFormat::Csv => {
                    printer.print(&Problems(Vec::new()))?;
                }
            }
            Ok(Exit::Done)
        }
        Err(diagnostics) => {
            let file_name = file.display().to_string();
            let problems =
                Problems(diagnostics.into_iter().map(|d| problem(&file_name, d)).collect());
            problems.write_text(&mut io::stderr().lock())?;
            printer.print(&problems)?;
            Err(Failure::CatalogInvalid { path: file, problems: problems.0.len() })
        }
    }
}

fn problem(file: &str, diagnostic: Diagnostic) -> Problem {
    Problem {
        file: file.to_owned(),
        line: diagnostic.line,
        column: diagnostic.column,
        rule: diagnostic.rule.name().to_owned(),
        path: diagnostic.path,
        message: diagnostic.message,
        suggestion: diagnostic.suggestion,
    }
}

fn print_summary(file: &str, catalog: &Catalog) -> io::Result<()> {
    use std::io::Write;
    let features: usize = catalog.views.iter().map(|view| view.features.len()).sum();
    writeln!(
        io::stdout().lock(),
        "{file} is valid: {}, {}, {}, {}",
        counted(catalog.kinds.len(), "entity", "entities"),
        counted(catalog.streams.len(), "stream", "streams"),
        counted(catalog.views.len(), "view", "views"),
        counted(features, "feature", "features"),
    )
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
