//! Logs: human-readable lines on standard error, chosen by a filter.

use std::io::IsTerminal as _;

use thiserror::Error;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::trace;

/// Who writes the log, and so what is in it when nobody asks for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A command that a person runs: warnings and errors alone.
    Command,
    /// A service: what an operator wants to know later.
    Service,
}

/// Why logs could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error(
        "log filter {filter:?} is not valid: give levels such as `info` or \
         `warn,millrace_ingest=debug`"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Logs of this process are set up already.
    #[error("logs are set up already")]
    AlreadySet,
}

impl Role {
    fn default_filter(self) -> &'static str {
        match self {
            Self::Command => "warn",
            // The transport tells of every connection at info; its warnings are enough.
            Self::Service => "info,h2=warn,hyper=warn,tonic=warn,tower=warn,opentelemetry=warn",
        }
    }
}

/// Reads a filter in the form of `RUST_LOG`: a level, or `target=level` parts with commas between.
/// Empty or `None` is the role's default.
///
/// # Errors
/// [`TelemetryError::Filter`] for anything else.
pub fn filter(role: Role, text: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let text = text.filter(|text| !text.trim().is_empty()).unwrap_or(role.default_filter());
    EnvFilter::builder()
        .parse(text)
        .map_err(|source| TelemetryError::Filter { filter: text.to_owned(), source })
}

/// Sets logs up for the whole process, once. `filter_text` is what the environment says, if
/// anything.
///
/// # Errors
/// [`TelemetryError::Filter`] when the text is no filter, [`TelemetryError::AlreadySet`] the second
/// time.
pub fn init(role: Role, filter_text: Option<&str>) -> Result<(), TelemetryError> {
    let colours = std::io::stderr().is_terminal();
    let format = fmt::format().with_target(matches!(role, Role::Service)).with_ansi(colours);
    fmt()
        .with_env_filter(filter(role, filter_text)?)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .event_format(Traced(format))
        .finish()
        .try_init()
        .map_err(|_| TelemetryError::AlreadySet)
}

/// Lines that end with the trace they belong to, where there is one.
struct Traced<F>(F);

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let Some(trace) = trace::current_id() else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{} trace_id={trace}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::Context;
    use opentelemetry::trace::{
        SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    };

    use super::*;

    #[test]
    fn filters_are_read_or_refused_by_name() {
        assert_eq!(filter(Role::Command, None).unwrap().to_string(), "warn");
        assert_eq!(filter(Role::Command, Some(" ")).unwrap().to_string(), "warn");
        let given = filter(Role::Service, Some("millrace_join=debug")).unwrap();
        assert_eq!(given.to_string(), "millrace_join=debug");
        let error = filter(Role::Service, Some("millrace=loud")).unwrap_err();
        assert!(error.to_string().contains("millrace=loud"), "{error}");
    }

    /// Takes what is written.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_name_the_trace_they_belong_to() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = fmt()
            .with_writer(move || writer.clone())
            .event_format(Traced(fmt::format().with_ansi(false)))
            .finish();
        let trace = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128;
        let span = SpanContext::new(
            TraceId::from(trace),
            SpanId::from(7_u64),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("before");
            let _within = Context::new().with_remote_span_context(span).attach();
            tracing::info!(n = 1, "within");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("before"), "{text}");
        let end = "within n=1 trace_id=0af7651916cd43dd8448eb211c80319c";
        assert!(lines[1].ends_with(end), "{text}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn logs_are_set_up_once() {
        init(Role::Command, Some("off")).unwrap();
        assert!(matches!(init(Role::Command, None), Err(TelemetryError::AlreadySet)));
    }
}
