//! The roles of a stream's fields: keys, `at`, `id`, `seq`, `revision`, `op`, `retracts`.

use millrace_types::{FieldType, KeyType, Value};

use super::Context;
use super::kinds::{KindDraft, Kinds};
use super::reader::{self, Section};
use super::streams::Draft;
use crate::diagnostic::{Pos, Rule, Sink, did_you_mean, listed};
use crate::limits::{OP_VALUES_MAX, STREAM_KEYS_MAX};
use crate::model::{KeyMapping, OpMapping, StreamKind};
use crate::yaml::{Node, NodeValue, Scalar, Style};

pub(super) fn read(
    section: &Section<'_>,
    kinds: &Kinds,
    draft: &mut Draft,
    context: &mut Context<'_>,
) {
    keys(section, kinds, draft, context);
    let sink = &mut *context.sink;
    if section.require("at", draft.at, sink).is_none() {
        draft.broken.push("at");
    }
    if let Some(at) = role(section, "at", &[FieldType::Timestamp], draft, sink) {
        draft.stream.at = at;
    }
    let id_types = [FieldType::String, FieldType::Int64];
    draft.stream.id_field = role(section, "id", &id_types, draft, sink);
    draft.stream.seq = role(section, "seq", &[FieldType::Int64], draft, sink);
    draft.stream.revision = role(section, "revision", &[FieldType::Int64], draft, sink);
    draft.stream.retracts = role(section, "retracts", &id_types, draft, sink);
    if let Some(node) = section.get("op") {
        draft.stream.op = op(node, &section.child("op"), draft, sink);
        match draft.stream.op {
            Some(_) => draft.roles.push(("op", node.at)),
            None => draft.broken.push("op"),
        }
    }
}

/// The field that has a role, if the role is given; it must be of one of `types`.
fn role(
    section: &Section<'_>,
    key: &'static str,
    types: &[FieldType],
    draft: &mut Draft,
    sink: &mut Sink,
) -> Option<usize> {
    let node = section.get(key)?;
    let path = section.child(key);
    let index = field(node, &path, draft, sink)
        .filter(|index| role_type(*index, key, types, node.at, &path, draft, sink));
    match index {
        Some(_) => draft.roles.push((key, node.at)),
        None => draft.broken.push(key),
    }
    index
}

/// The field of this stream that `node` names.
fn field(node: &Node, path: &str, draft: &Draft, sink: &mut Sink) -> Option<usize> {
    let name = reader::text(node, path, sink)?;
    let found = draft.stream.field(name);
    if found.is_none() && draft.fields_known {
        let names = draft.stream.fields.iter().map(|f| f.name.as_str());
        let help = did_you_mean(name, names)
            .unwrap_or_else(|| "name one of the stream's `fields`, or add it there".to_owned());
        let message = format!("the stream has no field `{name}`");
        sink.report(node.at, Rule::UnknownField, path, message).help(help);
    }
    found
}

fn role_type(
    index: usize,
    key: &str,
    types: &[FieldType],
    at: Pos,
    path: &str,
    draft: &Draft,
    sink: &mut Sink,
) -> bool {
    let field = &draft.stream.fields[index];
    if !draft.type_known[index] {
        return false;
    }
    if types.contains(&field.ty) {
        return true;
    }
    let wanted: Vec<String> = types.iter().map(ToString::to_string).collect();
    let wanted = wanted.join(" or ");
    let message = format!("`{key}` must be of type {wanted}; `{}` is {}", field.name, field.ty);
    sink.report(at, Rule::RoleType, path, message);
    false
}

fn keys(section: &Section<'_>, kinds: &Kinds, draft: &mut Draft, context: &mut Context<'_>) {
    let path = section.child("keys");
    let entries = section
        .require("keys", draft.at, context.sink)
        .and_then(|node| reader::mapping(node, &path, context.sink));
    let Some(entries) = entries else { return };
    let at = section.entry("keys").map_or(draft.at, |e| e.key_at);
    draft.keys_known = true;
    draft.roles.push(("keys", at));
    if entries.is_empty() {
        let message = "a stream has at least one key";
        context.sink.report(at, Rule::MissingKey, &path, message).help("write `{user: user_id}`");
        draft.keys_known = false;
    }
    let entries = reader::at_most(entries, STREAM_KEYS_MAX, "keys", at, &path, context.sink);
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.key.as_str());
        let path = reader::join(&path, &entry.key);
        let kind = kinds.resolve(&entry.key, entry.key_at, &path, context);
        let fields = key_fields(&entry.value, &path, draft, context.sink);
        match (kind, fields) {
            (Some(kind), Some(fields)) => {
                if !fits(kind, &fields, entry.value.at, &path, draft, context.sink) {
                    draft.keys_known = false;
                }
                let kind = kind.kind.id;
                draft.stream.keys.push(KeyMapping { kind, fields, optional: false });
            }
            (_, _) => draft.keys_known = false,
        }
    }
    optional_keys(section, &names, kinds, draft, context.sink);
}

fn key_fields(node: &Node, path: &str, draft: &Draft, sink: &mut Sink) -> Option<Vec<usize>> {
    let NodeValue::List(items) = &node.value else {
        return Some(vec![field(node, path, draft, sink)?]);
    };
    let fields: Vec<Option<usize>> = items.iter().map(|n| field(n, path, draft, sink)).collect();
    fields.into_iter().collect()
}

