//! Marks that are on their way to Redis: bounded, and joined where they meet.

use std::collections::HashMap;
use std::ops::Range;

use millrace_telemetry::TraceContext;

/// Greatest number of runs that wait. Under load runs of a producer meet and become one; it is full
/// only where Redis takes none. With names of 300 bytes that is 5 MiB.
pub(crate) const RUNS_MAX: usize = 16_384;

/// Traces of batches that one write of marks belongs to; it is linked to no more of them.
const TRACES_MAX: usize = 16;

/// What waits of one producer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) producer: String,
    /// The runs, in the order of their marks.
    pub(crate) runs: Vec<Range<u64>>,
    /// What they were marked for.
    pub(crate) traces: Vec<TraceContext>,
}

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    by_producer: HashMap<String, (Vec<Range<u64>>, Vec<TraceContext>)>,
    runs: usize,
}

impl Pending {
    /// How many runs wait.
    pub(crate) fn len(&self) -> usize {
        self.runs
    }

    /// Takes a run in, for what it was marked for. False when there is no room: it is forgotten then.
    pub(crate) fn add(&mut self, producer: &str, run: Range<u64>, trace: TraceContext) -> bool {
        if let Some((runs, traces)) = self.by_producer.get_mut(producer) {
            if trace.is_some() && traces.len() < TRACES_MAX {
                traces.push(trace);
            }
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
            let traces = trace.is_some().then_some(trace).into_iter().collect();
            self.by_producer.insert(producer.to_owned(), (vec![run], traces));
        }
        self.runs += 1;
        true
    }

    /// Takes everything out.
    pub(crate) fn take(&mut self) -> Vec<Waiting> {
        self.runs = 0;
        let all = self.by_producer.drain();
        all.map(|(producer, (runs, traces))| Waiting { producer, runs, traces }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_meet_become_one() {
        let mut pending = Pending::default();
        for run in [10..20, 20..30, 5..12, 40..50, 35..41] {
            assert!(pending.add("a", run, TraceContext::default()));
        }
        assert!(pending.add("b", 0..1, TraceContext::default()));
        assert_eq!(pending.len(), 3);
        let mut taken = pending.take();
        taken.sort_by(|a, b| a.producer.cmp(&b.producer));
        let [a, b] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!((&*a.producer, &a.runs[..]), ("a", &[5..30, 35..50][..]));
        assert_eq!((&*b.producer, b.runs.len(), &b.runs[0]), ("b", 1, &(0..1)));
        assert_eq!(pending.len(), 0);
    }

    /// Traces do not grow with the marks that meet, and what is in none takes nothing.
    #[test]
    fn a_write_knows_a_bounded_number_of_traces() {
        let trace = |n: u64| {
            TraceContext::parse(&format!("00-0af7651916cd43dd8448eb211c80319c-{n:016x}-01"), "")
        };
        let mut pending = Pending::default();
        assert!(pending.add("a", 0..1, TraceContext::default()));
        for n in 1..100 {
            assert!(pending.add("a", n..n + 1, trace(n)));
        }
        let taken = pending.take();
        assert_eq!(taken[0].runs.len(), 1);
        assert_eq!(taken[0].traces, (1..17).map(trace).collect::<Vec<_>>());
    }

    fn add(pending: &mut Pending, producer: &str, run: Range<u64>) -> bool {
        pending.add(producer, run, TraceContext::default())
    }

    #[test]
    fn what_finds_no_room_is_forgotten_and_what_was_there_stays() {
        let mut pending = Pending::default();
        let far = |n: usize| (n as u64 * 10)..(n as u64 * 10 + 1);
        for n in 0..RUNS_MAX {
            assert!(add(&mut pending, "a", far(n)));
        }
        assert!(!add(&mut pending, "a", far(RUNS_MAX)) && !add(&mut pending, "b", 0..1));
        let last = far(RUNS_MAX - 1);
        assert!(add(&mut pending, "a", last.end..last.end + 5), "it meets the last one");
        assert_eq!(pending.len(), RUNS_MAX);
    }
}
