//! Spans, which are nothing while traces are off.

use std::borrow::Cow;

use futures::future::Either;
use opentelemetry::trace::{
    FutureExt as _, Link, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value, global};

use super::TraceContext;

/// The scope of every span.
const SCOPE: &str = "millrace";
/// Links of a span; the SDK keeps as many.
const LINKS_MAX: usize = 128;

/// Something that takes time, as a trace shows it. It ends when it is dropped; while traces are off
/// it is nothing.
#[derive(Debug, Default)]
pub struct Span(Option<Context>);

impl Span {
    fn start(
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        parent: &TraceContext,
        links: Vec<Link>,
    ) -> Self {
        let tracer = global::tracer(SCOPE);
        let builder = tracer.span_builder(name).with_kind(kind).with_links(links);
        let parent = match parent.span() {
            Some(span) => Context::new().with_remote_span_context(span.clone()),
            None => Context::new(),
        };
        let span = builder.start_with_context(&tracer, &parent);
        Self(Some(Context::new().with_span(span)))
    }

    /// A call of a client, or a batch of it: a child of what the client says, else a new trace.
    #[must_use]
    pub fn server(name: &'static str, parent: impl FnOnce() -> TraceContext) -> Self {
        if !super::is_on() {
            return Self::default();
        }
        Self::start(name, SpanKind::Server, &parent(), Vec::new())
    }

    /// A part of something, wherever that is done. Nothing when that is in no trace.
    #[must_use]
    pub fn child(name: &'static str, parent: &TraceContext) -> Self {
        if !super::is_on() || parent.span().is_none() {
            return Self::default();
        }
        Self::start(name, SpanKind::Internal, parent, Vec::new())
    }

    /// A part of what the task is doing.
    #[must_use]
    pub fn within(name: &'static str) -> Self {
        if !super::is_on() {
            return Self::default();
        }
        Self::child(name, &TraceContext::current())
    }

    /// What a client does, from where nobody knows of it yet: the head of a new trace, or a part of what
    /// the task is doing.
    #[must_use]
    pub fn client(name: &'static str) -> Self {
        if !super::is_on() {
            return Self::default();
        }
        Self::start(name, SpanKind::Client, &TraceContext::current(), Vec::new())
    }

    /// A statement of a database, as a part of what the task is doing; nothing when that is in no trace.
    /// It is named after the operation and what it is about, as OpenTelemetry's conventions for
    /// databases ask, all of them of closed sets: no statement tells of values.
    #[must_use]
    pub fn database(system: &'static str, operation: &'static str, about: &'static str) -> Self {
        // Empty while traces are off.
        let parent = TraceContext::current();
        match parent.is_some() {
            true => Self::statement(system, operation, about, &parent, Vec::new()),
            false => Self::default(),
        }
    }

    /// A statement of a database that is for several at once, as [`Span::shared`] is.
    #[must_use]
    pub fn shared_database(
        system: &'static str,
        operation: &'static str,
        about: &'static str,
        parents: impl FnOnce() -> Vec<TraceContext>,
    ) -> Self {
        Self::merged(parents, |parent, links| {
            Self::statement(system, operation, about, parent, links)
        })
    }

    fn statement(
        system: &'static str,
        operation: &'static str,
        about: &'static str,
        parent: &TraceContext,
        links: Vec<Link>,
    ) -> Self {
        let span = Self::start(format!("{operation} {about}"), SpanKind::Client, parent, links);
        span.note("db.system.name", || system.into());
        span.note("db.operation.name", || operation.into());
        span.note("db.collection.name", || about.into());
        span
    }

    /// Something done for several at once: a child of the first that is sampled, linked to the
    /// others. Nothing when none of them is in a trace.
    #[must_use]
    pub fn shared(name: &'static str, parents: impl FnOnce() -> Vec<TraceContext>) -> Self {
        Self::merged(parents, |parent, links| Self::start(name, SpanKind::Internal, parent, links))
    }

    fn merged(
        parents: impl FnOnce() -> Vec<TraceContext>,
        start: impl FnOnce(&TraceContext, Vec<Link>) -> Self,
    ) -> Self {
        if !super::is_on() {
            return Self::default();
        }
        let mut spans: Vec<_> = parents().into_iter().filter(|p| p.span().is_some()).collect();
        if spans.is_empty() {
            return Self::default();
        }
        // Below one that is not sampled nothing would be seen of it by those that are.
        let is_sampled = |p: &TraceContext| p.span().is_some_and(SpanContext::is_sampled);
        let first = spans.remove(spans.iter().position(is_sampled).unwrap_or(0));
        let mut seen = std::collections::HashSet::new();
        seen.extend(first.span().map(|span| span.span_id()));
        let others = spans.iter().filter_map(TraceContext::span);
        let links: Vec<Link> = others
            .filter(|span| seen.insert(span.span_id()))
            .take(LINKS_MAX)
            .map(|span| Link::with_context(span.clone()))
            .collect();
        start(&first, links)
    }

    /// Where it is in its trace, for messages and for its parts.
    #[must_use]
    pub fn context(&self) -> TraceContext {
        self.0.as_ref().map_or_else(TraceContext::default, |context| {
            TraceContext::of(context.span().span_context())
        })
    }

    /// Notes something about it. Names of the catalog, counts and closed sets alone: whoever sees
    /// traces need not be allowed to see facts.
    pub fn note(&self, name: &'static str, value: impl FnOnce() -> Value) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value()));
        }
    }

    /// It failed, with a code of the closed set.
    pub fn fail(&self, code: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new("error.type", code));
            context.span().set_status(Status::error(code));
        }
    }

    /// Runs a future within it: its logs and its parts know it.
    pub fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.scope().around(future)
    }

    /// The inside of it, for a future that takes the span along.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope(self.0.clone())
    }
}

/// The inside of a span.
#[derive(Debug, Clone)]
pub struct Scope(Option<Context>);

impl Scope {
    pub(super) fn of(context: Option<Context>) -> Self {
        Self(context)
    }

    /// See [`Span::around`].
    pub fn around<F: Future>(self, future: F) -> impl Future<Output = F::Output> + use<F> {
        match self.0 {
            Some(context) => Either::Left(future.with_context(context)),
            None => Either::Right(future),
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            // Others may still hold the context; the time is over here.
            context.span().end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Every batch and every read makes spans: while traces are off they are the check of a flag.
    #[test]
    fn spans_that_are_off_cost_next_to_nothing() {
        let count = 1_000_000;
        let begun = Instant::now();
        for n in 0..count {
            let span = Span::server("off", || unreachable!("nobody asks for the parent"));
            span.note("n", || unreachable!("nobody asks for {n}"));
            assert_eq!(Span::child("off", &span.context()).context(), TraceContext::default());
        }
        let each = begun.elapsed() / count;
        assert!(each.as_micros() < 1, "{each:?}");
    }
}
