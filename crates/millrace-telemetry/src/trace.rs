//! Traces: one span a batch through all hops, one a read. W3C trace context travels in the messages
//! of streams, so that long calls do not hide what goes through them.
//!
//! Nothing is made and nothing is sent unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) says where to: a [`Span`] is then nothing but a check of
//! one flag. What is sampled is decided at the head of a trace (`OTEL_TRACES_SAMPLER`).

mod context;
mod span;
mod tls;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::{TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_otlp::{WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;

pub use context::TraceContext;
pub use span::{Scope, Span};

/// The variables that say where traces go, the one for traces alone first.
pub const ENDPOINTS: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// How long what was not sent yet may take when the process ends.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(2);

static ON: AtomicBool = AtomicBool::new(false);

/// Whether spans are made in this process.
#[must_use]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The trace that the task that asks belongs to.
#[must_use]
pub fn current_id() -> Option<TraceId> {
    let context = Context::current();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id())
}

/// Why there are no traces.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The exporter cannot be made of what the environment says.
    #[error("traces cannot be exported: check OTEL_EXPORTER_OTLP_ENDPOINT")]
    Export(#[from] opentelemetry_otlp::ExporterBuildError),
    /// A collector behind TLS, and nobody to trust.
    #[error(
        "a collector at https:// needs the certificate of who signed its own: name the PEM file in \
         OTEL_EXPORTER_OTLP_CERTIFICATE; what the operating system trusts is not asked"
    )]
    Authority,
    /// One of a pair.
    #[error("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY go together")]
    Pair,
    /// A file cannot be read.
    #[error("cannot read {}, which {variable} names", path.display())]
    File {
        /// Which variable names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The process's traces, being exported.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Exports the spans of this process over OTLP (gRPC) when the environment says where to;
    /// `None` when it does not. `read` reads a variable of it. To be called before the services
    /// start, once a process, in the runtime that sends.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn install(
        service: &'static str,
        version: &'static str,
        read: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, TraceError> {
        let url = |name: &&str| read(name).filter(|url| !url.trim().is_empty());
        let Some(url) = ENDPOINTS.iter().find_map(url) else { return Ok(None) };
        let tls = tls::config(&url, &read)?;
        let mut exporter =
            opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(url);
        if let Some(tls) = tls {
            exporter = exporter.with_tls_config(tls);
        }
        let exporter = exporter.build()?;
        // The environment may say more of the process (`OTEL_RESOURCE_ATTRIBUTES`) and give it
        // another name (`OTEL_SERVICE_NAME`).
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", version));
        if read("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(format!("millrace-{service}"));
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        global::set_tracer_provider(provider.clone());
        ON.store(true, Ordering::Relaxed);
        Ok(Some(Self { provider }))
    }

    /// Sends what was not sent yet, for [`FLUSH_WITHIN`] at most.
    pub async fn shut_down(self) {
        ON.store(false, Ordering::Relaxed);
        // The exporter waits on its own thread while this runtime sends.
        let flushed =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH_WITHIN));
        match flushed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not all sent"),
            Err(error) => tracing::warn!(%error, "the last spans were not all sent"),
        }
    }
}
