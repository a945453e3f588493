//! Features: the aggregate, its parameters, the window and the condition.

use super::Context;
use super::arguments::{self, Spec};
use super::reader::{self, Section};
use super::streams::Draft;
use crate::diagnostic::{Rule, Sink, listed};
use crate::duration;
use crate::limits::FEATURES_MAX;
use crate::model::{Feature, Window};
use crate::program::{self, Program, Scope};
use crate::yaml::{Entry, Node, NodeValue, locate};

/// The hops a window may have where none is given, from the greatest: 1 d, 1 h, 5 min, 1 min,
/// 10 s, 1 s; in microseconds.
const HOPS_US: [i64; 6] =
    [86_400_000_000, 3_600_000_000, 300_000_000, 60_000_000, 10_000_000, 1_000_000];

/// A window has at least this many hops.
const HOPS_MIN: i64 = 60;

/// Columns of a training file that a feature would clash with.
const RESERVED_FEATURES: [&str; 3] = ["at", "id", "key"];

/// What the features of a view may refer to.
pub(super) struct ViewScope<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) events: Option<&'a Draft>,
    pub(super) entity: Option<&'a str>,
}

pub(super) fn read(
    node: &Node,
    path: &str,
    view: &ViewScope<'_>,
    context: &mut Context<'_>,
) -> Option<Vec<Feature>> {
    let entries = reader::mapping(node, path, context.sink)?;
    let entries = reader::at_most(entries, FEATURES_MAX, "features", node.at, path, context.sink);
    let mut reserved = RESERVED_FEATURES.to_vec();
    reserved.extend(view.entity);
    let mut features = Vec::with_capacity(entries.len());
    for entry in entries {
        let named = reader::name(entry, path, &reserved, context.sink);
        let path = reader::join(path, &entry.key);
        if let Some(feature) = feature(entry, &path, view, context).filter(|_| named) {
            features.push(feature);
        }
    }
    // With one missing the rest would be a wrong view, but then there is no catalog either.
    Some(features)
}

fn feature(
    entry: &Entry,
    path: &str,
    view: &ViewScope<'_>,
    context: &mut Context<'_>,
) -> Option<Feature> {
    let mut known: Vec<&str> = Spec::names().collect();
    known.extend(["window", "hop", "exact", "where", "n", "k", "limit", "p"]);
    let section = Section::read(&entry.value, path, &known, context.sink)?;
    let found: Vec<(&Entry, Spec)> =
        section.keys().filter_map(|e| Some((e, Spec::find(&e.key)?))).collect();
    let (aggregate, spec) = match found.as_slice() {
        [one] => *one,
        [] => {
            // A misspelt one was reported as a key that has no meaning.
            if !section.misspells(Spec::names()) {
                let message = "the feature names no aggregate";
                let help = format!("the aggregates are {}", listed(Spec::names()));
                context.sink.report(section.at, Rule::Aggregate, path, message).help(help);
            }
            return None;
        }
        several => {
            let names = listed(several.iter().map(|(e, _)| e.key.as_str()));
            let message = format!("the feature names several aggregates: {names}");
            context
                .sink
                .report(section.at, Rule::Aggregate, path, message)
                .help("make a feature of each");
            return None;
        }
    };
    let argument = arguments::read(aggregate, spec, path, &view.scope, context);
    let parameters = arguments::parameters(&section, spec, context.sink);
    if spec == Spec::Latest {
        for key in ["window", "hop", "exact", "where"] {
            if let Some(entry) = section.entry(key) {
                let message =
                    format!("`latest` takes no `{key}`: it is the version at the read's instant");
                context
                    .sink
                    .report(entry.key_at, Rule::Window, path, message)
                    .help(format!("leave `{key}` out"));
            }
        }
        return Some(Feature {
            name: entry.key.clone(),
            aggregate: parameters?,
            argument: argument?,
            window: Window::Unbounded,
            filter: None,
        });
    }
    let window = window(&section, view, context)
        .filter(|window| fits_retention(*window, &section, view, context.sink));
    let filter = match section.get("where") {
        Some(node) => condition(node, &section.child("where"), &view.scope, context).map(Some),
        None => Some(None),
    };
    Some(Feature {
        name: entry.key.clone(),
        aggregate: parameters?,
        argument: argument?,
        window: window?,
        filter: filter?,
    })
}

