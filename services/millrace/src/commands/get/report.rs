//! The answer of `millrace get` in its four forms.

use std::io::{self, Write};

use millrace_proto::convert::{ConvertError, from_timestamp};
use millrace_proto::v1;
use millrace_types::{EntityKey, FeatureValue, Status};
use serde::Serialize;

use crate::output::json::{self, Entries, JsonFeature, JsonInstant, JsonKey};
use crate::output::{Report, Table, text_of_feature};

/// The features of some entities of a view.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GetReport {
    /// The view.
    pub view: String,
    /// The instant of the read.
    pub at: JsonInstant,
    /// As known at.
    pub known_at: JsonInstant,
    /// One for each key, in the order of the arguments.
    pub rows: Vec<GetRow>,
    /// The true bounds of each feature's window; `null` for a feature without one.
    pub windows: Entries<Option<JsonWindow>>,
    /// The catalog version the features were read under.
    pub catalog_version: u32,
}

/// The features of an entity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GetRow {
    /// Its key.
    pub key: JsonKey,
    /// Its features by name.
    pub features: Entries<JsonCell>,
    /// How far event time is complete; `null` before the first watermark.
    pub watermark: Option<JsonInstant>,
    /// Only a correction can change the values.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Facts of the entity wait for a rebuild.
    pub rebuilding: bool,
    /// Names the facts in effect.
    pub version: String,
    /// The instant up to which what was known is in the values.
    pub known_at: JsonInstant,
    /// The version of each joined changelog in force; `null` where there is none.
    pub versions: Entries<Option<JsonVersion>>,
}

/// A feature's value and status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JsonCell {
    /// The value.
    pub value: JsonFeature,
    /// The status.
    pub status: &'static str,
}

/// The bounds of a window: start included, end excluded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JsonWindow {
    /// The first instant counted; `null` where the window has no start.
    pub start: Option<JsonInstant>,
    /// The first instant not counted.
    pub end: JsonInstant,
}

/// A version of a changelog.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JsonVersion {
    /// From when on it holds.
    pub valid_from: JsonInstant,
    /// Its id.
    pub id: String,
}

impl GetReport {
    /// Makes it of an answer to a read of `keys`.
    ///
    /// # Errors
    /// [`ConvertError`] when the answer is not one this version understands.
    pub fn new(
        view: &str,
        keys: Vec<EntityKey>,
        answer: &v1::GetFeaturesResponse,
    ) -> Result<Self, ConvertError> {
        let windows = answer.features.iter().map(|feature| {
            let window = feature.window.as_ref().map(|window| {
                Ok(JsonWindow {
                    start: optional(window.start.as_ref())?,
                    end: required(window.end.as_ref())?,
                })
            });
            Ok((feature.name.clone(), window.transpose()?))
        });
        let rows = keys.into_iter().zip(&answer.entities);
        Ok(Self {
            view: view.to_owned(),
            at: required(answer.at.as_ref())?,
            known_at: required(answer.known_at.as_ref())?,
            windows: Entries(windows.collect::<Result<_, _>>()?),
            catalog_version: answer.catalog_version,
            rows: rows.map(|(key, e)| GetRow::new(key, e, answer)).collect::<Result<_, _>>()?,
        })
    }
}

impl GetRow {
    fn new(
        key: EntityKey,
        entity: &v1::EntityFeatures,
        answer: &v1::GetFeaturesResponse,
    ) -> Result<Self, ConvertError> {
        let cells = entity.values.iter().zip(entity.statuses());
        let features = answer.features.iter().zip(cells).map(|(feature, (value, status))| {
            let value = JsonFeature(FeatureValue::try_from(value)?);
            let status = Status::try_from(status)?.name();
            Ok((feature.name.clone(), JsonCell { value, status }))
        });
        let versions = answer.changelogs.iter().zip(&entity.versions).map(|(name, version)| {
            let valid_from = optional(version.valid_from.as_ref())?;
            let version =
                valid_from.map(|from| JsonVersion { valid_from: from, id: version.id.clone() });
            Ok((name.clone(), version))
        });
        Ok(Self {
            key: JsonKey(key),
            features: Entries(features.collect::<Result<_, _>>()?),
            watermark: optional(entity.watermark.as_ref())?,
            is_final: entity.r#final,
            rebuilding: entity.rebuilding,
            version: entity.version.clone(),
            known_at: required(entity.known_at.as_ref())?,
            versions: Entries(versions.collect::<Result<_, _>>()?),
        })
    }

    fn standing(&self) -> &'static str {
        match (self.rebuilding, self.is_final) {
            (true, _) => "rebuilding",
            (false, true) => "final",
            (false, false) => "provisional",
        }
    }
}

fn optional(instant: Option<&prost_types::Timestamp>) -> Result<Option<JsonInstant>, ConvertError> {
    instant.map(|t| from_timestamp(t).map(JsonInstant)).transpose()
}

fn required(instant: Option<&prost_types::Timestamp>) -> Result<JsonInstant, ConvertError> {
    let missing = ConvertError::new(millrace_proto::convert::Rule::Required);
    optional(instant)?.ok_or(missing)
}

impl Report for GetReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in &self.rows {
            let mut table = Table::new(&["feature", "value", "status"]);
            for (name, cell) in &row.features.0 {
                let value = text_of_feature(&cell.value, "NULL");
                table.push(vec![name.clone(), value, cell.status.to_owned()]);
            }
            writeln!(out, "{} {} at {}", self.view, row.key.0, self.at.0)?;
            table.write_framed(out, &[])?;
            let watermark = row.watermark.map_or_else(|| "none".to_owned(), |w| w.0.to_string());
            writeln!(
                out,
                "{}, known at {}, watermark {watermark}, version {}\n",
                row.standing(),
                row.known_at.0,
                row.version
            )?;
        }
        Ok(())
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(&[
            "key",
            "feature",
            "value",
            "status",
            "watermark",
            "final",
            "rebuilding",
            "version",
        ]);
        for row in &self.rows {
            let watermark = row.watermark.map(|w| w.0.to_string()).unwrap_or_default();
            for (name, cell) in &row.features.0 {
                table.push(vec![
                    row.key.0.to_string(),
                    name.clone(),
                    text_of_feature(&cell.value, ""),
                    cell.status.to_owned(),
                    watermark.clone(),
                    row.is_final.to_string(),
                    row.rebuilding.to_string(),
                    row.version.clone(),
                ]);
            }
        }
        table
    }

    /// A line an entity.
    fn write_ndjson(&self, out: &mut dyn Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            view: &'a str,
            at: JsonInstant,
            #[serde(flatten)]
            row: &'a GetRow,
        }
        let line = |row| Line { view: &self.view, at: self.at, row };
        self.rows.iter().try_for_each(|row| json::write_line(out, &line(row)))
    }
}
