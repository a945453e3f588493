//! The answer of `millrace status` in its four forms.

use std::io::{self, Write};
use std::time::Duration;

use millrace_proto::convert::{ConvertError, from_timestamp};
use millrace_proto::v1;
use millrace_types::Position;
use serde::Serialize;

use super::nodes::{self, JoinNodeReport, UnownedReport, UnreachableReport, age};
use crate::output::json::{Entries, JsonInstant};
use crate::output::{Report, Table};

/// The state of a running Millrace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    /// Every service takes calls and every slot has an owner.
    pub serving: bool,
    /// Entities that wait for a rebuild.
    pub rebuild_queue: u64,
    /// How far new features are filled in from the log; `null` when all are.
    pub backfill: Option<BackfillReport>,
    /// How far the event time of each stream is complete; `null` before the first watermark.
    pub watermarks: Entries<Option<JsonInstant>>,
    /// The greatest event time seen of each stream; `null` before the first fact.
    pub latest: Entries<Option<JsonInstant>>,
    /// By stream the instant before which facts are forgotten for its retention, in the slot where that is
    /// furthest; `null` where all are kept.
    pub forgotten_before: Entries<Option<JsonInstant>>,
    /// Each service, and whether it takes calls.
    pub services: Entries<bool>,
    /// Each service that takes no calls: why, and what to do about it.
    pub not_serving: Entries<String>,
    /// Each process of a service that takes no calls: why, and what to do about it.
    pub unreachable: Vec<UnreachableReport>,
    /// The join nodes, by name; empty where one process is all.
    pub join_nodes: Vec<JoinNodeReport>,
    /// The number of slots.
    pub slot_count: u32,
    /// Slots that no join node owns now.
    pub unowned_slots: u32,
    /// Slots of which nothing is known: neither an owner nor the store tells. `slots` lacks them.
    pub unknown_slots: u32,
    /// The first 1,024 of them, and why nobody serves them.
    pub unowned: Vec<UnownedReport>,
    /// Facts received and not yet confirmed.
    pub queued_facts: u64,
    /// Confirmed chunks that a restart would replay.
    pub unmarked_chunks: u64,
    /// Entities held in memory.
    pub resident_entities: u64,
    /// Bytes held in memory for them.
    pub resident_bytes: u64,
    /// Bytes of facts at hand.
    pub at_hand_bytes: u64,
    /// The catalog version in force; 0 before the first.
    pub catalog_version: u32,
    /// The version of the software that answered.
    pub software_version: String,
    /// The service's clock.
    pub now: Option<JsonInstant>,
    /// Every slot's own state; empty where it was not asked for.
    pub slots: Vec<SlotReport>,
}

/// A backfill of new features.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BackfillReport {
    /// The catalog version that they came with, or the newest of several.
    pub catalog_version: u32,
    /// The part of the entities that is done, from 0 to 1.
    pub done: f64,
    /// Slots that are not done.
    pub slots_left: u32,
    /// Whole seconds until all is done, by the rate so far; `null` while that is not known.
    pub seconds_left: Option<u64>,
}

impl BackfillReport {
    fn new(from: v1::BackfillState, slots_left: u32) -> Self {
        let done = f64::from(from.done_permille) / 1e3;
        let time_left = from.time_left.and_then(|left| Duration::try_from(left).ok());
        let seconds_left = time_left.map(|left| left.as_millis().div_ceil(1_000) as u64);
        Self { catalog_version: from.catalog_version, done, slots_left, seconds_left }
    }

    fn percent(self) -> String {
        format!("{:.1} %", self.done * 100.0)
    }

    fn time_left(self) -> String {
        match self.seconds_left {
            None => "time left unknown yet".to_owned(),
            Some(seconds @ ..120) => format!("about {seconds} s left"),
            Some(seconds @ ..7_200) => format!("about {} min left", seconds.div_ceil(60)),
            Some(seconds) => format!("about {} h left", seconds.div_ceil(3_600)),
        }
    }
}

