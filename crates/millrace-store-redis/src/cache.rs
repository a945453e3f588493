//! The windows that this process knows: what it marked, and what it read. A producer that goes on
//! in order is answered from here, so that a batch costs one call to Redis, its mark.
//!
//! What stands here is marked for good. It may be less than what Redis knows: then facts are sent
//! on which another process has had logged.

use std::collections::HashMap;

use millrace_store::Seen;
use millrace_store::window::ProducerWindow;

/// Producers in a generation. Two generations are kept; a window takes a few bytes, and 8 KiB at
/// most, where batches come out of order: 32 MiB at the very most.
const GENERATION: usize = 2_048;

/// Windows by producer. Those not used for a whole generation are dropped.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    young: HashMap<String, ProducerWindow>,
    old: HashMap<String, ProducerWindow>,
}

/// What the cache has to say about a range.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// This, and Redis need not be asked.
    All(Vec<Seen>),
    /// Nothing that settles it.
    Ask,
}

impl Cache {
    /// What is known of `[first, next)`: settled when all of it is marked, or none of it can be as
    /// far as this process knows, since it goes on where the window ends.
    pub(crate) fn known(&mut self, producer: &str, first: u64, next: u64) -> Known {
        let Some(window) = self.find(producer) else { return Known::Ask };
        let seen = window.seen_range(first, next);
        if first >= window.end() || seen.iter().all(|seen| *seen == Seen::Yes) {
            return Known::All(seen);
        }
        Known::Ask
    }

    /// Changes a window and gives it; a new one where there is none.
    pub(crate) fn change(
        &mut self,
        producer: &str,
        change: impl FnOnce(&mut ProducerWindow),
    ) -> &ProducerWindow {
        if self.find(producer).is_none() {
            self.insert(producer.to_owned(), ProducerWindow::default());
        }
        let window = self.young.entry(producer.to_owned()).or_default();
        change(window);
        window
    }

    /// What this process alone knows of a range, if it knows the producer.
    pub(crate) fn alone(&mut self, producer: &str, first: u64, next: u64) -> Option<Vec<Seen>> {
        self.find(producer).map(|window| window.seen_range(first, next))
    }

    /// Finds a window and makes it young.
    fn find(&mut self, producer: &str) -> Option<&ProducerWindow> {
        if let Some((name, window)) = self.old.remove_entry(producer) {
            self.insert(name, window);
        }
        self.young.get(producer)
    }

    fn insert(&mut self, producer: String, window: ProducerWindow) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(producer, window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_in_order_and_what_is_all_marked_is_settled() {
        let mut cache = Cache::default();
        assert_eq!(cache.known("p", 0, 5), Known::Ask, "an unknown producer");
        cache.change("p", |window| window.mark(10, 20));
        assert_eq!(cache.known("p", 20, 22), Known::All(vec![Seen::No; 2]));
        assert_eq!(cache.known("p", 12, 14), Known::All(vec![Seen::Yes; 2]));
        assert_eq!(cache.known("p", 18, 22), Known::Ask);
        assert_eq!(cache.known("p", 0, 5), Known::Ask, "below the base");
        assert_eq!(cache.alone("p", 19, 21), Some(vec![Seen::Yes, Seen::No]));
        assert_eq!(cache.alone("q", 19, 21), None);
    }

    #[test]
    fn windows_that_nobody_uses_are_dropped() {
        let mut cache = Cache::default();
        for number in 0..3 * GENERATION {
            cache.change(&number.to_string(), |window| window.mark(0, 5));
            cache.change("busy", |window| window.mark(0, 5));
            assert!(cache.young.len() + cache.old.len() <= 2 * GENERATION + 1);
        }
        assert_eq!(cache.alone("0", 0, 1), None);
        assert_eq!(cache.alone("busy", 0, 1), Some(vec![Seen::Yes]));
    }
}
