//! Epochs, chunks and marks: every slot's log from its start to its end.

use std::collections::BTreeMap;

use millrace_store::{LogStore, Mark, Part, SlotEpoch, SnapshotStore};
use millrace_store_fjall::Inspection;
use millrace_types::{Chunk, ChunkHeader, KnownAt, Position, SlotId};

use super::RESTORE;
use super::report::Check;

/// What to do about a slot whose snapshots say more than its log.
const UNMATCHED: &str = "restore the log, or the snapshots that belong to it";

/// What the log of a slot holds.
#[derive(Debug, Clone, Default)]
pub(super) struct SlotLog {
    /// The last chunk of each epoch.
    ends: BTreeMap<u64, u64>,
}

impl SlotLog {
    /// True when the position is a chunk of the log, or before the first one of an epoch: what was opened
    /// and told nothing yet is marked there.
    pub(super) fn holds(&self, position: Position) -> bool {
        position == Position::START
            || self.ends.get(&position.epoch).is_some_and(|end| position.sequence <= *end)
    }
}

/// The checks of the log, under way.
struct Walk<'a> {
    inspection: &'a Inspection,
    catalog: u32,
    epochs: Check,
    chunks: Check,
    marks: Check,
}

/// One slot, under way.
struct Here {
    slot: SlotId,
    mark: Option<Mark>,
    last: KnownAt,
}

/// Reads the log of every slot. `catalog` is the newest version there is.
pub(super) async fn walk(
    inspection: &Inspection,
    catalog: u32,
    checks: &mut Vec<Check>,
) -> Vec<SlotLog> {
    let mut walk = Walk {
        inspection,
        catalog,
        epochs: Check::new("epochs"),
        chunks: Check::new("chunks"),
        marks: Check::new("marks"),
    };
    let mut slots = Vec::new();
    for slot in (0..inspection.store().slots()).map(SlotId) {
        slots.push(walk.slot(slot).await);
    }
    checks.extend([walk.epochs, walk.chunks, walk.marks]);
    slots
}

