//! `streams`: kinds, fields and settings. Roles of fields are in [`super::roles`].

use millrace_types::{FieldType, StreamId};

use super::kinds::Kinds;
use super::reader::{self, Section};
use super::{Context, evolve, report_removed, roles};
use crate::diagnostic::{Pos, Rule, Sink, did_you_mean, listed};
use crate::duration;
use crate::limits::{FIELDS_MAX, STREAMS_MAX};
use crate::model::{BeyondRepair, Field, Stream, StreamKind, TimeUnit};
use crate::program::ScopeStream;
use crate::yaml::{Entry, Node};

/// `repair` where none is given: 24 h.
const REPAIR_US_DEFAULT: i64 = 86_400_000_000;

/// Words that cannot name a stream because CEL gives them a meaning.
const RESERVED_STREAMS: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Words that cannot name a field because CEL reads them as literals or operators even behind a dot.
const RESERVED_FIELDS: [&str; 4] = ["false", "in", "null", "true"];

const KEYS: [&str; 14] = [
    "kind",
    "keys",
    "optional_keys",
    "at",
    "id",
    "seq",
    "revision",
    "op",
    "retracts",
    "out_of_orderness",
    "repair",
    "beyond_repair",
    "retention",
    "fields",
];

/// A stream as far as the text tells it. What is not known has a placeholder in `stream`.
pub(super) struct Draft {
    pub(super) stream: Stream,
    pub(super) at: Pos,
    pub(super) kind_known: bool,
    pub(super) keys_known: bool,
    pub(super) fields_known: bool,
    /// By field.
    pub(super) type_known: Vec<bool>,
    /// Where each role's value stands in the text, of those that could be read.
    pub(super) roles: Vec<(&'static str, Pos)>,
    /// The roles that are given but could not be read.
    pub(super) broken: Vec<&'static str>,
}

/// The streams by their number.
pub(super) struct Streams {
    pub(super) list: Vec<Draft>,
    /// False when the section as a whole could not be read: then no stream is called unknown.
    pub(super) known: bool,
}

impl Draft {
    pub(super) fn scope(&self) -> ScopeStream<'_> {
        ScopeStream {
            name: &self.stream.name,
            fields: &self.stream.fields,
            type_known: &self.type_known,
            fields_known: self.fields_known,
        }
    }

    /// What the previous version says; used where the text leaves a stream out.
    fn of_previous(stream: &Stream) -> Self {
        Self {
            stream: stream.clone(),
            at: Pos::START,
            kind_known: true,
            keys_known: true,
            fields_known: true,
            type_known: vec![true; stream.fields.len()],
            roles: Vec::new(),
            broken: Vec::new(),
        }
    }

    fn new(entry: &Entry, id: StreamId) -> Self {
        Self {
            stream: Stream {
                id,
                name: entry.key.clone(),
                kind: StreamKind::Event,
                keys: Vec::new(),
                at: 0,
                id_field: None,
                seq: None,
                revision: None,
                op: None,
                retracts: None,
                out_of_orderness_us: 0,
                repair_us: REPAIR_US_DEFAULT,
                beyond_repair: BeyondRepair::Rebuild,
                retention_us: None,
                forgets: false,
                fields: Vec::new(),
            },
            at: entry.key_at,
            kind_known: false,
            keys_known: false,
            fields_known: false,
            type_known: Vec::new(),
            roles: Vec::new(),
            broken: Vec::new(),
        }
    }
}

