//! Metrics: the process's one registry, as the log's subscriber is one, and the descriptions of
//! instruments.
//!
//! Instruments are OpenTelemetry's, from the global meter provider, which [`Metrics::install`] sets
//! before the services start. Where it does not, as in tests and in a process without an admin
//! port, every instrument does nothing.
//!
//! Labels come from bounded sets alone: closed sets of names, methods of the protocol, and names of
//! the catalog through [`names`]. Never an entity key, an id, an address or the text of an error.

pub mod names;

use std::fmt;

use async_trait::async_trait;
use opentelemetry::global;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder as _, Registry, TextEncoder};
use thiserror::Error;

/// The scope of every instrument.
const SCOPE: &str = "millrace";

/// Seconds of calls, reads and writes: from what memory answers to what a client gives up on.
pub const LATENCY: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];
/// Counts of facts that go together.
pub const FACTS: &[f64] = &[1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0];
/// Bytes that go together.
pub const BYTES: &[f64] = &[1_024.0, 8_192.0, 65_536.0, 524_288.0, 4_194_304.0, 33_554_432.0];

/// What an instrument is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Goes up for as long as the process runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by the least of these bounds that holds them.
    Histogram(&'static [f64]),
}

/// The description of an instrument. It is made in one place, and documented as it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// As scraped: `millrace_`, base units, `_total` for counters.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, all from bounded sets.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence.
    pub help: &'static str,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        })
    }
}

fn meter() -> Meter {
    global::meter(SCOPE)
}

impl Metric {
    /// Describes a counter.
    #[must_use]
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// Describes a gauge.
    #[must_use]
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    /// Describes a histogram with these bounds, ascending.
    #[must_use]
    pub const fn histogram(
        name: &'static str,
        bounds: &'static [f64],
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Histogram(bounds), labels, help }
    }

    /// The counter. About 100 ns an addition: once a batch, never once a fact.
    #[must_use]
    pub fn count(&self) -> Counter<u64> {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        meter().u64_counter(self.name).with_description(self.help).build()
    }

    /// A counter whose value is kept elsewhere and read when it is scraped.
    pub fn count_of(&self, read: impl Fn() -> Option<u64> + Send + Sync + 'static) {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        // The registry keeps the callback for as long as the process runs.
        let _ = meter()
            .u64_observable_counter(self.name)
            .with_description(self.help)
            .with_callback(move |observer| {
                if let Some(value) = read() {
                    observer.observe(value, &[]);
                }
            })
            .build();
    }

    /// The gauge, set when it is scraped ([`Measure`]).
    #[must_use]
    pub fn set(&self) -> Gauge<f64> {
        debug_assert_eq!(self.kind, Kind::Gauge, "{}", self.name);
        meter().f64_gauge(self.name).with_description(self.help).build()
    }

    /// A gauge whose value is read when it is scraped. `None` once what it tells of is gone.
    pub fn set_to(&self, read: impl Fn() -> Option<f64> + Send + Sync + 'static) {
        debug_assert_eq!(self.kind, Kind::Gauge, "{}", self.name);
        let _ = meter()
            .f64_observable_gauge(self.name)
            .with_description(self.help)
            .with_callback(move |observer| {
                if let Some(value) = read() {
                    observer.observe(value, &[]);
                }
            })
            .build();
    }

    /// The histogram. About 100 ns a value.
    #[must_use]
    pub fn record(&self) -> Histogram<f64> {
        let Kind::Histogram(bounds) = self.kind else {
            debug_assert!(false, "{} is no histogram", self.name);
            return meter().f64_histogram(self.name).build();
        };
        meter()
            .f64_histogram(self.name)
            .with_description(self.help)
            .with_boundaries(bounds.to_vec())
            .build()
    }
}

/// What has to be asked before its gauges tell the truth.
#[async_trait]
pub trait Measure: Send + Sync + 'static {
    /// Sets the gauges. Given up after a second.
    async fn measure(&self);
}

/// Why there are no metrics.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The registry does not take a collector.
    #[error("metrics cannot be registered")]
    Register(#[from] prometheus::Error),
    /// The exporter does not start.
    #[error("metrics cannot be exported")]
    Export(#[source] opentelemetry_sdk::error::OTelSdkError),
}

/// The process's metrics. By default there are none.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Registry,
}

/// Which build runs, as which service.
pub const BUILD_INFO: Metric = Metric::gauge(
    "millrace_build_info",
    &["service", "version"],
    "1, for the build that runs and the service it runs as",
);

impl Metrics {
    /// Makes the registry and lets every instrument made from now on count in it. To be called
    /// before the services start, once a process.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn install(service: &'static str, version: &'static str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        {
            use prometheus::process_collector::ProcessCollector;
            registry.register(Box::new(ProcessCollector::for_self()))?;
        }
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            // Names are written as they are scraped, so that they can be searched for.
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(MetricsError::Export)?;
        // Beyond 2,000 series of an instrument the SDK counts under `otel_metric_overflow`. Bounded
        // labels stay below that.
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        global::set_meter_provider(provider);
        let labels = [
            opentelemetry::KeyValue::new("service", service),
            opentelemetry::KeyValue::new("version", version),
        ];
        BUILD_INFO.set().record(1.0, &labels);
        Ok(Self { registry })
    }

    /// Everything counted, in Prometheus' text format.
    ///
    /// # Errors
    /// [`MetricsError`] for a defect of an instrument.
    pub fn text(&self) -> Result<Vec<u8>, MetricsError> {
        let mut text = Vec::with_capacity(64 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// The media type of [`Metrics::text`].
pub const TEXT: &str = prometheus::TEXT_FORMAT;
