//! What commands print on standard output: tables for people, JSON, NDJSON and CSV for scripts.
//!
//! Values are written as semantics §4 says: int64 and double as numbers in the shortest form that
//! reads back the same, timestamps as RFC 3339 in UTC with as many digits as needed, bytes as
//! base64, NULL as null. Names of JSON fields and CSV columns are only ever added to.

pub mod arrow;
pub mod json;
mod table;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::cli::OutputFormat;
pub use table::{Table, text_of_feature, text_of_value};

/// What a command has to show.
pub trait Report: Serialize {
    /// Writes it for people.
    ///
    /// # Errors
    /// Those of `out`.
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()>;

    /// The columns and rows of the CSV form.
    fn csv(&self) -> Table;

    /// Writes a JSON document a line; the whole report on one line unless it is a list by nature.
    ///
    /// # Errors
    /// Those of `out`.
    fn write_ndjson(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write_line(out, self)
    }
}

/// How and where to print.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    format: OutputFormat,
    terminal: bool,
}

impl Printer {
    /// Prints on standard output, in the format stated or else a table on a terminal and JSON
    /// elsewhere.
    #[must_use]
    pub fn on_stdout(stated: Option<OutputFormat>) -> Self {
        let terminal = io::stdout().is_terminal();
        let default = if terminal { OutputFormat::Table } else { OutputFormat::Json };
        Self { format: stated.unwrap_or(default), terminal }
    }

    /// The format.
    #[must_use]
    pub fn format(self) -> OutputFormat {
        self.format
    }

    /// Prints a report.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn print(self, report: &impl Report) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        self.write(report, &mut out)?;
        out.flush()
    }

    /// Writes a report.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(self, report: &impl Report, out: &mut dyn Write) -> io::Result<()> {
        match self.format {
            OutputFormat::Table => report.write_table(out),
            OutputFormat::Json if self.terminal => {
                serde_json::to_writer_pretty(&mut *out, report)?;
                writeln!(out)
            }
            OutputFormat::Json => json::write_line(out, report),
            OutputFormat::Ndjson => report.write_ndjson(out),
            OutputFormat::Csv => report.csv().write_csv(out),
        }
    }
}
