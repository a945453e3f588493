//! Who may go on where several want what there is little of: places to be in, and turns to work. Peers share
//! both: whoever asks a thousand times leaves places to others, and turns go from peer to peer.

mod queue;

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use queue::{Asked, Queue};

/// Places and turns, shared by peers of this kind. Clones are the same.
#[derive(Debug)]
pub struct Turns<P: Copy + Eq + Hash> {
    queue: Arc<Mutex<Queue<P>>>,
    units: u32,
}

/// Somebody's place. Dropping it frees it.
#[derive(Debug)]
pub struct Place<P: Copy + Eq + Hash> {
    of: Turns<P>,
    peer: P,
}

/// Somebody's turn. Dropping it gives it to whoever is next.
#[derive(Debug)]
pub struct Turn<P: Copy + Eq + Hash> {
    of: Turns<P>,
    units: u32,
}

impl<P: Copy + Eq + Hash> Turns<P> {
    /// So many units of work at a time, of those in so many places; at least one of each, or nobody would ever
    /// go on. Once half of the places are taken each peer has an equal share of seven eighths; the rest is for
    /// peers that have none.
    #[must_use]
    pub fn new(units: u32, places: u32) -> Self {
        let units = units.max(1);
        Self { queue: Arc::new(Mutex::new(Queue::new(units, places.max(1)))), units }
    }

    /// Takes a peer in once more; `None` where every place is taken, or the peer has its share of them.
    #[must_use]
    pub fn place(&self, peer: P) -> Option<Place<P>> {
        self.lock().enter(peer).then(|| Place { of: self.clone(), peer })
    }

    /// Waits for a turn of so many units: peers one after the other, what each asks for in the order of
    /// asking. Whoever wants more units than there are takes all.
    pub async fn turn(&self, peer: P, units: u32) -> Turn<P> {
        let units = units.clamp(1, self.units);
        let granted = match self.lock().ask(peer, units) {
            Asked::Granted => return Turn { of: self.clone(), units },
            Asked::Waits(granted) => granted,
        };
        let mut waiting = Waiting { of: self, units, granted: Some(granted) };
        if let Some(granted) = &mut waiting.granted {
            // `self` outlives this, and never drops who waits.
            let _ = granted.await;
        }
        waiting.granted = None;
        Turn { of: self.clone(), units }
    }

    /// A turn of so many units if there is one now, and nobody waits.
    #[must_use]
    pub fn try_turn(&self, units: u32) -> Option<Turn<P>> {
        let units = units.clamp(1, self.units);
        self.lock().take(units).then(|| Turn { of: self.clone(), units })
    }

    /// Units of work that are under way.
    #[must_use]
    pub fn under_way(&self) -> u32 {
        self.units.saturating_sub(self.lock().free())
    }

    /// Units of work that may be under way.
    #[must_use]
    pub fn units(&self) -> u32 {
        self.units
    }

    /// Whether nobody is in a place, works or waits.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.is_empty() && queue.free() == self.units
    }

    fn lock(&self) -> MutexGuard<'_, Queue<P>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Copy + Eq + Hash> Clone for Turns<P> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), units: self.units }
    }
}

/// Somebody who waits. Dropped meanwhile, it gives back what it was granted.
struct Waiting<'a, P: Copy + Eq + Hash> {
    of: &'a Turns<P>,
    units: u32,
    granted: Option<oneshot::Receiver<()>>,
}

impl<P: Copy + Eq + Hash> Drop for Waiting<'_, P> {
    fn drop(&mut self) {
        let Some(mut granted) = self.granted.take() else { return };
        // From here on nothing is granted to it; what was before is seen.
        let mut queue = self.of.lock();
        granted.close();
        match granted.try_recv() {
            Ok(()) => queue.give_back(self.units),
            // It may have been in the way of those behind it.
            Err(_) => queue.give_back(0),
        }
    }
}

impl<P: Copy + Eq + Hash> Drop for Place<P> {
    fn drop(&mut self) {
        self.of.lock().leave(self.peer);
    }
}

