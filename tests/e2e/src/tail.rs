//! The sum of a `tail`: what its `+` and `-` records leave.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

/// The joined rows that a changelog leaves, by (key, id).
#[derive(Debug, Clone, Default)]
pub struct JoinedRows {
    /// Each row as it was emitted, but for `op` and `cursor`.
    pub rows: BTreeMap<(String, String), Value>,
    /// The cursor of each record, in order.
    pub cursors: Vec<String>,
    /// How many `-` records there were.
    pub retractions: u64,
    /// The last watermark told.
    pub watermark: Option<String>,
}

/// A record that breaks the rules of a changelog.
#[derive(Debug, Error)]
#[error("line {line} of the tail: {problem}: {record}")]
pub struct TailError {
    /// Its line, from 1.
    pub line: usize,
    /// Which rule.
    pub problem: &'static str,
    /// The record.
    pub record: String,
}

impl JoinedRows {
    /// Sums up NDJSON as `tail` prints it.
    ///
    /// # Errors
    ///
    /// When a record is not JSON or lacks a field, when a `+` does not follow the `-` of the row it
    /// replaces, or when a `-` does not repeat its `+` in all but `op` and `cursor` (and `final`,
    /// which is as of the emission).
    pub fn sum(ndjson: &str) -> Result<Self, TailError> {
        let mut sum = Self::default();
        for (index, text) in ndjson.lines().enumerate() {
            let broken = |problem| TailError { line: index + 1, problem, record: text.to_owned() };
            sum.push(text).map_err(broken)?;
        }
        Ok(sum)
    }

    /// Adds the next line.
    ///
    /// # Errors
    ///
    /// The rule it breaks.
    pub fn push(&mut self, line: &str) -> Result<(), &'static str> {
        self.add(serde_json::from_str(line).map_err(|_| "not JSON")?)
    }

    fn add(&mut self, mut record: Value) -> Result<(), &'static str> {
        let object = record.as_object_mut().ok_or("not an object")?;
        let op = object.remove("op").ok_or("no op")?;
        let cursor = object.remove("cursor").ok_or("no cursor")?;
        self.cursors.push(cursor.as_str().ok_or("a cursor that is no text")?.to_owned());
        if op == "w" {
            let watermark = object.get("watermark").and_then(Value::as_str);
            self.watermark = Some(watermark.ok_or("no watermark")?.to_owned());
            return Ok(());
        }
        if op == "e" {
            // Every row of the entity is gone; those that are left come again.
            let key = object.get("key").ok_or("no key")?.to_string();
            self.rows.retain(|(of, _), _| *of != key);
            return Ok(());
        }
        object.remove("final").ok_or("no final")?;
        for field in ["key", "at", "id", "row", "joined"] {
            object.get(field).ok_or("a field is missing")?;
        }
        let key = (record["key"].to_string(), record["id"].to_string());
        match op.as_str() {
            Some("+") => match self.rows.insert(key, record) {
                None => Ok(()),
                Some(_) => Err("a + without the - of the row it replaces"),
            },
            Some("-") => {
                self.retractions += 1;
                match self.rows.remove(&key) {
                    None => Err("a - of a row that is not there"),
                    Some(emitted) if emitted != record => Err("a - that differs from its +"),
                    Some(_) => Ok(()),
                }
            }
            _ => Err("an unknown op"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(op: &str, n: i64, cursor: &str) -> String {
        format!(
            r#"{{"op":"{op}","id":"a","key":1,"at":"t","row":{{"n":{n}}},"joined":{{"p":null}},"final":false,"cursor":"{cursor}"}}"#
        )
    }

    #[test]
    fn the_last_version_of_each_row_is_left() {
        let text = [record("+", 1, "c1"), record("-", 1, "c2"), record("+", 2, "c3")].join("\n");
        let text = format!("{text}\n{}", r#"{"op":"w","watermark":"t","cursor":"c4"}"#);
        let erased = format!("{text}\n{}", r#"{"op":"e","key":1,"cursor":"c5"}"#);
        assert!(JoinedRows::sum(&erased).expect("in order").rows.is_empty());
        let sum = JoinedRows::sum(&text).expect("in order");
        assert_eq!(sum.rows.len(), 1);
        assert!(sum.rows.values().all(|row| row["row"]["n"] == 2));
        assert_eq!(
            (sum.cursors.len(), sum.retractions, sum.watermark.as_deref()),
            (4, 1, Some("t"))
        );
    }

    #[test]
    fn broken_changelogs_are_found() {
        for lines in [
            vec![record("+", 1, "c1"), record("+", 2, "c2")],
            vec![record("-", 1, "c1")],
            vec![record("+", 1, "c1"), record("-", 2, "c2")],
            vec![record("*", 1, "c1")],
            vec!["{}".to_owned()],
        ] {
            assert!(JoinedRows::sum(&lines.join("\n")).is_err(), "{lines:?}");
        }
    }
}
