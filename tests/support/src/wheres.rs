//! The `where` texts of a catalog file. The checked catalog holds them lowered; the oracle wants
//! them as they were written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScanError};
use thiserror::Error;

/// `where` texts by view and feature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wheres(BTreeMap<(String, String), String>);

/// A catalog file out of which no `where` texts could be read.
#[derive(Debug, Error)]
pub enum WheresError {
    /// It is no YAML.
    #[error("the catalog is not YAML: {0}")]
    NotYaml(#[from] ScanError),
    /// It uses YAML this reader does not follow.
    #[error("the catalog uses {0}, which this reader does not follow")]
    Unsupported(&'static str),
}

/// As much of YAML as a catalog uses.
enum Node {
    Scalar(String),
    List,
    Map(Vec<(String, Node)>),
}

impl Node {
    fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    fn entries(&self) -> &[(String, Node)] {
        match self {
            Self::Map(entries) => entries,
            Self::Scalar(_) | Self::List => &[],
        }
    }
}

impl Wheres {
    /// Reads `views.*.features.*.where` out of a catalog file.
    ///
    /// # Errors
    /// [`WheresError`] when it is not YAML, or uses aliases.
    pub fn of_yaml(text: &str) -> Result<Self, WheresError> {
        let mut events = Vec::new();
        for event in Parser::new_from_str(text) {
            events.push(event?.0);
        }
        let mut events = events.into_iter().filter(|e| {
            !matches!(e, Event::Nothing | Event::StreamStart | Event::DocumentStart(_))
        });
        let root = node(&mut events)?.unwrap_or(Node::List);
        let mut wheres = Self::default();
        for (view, definition) in root.get("views").map_or(&[][..], Node::entries) {
            for (feature, keys) in definition.get("features").map_or(&[][..], Node::entries) {
                if let Some(Node::Scalar(text)) = keys.get("where") {
                    wheres.insert(view, feature, text);
                }
            }
        }
        Ok(wheres)
    }

    /// States the text of a feature.
    pub fn insert(&mut self, view: &str, feature: &str, text: &str) {
        self.0.insert((view.to_owned(), feature.to_owned()), text.to_owned());
    }

    /// The text of a feature, if it has one.
    #[must_use]
    pub fn get(&self, view: &str, feature: &str) -> Option<&str> {
        self.0.get(&(view.to_owned(), feature.to_owned())).map(String::as_str)
    }
}

/// Reads one node; `None` where a collection, or the document, ends.
fn node<'a>(events: &mut impl Iterator<Item = Event<'a>>) -> Result<Option<Node>, WheresError> {
    Ok(match events.next() {
        Some(Event::Scalar(text, ..)) => Some(Node::Scalar(Cow::into_owned(text))),
        Some(Event::SequenceStart(..)) => {
            while node(events)?.is_some() {}
            Some(Node::List)
        }
        Some(Event::MappingStart(..)) => {
            let mut entries = Vec::new();
            while let Some(key) = node(events)? {
                let value = node(events)?.unwrap_or(Node::List);
                match key {
                    Node::Scalar(name) => entries.push((name, value)),
                    Node::List | Node::Map(_) => {
                        return Err(WheresError::Unsupported("a key that is no text"));
                    }
                }
            }
            Some(Node::Map(entries))
        }
        Some(Event::Alias(_)) => return Err(WheresError::Unsupported("an alias")),
        Some(
            Event::SequenceEnd
            | Event::MappingEnd
            | Event::DocumentEnd
            | Event::StreamEnd
            | Event::Nothing
            | Event::StreamStart
            | Event::DocumentStart(_),
        )
        | None => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_texts_in_flow_and_block_style() {
        let wheres = Wheres::of_yaml(
            "views:\n  v:\n    join: [p]\n    features:\n      a: {count: {}, where: \"p.x == 'y'\"}\n      b:\n        sum: x\n        where: p.x > 1\n      c: {count: {}}\n",
        )
        .unwrap();
        assert_eq!(wheres.get("v", "a"), Some("p.x == 'y'"));
        assert_eq!(wheres.get("v", "b"), Some("p.x > 1"));
        assert_eq!(wheres.get("v", "c"), None);
        assert!(Wheres::of_yaml("views: {v: [").is_err());
    }
}
