//! `views`: which streams they read. Features are in [`super::features`].

use millrace_types::StreamId;

use super::kinds::{KindDraft, Kinds};
use super::reader::{self, Section};
use super::streams::{Draft, Streams};
use super::{Context, features};
use crate::diagnostic::{Pos, Rule, did_you_mean, listed};
use crate::limits::{JOINS_MAX, VIEWS_MAX};
use crate::model::{StreamKind, View};
use crate::program::Scope;
use crate::yaml::{Entry, Node};

pub(super) fn read(
    root: &Section<'_>,
    kinds: &Kinds,
    streams: &Streams,
    context: &mut Context<'_>,
) -> Vec<View> {
    // A catalog without views takes facts in for later ones.
    let Some(node) = root.get("views") else { return Vec::new() };
    let Some(entries) = reader::mapping(node, "views", context.sink) else { return Vec::new() };
    let entries = reader::at_most(entries, VIEWS_MAX, "views", node.at, "views", context.sink);
    let mut views = Vec::new();
    for entry in entries {
        if reader::name(entry, "views", &[], context.sink) {
            views.extend(view(entry, kinds, streams, context));
        }
    }
    views
}

fn view(
    entry: &Entry,
    kinds: &Kinds,
    streams: &Streams,
    context: &mut Context<'_>,
) -> Option<View> {
    let path = reader::join("views", &entry.key);
    let known = ["entity", "events", "join", "features"];
    let section = Section::read(&entry.value, &path, &known, context.sink)?;

    let kind = section.require("entity", entry.key_at, context.sink).and_then(|node| {
        let path = section.child("entity");
        let name = reader::text(node, &path, context.sink)?;
        kinds.resolve(name, node.at, &path, context)
    });
    let reader = ViewReader { kind, streams };
    let events = section
        .require("events", entry.key_at, context.sink)
        .and_then(|node| reader.events(node, &section.child("events"), context));
    let joins = section
        .get("join")
        .map(|node| reader.joins(node, &section.child("join"), context))
        .unwrap_or_default();

    let scope = Scope {
        events: events.map(Draft::scope),
        joins: joins.iter().map(|j| j.map(Draft::scope)).collect(),
        all: streams.list.iter().map(|s| s.stream.name.as_str()).collect(),
    };
    let node = section.require("features", entry.key_at, context.sink);
    let view = features::ViewScope { scope, events, entity: kind.map(|k| k.kind.name.as_str()) };
    let features =
        node.and_then(|node| features::read(node, &section.child("features"), &view, context));
    let joins: Option<Vec<StreamId>> = joins.iter().map(|j| Some((*j)?.stream.id)).collect();
    Some(View {
        name: entry.key.clone(),
        entity: kind?.kind.id,
        events: events?.stream.id,
        joins: joins?,
        features: features?,
    })
}

struct ViewReader<'s> {
    /// `None` when the view's entity was reported.
    kind: Option<&'s KindDraft>,
    streams: &'s Streams,
}

impl<'s> ViewReader<'s> {
    fn events(&self, node: &Node, path: &str, context: &mut Context<'_>) -> Option<&'s Draft> {
        let draft = self.stream(node, path, context)?;
        if draft.kind_known && draft.stream.kind == StreamKind::Changelog {
            let message =
                format!("`{}` is a changelog; `events` takes an event stream", draft.stream.name);
            context
                .sink
                .report(node.at, Rule::StreamKind, path, message)
                .help("name it in `join`; a view has one event stream");
            return None;
        }
        self.keyed(draft, node.at, path, context);
        Some(draft)
    }

    /// The changelogs in their order; `None` in the place of one that is wrong.
    fn joins(&self, node: &Node, path: &str, context: &mut Context<'_>) -> Vec<Option<&'s Draft>> {
        let Some(items) = reader::list(node, path, context.sink) else { return vec![None] };
        let items = reader::at_most(items, JOINS_MAX, "changelogs", node.at, path, context.sink);
        let mut joins: Vec<Option<&'s Draft>> = Vec::new();
        for item in items {
            let draft = self.join(item, path, context);
            let twice = |d: &Draft| joins.iter().flatten().any(|j| j.stream.id == d.stream.id);
            match draft {
                Some(draft) if twice(draft) => {
                    let message = format!("`{}` is joined twice", draft.stream.name);
                    context.sink.report(item.at, Rule::DuplicateKey, path, message);
                }
                Some(_) | None => joins.push(draft),
            }
        }
        joins
    }

    fn join(&self, node: &Node, path: &str, context: &mut Context<'_>) -> Option<&'s Draft> {
        let draft = self.stream(node, path, context)?;
        if draft.kind_known && draft.stream.kind == StreamKind::Event {
            let message =
                format!("`{}` is an event stream; only changelogs are joined", draft.stream.name);
            context
                .sink
                .report(node.at, Rule::StreamKind, path, message)
                .help("make a view of its own for it");
            return None;
        }
        self.keyed(draft, node.at, path, context);
        Some(draft)
    }

    fn stream(&self, node: &Node, path: &str, context: &mut Context<'_>) -> Option<&'s Draft> {
        let name = reader::text(node, path, context.sink)?;
        let found = self.streams.list.iter().find(|s| s.stream.name == name);
        if found.is_none() && self.streams.known {
            let names = || self.streams.list.iter().map(|s| s.stream.name.as_str());
            let message = format!("there is no stream `{name}`");
            let help = did_you_mean(name, names())
                .unwrap_or_else(|| format!("the streams are {}", listed(names())));
            context.sink.report(node.at, Rule::UnknownStream, path, message).help(help);
        }
        found
    }

    /// Reports a stream without a key of the view's entity.
    fn keyed(&self, draft: &Draft, at: Pos, path: &str, context: &mut Context<'_>) {
        let Some(kind) = self.kind else { return };
        if draft.keys_known && draft.stream.key_for(kind.kind.id).is_none() {
            let (name, kind) = (&draft.stream.name, &kind.kind.name);
            let message = format!("the stream `{name}` has no key of the view's entity `{kind}`");
            context
                .sink
                .report(at, Rule::NotKeyed, path, message)
                .help(format!("a stream of a view has `{kind}` among its `keys`"));
        }
    }
}
