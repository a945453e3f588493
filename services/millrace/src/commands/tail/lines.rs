//! The NDJSON lines of `millrace tail`.

use std::io::{self, Write};

use millrace_proto::convert::{ConvertError, Rule, from_timestamp};
use millrace_proto::v1;
use millrace_types::{EntityKey, ValueRef};
use serde::ser::{Serialize, SerializeMap, Serializer};
use thiserror::Error;

use crate::output::json::{Entries, JsonInstant, JsonKey, JsonValue, write_line};

/// Why a change cannot be shown.
#[derive(Debug, Error)]
pub enum LineError {
    /// The change is not one this version understands.
    #[error("the server sent a change that this version does not understand: {0}")]
    Change(#[from] ConvertError),
    /// Standard output failed.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Writes changes as lines. Keeps the names of fields, which come once, and the last cursor.
#[derive(Debug, Default)]
pub struct Lines {
    schema: v1::JoinedSchema,
    cursor: String,
    caught_up: bool,
}

impl Lines {
    /// Begins after the record with this cursor.
    pub fn begin_at(&mut self, cursor: &str) {
        cursor.clone_into(&mut self.cursor);
    }

    /// Where to go on: right after the last record. Empty before the first one.
    #[must_use]
    pub fn cursor(&self) -> &str {
        &self.cursor
    }

    /// True once everything confirmed at the beginning was written.
    #[must_use]
    pub fn caught_up(&self) -> bool {
        self.caught_up
    }

    /// Writes the changes of a message, in order.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn write(
        &mut self,
        message: v1::SubscribeResponse,
        out: &mut dyn Write,
    ) -> Result<(), LineError> {
        if let Some(schema) = message.schema {
            self.schema = schema;
        }
        if self.cursor.is_empty() {
            self.cursor = message.cursor;
        }
        for change in message.changes {
            if !change.cursor.is_empty() {
                self.cursor = change.cursor;
            }
            match change.kind.ok_or(ConvertError::new(Rule::Required))? {
                v1::change::Kind::Row(row) => self.write_row(&row, out)?,
                v1::change::Kind::Watermark(watermark) => {
                    let watermark = JsonInstant(from_timestamp(&watermark)?);
                    write_line(out, &WatermarkLine { op: "w", watermark, cursor: &self.cursor })?;
                }
                v1::change::Kind::Erased(v1::RowsErased { key }) => {
                    let key = key.as_ref().ok_or(ConvertError::new(Rule::Required))?;
                    let key = JsonKey(EntityKey::try_from(key)?);
                    write_line(out, &ErasedLine { op: "e", key, cursor: &self.cursor })?;
                }
                v1::change::Kind::CaughtUp(v1::CaughtUp {}) => self.caught_up = true,
            }
        }
        Ok(())
    }

    fn write_row(&self, row: &v1::RowChange, out: &mut dyn Write) -> Result<(), LineError> {
        let required = || ConvertError::new(Rule::Required);
        let event = self.schema.event.as_ref().ok_or_else(required)?;
        let joined = self.schema.changelogs.iter().zip(&row.joined).map(|(schema, joined)| {
            let values = joined.row.as_ref().map(|row| named(schema, row)).transpose()?;
            Ok((schema.stream.clone(), values))
        });
        let line = RowLine {
            op: match row.op() {
                v1::ChangeOp::Add => "+",
                v1::ChangeOp::Remove => "-",
                v1::ChangeOp::Unspecified => return Err(required().into()),
            },
            id: &row.id,
            key: JsonKey(EntityKey::try_from(row.key.as_ref().ok_or_else(required)?)?),
            at: JsonInstant(from_timestamp(row.at.as_ref().ok_or_else(required)?)?),
            row: named(event, row.row.as_ref().ok_or_else(required)?)?,
            joined: Entries(joined.collect::<Result<_, ConvertError>>()?),
            is_final: row.r#final,
            cursor: &self.cursor,
        };
        Ok(write_line(out, &line)?)
    }
}

#[derive(serde::Serialize)]
struct WatermarkLine<'a> {
    op: &'static str,
    watermark: JsonInstant,
    cursor: &'a str,
}

/// Every row of the entity is gone.
#[derive(serde::Serialize)]
struct ErasedLine<'a> {
    op: &'static str,
    key: JsonKey,
    cursor: &'a str,
}

