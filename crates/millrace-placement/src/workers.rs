//! Which worker serves a slot.

use std::ops::Range;

use millrace_types::SlotId;
use thiserror::Error;

use crate::slots::Slots;

/// A map of slots to workers: each worker has one contiguous run of slots, and the runs differ by
/// at most one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerMap {
    slots: Slots,
    workers: u32,
}

/// A number of workers that cannot share the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{workers} workers cannot share {slots} slots: at least 1, and at most one a slot")]
pub struct WorkerMapError {
    /// The workers asked for.
    pub workers: usize,
    /// The slots there are.
    pub slots: u32,
}

impl WorkerMap {
    /// Shares `slots` evenly between `workers`.
    ///
    /// # Errors
    /// [`WorkerMapError`] for no worker or more workers than slots.
    pub fn try_new(slots: Slots, workers: usize) -> Result<Self, WorkerMapError> {
        match u32::try_from(workers) {
            Ok(n) if n > 0 && n <= slots.count() => Ok(Self { slots, workers: n }),
            _ => Err(WorkerMapError { workers, slots: slots.count() }),
        }
    }

    /// The slots shared.
    #[must_use]
    pub fn slots(self) -> Slots {
        self.slots
    }

    /// The number of workers.
    #[must_use]
    pub fn workers(self) -> usize {
        self.workers as usize
    }

    /// The index of the worker that serves `slot`. A slot beyond the last is served by nobody, and
    /// gives an index that is no worker's.
    #[inline]
    #[must_use]
    pub fn worker_of(self, slot: SlotId) -> usize {
        (u64::from(slot.0) * u64::from(self.workers) / u64::from(self.slots.count())) as usize
    }

    /// The slots of a worker, ascending; empty for an index that is no worker's.
    #[must_use]
    pub fn slots_of(self, worker: usize) -> Range<u32> {
        let (n, workers) = (u64::from(self.slots.count()), u64::from(self.workers));
        let worker = (worker as u64).min(workers);
        let first = |w: u64| (w * n).div_ceil(workers) as u32;
        first(worker)..first((worker + 1).min(workers))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn workers_are_bounded_by_slots() {
        let slots = Slots::try_new(4).unwrap();
        assert_eq!(WorkerMap::try_new(slots, 0), Err(WorkerMapError { workers: 0, slots: 4 }));
        assert!(WorkerMap::try_new(slots, 4).is_ok());
        assert!(WorkerMap::try_new(slots, 5).is_err());
    }

    proptest! {
        #[test]
        fn every_slot_has_one_worker_and_shares_are_even(bits in 0u32..11, workers in 1usize..40) {
            let slots = Slots::try_new(1 << bits).unwrap();
            let Ok(map) = WorkerMap::try_new(slots, workers) else {
                prop_assert!(workers as u32 > slots.count());
                return Ok(());
            };
            let mut served = Vec::new();
            for worker in 0..workers {
                let run = map.slots_of(worker);
                let even = slots.count() as usize / workers;
                prop_assert!((even..=even + 1).contains(&run.len()));
                for slot in run {
                    prop_assert_eq!(map.worker_of(SlotId(slot)), worker);
                    served.push(SlotId(slot));
                }
            }
            prop_assert_eq!(served, slots.iter().collect::<Vec<_>>());
            prop_assert!(map.slots_of(workers).is_empty());
        }
    }
}
