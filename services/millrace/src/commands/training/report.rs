//! What is printed after a training set.

use std::io::{self, Write};
use std::time::Duration;

use millrace_client::TrainingSet;
use millrace_proto::convert::from_timestamp;
use serde::Serialize;

use crate::cli::TrainingArgs;
use crate::output::json::JsonInstant;
use crate::output::{Report, Table};

/// A training set that was written.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingReport {
    /// Rows.
    pub rows: u64,
    /// Of how many of them the counts below tell: all, unless a call broke and was taken up again.
    pub counted_rows: u64,
    /// Rows, once a view, whose entity has no live fact up to the row's instant.
    pub missing: u64,
    /// Of those, the ones that have facts, none of which was known by then.
    pub unknown: u64,
    /// Facts read from the log.
    pub facts_read: u64,
    /// Where the rows are events: those before it were left out, since what they rest on may be forgotten for
    /// the stream's retention.
    pub rows_from: Option<JsonInstant>,
    /// How long it took.
    pub seconds: f64,
    /// With the same question it makes the same set again.
    pub version: String,
    /// The catalog version.
    pub catalog_version: u32,
    /// The instant known at, or the greatest of the log that was read.
    pub known_at: Option<JsonInstant>,
    /// How far event time is complete.
    pub watermark: Option<JsonInstant>,
    /// Whether a call broke and was taken up again.
    pub resumed: bool,
    /// The file.
    pub out: String,
}

impl TrainingReport {
    pub(super) fn new(args: &TrainingArgs, set: &TrainingSet, rows: u64, took: Duration) -> Self {
        let summary = set.summary().cloned().unwrap_or_default();
        let header = set.header().cloned().unwrap_or_default();
        let instant = |at: Option<prost_types::Timestamp>| {
            at.and_then(|at| from_timestamp(&at).ok()).map(JsonInstant)
        };
        Self {
            rows,
            counted_rows: summary.rows,
            resumed: set.was_resumed(),
            missing: summary.missing_rows,
            unknown: summary.unknown_rows,
            facts_read: summary.facts_read,
            rows_from: instant(summary.rows_from),
            seconds: took.as_secs_f64(),
            version: header.version,
            catalog_version: header.catalog_version,
            known_at: instant(header.known_at),
            watermark: instant(header.watermark),
            out: args.out.display().to_string(),
        }
    }

    /// The share of the rows of so many views, in percent, that are empty since nothing was known of them;
    /// `None` where there is none.
    pub(super) fn unknown_share(&self, views: usize) -> Option<f64> {
        // Rows of views, as the unknown ones are counted.
        let counted = self.counted_rows.saturating_mul(views as u64).max(1);
        (self.unknown > 0).then(|| 100.0 * self.unknown as f64 / counted as f64)
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let instant = |at: &Option<JsonInstant>| {
            at.as_ref().map_or_else(|| "none yet".to_owned(), |at| at.0.to_string())
        };
        let mut rows = vec![
            ("rows", self.rows.to_string()),
            ("counted_rows", self.counted_rows.to_string()),
            ("missing", self.missing.to_string()),
            ("unknown", self.unknown.to_string()),
            ("facts_read", self.facts_read.to_string()),
            ("seconds", format!("{:.2}", self.seconds)),
            ("catalog_version", self.catalog_version.to_string()),
            ("known_at", instant(&self.known_at)),
            ("watermark", instant(&self.watermark)),
            ("resumed", self.resumed.to_string()),
            ("version", self.version.clone()),
            ("out", self.out.clone()),
        ];
        if self.rows_from.is_some() {
            rows.insert(1, ("rows_from", instant(&self.rows_from)));
        }
        rows
    }
}

impl Report for TrainingReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        for (name, value) in self.rows() {
            writeln!(out, "{name:<16} {value}")?;
        }
        Ok(())
    }

    fn csv(&self) -> Table {
        let (names, values): (Vec<_>, Vec<_>) = self.rows().into_iter().unzip();
        let mut table = Table::new(&names);
        table.push(values);
        table
    }
}
