//! How much of the server one address may take.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::ServerLimits;
use crate::peer::network;

/// The connections of every address.
#[derive(Debug)]
pub(super) struct Peers {
    connections_max: usize,
    connections_per_peer_max: usize,
    calls_per_peer_max: usize,
    streams_per_peer_max: usize,
    open: Mutex<Open>,
}

/// Bounded by the number of connections.
#[derive(Debug, Default)]
struct Open {
    connections: usize,
    peers: HashMap<IpAddr, Peer>,
}

#[derive(Debug)]
struct Peer {
    connections: usize,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The server has as many as it takes.
    Server,
    /// Its address has.
    Peer,
}

impl Full {
    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Peer => "address",
        }
    }
}

/// A connection's place. Dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    peers: Arc<Peers>,
    peer: IpAddr,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Peers {
    pub(super) fn new(limits: &ServerLimits) -> Arc<Self> {
        Arc::new(Self {
            connections_max: limits.connections_max,
            connections_per_peer_max: limits.connections_per_peer_max,
            calls_per_peer_max: limits.calls_per_peer_max,
            streams_per_peer_max: limits.streams_per_peer_max,
            open: Mutex::default(),
        })
    }

    /// Takes a connection of this address in, or says why not.
    pub(super) fn place(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let peer = network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.connections >= self.connections_max {
            return Err(Full::Server);
        }
        let entry = open.peers.entry(peer).or_insert_with(|| Peer {
            connections: 0,
            calls: Arc::new(Semaphore::new(self.calls_per_peer_max)),
            streams: Arc::new(Semaphore::new(self.streams_per_peer_max)),
        });
        // One that was just made has no connection, and every address may have one.
        if entry.connections > 0 && entry.connections >= self.connections_per_peer_max {
            return Err(Full::Peer);
        }
        entry.connections += 1;
        let (calls, streams) = (Arc::clone(&entry.calls), Arc::clone(&entry.streams));
        open.connections += 1;
        Ok(Place { peers: Arc::clone(self), peer, calls, streams })
    }
}

impl Place {
    /// One permit a call of this address that waits for its response.
    pub(super) fn calls(&self) -> &Arc<Semaphore> {
        &self.calls
    }

    /// One permit a stream of this address.
    pub(super) fn streams(&self) -> &Arc<Semaphore> {
        &self.streams
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.connections -= 1;
        if let Entry::Occupied(mut entry) = open.peers.entry(self.peer) {
            entry.get_mut().connections -= 1;
            if entry.get().connections == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(connections_max: usize, connections_per_peer_max: usize) -> Arc<Peers> {
        Peers::new(&ServerLimits {
            connections_max,
            connections_per_peer_max,
            ..ServerLimits::default()
        })
    }

    #[test]
    fn places_are_freed_and_nothing_is_kept_of_who_left() {
        let peers = peers(3, 2);
        let [a, b] = ["10.0.0.1", "::ffff:10.0.0.2"].map(|a| a.parse().unwrap());
        let first = peers.place(a).unwrap();
        let second = peers.place(a).unwrap();
        assert_eq!(peers.place(a).unwrap_err(), Full::Peer);
        let third = peers.place(b).unwrap();
        assert_eq!(peers.place(b).unwrap_err(), Full::Server);
        assert!(Arc::ptr_eq(first.calls(), second.calls()));
        assert!(!Arc::ptr_eq(first.calls(), third.calls()));
        drop(first);
        let again = peers.place(a).unwrap();
        drop((second, third, again));
        let open = peers.open.lock().unwrap();
        assert_eq!((open.connections, open.peers.len()), (0, 0));
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let peers = peers(10, 1);
        let place = |text: &str| peers.place(text.parse().unwrap());
        let _first = place("2001:db8::1").unwrap();
        assert_eq!(place("2001:db8::ffff:2").unwrap_err(), Full::Peer);
        let _other = place("2001:db8:0:1::1").unwrap();
        let _mapped = place("::ffff:10.0.0.1").unwrap();
        assert_eq!(place("10.0.0.1").unwrap_err(), Full::Peer);
    }
}
