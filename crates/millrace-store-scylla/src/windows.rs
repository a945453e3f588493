//! Windows of producers, in the memory of this process: a window cannot be merged by a database whose
//! greatest timestamp wins. They are forgotten with the process, which windows may always be; who
//! wants them kept, and shared by processes, keeps them in Redis.

use std::collections::HashMap;

use async_trait::async_trait;
use millrace_store::window::ProducerWindow;
use millrace_store::{ProducerWindows, Seen, StoreError};

use crate::store::{CqlStore, lock};

/// Producers in a generation. Two generations are kept; a window takes a few bytes, and 8 KiB at
/// most, where batches come out of order: 32 MiB at the very most.
const GENERATION: usize = 2_048;

/// Windows by producer. Those not marked for a whole generation are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    young: HashMap<String, ProducerWindow>,
    old: HashMap<String, ProducerWindow>,
}

impl Windows {
    fn of(&self, producer: &str) -> Option<&ProducerWindow> {
        self.young.get(producer).or_else(|| self.old.get(producer))
    }

    fn mark(&mut self, producer: &str, first: u64, next: u64) {
        if !self.young.contains_key(producer) {
            let window = self.old.remove(producer).unwrap_or_default();
            if self.young.len() >= GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(producer.to_owned(), window);
        }
        if let Some(window) = self.young.get_mut(producer) {
            window.mark(first, next);
        }
    }
}

#[async_trait]
impl ProducerWindows for CqlStore {
    async fn seen(&self, producer: &str, first: u64, next: u64) -> Result<Vec<Seen>, StoreError> {
        let windows = lock(&self.windows);
        Ok(match windows.of(producer) {
            Some(window) => window.seen_range(first, next),
            None => (first..next).map(|_| Seen::No).collect(),
        })
    }

    async fn mark(&self, producer: &str, first: u64, next: u64) -> Result<(), StoreError> {
        if first < next {
            lock(&self.windows).mark(producer, first, next);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_nobody_marks_are_forgotten() {
        let mut windows = Windows::default();
        for number in 0..3 * GENERATION {
            windows.mark(&number.to_string(), 0, 5);
            windows.mark("busy", number as u64, number as u64 + 1);
            assert!(windows.young.len() + windows.old.len() <= 2 * GENERATION);
        }
        assert!(windows.of("0").is_none());
        assert_eq!(windows.of("busy").map(ProducerWindow::base), Some(0));
    }
}
