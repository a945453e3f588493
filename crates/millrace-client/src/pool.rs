//! The processes of a role, for calls that any of them can answer: they take turns, and those that were silent
//! or away are left out for a while.
//!
//! Balancing on connections alone goes on sending to a process that is frozen: the system keeps its
//! connections open, and accepts new ones.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;

use crate::hedge::Hedge;

/// An answer that takes longer is asked of another process too.
const ASK_ANOTHER_AFTER: Duration = Duration::from_secs(2);
/// A process that did not answer is asked again after so long.
const LEFT_OUT_FOR: Duration = Duration::from_secs(10);

/// Several processes that answer alike.
#[derive(Debug)]
pub(crate) struct Pool {
    channels: Vec<Channel>,
    /// Second attempts.
    pub(crate) hedge: Hedge,
    turns: Turns,
}

impl Pool {
    pub(crate) fn new(channels: Vec<Channel>) -> Self {
        // Clients that live for one call do not all begin with the same.
        let first = RandomState::new().build_hasher().finish() as usize;
        let turns = Turns::new(channels.len(), first);
        Self { channels, hedge: Hedge::new(ASK_ANOTHER_AFTER), turns }
    }

    /// Whose turn it is, and the way there.
    pub(crate) fn next(&self) -> Option<(usize, Channel)> {
        let index = self.turns.next();
        self.channels.get(index).map(|channel| (index, channel.clone()))
    }

    /// This one did not answer.
    pub(crate) fn leave_out(&self, index: usize) {
        self.turns.leave_out(index);
    }
}

/// Who is next of so many.
#[derive(Debug)]
struct Turns {
    next: AtomicUsize,
    /// Until when each is left out.
    until: Mutex<Vec<Option<Instant>>>,
}

impl Turns {
    fn new(count: usize, first: usize) -> Self {
        Self { next: AtomicUsize::new(first), until: Mutex::new(vec![None; count]) }
    }

    /// The next one that is not left out; where all are, the next one.
    fn next(&self) -> usize {
        let now = Instant::now();
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let count = until.len().max(1);
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut turns = (0..count).map(|n| first.wrapping_add(n) % count);
        turns.find(|n| until[*n].is_none_or(|until| until <= now)).unwrap_or(first % count)
    }

    fn leave_out(&self, index: usize) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until.get_mut(index) {
            *until = Some(Instant::now() + LEFT_OUT_FOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn they_take_turns_and_who_was_silent_is_left_out_for_a_while() {
        let turns = Turns::new(3, 0);
        let next = |n: usize| (0..n).map(|_| turns.next()).collect::<Vec<_>>();
        assert_eq!(next(6), [0, 1, 2, 0, 1, 2]);
        turns.leave_out(1);
        assert!(!next(6).contains(&1));
        turns.leave_out(0);
        assert_eq!(next(3), [2, 2, 2]);
        // Somebody has to be asked.
        turns.leave_out(2);
        let mut all = next(3);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        advance(LEFT_OUT_FOR).await;
        let mut all = next(3);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        turns.leave_out(7);
    }
}
