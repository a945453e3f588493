//! The numbers of `bench cluster`. Scripts rely on the names.

use std::io::{self, Write};

use serde::Serialize;

use super::super::publish::Published;
use super::super::reads::Reads;
use super::counted::{Count, Work};
use super::moves::Moved;
use super::services::KINDS;
use crate::cli::ServiceName;
use crate::output::json::Entries;
use crate::output::{Report, Table};

/// What `bench cluster` measured.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterReport {
    /// The keyspace, which is left.
    pub(super) keyspace: String,
    /// Services, before the last one was added.
    pub(super) processes: usize,
    pub(super) publish: PublishNumbers,
    /// Users drawn as those of the clicks.
    pub(super) read_1: ReadNumbers,
    /// A few users, again and again.
    pub(super) read_hot: ReadNumbers,
    pub(super) new_join_node: Moved,
    /// Of all services together.
    pub(super) peak_rss_bytes: u64,
}

/// Publishing at full load, until stored heads have all of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PublishNumbers {
    facts: u64,
    repaired: u64,
    facts_per_second: f64,
    acknowledged_p50_ms: f64,
    acknowledged_p99_ms: f64,
    /// From the first batch until stored heads had everything.
    settled_seconds: f64,
    cpu: Cpu,
    batches: u64,
    /// Chunks appended, each a write of the log.
    log_writes: u64,
    facts_per_log_write: f64,
    /// Calls of join nodes that append the chunks of many slots.
    flushes: u64,
    /// Groups of such calls that are appended together.
    commits: u64,
    confirmations_per_flush: f64,
    /// Parts of heads written.
    head_writes: u64,
    /// Calls of Redis that a batch waited for.
    redis_reads: u64,
    /// Calls of Redis behind the acknowledgements.
    redis_marks: u64,
    redis_calls_per_batch: f64,
    /// Calls of the store tried again, and facts sent to join again.
    retries: u64,
    resends: u64,
}

/// Reads of one entity with ten features.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ReadNumbers {
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Per million reads.
    cpu: Cpu,
    /// Point queries of marks a read.
    mark_loads: f64,
    /// Point queries of heads a read.
    head_loads: f64,
    /// Point queries of pages of large entities a read.
    page_loads: f64,
    /// The share of heads that were kept from an earlier read.
    hot_heads: f64,
}

/// CPU seconds per million facts or reads.
#[derive(Debug, Clone, Serialize)]
struct Cpu {
    services_seconds_per_million: f64,
    client_seconds_per_million: f64,
    by_service: Entries<f64>,
}

/// Rounded to so many digits behind the point.
fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (number * scale).round() / scale
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { rounded(a / b, 3) } else { 0.0 }
}

impl Cpu {
    fn new(work: &Work, count: f64) -> Self {
        let per_million = |seconds: f64| ratio(seconds, count / 1e6);
        let of = |kind: ServiceName| (kind.name().to_owned(), per_million(work.cpu(kind)));
        Self {
            services_seconds_per_million: per_million(work.services_cpu()),
            client_seconds_per_million: per_million(work.client_cpu()),
            by_service: Entries(KINDS.into_iter().map(of).collect()),
        }
    }
}

impl PublishNumbers {
    pub(super) fn new(published: &Published, settled_seconds: f64, work: &Work) -> Self {
        let count = |of: Count| work.count(of);
        let facts = published.counts.accepted + published.counts.repaired;
        let ms = |q: f64| published.acknowledged_us.value_at_quantile(q) as f64 / 1e3;
        let redis = count(Count::RedisReads) + count(Count::RedisMarks);
        Self {
            facts,
            repaired: published.counts.repaired,
            facts_per_second: (facts as f64 / published.seconds).round(),
            acknowledged_p50_ms: ms(0.5),
            acknowledged_p99_ms: ms(0.99),
            settled_seconds: rounded(settled_seconds, 2),
            cpu: Cpu::new(work, facts as f64),
            batches: count(Count::Batches) as u64,
            log_writes: count(Count::Chunks) as u64,
            facts_per_log_write: ratio(count(Count::Facts), count(Count::Chunks)),
            flushes: count(Count::Flushes) as u64,
            commits: count(Count::Commits) as u64,
            confirmations_per_flush: ratio(count(Count::Confirmations), count(Count::Flushes)),
            head_writes: count(Count::Parts) as u64,
            redis_reads: count(Count::RedisReads) as u64,
            redis_marks: count(Count::RedisMarks) as u64,
            redis_calls_per_batch: ratio(redis, count(Count::Batches)),
            retries: count(Count::Retries) as u64,
            resends: count(Count::Resends) as u64,
        }
    }
}

