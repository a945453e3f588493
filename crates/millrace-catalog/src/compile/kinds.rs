//! `entities: {user: int64, pair: [int64, string]}`

use millrace_types::{KeyType, KindId};

use super::reader::{self, Section};
use super::{Context, report_removed};
use crate::diagnostic::{Pos, Rule, did_you_mean, listed};
use crate::limits::{KEY_PARTS_MAX, KINDS_MAX};
use crate::model::Kind;
use crate::render;
use crate::yaml::{Node, NodeValue};

/// An entity kind as far as the text tells it.
pub(super) struct KindDraft {
    pub(super) kind: Kind,
    /// False when the types of its key could not be read.
    pub(super) known: bool,
}

/// The kinds by their number.
pub(super) struct Kinds {
    pub(super) list: Vec<KindDraft>,
    /// False when the section as a whole could not be read: then no kind is called unknown.
    known: bool,
}

impl Kinds {
    pub(super) fn find(&self, name: &str) -> Option<&KindDraft> {
        self.list.iter().find(|k| k.kind.name == name)
    }

    pub(super) fn name(&self, id: KindId) -> &str {
        self.list.get(usize::from(id.0)).map_or("?", |k| &k.kind.name)
    }

    /// The kind with this name; reports when there is none.
    pub(super) fn resolve(
        &self,
        name: &str,
        at: Pos,
        path: &str,
        context: &mut Context<'_>,
    ) -> Option<&KindDraft> {
        let found = self.find(name);
        if found.is_none() && self.known {
            let names = || self.list.iter().map(|k| k.kind.name.as_str());
            let message = format!("there is no entity kind `{name}`");
            let help = did_you_mean(name, names())
                .unwrap_or_else(|| format!("the entities are {}", listed(names())));
            context.sink.report(at, Rule::UnknownEntity, path, message).help(help);
        }
        found
    }
}

pub(super) fn read(root: &Section<'_>, context: &mut Context<'_>) -> Kinds {
    let mut list: Vec<KindDraft> = context
        .previous
        .kinds
        .iter()
        .map(|kind| KindDraft { kind: kind.clone(), known: true })
        .collect();
    let before = list.len();
    let entries = root
        .require("entities", root.at, context.sink)
        .and_then(|node| reader::mapping(node, "entities", context.sink));
    let Some(entries) = entries else { return Kinds { list, known: false } };
    let at = root.entry("entities").map_or(root.at, |e| e.key_at);
    let entries = reader::at_most(entries, KINDS_MAX, "entity kinds", at, "entities", context.sink);

    for entry in entries {
        let path = reader::join("entities", &entry.key);
        if !reader::name(entry, "entities", &[], context.sink) {
            continue;
        }
        let parts = parts(&entry.value, &path, context);
        match list[..before].iter_mut().find(|k| k.kind.name == entry.key) {
            Some(old) => {
                if let Some(parts) = parts.filter(|p| *p != old.kind.parts) {
                    old.known = false;
                    let message = format!(
                        "the key of `{}` changes from {} to {}",
                        entry.key,
                        render::key_type(&old.kind.parts),
                        render::key_type(&parts)
                    );
                    let at = entry.value.at;
                    context.sink.report(at, Rule::Changed, &path, message).help(
                        "keys of stored facts never change; add an entity kind of another name",
                    );
                }
            }
            None => {
                // At most KINDS_MAX get out of here, so the number fits.
                let id = KindId(u16::try_from(list.len()).unwrap_or(u16::MAX));
                let known = parts.is_some();
                let kind = Kind { id, name: entry.key.clone(), parts: parts.unwrap_or_default() };
                list.push(KindDraft { kind, known });
            }
        }
    }
    for old in &context.previous.kinds {
        if !entries.iter().any(|e| e.key == old.name) {
            report_removed(context.sink, at, "entities", "the entity kind", &old.name);
        }
    }
    Kinds { list, known: true }
}

fn parts(node: &Node, path: &str, context: &mut Context<'_>) -> Option<Vec<KeyType>> {
    let NodeValue::List(items) = &node.value else {
        return Some(vec![part(node, path, context)?]);
    };
    if items.is_empty() {
        context.sink.report(node.at, Rule::KeyMapping, path, "a key has at least one part");
        return None;
    }
    let items =
        reader::at_most(items, KEY_PARTS_MAX, "parts in the key", node.at, path, context.sink);
    let parts: Vec<Option<KeyType>> = items.iter().map(|n| part(n, path, context)).collect();
    parts.into_iter().collect()
}

fn part(node: &Node, path: &str, context: &mut Context<'_>) -> Option<KeyType> {
    match reader::text(node, path, context.sink)? {
        "int64" => Some(KeyType::Int64),
        "string" => Some(KeyType::String),
        other => {
            let message = format!("`{other}` is no type of a key; keys are `int64` or `string`");
            let help = did_you_mean(other, ["int64", "string"]);
            context.sink.report(node.at, Rule::UnknownType, path, message).help_if(help);
            None
        }
    }
}
