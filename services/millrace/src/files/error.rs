//! What can be wrong with a cell, a row or a whole file.

use std::fmt;
use std::io;

use millrace_types::{FieldType, Micros, RejectReason};
use thiserror::Error;

/// Characters of a value that a message quotes.
const QUOTED_CHARS: usize = 60;

/// Why a cell is not a value of its field's type. The text names the rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CellError {
    /// The bytes are not UTF-8.
    #[error("is not valid UTF-8 (byte {0} of the value)")]
    NotUtf8(usize),
    /// Not a truth value.
    #[error("{} is not a bool: true or false", Quoted(.0))]
    NotBool(String),
    /// Not an integer.
    #[error("{} is not an int64: digits with an optional sign{}", Quoted(.0), integer_hint(.0))]
    NotInt64(String),
    /// An integer that 64 bits do not hold.
    #[error(
        "{} is outside int64: -9223372036854775808 to 9223372036854775807", Quoted(.0)
    )]
    Int64Range(String),
    /// Not decimal text.
    #[error("{} is not a double: decimal text such as 12.5 or -3e7{}", Quoted(.0), space_hint(.0))]
    NotDouble(String),
    /// NaN or an infinity.
    #[error("{} is not finite: NaN and infinities are not allowed; leave it empty for NULL", Quoted(.0))]
    NotFinite(String),
    /// A number beyond what a double holds.
    #[error("{} is beyond the range of a double", Quoted(.0))]
    DoubleRange(String),
    /// Neither RFC 3339 nor an integer.
    #[error(
        "{} is not a timestamp: RFC 3339 with an offset or Z, such as 2026-03-01T12:00:00Z, or an \
         integer count of {unit}", Quoted(.text)
    )]
    NotTimestamp {
        /// What stands there.
        text: String,
        /// What an integer would count.
        unit: &'static str,
    },
    /// An instant that 64-bit microseconds do not hold.
    #[error("{} {unit} is outside the range of timestamps", Quoted(.text))]
    TimestampRange {
        /// What stands there.
        text: String,
        /// What it counts; empty for RFC 3339.
        unit: &'static str,
    },
    /// Not base64.
    #[error("{} is not base64 with the standard alphabet", Quoted(.0))]
    NotBase64(String),
    /// A JSON value of another kind than the field's type takes.
    #[error("found {found} where {wanted} is wanted; nothing is coerced from one type to another")]
    JsonKind {
        /// What stands there.
        found: String,
        /// What the field's type takes.
        wanted: &'static str,
    },
    /// A JSON string with an escape that is no text.
    #[error("is not a valid JSON string: {0}")]
    JsonString(String),
}

/// Why a row is rejected before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// The field, where one is to blame.
    pub field: Option<String>,
    /// The reason, one of the closed set that the server uses too.
    pub reason: RejectReason,
    /// The rule that is broken, and by what.
    pub rule: String,
}

impl RowError {
    /// A cell that does not parse.
    pub(crate) fn cell(field: &str, error: &CellError) -> Self {
        Self {
            field: Some(field.to_owned()),
            reason: RejectReason::BadRow,
            rule: error.to_string(),
        }
    }

    /// A row that does not parse as a whole.
    pub(crate) fn row(rule: impl Into<String>) -> Self {
        Self { field: None, reason: RejectReason::BadRow, rule: rule.into() }
    }

    /// A row beyond a size limit.
    pub(crate) fn too_large(rule: impl Into<String>) -> Self {
        Self { field: None, reason: RejectReason::TooLarge, rule: rule.into() }
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "field {field}: {}", self.rule),
            None => f.write_str(&self.rule),
        }
    }
}

/// Why a file cannot be read, or not on.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It cannot be opened.
    #[error("cannot open {input}")]
    Open {
        /// The file.
        input: String,
        /// Why.
        source: io::Error,
    },
    /// Reading stopped; the rows before this line were read.
    #[error("{input}: cannot read on after line {line}")]
    Io {
        /// The file.
        input: String,
        /// The last line read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// Since when rows were known goes back. The rows before this line were read.
    #[error(
        "{input}:{line}: field {field}: known_at goes back, and an import keeps its order: {known_at} \
         lies before {before} of line {before_line}"
    )]
    KnownAtBack {
        /// The file.
        input: String,
        /// The line of the row.
        line: u64,
        /// The field that says since when rows were known.
        field: String,
        /// What the row says.
        known_at: Micros,
        /// What the row in front of it says.
        before: Micros,
        /// The line of that one.
        before_line: u64,
    },
    /// Columns are missing.
    #[error("{input} lacks {} of stream {stream}: {}{}", columns(missing.len()), Missing(missing), listing(found))]
    MissingColumns {
        /// The file.
        input: String,
        /// The stream.
        stream: String,
        /// Each missing column with the most similar one the file has, if any.
        missing: Vec<(String, Option<String>)>,
        /// The file's columns.
        found: Vec<String>,
    },
    /// A column that the catalog names stands in the file twice.
    #[error("{input} has two columns called {column:?}; rename one of them")]
    DuplicateColumn {
        /// The file.
        input: String,
        /// The column.
        column: String,
    },
    /// A Parquet column has a type that does not fit.
    #[error(
        "{input}: column {column} is {found}, and field {column} of stream {stream} is {wanted}; \
         nothing is coerced from one type to another: rewrite the column as {advice}"
    )]
    ColumnType {
        /// The file.
        input: String,
        /// The stream.
        stream: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// The field's type.
        wanted: FieldType,
        /// Column types that fit.
        advice: &'static str,
    },
    /// No header row.
    #[error("{input} is empty: a CSV file starts with a header row that names its columns")]
    NoHeader {
        /// The file.
        input: String,
    },
    /// Parquet from a pipe.
    #[error(
        "parquet cannot be read from standard input, since it is read from its end; give a file"
    )]
    ParquetStdin,
    /// Not Parquet, or a kind of it that cannot be read.
    #[error("{input} cannot be read as parquet after row {row}")]
    Parquet {
        /// The file.
        input: String,
        /// The last row read.
        row: u64,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A value as messages quote it: escaped, and cut after some characters.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(QUOTED_CHARS) {
            None => write!(f, "{:?}", self.0),
            Some((cut, _)) => write!(f, "{:?}…", &self.0[..cut]),
        }
    }
}

struct Missing<'a>(&'a [(String, Option<String>)]);

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, similar)) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            f.write_str(name)?;
            if let Some(similar) = similar {
                write!(f, " (did you mean {similar}?)")?;
            }
        }
        Ok(())
    }
}

fn columns(n: usize) -> String {
    if n == 1 { "a column".to_owned() } else { format!("{n} columns") }
}

fn listing(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; it has {}", names.join(", ")),
    }
}

fn integer_hint(text: &str) -> &'static str {
    match text.split_once('.') {
        Some((whole, fraction))
            if whole.trim_start_matches(['-', '+']).bytes().all(|b| b.is_ascii_digit())
                && fraction.bytes().all(|b| b.is_ascii_digit()) =>
        {
            ", no fraction"
        }
        _ => space_hint(text),
    }
}

fn space_hint(text: &str) -> &'static str {
    if text.trim().len() < text.len() { ", without spaces around" } else { "" }
}
