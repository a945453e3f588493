//! Reading YAML nodes as what the catalog expects, with errors that name the place.

use crate::diagnostic::{Pos, Rule, Sink, did_you_mean, listed};
use crate::duration::{self, DurationError};
use crate::limits::NAME_BYTES_MAX;
use crate::yaml::{Entry, Node, NodeValue, Scalar};

/// A mapping whose keys are known words.
pub(super) struct Section<'n> {
    pub(super) path: String,
    pub(super) at: Pos,
    entries: &'n [Entry],
    /// The keys without a meaning; they are reported.
    unknown: Vec<&'n str>,
}

impl<'n> Section<'n> {
    /// Takes a mapping, reporting every key that is not in `known`.
    pub(super) fn read(
        node: &'n Node,
        path: &str,
        known: &[&str],
        sink: &mut Sink,
    ) -> Option<Self> {
        let entries = mapping(node, path, sink)?;
        let mut unknown = Vec::new();
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                unknown.push(entry.key.as_str());
                let message = match entry.key.as_str() {
                    "" => "a key is empty".to_owned(),
                    key => format!("`{key}` has no meaning here"),
                };
                let help = did_you_mean(&entry.key, known.iter().copied());
                let help = help
                    .unwrap_or_else(|| format!("the keys are {}", listed(known.iter().copied())));
                sink.report(entry.key_at, Rule::UnknownKey, path, message).help(help);
            }
        }
        Some(Self { path: path.to_owned(), at: node.at, entries, unknown })
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// The key with its value.
    pub(super) fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// True when a key without a meaning is close to one of `names`.
    pub(super) fn misspells<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> bool {
        self.unknown.iter().any(|key| did_you_mean(key, names.clone()).is_some())
    }

    /// The value of a key that must be there, reported at `at` when it is not, unless a misspelt
    /// one was reported.
    pub(super) fn require(&self, key: &str, at: Pos, sink: &mut Sink) -> Option<&'n Node> {
        let found = self.get(key);
        if found.is_none() && !self.misspells(std::iter::once(key)) {
            sink.report(at, Rule::MissingKey, &self.path, format!("`{key}` is missing"));
        }
        found
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'n Entry> {
        self.entries.iter()
    }

    pub(super) fn child(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// `path.key`
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn shape(node: &Node) -> &'static str {
    match &node.value {
        NodeValue::Scalar(scalar) if scalar.is_null() => "nothing",
        NodeValue::Scalar(_) => "a single value",
        NodeValue::List(_) => "a list",
        NodeValue::Map(_) => "a mapping",
        NodeValue::Broken => "an unreadable value",
    }
}

fn wrong_shape(node: &Node, path: &str, wanted: &str, sink: &mut Sink) {
    if matches!(node.value, NodeValue::Broken) {
        return;
    }
    let message = format!("{wanted} is wanted here; this is {}", shape(node));
    sink.report(node.at, Rule::Shape, path, message);
}

/// The entries of a mapping.
pub(super) fn mapping<'n>(node: &'n Node, path: &str, sink: &mut Sink) -> Option<&'n [Entry]> {
    if let NodeValue::Map(entries) = &node.value {
        return Some(entries);
    }
    wrong_shape(node, path, "a mapping `{name: …}`", sink);
    None
}

/// The items of a list.
pub(super) fn list<'n>(node: &'n Node, path: &str, sink: &mut Sink) -> Option<&'n [Node]> {
    if let NodeValue::List(items) = &node.value {
        return Some(items);
    }
    wrong_shape(node, path, "a list `[…]`", sink);
    None
}

/// A single value that is not null.
pub(super) fn scalar<'n>(node: &'n Node, path: &str, sink: &mut Sink) -> Option<&'n Scalar> {
    match &node.value {
        NodeValue::Scalar(scalar) if !scalar.is_null() => Some(scalar),
        NodeValue::Scalar(_) | NodeValue::List(_) | NodeValue::Map(_) | NodeValue::Broken => {
            wrong_shape(node, path, "a single value", sink);
            None
        }
    }
}

/// The text of a single value.
pub(super) fn text<'n>(node: &'n Node, path: &str, sink: &mut Sink) -> Option<&'n str> {
    scalar(node, path, sink).map(|s| s.text.as_str())
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node, path: &str, sink: &mut Sink) -> Option<bool> {
    match text(node, path, sink)? {
        "true" => Some(true),
        "false" => Some(false),
        other => {
            let message = format!("`{other}` is neither `true` nor `false`");
            sink.report(node.at, Rule::Value, path, message);
            None
        }
    }
}

/// A whole number from 1 to `max`.
pub(super) fn count(node: &Node, path: &str, max: usize, sink: &mut Sink) -> Option<usize> {
    let text = text(node, path, sink)?;
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<usize>() {
        Ok(n) if digits && (1..=max).contains(&n) => Some(n),
        Ok(_) | Err(_) => {
            let message = format!("`{text}` is not a whole number from 1 to {max}");
            sink.report(node.at, Rule::Parameter, path, message);
            None
        }
    }
}

/// A duration such as `24h`, in microseconds.
pub(super) fn duration(node: &Node, path: &str, sink: &mut Sink) -> Option<i64> {
    let text = text(node, path, sink)?;
    let units = "a whole number and one of us, ms, s, m, h, d, as in 24h";
    let (message, help) = match duration::parse(text) {
        Ok(us) => return Some(us),
        Err(DurationError::NoUnit) => {
            (format!("the duration `{text}` has no unit"), format!("did you mean `{text}s`?"))
        }
        Err(DurationError::Malformed) => {
            (format!("`{text}` is not a duration"), format!("write {units}"))
        }
        Err(DurationError::TooLong) => {
            (format!("the duration `{text}` is too long"), "at most 36525d are allowed".to_owned())
        }
    };
    sink.report(node.at, Rule::Duration, path, message).help(help);
    None
}

/// Checks the name that a key gives to something: letters, digits and `_`, so that it can stand in
/// CEL, in columns of files and in paths. `reserved` are words it must not be.
pub(super) fn name(entry: &Entry, path: &str, reserved: &[&str], sink: &mut Sink) -> bool {
    let name = entry.key.as_str();
    let at = entry.key_at;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() {
        sink.report(at, Rule::Name, path, "a name is empty");
        return false;
    }
    if name.len() > NAME_BYTES_MAX {
        let message =
            format!("the name takes {} bytes; at most {NAME_BYTES_MAX} are allowed", name.len());
        sink.report(at, Rule::Limit, path, message);
        return false;
    }
    if !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let message =
            format!("the name `{name}` may hold letters, digits and `_` only, a digit not first");
        let mut better: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        if better.starts_with(|c: char| c.is_ascii_digit()) {
            better.insert(0, '_');
        }
        sink.report(at, Rule::Name, path, message).help(format!("write `{better}`"));
        return false;
    }
    if reserved.contains(&name) {
        let message = format!("the name `{name}` is reserved");
        sink.report(at, Rule::ReservedName, path, message).help("choose another name");
        return false;
    }
    true
}

/// Reports when there are more of something than allowed, and gives those that are: reading the
/// rest of a flood would take long and say nothing more.
pub(super) fn at_most<'n, T>(
    items: &'n [T],
    max: usize,
    what: &str,
    at: Pos,
    path: &str,
    sink: &mut Sink,
) -> &'n [T] {
    if items.len() > max {
        let message = format!("there are {} {what}; at most {max} are allowed", items.len());
        sink.report(at, Rule::Limit, path, message);
    }
    &items[..items.len().min(max)]
}
