//! Reading a catalog file, and showing what is wrong with one.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Failure;
use crate::output::{Report, Table, json};

/// Greatest size of a catalog file, in bytes: nobody writes a larger one by hand.
const CATALOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads the text of a catalog; `-` is standard input.
///
/// # Errors
/// [`Failure::CatalogFile`] when it cannot be read, is too large or is not UTF-8.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let failed = |source| Failure::CatalogFile { path: path.to_owned(), source };
    let input: Box<dyn Read> = match is_stdin(path) {
        true => Box::new(io::stdin()),
        false => Box::new(fs::File::open(path).map_err(failed)?),
    };
    let mut text = String::new();
    input.take(CATALOG_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > CATALOG_BYTES_MAX {
        let what = format!("it is larger than {CATALOG_BYTES_MAX} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, what)));
    }
    Ok(text)
}

/// The name by which messages call it.
pub(super) fn shown(path: &Path) -> PathBuf {
    if is_stdin(path) { PathBuf::from("standard input") } else { path.to_owned() }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The problems of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

/// One problem of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 without a place.
    pub line: u32,
    /// The column in characters, from 1; 0 without a place.
    pub column: u32,
    /// The rule that is broken.
    pub rule: String,
    /// Where in the catalog, e.g. `streams.clicks.keys.user`; empty where the server does not say.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// The way out, where one can be named.
    pub suggestion: Option<String>,
}

impl Problems {
    /// Writes one after the other, as compilers do.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for problem in &self.0 {
            let Problem { file, line, column, rule, path, message, suggestion } = problem;
            write!(out, "{file}:{line}:{column}: {rule}: ")?;
            if !path.is_empty() {
                write!(out, "{path}: ")?;
            }
            writeln!(out, "{message}")?;
            if let Some(help) = suggestion {
                writeln!(out, "  help: {help}")?;
            }
        }
        Ok(())
    }
}

impl Report for Problems {
    /// Nothing: the problems are errors, and errors go to standard error in every format.
    fn write_table(&self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn csv(&self) -> Table {
        let mut table =
            Table::new(&["file", "line", "column", "rule", "path", "message", "suggestion"]);
        for problem in &self.0 {
            table.push(vec![
                problem.file.clone(),
                problem.line.to_string(),
                problem.column.to_string(),
                problem.rule.clone(),
                problem.path.clone(),
                problem.message.clone(),
                problem.suggestion.clone().unwrap_or_default(),
            ]);
        }
        table
    }

    fn write_ndjson(&self, out: &mut dyn Write) -> io::Result<()> {
        self.0.iter().try_for_each(|problem| json::write_line(out, problem))
    }
}
