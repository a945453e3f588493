//! The answer of `millrace explain` in its four forms.

use std::io::{self, Write};

use millrace_proto::convert::{ConvertError, Rule, from_timestamp};
use millrace_proto::v1;
use millrace_types::{EntityKey, FeatureValue, Position, Status, Value};
use serde::Serialize;

use crate::commands::get::JsonWindow;
use crate::output::json::{self, Entries, JsonFeature, JsonInstant, JsonKey, OwnedValue};
use crate::output::{Report, Table, text_of_feature, text_of_value};

/// A value and the facts behind it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainReport {
    /// The view.
    pub view: String,
    /// The entity's key.
    pub key: JsonKey,
    /// The feature.
    pub feature: String,
    /// The instant of the read.
    pub at: JsonInstant,
    /// Asking again with it repeats the answer.
    pub known_at: JsonInstant,
    /// The true bounds of the window; `null` for a feature without one.
    pub window: Option<JsonWindow>,
    /// The value.
    pub value: JsonFeature,
    /// Its status.
    pub status: &'static str,
    /// Names the facts in effect.
    pub version: String,
    /// The facts it rests on, the newest first.
    pub used: Vec<ExplainedRow>,
    /// How many there are.
    pub used_total: u64,
    /// The facts left out, the newest first.
    pub left_out: Vec<ExplainedRow>,
    /// How many there are, by reason.
    pub left_out_totals: Entries<u64>,
}

/// A fact and its part in a value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedRow {
    /// Its stream.
    pub stream: String,
    /// Its id.
    pub id: String,
    /// Its event time, or from when on it holds.
    pub at: JsonInstant,
    /// When Millrace learned it.
    pub known_at: JsonInstant,
    /// Its revision.
    pub revision: u64,
    /// ASSERT, END or RETRACT.
    pub op: &'static str,
    /// The chunk it stands in.
    pub position: String,
    /// Why it is left out; `null` for one that is used.
    pub reason: Option<&'static str>,
    /// The start of its tile.
    pub tile: Option<JsonInstant>,
    /// What it adds; `null` where rows are counted.
    pub value: OwnedValue,
    /// The version it meets of each changelog that the feature reads; `null` where there is none.
    pub versions: Entries<Option<MetRow>>,
    /// It is LATE and older than its stream keeps: a replay leaves it LATE.
    pub late_for_good: bool,
}

/// The version of a changelog that an event meets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetRow {
    /// From when on it holds.
    pub valid_from: JsonInstant,
    /// Its id.
    pub id: String,
    /// Its revision.
    pub revision: u64,
    /// It is an END.
    pub end: bool,
}

impl ExplainReport {
    /// Makes it of an answer.
    ///
    /// # Errors
    /// [`ConvertError`] when the answer is not one this version understands.
    pub fn new(
        view: &str,
        key: EntityKey,
        answer: &v1::ExplainResponse,
    ) -> Result<Self, ConvertError> {
        let feature = answer.feature.as_ref().ok_or_else(missing)?;
        let window = feature.window.as_ref().map(|window| {
            Ok(JsonWindow {
                start: optional(window.start.as_ref())?,
                end: required(window.end.as_ref())?,
            })
        });
        let value = answer.value.as_ref().ok_or_else(missing)?;
        let rows = |facts: &[v1::ExplainedFact]| {
            facts.iter().map(ExplainedRow::new).collect::<Result<Vec<_>, _>>()
        };
        let totals = answer.left_out_totals.iter();
        Ok(Self {
            view: view.to_owned(),
            key: JsonKey(key),
            feature: feature.name.clone(),
            at: required(answer.at.as_ref())?,
            known_at: required(answer.known_at.as_ref())?,
            window: window.transpose()?,
            value: JsonFeature(FeatureValue::try_from(value)?),
            status: Status::try_from(answer.status())?.name(),
            version: answer.version.clone(),
            used: rows(&answer.used)?,
            used_total: answer.used_total,
            left_out: rows(&answer.left_out)?,
            left_out_totals: Entries(
                totals.map(|t| (reason(t.reason()).unwrap_or("").to_owned(), t.facts)).collect(),
            ),
        })
    }

    /// True when facts are counted that are not listed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        let left_out: u64 = self.left_out_totals.0.iter().map(|(_, n)| n).sum();
        self.used_total > self.used.len() as u64 || left_out > self.left_out.len() as u64
    }
}

impl ExplainedRow {
    fn new(fact: &v1::ExplainedFact) -> Result<Self, ConvertError> {
        let versions = fact.versions.iter().map(|met| {
            let version = optional(met.valid_from.as_ref())?.map(|valid_from| MetRow {
                valid_from,
                id: met.id.clone(),
                revision: met.revision,
                end: met.is_end,
            });
            Ok((met.changelog.clone(), version))
        });
        let value = fact.value.as_ref().map_or(Ok(Value::Null), Value::try_from)?;
        Ok(Self {
            stream: fact.stream.clone(),
            id: fact.id.clone(),
            at: required(fact.at.as_ref())?,
            known_at: required(fact.known_at.as_ref())?,
            revision: fact.revision,
            op: match fact.op() {
                v1::FactOp::Unspecified => "",
                v1::FactOp::Assert => "ASSERT",
                v1::FactOp::End => "END",
                v1::FactOp::Retract => "RETRACT",
            },
            position: fact.position.map_or(Position::START, Position::from).to_string(),
            reason: reason(fact.reason()),
            tile: optional(fact.tile.as_ref())?,
            value: OwnedValue(value),
            versions: Entries(versions.collect::<Result<_, _>>()?),
            late_for_good: fact.late_for_good,
        })
    }

