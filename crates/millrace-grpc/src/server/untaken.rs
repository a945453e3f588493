//! Responses of a connection that wait for their client.
//!
//! The transport asks a response for its next frame once the client made room for it. A client that
//! never does holds the response, up to a whole message, in memory: its deadline is not even looked
//! at.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// A usual frame of HTTP/2: larger messages leave in several.
const FRAME_BYTES: usize = 16 << 10;

/// The responses of one connection that wait for room.
#[derive(Debug, Default)]
pub(super) struct Untaken {
    /// Once a response: as many as the connection has streams.
    waiting: Mutex<Vec<(u32, Instant)>>,
    numbers: AtomicU32,
    /// Frames sent since somebody asked.
    responded: AtomicU32,
}

/// A response that waits. Dropping it, when the transport asks for more, ends the wait.
#[derive(Debug)]
pub(super) struct Waiting {
    of: Arc<Untaken>,
    number: u32,
}

impl Untaken {
    /// A response was handed to the transport, which has not asked it for anything yet.
    pub(super) fn begin(self: &Arc<Self>) -> Waiting {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.lock().push((number, Instant::now()));
        Waiting { of: Arc::clone(self), number }
    }

    /// A frame of this many bytes was handed to the transport, which has not asked for the next.
    pub(super) fn hand_out(self: &Arc<Self>, bytes: usize) -> Waiting {
        let frames = u32::try_from(bytes / FRAME_BYTES).unwrap_or(u32::MAX).saturating_add(1);
        // It may wrap: then a client is allowed less once.
        self.responded.fetch_add(frames, Ordering::Relaxed);
        self.begin()
    }

    /// Response frames sent since this was last asked.
    pub(super) fn take_responded(&self) -> u32 {
        self.responded.swap(0, Ordering::Relaxed)
    }

    /// Since when the longest has waited.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lock().iter().map(|(_, since)| *since).min()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u32, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.of.lock();
        if let Some(at) = waiting.iter().position(|(number, _)| *number == self.number) {
            waiting.swap_remove(at);
        }
    }
}