impl ReadNumbers {
    pub(super) fn new(reads: Reads, work: &Work) -> Self {
        let requests = reads.requests as f64;
        let a_read = |count: f64| ratio(count, requests);
        let (hot, stored) = (work.count(Count::HotHeads), work.count(Count::StoredHeads));
        let pages = work.count(Count::StoredPages);
        Self {
            requests_per_second: reads.requests_per_second.round(),
            p50_ms: reads.p50_ms,
            p99_ms: reads.p99_ms,
            cpu: Cpu::new(work, requests),
            mark_loads: a_read(work.count(Count::MarkLoads)),
            head_loads: a_read(work.count(Count::Loads) - pages),
            page_loads: a_read(pages),
            hot_heads: ratio(hot, hot + stored),
        }
    }
}

/// Rows of the table.
struct Rows(Table);

impl Rows {
    fn row(&mut self, what: impl Into<String>, value: String, unit: &str) {
        self.0.push(vec![what.into(), value, unit.to_owned()]);
    }

    fn cpu(&mut self, cpu: &Cpu) {
        let seconds = |number: f64| format!("{number:.2}");
        self.row("  CPU of the services", seconds(cpu.services_seconds_per_million), "s/million");
        for (name, of_service) in &cpu.by_service.0 {
            self.row(format!("    {name}"), seconds(*of_service), "s/million");
        }
        self.row("  CPU of the client", seconds(cpu.client_seconds_per_million), "s/million");
    }

    fn publish(&mut self, p: &PublishNumbers) {
        self.row("publish, durable", format!("{:.0}", p.facts_per_second), "facts/s");
        self.row("  acknowledged, p50", format!("{:.1}", p.acknowledged_p50_ms), "ms");
        self.row("  acknowledged, p99", format!("{:.1}", p.acknowledged_p99_ms), "ms");
        self.row("  until stored heads had all", format!("{:.1}", p.settled_seconds), "s");
        self.cpu(&p.cpu);
        self.row("  facts a write of the log", format!("{:.1}", p.facts_per_log_write), "facts");
        self.row("  writes of the log", p.log_writes.to_string(), "");
        self.row("  flushes of join nodes", p.flushes.to_string(), "");
        self.row("  commits", p.commits.to_string(), "");
        self.row("  confirmations a flush", format!("{:.3}", p.confirmations_per_flush), "");
        self.row("  parts of heads written", p.head_writes.to_string(), "");
        self.row("  batches", p.batches.to_string(), "");
        self.row("  calls of Redis a batch", format!("{:.3}", p.redis_calls_per_batch), "");
        self.row("    that batches waited for", p.redis_reads.to_string(), "calls");
        self.row("  facts repaired", p.repaired.to_string(), "");
        self.row("  retries and resends", (p.retries + p.resends).to_string(), "");
    }

    fn reads(&mut self, name: &str, reads: &ReadNumbers) {
        self.row(format!("read {name}"), format!("{:.0}", reads.requests_per_second), "requests/s");
        self.row("  p50", format!("{:.2}", reads.p50_ms), "ms");
        self.row("  p99", format!("{:.2}", reads.p99_ms), "ms");
        self.cpu(&reads.cpu);
        self.row("  marks loaded", format!("{:.3}", reads.mark_loads), "a read");
        self.row("  heads loaded", format!("{:.3}", reads.head_loads), "a read");
        self.row("  pages loaded", format!("{:.3}", reads.page_loads), "a read");
        self.row("  heads kept", format!("{:.1}", 100.0 * reads.hot_heads), "%");
    }

    fn moved(&mut self, m: &Moved) {
        self.row(
            format!("slots moved to join node {}", m.join_nodes),
            m.moved_slots.to_string(),
            "",
        );
        self.row("  of slots", m.slots.to_string(), "");
        self.row("  1.25 of an equal share", format!("{:.1}", m.moved_slots_bound), "");
        self.row("  without an owner, longest", format!("{:.0}", m.unowned_ms_max), "ms");
        self.row("  without an owner, mean", format!("{:.0}", m.unowned_ms_mean), "ms");
    }
}

impl Report for ClusterReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        self.csv().write_framed(out, &[1])?;
        writeln!(out, "keyspace {} is left", self.keyspace)
    }

    fn csv(&self) -> Table {
        let mut rows = Rows(Table::new(&["what", "value", "unit"]));
        rows.publish(&self.publish);
        rows.reads("1 entity", &self.read_1);
        rows.reads("1 entity of a few", &self.read_hot);
        rows.moved(&self.new_join_node);
        let mib = format!("{:.0}", self.peak_rss_bytes as f64 / 1_048_576.0);
        rows.row("memory of all services, peak", mib, "MiB");
        rows.0
    }
}
