//! Marks that are on their way to Redis: bounded, and joined where they meet.

use std::collections::HashMap;
use std::ops::Range;

/// Greatest number of runs that wait. Under load runs of a producer meet and become one; it is full
/// only where Redis takes none. With names of 300 bytes that is 5 MiB.
pub(crate) const RUNS_MAX: usize = 16_384;

/// The runs of one producer, in the order of their marks.
pub(crate) type Runs = (String, Vec<Range<u64>>);

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    by_producer: HashMap<String, Vec<Range<u64>>>,
    runs: usize,
}

impl Pending {
    /// How many runs wait.
    pub(crate) fn len(&self) -> usize {
        self.runs
    }

    /// Takes a run in. False when there is no room: it is forgotten then.
    pub(crate) fn add(&mut self, producer: &str, run: Range<u64>) -> bool {
        if let Some(runs) = self.by_producer.get_mut(producer) {
            if let Some(last) = runs.last_mut()
                && run.start <= last.end
                && last.start <= run.end
            {
                *last = last.start.min(run.start)..last.end.max(run.end);
                return true;
            }
            if self.runs == RUNS_MAX {
                return false;
            }
            runs.push(run);
        } else if self.runs == RUNS_MAX {
            return false;
        } else {
            self.by_producer.insert(producer.to_owned(), vec![run]);
        }
        self.runs += 1;
        true
    }

    /// Takes everything out.
    pub(crate) fn take(&mut self) -> Vec<Runs> {
        self.runs = 0;
        self.by_producer.drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_meet_become_one() {
        let mut pending = Pending::default();
        for run in [10..20, 20..30, 5..12, 40..50, 35..41] {
            assert!(pending.add("a", run));
        }
        assert!(pending.add("b", 0..1));
        assert_eq!(pending.len(), 3);
        let mut taken = pending.take();
        taken.sort_by(|a, b| a.0.cmp(&b.0));
        let [(a, runs_of_a), (b, runs_of_b)] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!((&**a, &runs_of_a[..]), ("a", &[5..30, 35..50][..]));
        assert_eq!((&**b, runs_of_b.len(), &runs_of_b[0]), ("b", 1, &(0..1)));
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn what_finds_no_room_is_forgotten_and_what_was_there_stays() {
        let mut pending = Pending::default();
        let far = |n: usize| (n as u64 * 10)..(n as u64 * 10 + 1);
        for n in 0..RUNS_MAX {
            assert!(pending.add("a", far(n)));
        }
        assert!(!pending.add("a", far(RUNS_MAX)) && !pending.add("b", 0..1));
        let last = far(RUNS_MAX - 1);
        assert!(pending.add("a", last.end..last.end + 5), "it meets the last one");
        assert_eq!(pending.len(), RUNS_MAX);
    }
}
