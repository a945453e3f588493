//! The receipt of an erasure in its four forms.

use std::io::{self, Write};

use millrace_proto::convert::{ConvertError, Rule, from_timestamp};
use millrace_proto::v1;
use millrace_types::EntityKey;
use serde::Serialize;

use crate::output::json::{self, JsonInstant, JsonKey};
use crate::output::{Report, Table};

/// What was scrubbed for an erasure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EraseReport {
    /// The kind of the entity.
    pub entity: String,
    /// Its key.
    pub key: JsonKey,
    /// The number of the erasure.
    pub number: u64,
    /// When it was asked for first.
    pub asked_at: JsonInstant,
    /// Every slot is scrubbed.
    pub done: bool,
    /// Slots of the cluster.
    pub slots: u32,
    /// Those that are scrubbed.
    pub slots_done: u32,
    /// Facts taken out of the log, once for each entity that they were routed to.
    pub facts: u64,
    /// Chunks of the log rewritten without them.
    pub chunks: u64,
    /// Other entities that had some of these facts and were rebuilt without them.
    pub entities: u64,
    /// Old parts of snapshots deleted.
    pub parts: u64,
}

impl EraseReport {
    /// A report of an answer.
    ///
    /// # Errors
    /// [`ConvertError`] when the answer is not one this version understands.
    pub fn new(
        kind: &str,
        key: EntityKey,
        answer: &v1::EraseEntityResponse,
    ) -> Result<Self, ConvertError> {
        let asked_at = answer.asked_at.as_ref().ok_or(ConvertError::new(Rule::Required))?;
        Ok(Self {
            entity: kind.to_owned(),
            key: JsonKey(key),
            number: answer.number,
            asked_at: JsonInstant(from_timestamp(asked_at)?),
            done: answer.is_done,
            slots: answer.slots,
            slots_done: answer.slots_done,
            facts: answer.facts,
            chunks: answer.chunks,
            entities: answer.entities,
            parts: answer.parts,
        })
    }
}

impl Report for EraseReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let word = if self.done { "erased" } else { "being erased" };
        writeln!(out, "{} {} is {word} (erasure {})", self.entity, self.key.0, self.number)?;
        let mut table = Table::new(&["what", "count"]);
        let slots = format!("{} of {}", self.slots_done, self.slots);
        for (what, count) in [
            ("slots scrubbed", slots),
            ("facts taken out of the log", self.facts.to_string()),
            ("chunks rewritten without them", self.chunks.to_string()),
            ("other entities rebuilt without them", self.entities.to_string()),
            ("old parts of snapshots deleted", self.parts.to_string()),
        ] {
            table.push(vec![what.to_owned(), count]);
        }
        table.write_framed(out, &[1])
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(&[
            "entity",
            "key",
            "number",
            "asked_at",
            "done",
            "slots",
            "slots_done",
            "facts",
            "chunks",
            "entities",
            "parts",
        ]);
        table.push(vec![
            self.entity.clone(),
            self.key.0.to_string(),
            self.number.to_string(),
            self.asked_at.0.to_string(),
            self.done.to_string(),
            self.slots.to_string(),
            self.slots_done.to_string(),
            self.facts.to_string(),
            self.chunks.to_string(),
            self.entities.to_string(),
            self.parts.to_string(),
        ]);
        table
    }

    fn write_ndjson(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write_line(out, self)
    }
}