impl Walk<'_> {
    async fn slot(&mut self, slot: SlotId) -> SlotLog {
        let mut log = SlotLog::default();
        let store = self.inspection.store();
        let mark = match store.load_mark(slot).await {
            Ok(mark) => mark.map(|(_, mark)| mark),
            Err(error) => {
                self.marks.error(&error, RESTORE);
                None
            }
        };
        let epochs = match store.epochs(slot).await {
            Ok(epochs) => epochs,
            Err(error) => {
                self.epochs.error(&error, RESTORE);
                return log;
            }
        };
        self.epochs_of(slot, &epochs);
        let mut here = Here { slot, mark, last: KnownAt(i64::MIN) };
        for (index, epoch) in epochs.iter().enumerate() {
            let sealed = epochs
                .get(index + 1)
                .map(|next| next.previous_end)
                .or(epoch.released.map(|(end, _)| end));
            let end = match sealed {
                Some(end) => end,
                None => self.last_chunk(slot, epoch.epoch).await,
            };
            for sequence in 1..=end {
                self.chunk(&mut here, Position { epoch: epoch.epoch, sequence }).await;
            }
            log.ends.insert(epoch.epoch, end);
        }
        if let Some(mark) = &here.mark {
            self.marks.look();
            if !log.holds(mark.position) {
                let what = format!("mark of slot {}", slot.0);
                let problem = format!("covers {}, which is not in the log", mark.position);
                self.marks.problem(&what, problem, UNMATCHED);
            }
        }
        log
    }

    /// Epochs follow each other without a gap, and each ends where it was released.
    fn epochs_of(&mut self, slot: SlotId, epochs: &[SlotEpoch]) {
        let mut before: Option<&SlotEpoch> = None;
        for row in epochs {
            self.epochs.look();
            let what = format!("epoch {} of slot {}", row.epoch, slot.0);
            let last = before.map_or(0, |before| before.epoch);
            if row.epoch != last + 1 {
                self.epochs.problem(&what, format!("follows epoch {last}"), RESTORE);
            }
            if let Some(before) = before {
                if row.floor <= before.floor {
                    self.epochs.problem(&what, "its floor is not above the last one's", RESTORE);
                }
                if let Some((end, _)) = before.released
                    && end != row.previous_end
                {
                    let problem = format!(
                        "ends epoch {last} at {}, which was released at {end}",
                        row.previous_end
                    );
                    self.epochs.problem(&what, problem, RESTORE);
                }
            }
            before = Some(row);
        }
    }

    /// The last chunk of an open epoch.
    async fn last_chunk(&mut self, slot: SlotId, epoch: u64) -> u64 {
        match self.inspection.store().last_chunk(slot, epoch).await {
            Ok(last) => last.map_or(0, |(position, _)| position.sequence),
            Err(error) => {
                self.chunks.error(&error, RESTORE);
                // As far as can be read without a hole.
                let is_there = |sequence: &u64| {
                    let position = Position { epoch, sequence: *sequence };
                    matches!(self.inspection.chunk(slot, position), Ok(Some(_)))
                };
                (1..).take_while(is_there).last().unwrap_or(0)
            }
        }
    }

    async fn chunk(&mut self, here: &mut Here, position: Position) {
        self.chunks.look();
        let what = format!("chunk {position} of slot {}", here.slot.0);
        let bytes = match self.inspection.chunk(here.slot, position) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return self.chunks.problem(&what, "is missing", RESTORE),
            Err(error) => return self.chunks.error(&error, RESTORE),
        };
        let chunk = match Chunk::decode(bytes.as_ref()) {
            Ok(chunk) => chunk,
            Err(error) => return self.chunks.problem(&what, error.to_string(), RESTORE),
        };
        let header = &chunk.header;
        if header.known_at <= here.last {
            self.chunks.problem(&what, "is not known later than the chunk before it", RESTORE);
        }
        here.last = here.last.max(header.known_at);
        let first = u32::from(header.facts > 0);
        if !(first..=self.catalog).contains(&header.catalog_version) {
            let problem = format!("names catalog version {}", header.catalog_version);
            self.chunks.problem(&what, format!("{problem}, which is not there"), RESTORE);
        }
        let mut facts = 0;
        for record in chunk.records() {
            match record {
                Ok(_) => facts += 1,
                Err(error) => {
                    self.chunks.problem(&what, format!("fact {facts}: {error}"), RESTORE);
                    return;
                }
            }
        }
        if facts != header.facts {
            let problem = format!("holds {facts} facts, its header says {}", header.facts);
            self.chunks.problem(&what, problem, RESTORE);
        }
        self.after_mark(here, position, header).await;
    }

    /// What a start replays: it is not closed by the mark, and the heads it names are there.
    async fn after_mark(&mut self, here: &Here, position: Position, header: &ChunkHeader) {
        if here.mark.as_ref().is_some_and(|mark| position <= mark.position) {
            return;
        }
        if let Some(mark) = &here.mark
            && header.known_at <= mark.closed
        {
            let what = format!("mark of slot {}", here.slot.0);
            let problem = format!("has closed an instant at which chunk {position} became known");
            self.marks.problem(&what, problem, UNMATCHED);
        }
        for rebuilt in &header.rebuilt {
            let part = (rebuilt.entity.clone(), Part::RebuiltHead(rebuilt.part));
            match self.inspection.store().load(vec![part]).await {
                Ok(found) if found.iter().all(Option::is_some) => {}
                Ok(_) => {
                    let what = format!("chunk {position} of slot {}", here.slot.0);
                    let problem =
                        format!("names a rebuilt head of {} that is gone", rebuilt.entity.key);
                    self.chunks.problem(&what, problem, UNMATCHED);
                }
                Err(error) => self.chunks.error(&error, RESTORE),
            }
        }
    }
}
