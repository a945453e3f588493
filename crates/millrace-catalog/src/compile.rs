//! From the YAML text to a checked [`Catalog`], or to every error at once.
//!
//! Reading goes on after an error: what could not be read is marked as unknown, and whatever rests
//! on it says nothing, so that each mistake is reported once. A draft may hold placeholders for
//! what is unknown; they never get out, because every unknown comes with a diagnostic and a text
//! with diagnostics gives no catalog.

mod arguments;
mod evolve;
mod features;
mod kinds;
mod reader;
mod roles;
mod streams;
mod views;

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Pos, Rule, Sink};
use crate::model::Catalog;
use crate::yaml::{self, Node};

use reader::Section;

impl Catalog {
    /// Reads and checks a catalog. With `previous`, the one now in force, its numbers are taken
    /// over by name and what would make stored facts unreadable is refused; the version is one
    /// more than that of `previous`, or 1.
    ///
    /// # Errors
    /// Every error of the text, in the order of the text.
    pub fn compile(yaml: &str, previous: Option<&Self>) -> Result<Self, Vec<Diagnostic>> {
        let mut sink = Sink::default();
        let root = yaml::parse(yaml, &mut sink);
        let catalog = root.and_then(|root| read(&root, yaml, previous, &mut sink));
        match catalog {
            Some(catalog) if sink.is_empty() => Ok(catalog),
            Some(_) | None => Err(sink.finish()),
        }
    }
}

/// What the parts of a text are checked against.
struct Context<'a> {
    /// The text, to find places inside `where`.
    text: &'a str,
    previous: &'a Catalog,
    sink: &'a mut Sink,
    /// How many `matches` patterns may still come.
    patterns_left: usize,
}

fn read(root: &Node, text: &str, previous: Option<&Catalog>, sink: &mut Sink) -> Option<Catalog> {
    let none = Catalog::empty();
    let previous = previous.unwrap_or(&none);
    let patterns_left = crate::limits::PATTERNS_MAX;
    let mut context = Context { text, previous, sink, patterns_left };

    let section = Section::read(root, "", &["entities", "streams", "views"], context.sink)?;
    let kinds = kinds::read(&section, &mut context);
    let streams = streams::read(&section, &kinds, &mut context);
    let views = views::read(&section, &kinds, &streams, &mut context);
    Some(Catalog {
        // Four thousand million applies are not to be expected; the number must not go back.
        version: previous.version.saturating_add(1),
        kinds: kinds.list.into_iter().map(|k| k.kind).collect(),
        streams: streams.list.into_iter().map(|s| s.stream).collect(),
        views,
        source: Arc::from(text),
    })
}

/// Reports what the previous version had and this one does not.
fn report_removed(sink: &mut Sink, at: Pos, path: &str, what: &str, name: &str) {
    let message = format!("{what} `{name}` of the version in force is missing");
    sink.report(at, Rule::Removed, path, message).help("put it back: stored facts rest on it");
}