    fn cells(&self) -> Vec<String> {
        let met = |(name, version): &(String, Option<MetRow>)| match version {
            None => format!("{name}: none"),
            Some(v) if v.end => format!("{name}: ended {}", v.valid_from.0),
            Some(v) => format!("{name}: {} from {}", v.id, v.valid_from.0),
        };
        let versions: Vec<String> = self.versions.0.iter().map(met).collect();
        vec![
            self.stream.clone(),
            self.id.clone(),
            self.at.0.to_string(),
            self.known_at.0.to_string(),
            self.revision.to_string(),
            self.op.to_owned(),
            self.tile.map(|t| t.0.to_string()).unwrap_or_default(),
            text_of_value(self.value.0.as_ref(), ""),
            versions.join("; "),
            self.reason.unwrap_or("").to_owned(),
            self.late_for_good.to_string(),
        ]
    }
}

/// The name of a reason, as the protocol has it.
fn reason(reason: v1::LeftOutReason) -> Option<&'static str> {
    match reason {
        v1::LeftOutReason::Unspecified => None,
        v1::LeftOutReason::OutsideWindow
        | v1::LeftOutReason::Retracted
        | v1::LeftOutReason::Superseded
        | v1::LeftOutReason::Retraction
        | v1::LeftOutReason::NoVersion
        | v1::LeftOutReason::Filtered
        | v1::LeftOutReason::Null
        | v1::LeftOutReason::NotInForce
        | v1::LeftOutReason::Late
        | v1::LeftOutReason::AfterKnownAt => reason.as_str_name().strip_prefix("LEFT_OUT_REASON_"),
    }
}

fn missing() -> ConvertError {
    ConvertError::new(Rule::Required)
}

fn optional(instant: Option<&prost_types::Timestamp>) -> Result<Option<JsonInstant>, ConvertError> {
    instant.map(|t| from_timestamp(t).map(JsonInstant)).transpose()
}

fn required(instant: Option<&prost_types::Timestamp>) -> Result<JsonInstant, ConvertError> {
    optional(instant)?.ok_or_else(missing)
}

const COLUMNS: [&str; 11] = [
    "stream",
    "id",
    "at",
    "known_at",
    "revision",
    "op",
    "tile",
    "value",
    "versions",
    "reason",
    "late_for_good",
];

impl Report for ExplainReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let value = text_of_feature(&self.value, "NULL");
        writeln!(out, "{} = {value} ({})", self.feature, self.status)?;
        writeln!(out, "{} {} at {}", self.view, self.key.0, self.at.0)?;
        if let Some(window) = &self.window {
            let start = window.start.map_or("the beginning".to_owned(), |s| s.0.to_string());
            writeln!(out, "window from {start} up to {}, excluded", window.end.0)?;
        }
        writeln!(out, "known at {}, version {}", self.known_at.0, self.version)?;
        writeln!(out, "\nused: {}", self.used_total)?;
        if !self.used.is_empty() {
            let mut table = Table::new(&COLUMNS[..9]);
            for fact in &self.used {
                let mut cells = fact.cells();
                cells.truncate(9);
                table.push(cells);
            }
            table.write_framed(out, &[4, 7])?;
        }
        let totals: Vec<String> =
            self.left_out_totals.0.iter().map(|(why, n)| format!("{n} {why}")).collect();
        let totals = if totals.is_empty() { "none".to_owned() } else { totals.join(", ") };
        writeln!(out, "\nleft out: {totals}")?;
        if !self.left_out.is_empty() {
            let mut table =
                Table::new(&["stream", "id", "at", "known_at", "revision", "op", "reason"]);
            for fact in &self.left_out {
                let mut cells = fact.cells();
                cells.truncate(10);
                cells.drain(6..9);
                if let Some(reason) = cells.last_mut().filter(|_| fact.late_for_good) {
                    reason.push_str(" for good");
                }
                table.push(cells);
            }
            table.write_framed(out, &[4])?;
        }
        Ok(())
    }

    /// A row a fact, used ones without a reason.
    fn csv(&self) -> Table {
        let mut table = Table::new(&COLUMNS);
        self.used.iter().chain(&self.left_out).for_each(|fact| table.push(fact.cells()));
        table
    }

    /// A line a fact.
    fn write_ndjson(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut facts = self.used.iter().chain(&self.left_out);
        facts.try_for_each(|fact| json::write_line(out, fact))
    }
}
