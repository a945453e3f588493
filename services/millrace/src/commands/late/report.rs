//! The answers of `millrace late` in their four forms.

use std::io::{self, Write};

use millrace_proto::convert::{ConvertError, Rule, from_timestamp};
use millrace_proto::v1;
use millrace_types::{EntityKey, Position, Value, VerdictCounts};
use serde::Serialize;

use crate::output::json::{self, Entries, JsonInstant, JsonKey, OwnedValue};
use crate::output::{Report, Table};

/// The LATE facts of a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LateListReport {
    /// The stream.
    pub stream: String,
    /// The facts, slot by slot in log order.
    pub facts: Vec<LateRow>,
    /// Where to go on; `null` when these are the last.
    pub next_cursor: Option<String>,
}

/// A LATE fact.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LateRow {
    /// The kind of its entity.
    pub entity: String,
    /// The entity's key.
    pub key: JsonKey,
    /// Its id.
    pub id: String,
    /// Its event time, or from when on it holds.
    pub at: JsonInstant,
    /// Its revision.
    pub revision: u64,
    /// ASSERT or END.
    pub op: &'static str,
    /// Its values by field.
    pub row: Entries<OwnedValue>,
    /// When Millrace learned it.
    pub known_at: JsonInstant,
    /// The slot it stands in.
    pub slot: u32,
    /// The chunk it stands in.
    pub position: String,
    /// Since when the same fact is in effect; `null` while it is pending.
    pub in_effect_since: Option<JsonInstant>,
    /// It is older than the stream keeps and not in effect: a replay leaves it LATE.
    pub late_for_good: bool,
}

impl LateListReport {
    /// A report without facts.
    #[must_use]
    pub fn new(stream: &str) -> Self {
        Self { stream: stream.to_owned(), facts: Vec::new(), next_cursor: None }
    }

    /// Adds the facts of a page.
    ///
    /// # Errors
    /// [`ConvertError`] when the answer is not one this version understands.
    pub fn add(&mut self, page: &v1::ListLateFactsResponse) -> Result<(), ConvertError> {
        for fact in &page.facts {
            self.facts.push(LateRow::new(fact, &page.fields)?);
        }
        Ok(())
    }
}

impl LateRow {
    fn new(fact: &v1::LateFact, fields: &[String]) -> Result<Self, ConvertError> {
        let missing = || ConvertError::new(Rule::Required);
        let key = fact.key.as_ref().ok_or_else(missing)?;
        // Values left out at the end are NULL.
        let values = fact.values.iter().map(Some);
        let row = fields.iter().zip(values.chain(std::iter::repeat(None))).map(|(name, value)| {
            let value = value.map_or(Ok(Value::Null), Value::try_from)?;
            Ok((name.clone(), OwnedValue(value)))
        });
        Ok(Self {
            entity: fact.entity.clone(),
            key: JsonKey(EntityKey::try_from(key)?),
            id: fact.id.clone(),
            at: instant(fact.at.as_ref())?.ok_or_else(missing)?,
            revision: fact.revision,
            op: match fact.op() {
                v1::FactOp::Unspecified => "",
                v1::FactOp::Assert => "ASSERT",
                v1::FactOp::End => "END",
                v1::FactOp::Retract => "RETRACT",
            },
            row: Entries(row.collect::<Result<_, _>>()?),
            known_at: instant(fact.known_at.as_ref())?.ok_or_else(missing)?,
            slot: fact.slot,
            position: fact.position.map_or(Position::START, Position::from).to_string(),
            in_effect_since: instant(fact.in_effect_since.as_ref())?,
            late_for_good: fact.late_for_good,
        })
    }

    fn state(&self) -> String {
        match self.in_effect_since {
            None if self.late_for_good => "LATE for good".to_owned(),
            None => "pending".to_owned(),
            Some(since) => format!("in effect since {}", since.0),
        }
    }
}

fn instant(
    timestamp: Option<&prost_types::Timestamp>,
) -> Result<Option<JsonInstant>, ConvertError> {
    timestamp.map(|t| from_timestamp(t).map(JsonInstant)).transpose()
}

