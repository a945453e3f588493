//! The YAML of a catalog as a tree in which every node knows its place.
//!
//! Built from the parser's events, because a tree without places could not say where an error is.
//! Aliases, tags and further documents are refused: a catalog is small, and an alias would give a
//! node two places (and a small text a huge tree).

mod locate;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use crate::diagnostic::{Pos, Rule, Sink};
use crate::limits::{CATALOG_BYTES_MAX, YAML_DEPTH_MAX};

pub(crate) use locate::locate;

/// A node and its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Pos,
    pub(crate) value: NodeValue,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum NodeValue {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Reported already; whoever meets it says nothing.
    Broken,
}

/// A single value: all of them are text here, what they mean depends on where they stand.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    /// `|` or `>`: its place is that of its first line.
    Block,
}

/// A key of a mapping with its value. Keys are unique within a mapping.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Pos,
    pub(crate) value: Node,
}

impl Scalar {
    /// True for YAML's null: nothing, `~` or `null`, not quoted.
    pub(crate) fn is_null(&self) -> bool {
        self.style == Style::Plain
            && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// Reads `text` as one document. `None` when its tree is of no use; the reason is in `sink`.
pub(crate) fn parse(text: &str, sink: &mut Sink) -> Option<Node> {
    if text.len() > CATALOG_BYTES_MAX {
        let message = format!(
            "the catalog takes {} bytes; at most {CATALOG_BYTES_MAX} are allowed",
            text.len()
        );
        sink.report(Pos::START, Rule::Limit, "", message);
        return None;
    }
    let mut builder = Builder { parser: Parser::new_from_str(text), path: Vec::new(), sink };
    builder.document().ok()
}

/// The error was reported and nothing after it can be read.
struct Stop;

struct Builder<'t, 's> {
    parser: Parser<'t, StrInput<'t>>,
    path: Vec<String>,
    sink: &'s mut Sink,
}

fn start(span: Span) -> Pos {
    Pos::new(span.start.line(), span.start.col())
}

impl<'t> Builder<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let at = Pos::new(error.marker().line(), error.marker().col());
                self.sink.report(at, Rule::YamlSyntax, "", error.info());
                Err(Stop)
            }
            None => {
                self.sink.report(Pos::START, Rule::YamlSyntax, "", "the text ends too early");
                Err(Stop)
            }
        }
    }

    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) if root.is_some() => {
                    let message = "a second document starts here; a catalog is one document";
                    self.sink.report(start(span), Rule::YamlFeature, "", message);
                    break;
                }
                Event::DocumentStart(_) => {
                    let (event, span) = self.next()?;
                    root = Some(self.node(event, span, 1)?);
                }
                Event::StreamEnd => break,
                // The parser opens a document before any of these.
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => {
                    self.sink.report(start(span), Rule::YamlSyntax, "", "unexpected content");
                    return Err(Stop);
                }
            }
        }
        root.ok_or_else(|| {
            let message = "the catalog is empty";
            self.sink
                .report(Pos::START, Rule::Shape, "", message)
                .help("start with `entities:`, `streams:` and `views:`");
            Stop
        })
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Stop> {
        let at = start(span);
        if depth > YAML_DEPTH_MAX {
            let message = format!("nested deeper than {YAML_DEPTH_MAX} levels");
            self.report(at, Rule::Limit, message);
            return Err(Stop);
        }
        let (value, tag) = match event {
            Event::Scalar(text, style, _, tag) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::SingleQuoted,
                    ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                (NodeValue::Scalar(Scalar { text: text.into_owned(), style }), tag)
            }
            Event::SequenceStart(_, tag) => (NodeValue::List(self.list(depth)?), tag),
            Event::MappingStart(_, tag) => (NodeValue::Map(self.map(depth)?), tag),
            Event::Alias(_) => {
                self.report(at, Rule::YamlFeature, "aliases are not read in a catalog".to_owned());
                return Ok(Node { at, value: NodeValue::Broken });
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                self.report(at, Rule::YamlSyntax, "a value is missing here".to_owned());
                return Err(Stop);
            }
        };
        if let Some(tag) = tag {
            self.report(at, Rule::YamlFeature, format!("the tag `{tag}` is not read in a catalog"));
            return Ok(Node { at, value: NodeValue::Broken });
        }
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        // Beside the list, so that a text of many equal keys is not searched quadratically.
        let mut seen = std::collections::BTreeMap::<String, Pos>::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(entries);
            }
            let key_at = start(span);
            let key = self.key(event, span, depth)?;
            let (event, span) = self.next()?;
            self.path.push(key.clone().unwrap_or_default());
            let value = self.node(event, span, depth + 1)?;
            if let Some(first) = key.as_ref().and_then(|k| seen.get(k)) {
                let message = format!("stands here twice; first in line {}", first.line);
                self.report(key_at, Rule::DuplicateKey, message);
            } else if let Some(key) = key {
                seen.insert(key.clone(), key_at);
                entries.push(Entry { key, key_at, value });
            }
            self.path.pop();
        }
    }

    /// The text of a key; `None` after reporting one that is not text.
    fn key(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Option<String>, Stop> {
        let node = self.node(event, span, depth + 1)?;
        match node.value {
            NodeValue::Scalar(scalar) if scalar.is_null() => Ok(Some(String::new())),
            NodeValue::Scalar(scalar) => Ok(Some(scalar.text)),
            NodeValue::List(_) | NodeValue::Map(_) => {
                self.report(node.at, Rule::YamlFeature, "a key must be a name".to_owned());
                Ok(None)
            }
            NodeValue::Broken => Ok(None),
        }
    }

    fn report(&mut self, at: Pos, rule: Rule, message: String) {
        let path = self.path.join(".");
        self.sink.report(at, rule, &path, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let mut sink = Sink::default();
        parse(text, &mut sink);
        sink.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_node_knows_its_place() {
        let mut sink = Sink::default();
        let root = parse("a: {b: [1, 'x']}\nc: |\n  text\n", &mut sink).unwrap();
        assert!(sink.is_empty());
        let NodeValue::Map(top) = root.value else { panic!("a mapping") };
        let NodeValue::Map(inner) = &top[0].value.value else { panic!("a mapping") };
        assert_eq!(inner[0].key_at, Pos { line: 1, column: 5 });
        let NodeValue::List(items) = &inner[0].value.value else { panic!("a list") };
        assert_eq!(items[1].at, Pos { line: 1, column: 12 });
        assert_eq!(top[1].value.at, Pos { line: 3, column: 3 });
    }

    #[test]
    fn duplicates_are_found_at_every_depth_and_reading_goes_on() {
        assert_eq!(
            errors("a:\n  x: 1\n  x: 2\nb: 1\na: 3\n"),
            [
                "3:3: duplicate-key: a.x: stands here twice; first in line 2",
                "5:1: duplicate-key: a: stands here twice; first in line 1",
            ]
        );
    }

    #[test]
    fn what_catalogs_do_not_use_is_refused() {
        assert_eq!(
            errors("a: &x 1\nb: *x\nc: !!str 1\n? [k]\n: 1\n---\nd: 1\n"),
            [
                "2:4: yaml-feature: b: aliases are not read in a catalog",
                "3:4: yaml-feature: c: the tag `tag:yaml.org,2002:!str` is not read in a catalog",
                "4:3: yaml-feature: a key must be a name",
                "6:1: yaml-feature: a second document starts here; a catalog is one document",
            ]
        );
        assert_eq!(
            errors("# nothing\n"),
            [
                "1:1: shape: the catalog is empty (help: start with `entities:`, `streams:` and `views:`)"
            ]
        );
    }

    #[test]
    fn broken_deep_and_huge_texts_stop_at_once() {
        assert_eq!(errors("a: [1, 2").len(), 1);
        let nested = "[".repeat(20) + &"]".repeat(20);
        assert_eq!(errors(&nested), ["1:13: limit: nested deeper than 12 levels"]);
        assert_eq!(errors(&"[".repeat(100_000)).len(), 1);
        assert!(errors(&"#".repeat(CATALOG_BYTES_MAX + 1))[0].contains("limit: the catalog takes"));
    }
}