fn window(
    section: &Section<'_>,
    view: &ViewScope<'_>,
    context: &mut Context<'_>,
) -> Option<Window> {
    let sink = &mut *context.sink;
    let mut span = |key: &str| {
        let node = section.get(key)?;
        let path = section.child(key);
        let us = reader::duration(node, &path, sink);
        if us == Some(0) {
            sink.report(node.at, Rule::Window, &path, format!("`{key}` must be longer than 0"));
            return Some(None);
        }
        Some(us)
    };
    let (width, hop) = (span("window"), span("hop"));
    let exact = section.entry("exact");
    let exact_on = exact.map(|e| reader::boolean(&e.value, &section.child("exact"), sink));

    let Some(width_us) = width else {
        for key in ["hop", "exact"] {
            if let Some(entry) = section.entry(key) {
                let message = format!("`{key}` needs a `window`");
                sink.report(entry.key_at, Rule::Window, &section.path, message)
                    .help(format!("add `window: …` or leave `{key}` out"));
            }
        }
        return Some(Window::Unbounded);
    };
    let is_exact = match exact_on {
        Some(value) => value?,
        None => false,
    };
    if let (true, Some(entry)) = (is_exact, section.entry("hop")) {
        let message = "an exact window has no `hop`";
        sink.report(entry.key_at, Rule::Window, &section.path, message)
            .help("leave `hop` or `exact` out");
        return None;
    }
    let width_us = width_us?;
    if let (true, Some(entry), Some(events)) = (is_exact, exact, view.events)
        && width_us > events.stream.repair_us
    {
        let (width, repair) = (duration::print(width_us), duration::print(events.stream.repair_us));
        let message = format!(
            "an exact window of {width} is longer than `repair` of `{}`, {repair}",
            events.stream.name
        );
        sink.report(entry.key_at, Rule::Window, &section.path, message)
            .help("shorten the window, lengthen `repair`, or leave `exact` out");
        return None;
    }
    match hop {
        Some(hop_us) => {
            let hop_us = hop_us?;
            if hop_us > width_us {
                let at = section.entry("hop").map_or(section.at, |e| e.value.at);
                let message = "`hop` is longer than the window";
                sink.report(at, Rule::Window, &section.child("hop"), message);
                return None;
            }
            Some(Window::Sliding { width_us, hop_us })
        }
        None if is_exact => Some(Window::Exact { width_us }),
        None => Some(default_window(width_us)),
    }
}

/// Whether every fact of the window is kept for as long as it is in the window.
fn fits_retention(
    window: Window,
    section: &Section<'_>,
    view: &ViewScope<'_>,
    sink: &mut Sink,
) -> bool {
    let Some(stream) = view.events.map(|draft| &draft.stream).filter(|s| s.forgets) else {
        return true;
    };
    let reach_us = match window {
        Window::Unbounded => {
            let message = format!(
                "it needs every fact of `{}`, which does not keep all of them",
                stream.name
            );
            sink.report(section.at, Rule::Retention, &section.path, message)
                .help("give it a `window`, or leave `retention` out before facts are deleted");
            return false;
        }
        Window::Sliding { width_us, hop_us } => width_us.saturating_add(hop_us),
        Window::Exact { width_us } => width_us,
    };
    let Some(retention_us) = stream.retention_us.filter(|retention| *retention < reach_us) else {
        return true;
    };
    let at = section.entry("window").map_or(section.at, |entry| entry.value.at);
    let message = format!(
        "with its hop the window reaches back {}, and `{}` has a retention of {}",
        duration::print(reach_us),
        stream.name,
        duration::print(retention_us)
    );
    sink.report(at, Rule::Retention, &section.child("window"), message)
        .help("shorten the window or lengthen `retention`");
    false
}

/// The window of a width where no hop is given (semantics §1.6).
pub(crate) fn default_window(width_us: i64) -> Window {
    match HOPS_US.iter().find(|hop| **hop <= width_us / HOPS_MIN) {
        Some(hop_us) => Window::Sliding { width_us, hop_us: *hop_us },
        None => Window::Exact { width_us },
    }
}

fn condition(
    node: &Node,
    path: &str,
    scope: &Scope<'_>,
    context: &mut Context<'_>,
) -> Option<Program> {
    reader::scalar(node, path, context.sink)?;
    let NodeValue::Scalar(scalar) = &node.value else { return None };
    match program::compile(&scalar.text, scope, &mut context.patterns_left) {
        Ok(program) => program,
        Err(problems) => {
            for problem in problems {
                let at = locate(context.text, scalar, node.at, problem.at);
                context.sink.report(at, problem.rule, path, problem.message).help_if(problem.help);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duration::{parse, print};

    #[test]
    fn default_hops_follow_the_width() {
        for (width, hop) in [
            ("59s", None),
            ("59999999us", None),
            ("60s", Some("1s")),
            ("599s", Some("1s")),
            ("10m", Some("10s")),
            ("59m", Some("10s")),
            ("1h", Some("1m")),
            ("299m", Some("1m")),
            ("5h", Some("5m")),
            ("24h", Some("5m")),
            ("59h", Some("5m")),
            ("60h", Some("1h")),
            ("7d", Some("1h")),
            ("59d", Some("1h")),
            ("60d", Some("1d")),
            ("365d", Some("1d")),
        ] {
            let width_us = parse(width).unwrap();
            let expected = match hop {
                Some(hop) => Window::Sliding { width_us, hop_us: parse(hop).unwrap() },
                None => Window::Exact { width_us },
            };
            assert_eq!(default_window(width_us), expected, "{width}: {}", print(width_us));
        }
    }
}