/// The state of a slot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlotReport {
    /// The slot.
    pub slot: u32,
    /// The last confirmed position, as epoch and chunk.
    pub position: String,
    /// When the chunk there became known.
    pub known_at: Option<JsonInstant>,
    /// Up to where a restart need not replay.
    pub marked: String,
    /// Entities that wait for a rebuild.
    pub dirty_entities: u64,
    /// Entities held in memory.
    pub resident_entities: u64,
    /// Bytes held in memory for them.
    pub resident_bytes: u64,
    /// Bytes of facts at hand.
    pub at_hand_bytes: u64,
    /// Facts received and not yet confirmed.
    pub queued_facts: u64,
    /// How far new features are filled in; `null` when all are.
    pub backfill: Option<BackfillReport>,
    /// The watermark of each stream that has reached the slot.
    pub watermarks: Entries<Option<JsonInstant>>,
    /// The join node that owns it, or owned it last; `null` where one process is all, or that is not
    /// known.
    pub node: Option<String>,
    /// The age in seconds of the oldest confirmed chunk that no mark covers; `null` where all are covered.
    pub unmarked_seconds: Option<f64>,
}

impl TryFrom<&v1::GetStatusResponse> for StatusReport {
    type Error = ConvertError;

    fn try_from(from: &v1::GetStatusResponse) -> Result<Self, ConvertError> {
        let latest =
            from.streams.iter().map(|s| Ok((s.stream.clone(), instant(s.latest.as_ref())?)));
        let forgotten = from
            .streams
            .iter()
            .map(|s| Ok((s.stream.clone(), instant(s.forgotten_before.as_ref())?)));
        let services = from.services.iter().map(|s| (s.name.clone(), s.serving));
        let gone = from.services.iter().filter(|s| !s.serving);
        let not_serving = gone.map(|s| (s.name.clone(), s.reason.clone()));
        Ok(Self {
            serving: from.serving,
            rebuild_queue: from.rebuild_queue,
            backfill: from.backfill.map(|b| BackfillReport::new(b, from.backfilling_slots)),
            watermarks: watermarks(&from.streams)?,
            latest: Entries(latest.collect::<Result<_, _>>()?),
            forgotten_before: Entries(forgotten.collect::<Result<_, _>>()?),
            services: Entries(services.collect()),
            not_serving: Entries(not_serving.collect()),
            unreachable: UnreachableReport::all(&from.services),
            join_nodes: JoinNodeReport::all(from)?,
            slot_count: from.slot_count,
            unowned_slots: from.unowned_slots,
            unknown_slots: from.unknown_slots,
            unowned: from.unowned.iter().map(UnownedReport::from).collect(),
            queued_facts: from.queued_facts,
            unmarked_chunks: from.unmarked_chunks,
            resident_entities: from.resident_entities,
            resident_bytes: from.resident_bytes,
            at_hand_bytes: from.at_hand_bytes,
            catalog_version: from.catalog_version,
            software_version: from.software_version.clone(),
            now: instant(from.now.as_ref())?,
            slots: from.slots.iter().map(SlotReport::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<&v1::SlotState> for SlotReport {
    type Error = ConvertError;

    fn try_from(from: &v1::SlotState) -> Result<Self, ConvertError> {
        let position =
            |p: Option<v1::LogPosition>| p.map_or(Position::START, Position::from).to_string();
        Ok(Self {
            slot: from.slot,
            position: position(from.position),
            known_at: instant(from.known_at.as_ref())?,
            marked: position(from.marked),
            dirty_entities: from.dirty_entities,
            resident_entities: from.resident_entities,
            resident_bytes: from.resident_bytes,
            at_hand_bytes: from.at_hand_bytes,
            queued_facts: from.queued_facts,
            backfill: from.backfill.map(|b| BackfillReport::new(b, 1)),
            watermarks: watermarks(&from.streams)?,
            node: (!from.node.is_empty()).then(|| from.node.clone()),
            unmarked_seconds: age(from.unmarked_for.as_ref()),
        })
    }
}

pub(super) fn instant(
    timestamp: Option<&prost_types::Timestamp>,
) -> Result<Option<JsonInstant>, ConvertError> {
    timestamp.map(|t| from_timestamp(t).map(JsonInstant)).transpose()
}

fn watermarks(streams: &[v1::StreamState]) -> Result<Entries<Option<JsonInstant>>, ConvertError> {
    let entry = |s: &v1::StreamState| Ok((s.stream.clone(), instant(s.watermark.as_ref())?));
    Ok(Entries(streams.iter().map(entry).collect::<Result<_, _>>()?))
}

fn shown(instant: Option<JsonInstant>) -> String {
    instant.map(|i| i.0.to_string()).unwrap_or_default()
}

impl Report for StatusReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let gone: Vec<&str> = self.not_serving.0.iter().map(|(name, _)| name.as_str()).collect();
        match (self.serving, gone.as_slice()) {
            (true, _) => writeln!(out, "serving")?,
            (false, []) => writeln!(out, "not serving: a slot has no owner")?,
            (false, names) => writeln!(out, "not serving: {}", names.join(", "))?,
        }
        for (name, reason) in self.not_serving.0.iter().filter(|(_, reason)| !reason.is_empty()) {
            writeln!(out, "  {name}: {reason}")?;
        }
        nodes::write_unreachable(&self.unreachable, out)?;
        writeln!(out, "catalog version    {}", self.catalog_version)?;
        match self.unowned_slots {
            0 => writeln!(out, "slots              {}", self.slot_count)?,
            some => writeln!(out, "slots              {} ({some} have no owner)", self.slot_count)?,
        }
        if self.unknown_slots > 0 {
            let some = self.unknown_slots;
            writeln!(out, "unknown            {some} of the slots: the store does not answer")?;
        }
        writeln!(out, "rebuild queue      {} entities", self.rebuild_queue)?;
        if let Some(backfill) = self.backfill {
            let BackfillReport { catalog_version, slots_left, .. } = backfill;
            let (percent, time_left) = (backfill.percent(), backfill.time_left());
            writeln!(
                out,
                "backfill           {percent} for catalog version {catalog_version}, {slots_left} slots \
                 left, {time_left}"
            )?;
        }
        writeln!(out, "queued             {} facts", self.queued_facts)?;
        writeln!(out, "to replay          {} chunks", self.unmarked_chunks)?;
        writeln!(
            out,
            "in memory          {} entities, {} bytes",
            self.resident_entities, self.resident_bytes
        )?;
        writeln!(out, "facts at hand      {} bytes", self.at_hand_bytes)?;
        let mut streams = Table::new(&["stream", "watermark", "latest", "lag"]);
        for ((name, watermark), (_, latest)) in self.watermarks.0.iter().zip(&self.latest.0) {
            let lag = watermark.zip(*latest).map(|(w, l)| seconds(l.0.0.saturating_sub(w.0.0)));
            streams.push(vec![
                name.clone(),
                shown(*watermark),
                shown(*latest),
                lag.unwrap_or_default(),
            ]);
        }
        if !streams.is_empty() {
            streams.write_framed(out, &[3])?;
        }
        for (stream, before) in &self.forgotten_before.0 {
            if before.is_some() {
                writeln!(out, "retention          {stream}: nothing before {}", shown(*before))?;
            }
        }
        nodes::write_nodes(&self.join_nodes, out)?;
        nodes::write_unowned(&self.unowned, self.unowned_slots, out)?;
        if !self.slots.is_empty() {
            self.csv().write_framed(out, &[0, 4, 5, 6, 7, 8, 10])?;
        }
        Ok(())
    }

    /// A row a slot.
    fn csv(&self) -> Table {
        let mut table = Table::new(&[
            "slot",
            "position",
            "known_at",
            "marked",
            "dirty_entities",
            "resident_entities",
            "resident_bytes",
            "at_hand_bytes",
            "queued_facts",
            "node",
            "unmarked_seconds",
        ]);
        for slot in &self.slots {
            table.push(vec![
                slot.slot.to_string(),
                slot.position.clone(),
                shown(slot.known_at),
                slot.marked.clone(),
                slot.dirty_entities.to_string(),
                slot.resident_entities.to_string(),
                slot.resident_bytes.to_string(),
                slot.at_hand_bytes.to_string(),
                slot.queued_facts.to_string(),
                slot.node.clone().unwrap_or_default(),
                slot.unmarked_seconds.map(|age| format!("{age:.1}")).unwrap_or_default(),
            ]);
        }
        table
    }
}

fn seconds(micros: i64) -> String {
    format!("{:.1} s", micros as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backfill_says_how_long_it_takes_or_that_nobody_knows() {
        let told = |left: Option<Duration>| {
            let time_left = left.and_then(|left| left.try_into().ok());
            let state = v1::BackfillState { catalog_version: 2, done_permille: 125, time_left };
            let report = BackfillReport::new(state, 3);
            (report.seconds_left, report.time_left())
        };
        assert_eq!(told(None), (None, "time left unknown yet".to_owned()));
        let of = |millis| told(Some(Duration::from_millis(millis)));
        assert_eq!(of(40_001), (Some(41), "about 41 s left".to_owned()));
        assert_eq!(of(600_000).1, "about 10 min left");
        assert_eq!(of(9_000_000).1, "about 3 h left");
    }
}
