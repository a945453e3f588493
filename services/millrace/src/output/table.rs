//! Tables: for people by comfy-table, for scripts as CSV.

use std::io::{self, Write};

use base64::Engine;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ContentArrangement};
use millrace_types::{FeatureValue, ValueRef};

use super::json::JsonFeature;
use crate::files::BASE64;

/// Columns and rows of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, a cell a column.
    pub fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.header.len(), "a cell a column");
        self.rows.push(row);
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes it as RFC 4180 with a header row.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut writer = csv::WriterBuilder::new().from_writer(out);
        writer.write_record(&self.header).map_err(io::Error::other)?;
        for row in &self.rows {
            writer.write_record(row).map_err(io::Error::other)?;
        }
        writer.flush()
    }

    /// Writes it with a frame; columns whose index is in `numbers` are aligned to the right. Wide
    /// cells wrap to the terminal's width where standard output is one.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_framed(&self, out: &mut dyn Write, numbers: &[usize]) -> io::Result<()> {
        let mut table = comfy_table::Table::new();
        table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        if let Some(columns) = terminal_columns() {
            table.set_width(columns);
        }
        table.set_header(&self.header);
        table.add_rows(&self.rows);
        for index in numbers {
            if let Some(column) = table.column_mut(*index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "{table}")
    }
}

/// The terminal's width in characters; `None` when standard output is none.
fn terminal_columns() -> Option<u16> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0).filter(|c| *c >= 40)
}

/// A value as text: bytes as base64, NULL as `null`.
#[must_use]
pub fn text_of_value(value: ValueRef<'_>, null: &str) -> String {
    match value {
        ValueRef::Null => null.to_owned(),
        ValueRef::Bool(value) => value.to_string(),
        ValueRef::Int64(value) => value.to_string(),
        // As in JSON, so that every form shows the same digits.
        ValueRef::Double(value) => serde_json::Number::from_f64(value)
            .map_or_else(|| value.to_string(), |number| number.to_string()),
        ValueRef::String(value) => value.to_owned(),
        ValueRef::Bytes(value) => BASE64.encode(value),
        ValueRef::Timestamp(value) => value.to_string(),
    }
}

/// A feature's value as text: scalars as [`text_of_value`], lists as JSON.
#[must_use]
pub fn text_of_feature(feature: &JsonFeature, null: &str) -> String {
    match &feature.0 {
        FeatureValue::Scalar(value) => text_of_value(value.as_ref(), null),
        FeatureValue::List(_) | FeatureValue::Counted(_) => {
            serde_json::to_string(feature).unwrap_or_default()
        }
    }
}
