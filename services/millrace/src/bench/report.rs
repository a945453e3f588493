//! The numbers of a benchmark. Scripts rely on the names.

use std::io::{self, Write};

use serde::Serialize;

use super::freshness::Fresh;
use super::reads::Reads;
use crate::output::{Report, Table};

/// What `bench clickprofile` measured.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    publish: PublishNumbers,
    read_1: ReadNumbers,
    read_100: ReadNumbers,
    limits: LimitNumbers,
}

#[derive(Debug, Clone, Serialize)]
struct PublishNumbers {
    events_per_second: f64,
    cpu_seconds_per_million: f64,
    peak_rss_bytes: u64,
    disk_bytes: u64,
    fresh_p50_ms: f64,
    fresh_p99_ms: f64,
    peak_rss_bytes_after_reads: u64,
}

#[derive(Debug, Clone, Serialize)]
struct ReadNumbers {
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Debug, Clone, Serialize)]
struct LimitNumbers {
    tonic_echo_rps: f64,
    store_rows_per_second: f64,
}

/// What publishing cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct PublishCost {
    pub(super) events_per_second: f64,
    pub(super) cpu_seconds_per_million: f64,
    pub(super) peak_rss_bytes: u64,
    pub(super) disk_bytes: u64,
}

impl BenchReport {
    pub(super) fn new(
        published: PublishCost,
        fresh: Fresh,
        read_1: Reads,
        read_100: Reads,
        tonic_echo_rps: f64,
        store_rows_per_second: f64,
        peak_rss_bytes_after_reads: u64,
    ) -> Self {
        let reads = |r: Reads| ReadNumbers {
            requests_per_second: r.requests_per_second.round(),
            p50_ms: r.p50_ms,
            p99_ms: r.p99_ms,
        };
        Self {
            publish: PublishNumbers {
                events_per_second: published.events_per_second.round(),
                cpu_seconds_per_million: (published.cpu_seconds_per_million * 100.0).round()
                    / 100.0,
                peak_rss_bytes: published.peak_rss_bytes,
                disk_bytes: published.disk_bytes,
                fresh_p50_ms: fresh.p50_ms,
                fresh_p99_ms: fresh.p99_ms,
                peak_rss_bytes_after_reads,
            },
            read_1: reads(read_1),
            read_100: reads(read_100),
            limits: LimitNumbers {
                tonic_echo_rps: tonic_echo_rps.round(),
                store_rows_per_second: store_rows_per_second.round(),
            },
        }
    }
}

impl Report for BenchReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        self.csv().write_framed(out, &[1])
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(&["what", "value", "unit"]);
        let mut row = |what: &str, value: String, unit: &str| {
            table.push(vec![what.to_owned(), value, unit.to_owned()]);
        };
        let p = &self.publish;
        let mib = |bytes: u64| format!("{:.0}", bytes as f64 / 1_048_576.0);
        row("publish, durable and servable", format!("{:.0}", p.events_per_second), "facts/s");
        row("  CPU, client included", format!("{:.2}", p.cpu_seconds_per_million), "s/million");
        row("  server memory, peak", mib(p.peak_rss_bytes), "MiB");
        row("  disk", mib(p.disk_bytes), "MiB");
        row("fresh at half that rate, p50", format!("{:.1}", p.fresh_p50_ms), "ms");
        row("fresh at half that rate, p99", format!("{:.1}", p.fresh_p99_ms), "ms");
        for (name, reads) in [("1 entity", &self.read_1), ("100 entities", &self.read_100)] {
            row(&format!("read {name}"), format!("{:.0}", reads.requests_per_second), "requests/s");
            row("  p50", format!("{:.2}", reads.p50_ms), "ms");
            row("  p99", format!("{:.2}", reads.p99_ms), "ms");
        }
        row("limit: empty gRPC call", format!("{:.0}", self.limits.tonic_echo_rps), "requests/s");
        row("limit: store", format!("{:.0}", self.limits.store_rows_per_second), "rows/s");
        table
    }
}