#[derive(serde::Serialize)]
struct RowLine<'a> {
    op: &'static str,
    id: &'a str,
    key: JsonKey,
    at: JsonInstant,
    row: NamedValues<'a>,
    joined: Entries<Option<NamedValues<'a>>>,
    #[serde(rename = "final")]
    is_final: bool,
    cursor: &'a str,
}

/// The values of a row by field name; those left out at the end are NULL.
struct NamedValues<'a> {
    names: &'a [String],
    values: Vec<ValueRef<'a>>,
}

impl Serialize for NamedValues<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.names.len()))?;
        let values = self.values.iter().copied().chain(std::iter::repeat(ValueRef::Null));
        for (name, value) in self.names.iter().zip(values) {
            map.serialize_entry(name, &JsonValue(value))?;
        }
        map.end()
    }
}

fn named<'a>(
    schema: &'a v1::StreamSchema,
    row: &'a v1::Row,
) -> Result<NamedValues<'a>, ConvertError> {
    let values = row.values.iter().map(ValueRef::try_from).collect::<Result<_, _>>()?;
    Ok(NamedValues { names: &schema.fields, values })
}

#[cfg(test)]
mod tests {
    use millrace_proto::convert::to_timestamp;
    use millrace_types::{KeyPart, Micros};

    use super::*;

    fn schema(stream: &str, fields: &[&str]) -> v1::StreamSchema {
        let fields = fields.iter().map(|f| (*f).to_owned()).collect();
        v1::StreamSchema { stream: stream.to_owned(), fields }
    }

    fn row(values: &[ValueRef<'_>]) -> v1::Row {
        v1::Row { values: values.iter().map(|v| (*v).into()).collect() }
    }

    fn change(op: v1::ChangeOp, joined: Option<v1::Row>, cursor: &str) -> v1::Change {
        let key = EntityKey::try_new(&[KeyPart::Int64(42)]).unwrap();
        let row = v1::RowChange {
            op: op.into(),
            id: "e1".into(),
            key: Some((&key).into()),
            at: Some(to_timestamp(Micros(1_500_000))),
            row: Some(row(&[ValueRef::Int64(42), ValueRef::Double(2.5)])),
            joined: vec![v1::JoinedRow { row: joined }],
            r#final: false,
        };
        v1::Change { kind: Some(v1::change::Kind::Row(row)), cursor: cursor.into(), of_chunk: 0 }
    }

    #[test]
    fn changes_become_the_lines_scripts_hold_on_to() {
        let first = v1::SubscribeResponse {
            schema: Some(v1::JoinedSchema {
                event: Some(schema("clicks", &["user_id", "price", "category"])),
                changelogs: vec![schema("profiles", &["country"])],
            }),
            changes: vec![
                change(v1::ChangeOp::Add, None, "c1"),
                change(v1::ChangeOp::Remove, None, ""),
            ],
            cursor: "c0".into(),
        };
        let watermark = v1::change::Kind::Watermark(to_timestamp(Micros(2_000_000)));
        let second = v1::SubscribeResponse {
            schema: None,
            cursor: String::new(),
            changes: vec![
                change(v1::ChangeOp::Add, Some(row(&[ValueRef::String("DE")])), "c2"),
                v1::Change { kind: Some(watermark), cursor: "c3".into(), of_chunk: 0 },
                v1::Change {
                    kind: Some(v1::change::Kind::CaughtUp(v1::CaughtUp {})),
                    cursor: "c4".into(),
                    of_chunk: 0,
                },
            ],
        };
        let mut lines = Lines::default();
        let mut out = Vec::new();
        lines.write(first, &mut out).unwrap();
        assert!(!lines.caught_up());
        lines.write(second, &mut out).unwrap();
        assert!(lines.caught_up());
        assert_eq!(lines.cursor(), "c4");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"op":"+","id":"e1","key":42,"at":"1970-01-01T00:00:01.5Z","row":{"user_id":42,"price":2.5,"category":null},"joined":{"profiles":null},"final":false,"cursor":"c1"}
{"op":"-","id":"e1","key":42,"at":"1970-01-01T00:00:01.5Z","row":{"user_id":42,"price":2.5,"category":null},"joined":{"profiles":null},"final":false,"cursor":"c1"}
{"op":"+","id":"e1","key":42,"at":"1970-01-01T00:00:01.5Z","row":{"user_id":42,"price":2.5,"category":null},"joined":{"profiles":{"country":"DE"}},"final":false,"cursor":"c2"}
{"op":"w","watermark":"1970-01-01T00:00:02Z","cursor":"c3"}
"#
        );
    }
}
