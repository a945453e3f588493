//! What the services did so far: CPU by kind, and what they counted.

use millrace_feature_serving::metrics::{HEADS, PAGES};
use millrace_ingest::metrics::{BATCHES, FACTS, RESENDS};
use millrace_join::metrics::FLUSH_SECONDS;
use millrace_store_redis::metrics::CALLS;
use millrace_store_writer::metrics::{CHUNKS, COMMITS, LOADS, PARTS, RETRIES, STORE_SECONDS};
use millrace_telemetry::Metric;
use millrace_telemetry::metrics::Kind;

use super::super::{BenchError, usage};
use super::scrape::Scrape;
use super::services::{KINDS, Services};
use crate::cli::ServiceName;

/// CPU seconds and counts since the services were started, or between two moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// CPU seconds of each kind, in the order of [`KINDS`].
    cpu: [f64; KINDS.len()],
    /// CPU seconds of this process, the client.
    client_cpu: f64,
    counts: [f64; COUNTS.len()],
}

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Facts,
    Batches,
    Resends,
    RedisReads,
    RedisMarks,
    Flushes,
    Chunks,
    Commits,
    Confirmations,
    Parts,
    Loads,
    MarkLoads,
    Retries,
    HotHeads,
    StoredHeads,
    StoredPages,
}

/// A count: who counts it, by which metric and label.
type Counted = (Count, ServiceName, Metric, Option<(&'static str, &'static str)>);

/// All of them.
const COUNTS: [Counted; 16] = [
    (Count::Facts, ServiceName::Ingest, FACTS, None),
    (Count::Batches, ServiceName::Ingest, BATCHES, None),
    (Count::Resends, ServiceName::Ingest, RESENDS, None),
    (Count::RedisReads, ServiceName::Ingest, CALLS, Some(("call", "read"))),
    (Count::RedisMarks, ServiceName::Ingest, CALLS, Some(("call", "mark"))),
    (Count::Flushes, ServiceName::Join, FLUSH_SECONDS, None),
    (Count::Chunks, ServiceName::StoreWriter, CHUNKS, None),
    (Count::Commits, ServiceName::StoreWriter, COMMITS, None),
    (Count::Confirmations, ServiceName::StoreWriter, STORE_SECONDS, Some(("operation", "confirm"))),
    (Count::Parts, ServiceName::StoreWriter, PARTS, None),
    (Count::Loads, ServiceName::StoreWriter, LOADS, None),
    (Count::MarkLoads, ServiceName::StoreWriter, STORE_SECONDS, Some(("operation", "load_mark"))),
    (Count::Retries, ServiceName::StoreWriter, RETRIES, None),
    (Count::HotHeads, ServiceName::FeatureServing, HEADS, Some(("from", "cache"))),
    (Count::StoredHeads, ServiceName::FeatureServing, HEADS, Some(("from", "store"))),
    (Count::StoredPages, ServiceName::FeatureServing, PAGES, Some(("from", "store"))),
];

/// The name of the series that counts.
fn series(metric: &Metric) -> String {
    match metric.kind {
        Kind::Counter | Kind::Gauge => metric.name.to_owned(),
        Kind::Histogram(_) => format!("{}_count", metric.name),
    }
}

impl Work {
    /// What was done until now.
    pub(super) async fn of(services: &Services) -> Result<Self, BenchError> {
        let client_cpu = usage::cpu_seconds(std::process::id())?;
        let mut work = Self { cpu: [0.0; KINDS.len()], client_cpu, counts: [0.0; COUNTS.len()] };
        for (kind, cpu) in KINDS.into_iter().zip(&mut work.cpu) {
            for process in services.of(kind) {
                *cpu += process.cpu_seconds()?;
                let scrape = Scrape::of(process.admin().unwrap_or_default()).await?;
                for ((_, by, metric, label), count) in COUNTS.iter().zip(&mut work.counts) {
                    if *by == kind {
                        *count += scrape.sum(&series(metric), *label);
                    }
                }
            }
        }
        Ok(work)
    }

    /// What was done since an earlier moment.
    pub(super) fn since(mut self, before: &Self) -> Self {
        let each = self.cpu.iter_mut().chain(&mut self.counts);
        for (now, then) in each.zip(before.cpu.iter().chain(&before.counts)) {
            *now -= then;
        }
        self.client_cpu -= before.client_cpu;
        self
    }

    pub(super) fn count(&self, of: Count) -> f64 {
        COUNTS.iter().zip(&self.counts).filter(|(count, _)| count.0 == of).map(|(_, n)| n).sum()
    }

    /// CPU seconds of a kind of service.
    pub(super) fn cpu(&self, kind: ServiceName) -> f64 {
        KINDS.iter().zip(&self.cpu).filter(|(of, _)| **of == kind).map(|(_, cpu)| cpu).sum()
    }

    /// CPU seconds of all services.
    pub(super) fn services_cpu(&self) -> f64 {
        self.cpu.iter().sum()
    }

    /// CPU seconds of this process.
    pub(super) fn client_cpu(&self) -> f64 {
        self.client_cpu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_stands_once_and_has_the_label_that_its_metric_has() {
        for (index, (count, _, metric, label)) in COUNTS.iter().enumerate() {
            assert!(COUNTS[..index].iter().all(|(other, ..)| other != count), "{count:?}");
            let has = label.is_none_or(|(name, _)| metric.labels.contains(&name));
            assert!(has, "{count:?}");
        }
    }

    #[test]
    fn work_between_two_moments_is_what_was_added() {
        let work = |cpu: f64, count: f64| Work {
            cpu: [cpu; KINDS.len()],
            client_cpu: 2.0 * cpu,
            counts: [count; COUNTS.len()],
        };
        let since = work(3.0, 10.0).since(&work(1.0, 4.0));
        assert_eq!((since.services_cpu(), since.client_cpu()), (8.0, 4.0));
        assert_eq!((since.cpu(ServiceName::Join), since.count(Count::Chunks)), (2.0, 6.0));
    }
}