impl Report for LateListReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.facts.is_empty() {
            return writeln!(out, "no LATE facts of {}", self.stream);
        }
        let mut table = Table::new(&["entity", "key", "id", "at", "revision", "known_at", "state"]);
        for fact in &self.facts {
            table.push(vec![
                fact.entity.clone(),
                fact.key.0.to_string(),
                fact.id.clone(),
                fact.at.0.to_string(),
                fact.revision.to_string(),
                fact.known_at.0.to_string(),
                fact.state(),
            ]);
        }
        table.write_framed(out, &[4])?;
        let for_good = self.facts.iter().filter(|f| f.late_for_good).count();
        let open = self.facts.iter().filter(|f| f.in_effect_since.is_none()).count();
        let stream = &self.stream;
        if for_good > 0 {
            writeln!(out, "{for_good} older than {stream} keeps: LATE for good")?;
        }
        match open.saturating_sub(for_good) {
            0 if for_good > 0 => Ok(()),
            0 => writeln!(out, "all in effect"),
            pending => {
                writeln!(out, "{pending} pending; apply them with: millrace late replay {stream}")
            }
        }
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(&[
            "entity",
            "key",
            "id",
            "at",
            "revision",
            "op",
            "row",
            "known_at",
            "slot",
            "position",
            "in_effect_since",
            "late_for_good",
        ]);
        for fact in &self.facts {
            let row = serde_json::to_string(&fact.row).unwrap_or_default();
            table.push(vec![
                fact.entity.clone(),
                fact.key.0.to_string(),
                fact.id.clone(),
                fact.at.0.to_string(),
                fact.revision.to_string(),
                fact.op.to_owned(),
                row,
                fact.known_at.0.to_string(),
                fact.slot.to_string(),
                fact.position.clone(),
                fact.in_effect_since.map(|i| i.0.to_string()).unwrap_or_default(),
                fact.late_for_good.to_string(),
            ]);
        }
        table
    }

    /// A line a fact.
    fn write_ndjson(&self, out: &mut dyn Write) -> io::Result<()> {
        self.facts.iter().try_for_each(|fact| json::write_line(out, fact))
    }
}

/// What became of LATE facts that were replayed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LateReplayReport {
    /// The stream.
    pub stream: String,
    /// Facts appended anew, counted for each entity.
    pub replayed: u64,
    /// New, and they changed no row emitted before.
    pub accepted: u64,
    /// They changed rows emitted before, or their entity is being rebuilt.
    pub repaired: u64,
    /// Of those, the facts whose entity is being rebuilt.
    pub queued: u64,
    /// They were in effect already.
    pub duplicate: u64,
    /// They were refused.
    pub rejected: u64,
    /// Rows emitted before that changed.
    pub rows_repaired: u64,
    /// Not replayed: they lie before what the stream's retention keeps, and are LATE for good.
    pub late: u64,
}

impl LateReplayReport {
    /// Makes it of the verdicts.
    #[must_use]
    pub fn new(stream: &str, counts: VerdictCounts) -> Self {
        Self {
            stream: stream.to_owned(),
            replayed: counts.total() - counts.late,
            accepted: counts.accepted,
            repaired: counts.repaired,
            queued: counts.queued,
            duplicate: counts.duplicate,
            rejected: counts.rejected,
            rows_repaired: counts.rows_repaired,
            late: counts.late,
        }
    }
}

impl Report for LateReplayReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.late > 0 {
            let (late, stream) = (self.late, &self.stream);
            writeln!(out, "{late} facts are older than {stream} keeps, and LATE for good")?;
        }
        if self.replayed == 0 {
            return writeln!(out, "nothing of {} is late and not in effect", self.stream);
        }
        writeln!(
            out,
            "{} facts of {} replayed: {} accepted, {} repaired ({} queued), {} duplicate; \
             {} rows changed",
            self.replayed,
            self.stream,
            self.accepted,
            self.repaired,
            self.queued,
            self.duplicate,
            self.rows_repaired
        )
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(&[
            "stream",
            "replayed",
            "accepted",
            "repaired",
            "queued",
            "duplicate",
            "rejected",
            "rows_repaired",
            "late",
        ]);
        let number = |n: u64| n.to_string();
        table.push(vec![
            self.stream.clone(),
            number(self.replayed),
            number(self.accepted),
            number(self.repaired),
            number(self.queued),
            number(self.duplicate),
            number(self.rejected),
            number(self.rows_repaired),
            number(self.late),
        ]);
        table
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::{KeyPart, Micros};

    use super::*;

    fn row(late_for_good: bool, since: Option<i64>) -> LateRow {
        LateRow {
            entity: "user".to_owned(),
            key: JsonKey(EntityKey::try_new(&[KeyPart::Int64(7)]).expect("a key")),
            id: "e1".to_owned(),
            at: JsonInstant(Micros(0)),
            revision: 0,
            op: "ASSERT",
            row: Entries(Vec::new()),
            known_at: JsonInstant(Micros(1)),
            slot: 0,
            position: Position::START.to_string(),
            in_effect_since: since.map(|at| JsonInstant(Micros(at))),
            late_for_good,
        }
    }

    fn table(facts: Vec<LateRow>) -> String {
        let mut out = Vec::new();
        let report = LateListReport { facts, ..LateListReport::new("clicks") };
        report.write_table(&mut out).expect("memory takes it");
        String::from_utf8(out).expect("text")
    }

    /// Nobody is told to replay what a replay leaves as it is.
    #[test]
    fn what_is_late_for_good_is_not_pending() {
        let for_good = "1 older than clicks keeps: LATE for good\n";
        let alone = table(vec![row(true, None), row(false, Some(2))]);
        assert!(alone.ends_with(for_good), "{alone}");
        let both = table(vec![row(true, None), row(false, None)]);
        let next = "1 pending; apply them with: millrace late replay clicks\n";
        assert!(both.ends_with(&format!("{for_good}{next}")), "{both}");
        assert!(table(vec![row(false, Some(2))]).ends_with("all in effect\n"));
    }
}
