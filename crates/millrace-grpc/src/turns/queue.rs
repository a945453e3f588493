//! Who has places and turns, and who is next.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use tokio::sync::oneshot;

/// Whoever has nothing under way finds room beyond what others may take: a part of so many places.
const KEPT_FREE: u32 = 8;

/// Bounded by the places and what those in them ask for.
#[derive(Debug)]
pub(super) struct Queue<P> {
    /// Units that nobody has.
    free: u32,
    places: u32,
    /// Places that are taken.
    taken: u32,
    /// Places of each peer that has some.
    peers: HashMap<P, u32>,
    /// Who waits, by peer, in the order in which peers are next.
    waiting: VecDeque<(P, VecDeque<Waiter>)>,
}

#[derive(Debug)]
struct Waiter {
    units: u32,
    granted: oneshot::Sender<()>,
}

/// What becomes of somebody who asks for a turn.
pub(super) enum Asked {
    Granted,
    Waits(oneshot::Receiver<()>),
}

impl<P: Copy + Eq + Hash> Queue<P> {
    pub(super) fn new(units: u32, places: u32) -> Self {
        let (peers, waiting) = (HashMap::new(), VecDeque::new());
        Self { free: units, places, taken: 0, peers, waiting }
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Takes somebody in; false where there is no place for it.
    pub(super) fn enter(&mut self, peer: P) -> bool {
        let own = self.peers.get(&peer).copied().unwrap_or(0);
        let shared = self.places - self.places / KEPT_FREE;
        let peers = self.peers.len() as u32 + u32::from(own == 0);
        // The first is always within the share of a peer.
        let fits = match own {
            0 => self.taken < self.places,
            _ if self.taken < self.places / 2 => true,
            own => self.taken < shared && own < shared / peers,
        };
        if fits {
            self.taken += 1;
            *self.peers.entry(peer).or_default() += 1;
        }
        fits
    }

    pub(super) fn leave(&mut self, peer: P) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(own) = self.peers.get_mut(&peer) {
            *own -= 1;
            if *own == 0 {
                self.peers.remove(&peer);
            }
        }
    }

    /// Takes so many units if there are as many, and nobody waits.
    pub(super) fn take(&mut self, units: u32) -> bool {
        let takes = self.waiting.is_empty() && self.free >= units;
        if takes {
            self.free -= units;
        }
        takes
    }

    /// Asks for so many units, which are at most all.
    pub(super) fn ask(&mut self, peer: P, units: u32) -> Asked {
        if self.take(units) {
            return Asked::Granted;
        }
        let (granted, waits) = oneshot::channel();
        let waiter = Waiter { units, granted };
        match self.waiting.iter_mut().find(|(of, _)| *of == peer) {
            Some((_, waiters)) => waiters.push_back(waiter),
            None => self.waiting.push_back((peer, VecDeque::from([waiter]))),
        }
        Asked::Waits(waits)
    }

    /// Takes units back, and grants turns as far as they go.
    pub(super) fn give_back(&mut self, units: u32) {
        self.free += units;
        while let Some((peer, mut waiters)) = self.waiting.pop_front() {
            let Some(waiter) = waiters.pop_front() else { continue };
            if waiter.granted.is_closed() {
                // It gave up: its peer is still next.
                self.waiting.push_front((peer, waiters));
            } else if waiter.units <= self.free {
                self.free -= waiter.units;
                if waiter.granted.send(()).is_err() {
                    self.free += waiter.units;
                }
                if !waiters.is_empty() {
                    self.waiting.push_back((peer, waiters));
                }
            } else {
                waiters.push_front(waiter);
                self.waiting.push_front((peer, waiters));
                return;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0 && self.peers.is_empty() && self.waiting.is_empty()
    }
}
