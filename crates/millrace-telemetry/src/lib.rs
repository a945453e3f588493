//! What a process tells of itself: logs, metrics and traces, each set up in one place, and the
//! admin port, where metrics and health are asked for over HTTP.
//!
//! - [`logs`]: lines on standard error. Standard output belongs to data.
//! - [`metrics`]: the process's one registry, and what every instrument is described with. An
//!   instrument stands beside the code it measures, in the `metrics` module of its service.
//! - [`trace`]: spans of batches and reads, over OTLP when the environment asks for it.
//! - [`admin`]: `/metrics`, `/livez` and `/readyz`.

pub mod admin;
pub mod logs;
pub mod metrics;
pub mod trace;

pub use admin::AdminServer;
pub use logs::{Role, TelemetryError, filter, init};
pub use metrics::{Measure, Metric, Metrics};
pub use trace::{Span, TraceContext, Traces};
