//! Limits of a path: reads of heads and reads from the log each have their own, so that neither
//! starves the other, and what is beyond them is refused at once instead of waiting for its deadline.
//! Peers share a path: whoever asks with a thousand reads leaves places to others, and turns go from
//! peer to peer.

mod turns;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_grpc::PeerNetwork;
use millrace_telemetry::Metric;
use tokio::sync::oneshot;

use crate::error::ReadError;
use turns::{Asked, Turns};

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
    limits: LaneLimits,
    turns: Arc<Mutex<Turns>>,
}

/// A read's place. Dropping it frees it.
#[derive(Debug)]
pub(crate) struct Place {
    turns: Arc<Mutex<Turns>>,
    peer: PeerNetwork,
}

/// A read's turn. Dropping it gives it to whoever is next.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Mutex<Turns>>,
    units: u32,
}

impl Lane {
    pub(crate) fn new(path: &'static str, limits: LaneLimits) -> Self {
        // A lane of nothing would never let anybody through.
        let limits = LaneLimits { at_once: limits.at_once.max(1), places: limits.places.max(1) };
        let turns = Turns::new(limits.at_once, limits.places);
        Self { path, limits, turns: Arc::new(Mutex::new(turns)) }
    }

    /// Lets a scrape see what is under way, and its bound.
    pub(crate) fn show(&self, under_way: &Metric, limit: &Metric) {
        let (at_once, turns) = (self.limits.at_once, Arc::downgrade(&self.turns));
        under_way.set_to(move || {
            let turns = turns.upgrade()?;
            let free = lock(&turns).free();
            Some(f64::from(at_once) - f64::from(free))
        });
        limit.set_to(move || Some(f64::from(at_once)));
    }

    /// Takes a read of a peer in. To be kept until it is answered.
    ///
    /// # Errors
    /// [`ReadError::Busy`] at once where every place is taken, or the peer has its share of them.
    pub(crate) fn place(&self, peer: PeerNetwork) -> Result<Place, ReadError> {
        if lock(&self.turns).enter(peer) {
            return Ok(Place { turns: Arc::clone(&self.turns), peer });
        }
        Err(ReadError::Busy { path: self.path, most: self.limits.places })
    }

    /// Waits for the turn of a read that has its place: peers one after the other, the reads of each
    /// in the order of asking. A read of more units than there are takes all.
    pub(crate) async fn turn(&self, peer: PeerNetwork, units: u32) -> Turn {
        let units = units.clamp(1, self.limits.at_once);
        let granted = match lock(&self.turns).ask(peer, units) {
            Asked::Granted => return Turn { turns: Arc::clone(&self.turns), units },
            Asked::Waits(granted) => granted,
        };
        let mut waiting = Waiting { turns: &self.turns, units, granted: Some(granted) };
        if let Some(granted) = &mut waiting.granted {
            // The lane outlives its reads, and never drops who waits.
            let _ = granted.await;
        }
        waiting.granted = None;
        Turn { turns: Arc::clone(&self.turns), units }
    }
}

/// A read that waits. Dropped while it does, it gives back what it was granted meanwhile.
struct Waiting<'a> {
    turns: &'a Mutex<Turns>,
    units: u32,
    granted: Option<oneshot::Receiver<()>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(mut granted) = self.granted.take() else { return };
        // From here on nothing is granted to it; what was before is seen.
        let mut turns = lock(self.turns);
        granted.close();
        match granted.try_recv() {
            Ok(()) => turns.give_back(self.units),
            // It may have been in the way of those behind it.
            Err(_) => turns.give_back(0),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.turns).leave(self.peer);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.turns).give_back(self.units);
    }
}

fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures::FutureExt as _;
    use futures::future::BoxFuture;

    use super::*;

    fn peer(n: u8) -> PeerNetwork {
        PeerNetwork::of(Some(IpAddr::from([10, 0, 0, n])))
    }

    fn lane(at_once: u32, places: u32) -> Lane {
        Lane::new("log", LaneLimits { at_once, places })
    }

    fn waits(turn: &mut BoxFuture<'_, Turn>) -> bool {
        turn.now_or_never().is_none()
    }

    #[tokio::test]
    async fn a_read_waits_for_its_turn_or_is_refused_at_once() {
        let lane = lane(2, 3);
        let places = [1, 2, 3].map(|n| lane.place(peer(n)).unwrap());
        let large = lane.turn(peer(1), 1_000).await;
        let mut second = lane.turn(peer(2), 1).boxed();
        assert!(waits(&mut second));
        let refused = lane.place(peer(4)).unwrap_err();
        assert!(matches!(refused, ReadError::Busy { path: "log", most: 3 }), "{refused:?}");
        drop(large);
        drop((second.await, places));
        // A read that gave up while it waited leaves nothing behind, granted or not.
        let all = lane.turn(peer(1), 2).await;
        drop(lane.turn(peer(1), 1).now_or_never());
        let mut granted = lane.turn(peer(2), 2).boxed();
        assert!(waits(&mut granted));
        drop(all);
        drop(granted);
        assert_eq!(lock(&lane.turns).free(), 2);
        assert!(lock(&lane.turns).is_empty());
    }

    /// A read that gave up was the reason why those behind it waited.
    #[tokio::test]
    async fn who_gives_up_is_in_nobodys_way() {
        let lane = lane(2, 8);
        let one = lane.turn(peer(1), 1).await;
        let mut large = lane.turn(peer(2), 2).boxed();
        let mut small = lane.turn(peer(3), 1).boxed();
        assert!(waits(&mut large) && waits(&mut small));
        drop(large);
        assert!(!waits(&mut small));
        drop(one);
    }

    /// One that asks for all there is, before anybody else does.
    #[tokio::test]
    async fn a_peer_with_many_reads_does_not_starve_another() {
        let lane = lane(1, 64);
        let flood: Vec<Place> = std::iter::from_fn(|| lane.place(peer(1)).ok()).take(100).collect();
        assert_eq!(flood.len(), 56, "an eighth is left for others");
        let running = lane.turn(peer(1), 1).await;
        let mut queued: Vec<_> = flood.iter().map(|_| lane.turn(peer(1), 1).boxed()).collect();
        assert!(queued.iter_mut().all(waits));
        // Somebody else: taken in, and next but one.
        let place = lane.place(peer(2)).unwrap();
        let mut legitimate = lane.turn(peer(2), 1).boxed();
        assert!(waits(&mut legitimate));
        drop(running);
        assert!(waits(&mut legitimate), "whoever waited longer is first");
        let first = queued.remove(0).await;
        drop(first);
        drop(legitimate.now_or_never().expect("its turn comes before the rest of the flood"));
        drop((flood, queued, place));
        assert!(lock(&lane.turns).is_empty());
    }

    #[tokio::test]
    async fn the_share_of_a_peer_shrinks_when_others_come() {
        let lane = lane(1, 64);
        let mut flood: Vec<Place> =
            std::iter::from_fn(|| lane.place(peer(1)).ok()).take(100).collect();
        let others: Vec<Place> = (2..10).map(|n| lane.place(peer(n)).unwrap()).collect();
        assert!(lane.place(peer(10)).is_err(), "every place is taken");
        // Of nine peers each may have six, while more than half is taken.
        flood.truncate(30);
        assert!(lane.place(peer(1)).is_err());
        let more: Vec<Place> = std::iter::from_fn(|| lane.place(peer(2)).ok()).take(100).collect();
        assert_eq!(more.len(), 5);
        drop((others, more));
        assert!(lane.place(peer(1)).is_ok(), "the others are gone");
    }
}