impl<P: Copy + Eq + Hash> Drop for Turn<P> {
    fn drop(&mut self) {
        self.of.lock().give_back(self.units);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures::FutureExt as _;
    use futures::future::BoxFuture;

    use super::*;
    use crate::PeerNetwork;

    fn peer(n: u8) -> PeerNetwork {
        PeerNetwork::of(Some(IpAddr::from([10, 0, 0, n])))
    }

    fn waits(turn: &mut BoxFuture<'_, Turn<PeerNetwork>>) -> bool {
        turn.now_or_never().is_none()
    }

    #[tokio::test]
    async fn a_read_waits_for_its_turn_or_is_refused_at_once() {
        let turns = Turns::new(2, 3);
        let places = [1, 2, 3].map(|n| turns.place(peer(n)).unwrap());
        let large = turns.turn(peer(1), 1_000).await;
        let mut second = turns.turn(peer(2), 1).boxed();
        assert!(waits(&mut second));
        assert!(turns.place(peer(4)).is_none(), "every place is taken");
        drop(large);
        drop((second.await, places));
        // A read that gave up while it waited leaves nothing behind, granted or not.
        let all = turns.turn(peer(1), 2).await;
        drop(turns.turn(peer(1), 1).now_or_never());
        let mut granted = turns.turn(peer(2), 2).boxed();
        assert!(waits(&mut granted));
        drop(all);
        drop(granted);
        assert!(turns.is_idle());
    }

    /// A read that gave up was the reason why those behind it waited.
    #[tokio::test]
    async fn who_gives_up_is_in_nobodys_way() {
        let turns = Turns::new(2, 8);
        let one = turns.turn(peer(1), 1).await;
        let mut large = turns.turn(peer(2), 2).boxed();
        let mut small = turns.turn(peer(3), 1).boxed();
        assert!(waits(&mut large) && waits(&mut small));
        drop(large);
        assert!(!waits(&mut small));
        drop(one);
    }

    /// One that asks for all there is, before anybody else does.
    #[tokio::test]
    async fn a_peer_with_many_reads_does_not_starve_another() {
        let turns = Turns::new(1, 64);
        let flood: Vec<Place<PeerNetwork>> =
            std::iter::from_fn(|| turns.place(peer(1))).take(100).collect();
        assert_eq!(flood.len(), 56, "an eighth is left for others");
        let running = turns.turn(peer(1), 1).await;
        let mut queued: Vec<_> = flood.iter().map(|_| turns.turn(peer(1), 1).boxed()).collect();
        assert!(queued.iter_mut().all(waits));
        // Somebody else: taken in, and next but one.
        let place = turns.place(peer(2)).unwrap();
        let mut legitimate = turns.turn(peer(2), 1).boxed();
        assert!(waits(&mut legitimate));
        drop(running);
        assert!(waits(&mut legitimate), "whoever waited longer is first");
        let first = queued.remove(0).await;
        drop(first);
        drop(legitimate.now_or_never().expect("its turn comes before the rest of the flood"));
        drop((flood, queued, place));
        assert!(turns.is_idle());
    }

    #[tokio::test]
    async fn the_share_of_a_peer_shrinks_when_others_come() {
        let turns = Turns::new(1, 64);
        let mut flood: Vec<Place<PeerNetwork>> =
            std::iter::from_fn(|| turns.place(peer(1))).take(100).collect();
        let others: Vec<Place<PeerNetwork>> =
            (2..10).map(|n| turns.place(peer(n)).unwrap()).collect();
        assert!(turns.place(peer(10)).is_none(), "every place is taken");
        // Of nine peers each may have six, while more than half is taken.
        flood.truncate(30);
        assert!(turns.place(peer(1)).is_none());
        let more: Vec<Place<PeerNetwork>> =
            std::iter::from_fn(|| turns.place(peer(2))).take(100).collect();
        assert_eq!(more.len(), 5);
        drop((others, more));
        assert!(turns.place(peer(1)).is_some(), "the others are gone");
    }
}