pub(super) fn read(root: &Section<'_>, kinds: &Kinds, context: &mut Context<'_>) -> Streams {
    let previous = context.previous;
    let mut list: Vec<Draft> = previous.streams.iter().map(Draft::of_previous).collect();
    let entries = root
        .require("streams", root.at, context.sink)
        .and_then(|node| reader::mapping(node, "streams", context.sink));
    let Some(entries) = entries else { return Streams { list, known: false } };
    let at = root.entry("streams").map_or(root.at, |e| e.key_at);
    let entries = reader::at_most(entries, STREAMS_MAX, "streams", at, "streams", context.sink);

    for entry in entries {
        if !reader::name(entry, "streams", &RESERVED_STREAMS, context.sink) {
            continue;
        }
        let old = previous.stream(&entry.key);
        // At most STREAMS_MAX get out of here, so the number fits.
        let id =
            old.map_or_else(|| StreamId(u16::try_from(list.len()).unwrap_or(u16::MAX)), |s| s.id);
        let draft = stream(entry, id, old, kinds, context);
        match old {
            Some(old) => list[usize::from(old.id.0)] = draft,
            None => list.push(draft),
        }
    }
    for old in &previous.streams {
        if !entries.iter().any(|e| e.key == old.name) {
            report_removed(context.sink, at, "streams", "the stream", &old.name);
        }
    }
    Streams { list, known: true }
}

fn stream(
    entry: &Entry,
    id: StreamId,
    old: Option<&Stream>,
    kinds: &Kinds,
    context: &mut Context<'_>,
) -> Draft {
    let path = reader::join("streams", &entry.key);
    let mut draft = Draft::new(entry, id);
    let Some(section) = Section::read(&entry.value, &path, &KEYS, context.sink) else {
        return draft;
    };
    kind(&section, &mut draft, context.sink);
    fields(&section, old, &mut draft, context.sink);
    roles::read(&section, kinds, &mut draft, context);
    settings(&section, &mut draft.stream, context.sink);
    retention(&section, old, &mut draft, context.sink);
    if let Some(old) = old {
        evolve::check(&mut draft, old, kinds, &path, context.sink);
    }
    draft
}

fn kind(section: &Section<'_>, draft: &mut Draft, sink: &mut Sink) {
    let Some(node) = section.require("kind", draft.at, sink) else { return };
    let path = section.child("kind");
    draft.stream.kind = match reader::text(node, &path, sink) {
        Some("event") => StreamKind::Event,
        Some("changelog") => StreamKind::Changelog,
        Some(other) => {
            let message = format!("`{other}` is no kind of stream");
            let help = did_you_mean(other, ["event", "changelog"])
                .unwrap_or_else(|| "write `event` or `changelog`".to_owned());
            sink.report(node.at, Rule::Value, &path, message).help(help);
            return;
        }
        None => return,
    };
    draft.kind_known = true;
    draft.roles.push(("kind", node.at));
}

/// Fields keep the order in which they were added: those of the previous version come first.
fn fields(section: &Section<'_>, old: Option<&Stream>, draft: &mut Draft, sink: &mut Sink) {
    if let Some(old) = old {
        draft.stream.fields.clone_from(&old.fields);
        draft.type_known = vec![true; old.fields.len()];
    }
    let Some(node) = section.require("fields", draft.at, sink) else { return };
    let path = section.child("fields");
    let Some(entries) = reader::mapping(node, &path, sink) else { return };
    let entries = reader::at_most(entries, FIELDS_MAX, "fields", node.at, &path, sink);
    draft.fields_known = true;
    if entries.is_empty() {
        sink.report(node.at, Rule::MissingKey, &path, "a stream has at least one field");
    }
    for entry in entries {
        if !reader::name(entry, &path, &RESERVED_FIELDS, sink) {
            continue;
        }
        let path = reader::join(&path, &entry.key);
        let ty = field_type(&entry.value, &path, sink);
        if let Some(old) = draft.stream.field(&entry.key) {
            let field = &draft.stream.fields[old];
            draft.type_known[old] = evolve::check_type(field, ty, entry.value.at, &path, sink);
            continue;
        }
        let known = ty.is_some();
        let (ty, unit) = ty.unwrap_or((FieldType::Bool, TimeUnit::Micros));
        draft.stream.fields.push(Field { name: entry.key.clone(), ty, unit });
        draft.type_known.push(known);
    }
    if let Some(old) = old {
        evolve::check_fields(old, entries, node.at, &path, sink);
    }
}

