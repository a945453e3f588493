//! Where in a trace something belongs, as messages carry it.

use std::str::FromStr as _;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::Scope;

/// Bytes of a `tracestate` that are taken; W3C asks for 512 at least. A longer one is left out.
const TRACESTATE_BYTES_MAX: usize = 512;
/// Bytes of a `traceparent`: 55 in version 00, perhaps more in later ones. The SDK reads shorter ones
/// too, as if they began with zeros.
const TRACEPARENT_BYTES: std::ops::RangeInclusive<usize> = 55..=64;

/// The span that something is done for. Empty where there is none, and while traces are off.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TraceContext(Option<SpanContext>);

/// The two headers.
#[derive(Default)]
struct Wire<'a> {
    traceparent: &'a str,
    tracestate: &'a str,
}

impl Extractor for Wire<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.traceparent),
            "tracestate" if !self.tracestate.is_empty() => Some(self.tracestate),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// Takes the headers out again.
#[derive(Default)]
struct Written {
    traceparent: String,
    tracestate: String,
}

impl Injector for Written {
    fn set(&mut self, key: &str, value: String) {
        match key {
            "traceparent" => self.traceparent = value,
            "tracestate" => self.tracestate = value,
            _ => {}
        }
    }
}

impl TraceContext {
    /// Reads W3C trace context. What is none is empty: nobody's batch is refused for it.
    #[must_use]
    pub fn read(traceparent: &str, tracestate: &str) -> Self {
        if !super::is_on() {
            return Self::default();
        }
        Self::parse(traceparent, tracestate)
    }

    /// The same, also where traces are off.
    #[must_use]
    pub fn parse(traceparent: &str, tracestate: &str) -> Self {
        if !TRACEPARENT_BYTES.contains(&traceparent.len()) {
            return Self::default();
        }
        let fits =
            tracestate.len() <= TRACESTATE_BYTES_MAX && TraceState::from_str(tracestate).is_ok();
        let tracestate = if fits { tracestate } else { "" };
        let wire = Wire { traceparent, tracestate };
        let found = TraceContextPropagator::new().extract_with_context(&Context::new(), &wire);
        Self::of(found.span().span_context())
    }

    pub(super) fn of(span: &SpanContext) -> Self {
        Self(span.is_valid().then(|| span.clone()))
    }

    /// Where the task that asks is in a trace.
    #[must_use]
    pub fn current() -> Self {
        if !super::is_on() {
            return Self::default();
        }
        Self::of(Context::current().span().span_context())
    }

    /// The inside of the span, for what is done for it in this process: its parts find it. Nothing where
    /// there is no span.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let inside = |span: &SpanContext| Context::new().with_remote_span_context(span.clone());
        Scope::of(self.0.as_ref().map(inside))
    }

    /// The first that is not empty.
    #[must_use]
    pub fn or(self, other: impl FnOnce() -> Self) -> Self {
        if self.0.is_some() { self } else { other() }
    }

    /// Whether there is a span.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn span(&self) -> Option<&SpanContext> {
        self.0.as_ref()
    }

    /// `traceparent` and `tracestate` for a message; empty where there is no span.
    #[must_use]
    pub fn write(&self) -> (String, String) {
        let Some(span) = &self.0 else { return Default::default() };
        let mut written = Written::default();
        let context = Context::new().with_remote_span_context(span.clone());
        TraceContextPropagator::new().inject_context(&context, &mut written);
        (written.traceparent, written.tracestate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn context_is_passed_on_as_it_came() {
        let context = TraceContext::parse(PARENT, "shop=a:1,other=2");
        assert_eq!(context.write(), (PARENT.to_owned(), "shop=a:1,other=2".to_owned()));
        let plain = TraceContext::parse(PARENT, "");
        assert_eq!(plain.write(), (PARENT.to_owned(), String::new()));
        assert_eq!(plain.clone().or(TraceContext::default), plain);
        assert_eq!(TraceContext::default().or(|| plain.clone()), plain);
    }

    #[test]
    fn what_is_no_context_is_empty() {
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let long = format!("{PARENT}{}", "0".repeat(99));
        for text in ["", "x", "00-0af7-b7ad-01", zero, &PARENT[..54], &long] {
            assert_eq!(TraceContext::parse(text, "a=b"), TraceContext::default(), "{text:?}");
        }
        let state = format!("a={}", "b".repeat(600));
        assert_eq!(TraceContext::parse(PARENT, &state).write().1, "", "too long is left out");
        assert_eq!(TraceContext::default().write(), (String::new(), String::new()));
    }

    #[test]
    fn nothing_is_read_while_traces_are_off() {
        assert_eq!(TraceContext::read(PARENT, ""), TraceContext::default());
        assert_eq!(TraceContext::current(), TraceContext::default());
    }
}
