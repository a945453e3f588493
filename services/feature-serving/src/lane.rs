//! Limits of a path: reads of heads and reads from the log each have their own, so that neither
//! starves the other, and what is beyond them is refused at once instead of waiting for its deadline.
//! Peers share a path as [`Turns`] tells.

use millrace_grpc::{PeerNetwork, Place, Turn, Turns};
use millrace_telemetry::Metric;

use crate::error::ReadError;

/// The limits of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// Units of work under way at a time: entities where heads are read, reads of a slot's log where
    /// the log is.
    pub at_once: u32,
    /// Reads under way or waiting for their turn. More are refused. Once half of them are taken each
    /// peer has an equal share of seven eighths; the rest is for peers that have none under way.
    pub places: u32,
}

/// A path.
#[derive(Debug)]
pub(crate) struct Lane {
    path: &'static str,
    places: u32,
    turns: Turns<PeerNetwork>,
}

impl Lane {
    pub(crate) fn new(path: &'static str, limits: LaneLimits) -> Self {
        let LaneLimits { at_once, places } = limits;
        Self { path, places: places.max(1), turns: Turns::new(at_once, places) }
    }

    /// Lets a scrape see what is under way, and its bound.
    pub(crate) fn show(&self, under_way: &Metric, limit: &Metric) {
        let (turns, units) = (self.turns.clone(), self.turns.units());
        under_way.set_to(move || Some(f64::from(turns.under_way())));
        limit.set_to(move || Some(f64::from(units)));
    }

    /// Takes a read of a peer in. To be kept until it is answered.
    ///
    /// # Errors
    /// [`ReadError::Busy`] at once where every place is taken, or the peer has its share of them.
    pub(crate) fn place(&self, peer: PeerNetwork) -> Result<Place<PeerNetwork>, ReadError> {
        let busy = ReadError::Busy { path: self.path, most: self.places };
        self.turns.place(peer).ok_or(busy)
    }

    /// Waits for the turn of a read that has its place. A read of more units than there are takes all.
    pub(crate) async fn turn(&self, peer: PeerNetwork, units: u32) -> Turn<PeerNetwork> {
        self.turns.turn(peer, units).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_place_is_told_of_the_path_and_its_bound() {
        let lane = Lane::new("log", LaneLimits { at_once: 1, places: 1 });
        let peer = PeerNetwork::default();
        let _place = lane.place(peer).unwrap();
        let refused = lane.place(peer).unwrap_err();
        assert!(matches!(refused, ReadError::Busy { path: "log", most: 1 }), "{refused:?}");
    }
}
