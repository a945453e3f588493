//! Bytes of messages that have not arrived whole. tonic gathers a message before its handler sees it,
//! up to its full size: without a bound over all calls, clients that begin large messages and never
//! end them take the memory of the server, call by call. Without one for each address they would take
//! what everybody else's messages need.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::{ErrorCode, Fault, PeerNetwork};

/// A flag that says whether it is compressed, and the length in four bytes.
pub(super) const PREFIX: usize = 5;

/// A part of the bound that each address finds room in while the others have not taken all: one message of the
/// largest size where the bound is the usual one.
const OWN_PART: usize = 64;
/// A part of the bound that is left to addresses within their [`OWN_PART`].
const KEPT_FREE: usize = 8;

/// What all calls of a server have received of messages that are not whole.
#[derive(Debug)]
pub(super) struct Receiving {
    held: Mutex<Held>,
    bytes_max: usize,
}

/// Bytes held for all, and for each address that has some.
#[derive(Debug, Default)]
struct Held {
    all: usize,
    peers: HashMap<PeerNetwork, usize>,
}

impl Receiving {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), bytes_max })
    }

    /// Takes so many more in for an address. Once half of all is taken each address has an equal share.
    fn grow(&self, peer: PeerNetwork, more: usize) -> bool {
        let mut held = self.lock();
        let before = held.peers.get(&peer).copied().unwrap_or(0);
        let (all, own) = (held.all.saturating_add(more), before.saturating_add(more));
        let shared = self.bytes_max - self.bytes_max / KEPT_FREE;
        let peers = held.peers.len() + usize::from(before == 0);
        let fits = all <= self.bytes_max / 2
            || own <= self.bytes_max / OWN_PART
            || (all <= shared && own <= shared / peers);
        if all > self.bytes_max || !fits {
            return false;
        }
        held.all = all;
        held.peers.insert(peer, own);
        true
    }

    fn shrink(&self, peer: PeerNetwork, less: usize) {
        if less == 0 {
            return;
        }
        let mut held = self.lock();
        held.all = held.all.saturating_sub(less);
        if let Some(own) = held.peers.get_mut(&peer) {
            *own = own.saturating_sub(less);
            if *own == 0 {
                held.peers.remove(&peer);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where in its messages a body is: gRPC's length-prefixed framing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// Of the prefix that is being read.
    prefix: [u8; PREFIX],
    prefix_read: usize,
    /// Of the message after the prefix.
    left: usize,
    /// Bytes of the message that is not whole, its prefix included.
    partial: usize,
}

impl Place {
    /// Bytes of the message that is not whole, its prefix included.
    pub(super) fn partial(&self) -> usize {
        self.partial
    }

    /// Moves on over these bytes.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.prefix_read < PREFIX {
                let taken = (PREFIX - self.prefix_read).min(bytes.len());
                self.prefix[self.prefix_read..self.prefix_read + taken]
                    .copy_from_slice(&bytes[..taken]);
                self.prefix_read += taken;
                self.partial += taken;
                bytes = &bytes[taken..];
                if self.prefix_read == PREFIX {
                    let [_, a, b, c, d] = self.prefix;
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                }
            }
            let taken = self.left.min(bytes.len());
            self.left -= taken;
            self.partial += taken;
            bytes = &bytes[taken..];
            if self.prefix_read == PREFIX && self.left == 0 {
                *self = Self::default();
            }
        }
    }
}

/// A request's body, counted.
pub(super) struct Received {
    inner: Body,
    receiving: Arc<Receiving>,
    peer: PeerNetwork,
    place: Place,
}

impl Received {
    pub(super) fn new(inner: Body, receiving: &Arc<Receiving>, peer: PeerNetwork) -> Self {
        Self { inner, receiving: Arc::clone(receiving), peer, place: Place::default() }
    }

    /// Counts what arrived; false when it is more than the server holds.
    fn count(&mut self, data: &Bytes) -> bool {
        let before = self.place.partial;
        self.place.pass(data);
        let now = self.place.partial;
        if now > before && !self.receiving.grow(self.peer, now - before) {
            self.place.partial = before;
            return false;
        }
        if now < before {
            self.receiving.shrink(self.peer, before - now);
        }
        true
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.receiving.shrink(self.peer, self.place.partial);
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.count(data)
        {
            let message =
                "the server receives as many bytes at once as it holds, or as are an address's";
            let fault = Fault::new(ErrorCode::Overloaded, message).with("scope", "server");
            return Poll::Ready(Some(Err(fault.into_status())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend(std::iter::repeat_n(7, length as usize));
        bytes
    }

    #[test]
    fn only_what_is_not_whole_counts_however_it_is_cut() {
        let all = [message(10), message(0), message(3)].concat();
        // Before each byte: how much of the message it belongs to has come.
        let expected: Vec<usize> = (1..15).chain([0]).chain(1..5).chain([0]).chain(1..8).collect();
        for step in 1..=all.len() {
            let mut place = Place::default();
            let mut passed = 0;
            for part in all.chunks(step) {
                place.pass(part);
                passed += part.len();
                let expected = expected.get(passed - 1).copied().unwrap_or(0);
                assert_eq!(place.partial, expected, "after {passed} in steps of {step}");
            }
            assert_eq!(place.partial, 0);
        }
    }

    fn peer(n: u8) -> PeerNetwork {
        PeerNetwork::of(Some([10, 0, 0, n].into()))
    }

    #[test]
    fn calls_share_the_bound_and_give_back_what_they_took() {
        let receiving = Receiving::new(20);
        let begun = Bytes::from(message(100)[..12].to_vec());
        let received = || Received::new(Body::empty(), &receiving, peer(1));
        let (mut one, mut two) = (received(), received());
        assert!(one.count(&begun));
        assert!(!two.count(&begun));
        assert_eq!(receiving.lock().all, 12);
        drop(one);
        let mut three = received();
        assert!(three.count(&begun));
        drop((two, three));
        let held = receiving.lock();
        assert!(held.all == 0 && held.peers.is_empty(), "{held:?}");
    }

    #[test]
    fn an_address_leaves_room_for_the_messages_of_others() {
        let receiving = Receiving::new(640);
        let mut taken = 0;
        while receiving.grow(peer(1), 20) {
            taken += 20;
        }
        assert_eq!(taken, 560, "an eighth is left");
        // A part of it for each: for eight of them at most.
        assert!(receiving.grow(peer(2), 10) && !receiving.grow(peer(2), 1));
        assert!((3..10).all(|n| receiving.grow(peer(n), 10)));
        assert!(!receiving.grow(peer(10), 1), "all is taken");
        // Once the first has no more than its share others have theirs.
        receiving.shrink(peer(1), 450);
        assert!(!receiving.grow(peer(1), 300));
        assert!(receiving.grow(peer(2), 50));
        assert!(!receiving.grow(peer(2), 600));
    }
}
