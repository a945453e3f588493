//! Restarts: everything in memory is gone; the slot comes back from its mark, heads and log.

use millrace_kernel::slot::SlotCore;
use millrace_types::{Chunk, Position, SlotId};

use super::{PartName, Sim};

impl Sim {
    /// Throws the slot's memory away and recovers it.
    pub(crate) fn restart(&mut self) {
        self.reach("restart");
        let mut core = SlotCore::new(SlotId(0), self.plan.clone());
        core.set_erasures(self.erasures.clone());
        let mut from = Position::START;
        if let Some(mark) = self.mark.clone() {
            self.reach("restart from a mark");
            core.recover_from(&mark);
            from = mark.position;
            let oldest = mark.oldest_waiting;
            for (position, bytes) in &self.log {
                if oldest.is_some_and(|o| o <= *position) && *position <= from {
                    let chunk = Chunk::decode(bytes.as_slice()).expect("the log decodes");
                    core.restore_waiting(*position, &chunk).expect("the log decodes");
                }
            }
        }
        for (position, bytes) in self.log.clone() {
            if position <= from {
                continue;
            }
            let chunk = Chunk::decode(bytes.as_slice()).expect("the log decodes");
            for entity in core.heads_to_replay(&chunk).expect("the log decodes") {
                let state = self.load(&entity);
                core.insert_loaded(&entity, state);
            }
            let mut rebuilt = Vec::new();
            for marker in core.rebuilt_to_replay(position, &chunk.header) {
                let name = (marker.entity.clone(), PartName::Rebuilt(marker.part));
                let bytes = self.parts.get(&name).expect("a marker's head is in the store");
                let state = self.assemble(&marker.entity, bytes);
                rebuilt.push((marker.entity, marker.part, state));
            }
            core.replay(position, &chunk, rebuilt).expect("the log replays");
        }
        core.end_replay().expect("whatever does not fit is erased or rebuilt");
        if self.mark.is_none() && self.log.is_empty() {
            core.set_empty();
        }
        self.epoch += 1;
        core.open_epoch(self.epoch);
        core.set_rows_max(self.rows_max);
        self.core = core;
        self.filling = None;
    }
}
