//! Entities under suspicion: an auditor found an answer about them that is not what the log says.

use millrace_client::port::JoinError;
use millrace_kernel::slot::Suspected;
use millrace_types::{Entity, Position, SlotId};
use tokio::sync::oneshot;

use super::{Slot, Worker};

/// Calls that may wait in one slot.
const WAITING_MAX: usize = 16;

/// Somebody who waits until a chunk that makes entities dirty is confirmed.
pub(super) struct Suspecting {
    /// `None` until such a chunk is judged.
    position: Option<Position>,
    sender: oneshot::Sender<Result<Position, JoinError>>,
}

impl Worker {
    pub(super) fn suspect(
        &mut self,
        id: SlotId,
        entities: Vec<Entity>,
        sender: oneshot::Sender<Result<Position, JoinError>>,
    ) {
        let failed = self.fail.borrow().is_some();
        let served = |slot: &&mut Slot| slot.leaving.is_none() && !failed;
        let Some(slot) = self.slots.get_mut(&id).filter(served) else {
            // Whoever dropped the receiver does not want to know.
            let _ = sender.send(Err(JoinError::NotServing { slot: id }));
            return;
        };
        let mut noted = false;
        let mut full = slot.suspecting.len() >= WAITING_MAX;
        for entity in entities {
            if full {
                break;
            }
            match slot.core.suspect(entity) {
                Suspected::Noted => noted = true,
                Suspected::Full => full = true,
                Suspected::Dirty | Suspected::Unknown => {}
            }
        }
        if full {
            let _ = sender.send(Err(JoinError::Overloaded { slot: id }));
            return;
        }
        // Those that are dirty became so in a chunk that is confirmed, or in flight.
        let position = (!noted).then_some(slot.core.position());
        slot.suspecting.push(Suspecting { position, sender });
        slot.answer_suspecting();
    }
}

impl Slot {
    /// The chunk at this position makes everybody dirty who was under suspicion.
    pub(super) fn suspects_judged(&mut self, position: Position) {
        for waits in &mut self.suspecting {
            waits.position.get_or_insert(position);
        }
    }

    /// Answers those whose chunk is confirmed.
    pub(super) fn answer_suspecting(&mut self) {
        let confirmed = self.core.confirmed().0;
        let done = |waits: &mut Suspecting| waits.position.is_some_and(|at| at <= confirmed);
        for waits in self.suspecting.extract_if(.., done) {
            let _ = waits.sender.send(Ok(confirmed));
        }
    }

    pub(super) fn fail_suspecting(&mut self, error: &JoinError) {
        for waits in self.suspecting.drain(..) {
            let _ = waits.sender.send(Err(error.clone()));
        }
    }
}