fn field_type(node: &Node, path: &str, sink: &mut Sink) -> Option<(FieldType, TimeUnit)> {
    let text = reader::text(node, path, sink)?;
    let found = match text {
        "bool" => (FieldType::Bool, TimeUnit::Micros),
        "int64" => (FieldType::Int64, TimeUnit::Micros),
        "double" => (FieldType::Double, TimeUnit::Micros),
        "string" => (FieldType::String, TimeUnit::Micros),
        "bytes" => (FieldType::Bytes, TimeUnit::Micros),
        "timestamp" | "timestamp(us)" => (FieldType::Timestamp, TimeUnit::Micros),
        "timestamp(ms)" => (FieldType::Timestamp, TimeUnit::Millis),
        "timestamp(s)" => (FieldType::Timestamp, TimeUnit::Seconds),
        other => {
            let help = type_help(other);
            let message = format!("there is no type `{other}`");
            sink.report(node.at, Rule::UnknownType, path, message).help(help);
            return None;
        }
    };
    Some(found)
}

fn type_help(text: &str) -> String {
    let types = ["bool", "int64", "double", "string", "bytes", "timestamp"];
    let known = match text.to_ascii_lowercase().as_str() {
        "boolean" => Some("bool"),
        "int" | "integer" | "int32" | "bigint" | "long" | "i64" | "uint64" => Some("int64"),
        "float" | "float64" | "float32" | "f64" | "decimal" | "real" | "number" => Some("double"),
        "text" | "str" | "varchar" | "utf8" => Some("string"),
        "binary" | "blob" | "bytea" => Some("bytes"),
        "datetime" | "date" | "time" | "timestamptz" | "instant" => Some("timestamp"),
        _ => None,
    };
    if let Some(known) = known {
        return format!("did you mean `{known}`?");
    }
    if text.starts_with("timestamp(") {
        return "a timestamp's unit is `timestamp(us)`, `timestamp(ms)` or `timestamp(s)`"
            .to_owned();
    }
    did_you_mean(text, types).unwrap_or_else(|| format!("the types are {}", listed(types)))
}

fn settings(section: &Section<'_>, stream: &mut Stream, sink: &mut Sink) {
    let mut span = |key: &str, into: &mut i64| {
        let us = section.get(key).and_then(|n| reader::duration(n, &section.child(key), sink));
        if let Some(us) = us {
            *into = us;
        }
    };
    span("out_of_orderness", &mut stream.out_of_orderness_us);
    span("repair", &mut stream.repair_us);
    let Some(node) = section.get("beyond_repair") else { return };
    let path = section.child("beyond_repair");
    match reader::text(node, &path, sink) {
        Some("hold") => stream.beyond_repair = BeyondRepair::Hold,
        Some("rebuild") => stream.beyond_repair = BeyondRepair::Rebuild,
        Some(other) => {
            let message = format!("`{other}` is neither `hold` nor `rebuild`");
            let help = did_you_mean(other, ["hold", "rebuild"]);
            sink.report(node.at, Rule::Value, &path, message).help_if(help);
        }
        None => {}
    }
}

/// How long facts are kept. What a stream forgot it never has again, so a version that takes the
/// retention off still says that it forgets.
fn retention(section: &Section<'_>, old: Option<&Stream>, draft: &mut Draft, sink: &mut Sink) {
    draft.stream.forgets = old.is_some_and(|old| old.forgets);
    let Some(node) = section.get("retention") else { return };
    let path = section.child("retention");
    let Some(us) = reader::duration(node, &path, sink) else { return };
    if draft.kind_known && draft.stream.kind == StreamKind::Changelog {
        let message = "a changelog keeps its versions, because the one in force counts at any age";
        sink.report(node.at, Rule::Retention, &path, message)
            .help("leave `retention` out; event streams take it");
        return;
    }
    if us < draft.stream.repair_us || us == 0 {
        let (given, repair) = (duration::print(us), duration::print(draft.stream.repair_us));
        let message = format!("a retention of {given} is shorter than `repair`, {repair}");
        sink.report(node.at, Rule::Retention, &path, message)
            .help("lengthen `retention` or shorten `repair`");
        return;
    }
    draft.stream.retention_us = Some(us);
    draft.stream.forgets = true;
}