/// Whether the fields have the number and the types of the kind's parts.
fn fits(
    kind: &KindDraft,
    fields: &[usize],
    at: Pos,
    path: &str,
    draft: &Draft,
    sink: &mut Sink,
) -> bool {
    if !kind.known {
        return false;
    }
    let (name, parts) = (&kind.kind.name, &kind.kind.parts);
    if parts.len() != fields.len() {
        let message =
            format!("the key of `{name}` has {} parts; this names {}", parts.len(), fields.len());
        sink.report(at, Rule::KeyMapping, path, message);
        return false;
    }
    let mut fine = true;
    for (part, index) in parts.iter().zip(fields) {
        let wanted = match part {
            KeyType::Int64 => FieldType::Int64,
            KeyType::String => FieldType::String,
        };
        let field = &draft.stream.fields[*index];
        if draft.type_known[*index] && field.ty != wanted {
            let message = format!(
                "the key of `{name}` is {wanted}; the field `{}` is {}",
                field.name, field.ty
            );
            sink.report(at, Rule::KeyMapping, path, message);
            fine = false;
        }
        fine &= draft.type_known[*index];
    }
    fine
}

fn optional_keys(
    section: &Section<'_>,
    names: &[&str],
    kinds: &Kinds,
    draft: &mut Draft,
    sink: &mut Sink,
) {
    let Some(node) = section.get("optional_keys") else { return };
    let path = section.child("optional_keys");
    let Some(items) = reader::list(node, &path, sink) else {
        draft.keys_known = false;
        return;
    };
    if names.is_empty() {
        return;
    }
    let mut seen = Vec::new();
    for item in items {
        let Some(name) = reader::text(item, &path, sink) else { continue };
        if !names.contains(&name) {
            let message = format!("`{name}` is not among the stream's keys");
            let help = did_you_mean(name, names.iter().copied())
                .unwrap_or_else(|| format!("the keys are {}", listed(names.iter().copied())));
            sink.report(item.at, Rule::KeyMapping, &path, message).help(help);
        } else if seen.contains(&name) {
            let message = format!("`{name}` stands here twice");
            sink.report(item.at, Rule::DuplicateKey, &path, message);
        } else {
            seen.push(name);
        }
        for key in &mut draft.stream.keys {
            key.optional |= kinds.name(key.kind) == name;
        }
    }
    if seen.len() == names.len() {
        let message = "all keys are optional, so a fact could belong to no entity";
        sink.report(node.at, Rule::KeyMapping, &path, message)
            .help("leave one key out of the list");
    }
}

fn op(node: &Node, path: &str, draft: &Draft, sink: &mut Sink) -> Option<OpMapping> {
    let section = Section::read(node, path, &["field", "retract", "end"], sink)?;
    let types = [FieldType::String, FieldType::Int64, FieldType::Bool];
    let index = section.require("field", node.at, sink).and_then(|node| {
        let path = section.child("field");
        let index = field(node, &path, draft, sink)?;
        role_type(index, "op", &types, node.at, &path, draft, sink).then_some(index)
    });
    let ty = index.map(|i| draft.stream.fields[i].ty);
    let mut lists = [Vec::new(), Vec::new()];
    for (list, key) in lists.iter_mut().zip(["retract", "end"]) {
        let Some(node) = section.get(key) else { continue };
        let path = section.child(key);
        let Some(items) = reader::list(node, &path, sink) else { continue };
        let items = reader::at_most(items, OP_VALUES_MAX, "values", node.at, &path, sink);
        for item in items {
            let Some(value) = op_value(item, ty, &path, sink) else { continue };
            list.push((value, item.at));
        }
    }
    let [retract, end] = lists;
    op_conflicts(&retract, &end, path, sink);
    let ends = section.entry("end");
    if let Some(end) = ends
        && draft.kind_known
        && draft.stream.kind == StreamKind::Event
    {
        let message = "an event does not end; `end` is for changelogs";
        sink.report(end.key_at, Rule::OpMapping, path, message)
            .help("use `retract` for an event that never was");
    }
    if section.get("retract").is_none() && ends.is_none() {
        let message = "`op` lists no values, so it says nothing";
        sink.report(node.at, Rule::OpMapping, path, message)
            .help("add `retract: […]` or `end: […]`");
    }
    // Their order means nothing, so that writing them in another one changes nothing.
    let values = |list: Vec<(Value, Pos)>| {
        let mut values: Vec<Value> = list.into_iter().map(|(v, _)| v).collect();
        values.sort_by(|a, b| a.as_ref().total_cmp(b.as_ref()));
        values
    };
    Some(OpMapping { field: index?, retract: values(retract), end: values(end) })
}

/// A value of the op field, read as that field's type.
fn op_value(node: &Node, ty: Option<FieldType>, path: &str, sink: &mut Sink) -> Option<Value> {
    let scalar: &Scalar = reader::scalar(node, path, sink)?;
    let text = scalar.text.as_str();
    let value = match ty? {
        FieldType::Int64 if scalar.style == Style::Plain => text.parse().ok().map(Value::Int64),
        FieldType::Bool if scalar.style == Style::Plain => text.parse().ok().map(Value::Bool),
        FieldType::String => Some(Value::String(text.into())),
        FieldType::Int64
        | FieldType::Bool
        | FieldType::Double
        | FieldType::Bytes
        | FieldType::Timestamp => None,
    };
    if value.is_none() {
        let message = format!("`{text}` is no value of the op field");
        sink.report(node.at, Rule::Value, path, message);
    }
    value
}

fn op_conflicts(retract: &[(Value, Pos)], end: &[(Value, Pos)], path: &str, sink: &mut Sink) {
    let all: Vec<&(Value, Pos)> = retract.iter().chain(end).collect();
    for (i, (value, at)) in all.iter().enumerate() {
        if all[..i].iter().any(|(earlier, _)| earlier == value) {
            let message = "this value is listed twice, so it is not clear what it means";
            sink.report(*at, Rule::OpMapping, path, message);
        }
    }
}
