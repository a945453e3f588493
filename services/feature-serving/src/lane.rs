//! Limits of a path: reads of heads and reads from the log each have their own, so that neither
//! starves the other, and what is beyond them is refused at once instead of waiting for its deadline.

use std::sync::Arc;

use millrace_telemetry::Metric;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::ReadError;

/// The limits of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// Units of work under way at a time: entities where heads are read, reads of a slot's log where
    /// the log is.
    pub at_once: u32,
    /// Reads under way or waiting for their turn. More are refused.
    pub places: u32,
}

/// A path.
#[derive(Debug)]
pub(crate) struct Lane {
    path: &'static str,
    limits: LaneLimits,
    units: Arc<Semaphore>,
    places: Semaphore,
}

impl Lane {
    pub(crate) fn new(path: &'static str, limits: LaneLimits) -> Self {
        // A lane of nothing would never let anybody through.
        let limits = LaneLimits { at_once: limits.at_once.max(1), places: limits.places.max(1) };
        Self {
            path,
            limits,
            units: Arc::new(Semaphore::new(limits.at_once as usize)),
            places: Semaphore::new(limits.places as usize),
        }
    }

    /// Lets a scrape see what is under way, and its bound.
    pub(crate) fn show(&self, under_way: &Metric, limit: &Metric) {
        let (at_once, units) = (self.limits.at_once, Arc::downgrade(&self.units));
        under_way.set_to(move || {
            let free = units.upgrade()?.available_permits();
            Some(f64::from(at_once) - free as f64)
        });
        limit.set_to(move || Some(f64::from(at_once)));
    }

    /// Takes a read in. To be kept until it is answered.
    ///
    /// # Errors
    /// [`ReadError::Busy`] at once where every place is taken.
    pub(crate) fn place(&self) -> Result<SemaphorePermit<'_>, ReadError> {
        self.places.try_acquire().map_err(|_| self.busy())
    }

    /// Waits for the turn of a read that has its place, in the order of asking. A read of more units
    /// than there are takes all.
    ///
    /// # Errors
    /// None: lanes are never closed.
    pub(crate) async fn turn(&self, units: u32) -> Result<SemaphorePermit<'_>, ReadError> {
        let units = self.units.acquire_many(units.min(self.limits.at_once));
        units.await.map_err(|_| self.busy())
    }

    fn busy(&self) -> ReadError {
        ReadError::Busy { path: self.path, most: self.limits.places }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_read_waits_for_its_turn_or_is_refused_at_once() {
        let lane = Lane::new("log", LaneLimits { at_once: 2, places: 3 });
        let places = [lane.place().unwrap(), lane.place().unwrap(), lane.place().unwrap()];
        let large = lane.turn(1_000).await.unwrap();
        let mut second = Box::pin(lane.turn(1));
        assert!(second.as_mut().now_or_never().is_none());
        let refused = lane.place().unwrap_err();
        assert!(matches!(refused, ReadError::Busy { path: "log", most: 3 }), "{refused:?}");
        drop(large);
        drop((second.await.unwrap(), places));
        // A read that gave up while it waited leaves nothing behind.
        let all = lane.turn(2).await.unwrap();
        drop(lane.turn(1).now_or_never());
        drop(all);
        assert_eq!((lane.units.available_permits(), lane.places.available_permits()), (2, 3));
    }
}
