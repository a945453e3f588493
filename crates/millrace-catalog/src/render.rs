//! Parts of a checked catalog as the catalog writes them, for differences and messages.

use millrace_types::{FieldType, KeyType, KindId, StreamId, Value};

use crate::duration;
use crate::model::{
    Aggregate, BeyondRepair, Catalog, Feature, Field, FieldRef, Source, Stream, StreamKind,
    TimeUnit, View, Window,
};

/// The name of an entity kind.
pub(crate) fn kind_name(catalog: &Catalog, id: KindId) -> String {
    catalog.kind(id).map_or_else(|| "?".to_owned(), |k| k.name.clone())
}

/// The type of an entity key.
pub(crate) fn key_type(parts: &[KeyType]) -> String {
    let name = |p: &KeyType| match p {
        KeyType::Int64 => "int64",
        KeyType::String => "string",
    };
    match parts {
        [one] => name(one).to_owned(),
        parts => format!("[{}]", parts.iter().map(name).collect::<Vec<_>>().join(", ")),
    }
}

/// What a view is of and reads.
pub(crate) fn view(catalog: &Catalog, view: &View) -> String {
    let stream = |id: StreamId| catalog.stream_by_id(id).map_or("?", |s| s.name.as_str());
    let entity = kind_name(catalog, view.entity);
    let joins: Vec<&str> = view.joins.iter().map(|id| stream(*id)).collect();
    match joins.as_slice() {
        [] => format!("entity {entity}, events {}", stream(view.events)),
        _ => {
            format!("entity {entity}, events {}, join [{}]", stream(view.events), joins.join(", "))
        }
    }
}

/// A field's type.
pub(crate) fn field_type(field: &Field) -> &'static str {
    match (field.ty, field.unit) {
        (FieldType::Timestamp, TimeUnit::Seconds) => "timestamp(s)",
        (FieldType::Timestamp, TimeUnit::Millis) => "timestamp(ms)",
        (ty, _) => ty.name(),
    }
}

/// What a stream's facts are read by, role by role, always the same roles in the same order.
pub(crate) fn roles(
    stream: &Stream,
    kind_name: &dyn Fn(KindId) -> String,
) -> Vec<(&'static str, String)> {
    let field = |index: usize| stream.fields.get(index).map_or("?", |f| f.name.as_str());
    let optional = |index: Option<usize>| index.map_or("none", field).to_owned();
    let keys: Vec<String> = stream
        .keys
        .iter()
        .map(|key| {
            let names: Vec<&str> = key.fields.iter().map(|f| field(*f)).collect();
            let fields = match names.as_slice() {
                [one] => (*one).to_owned(),
                several => format!("[{}]", several.join(", ")),
            };
            let optional = if key.optional { " (optional)" } else { "" };
            format!("{}: {fields}{optional}", kind_name(key.kind))
        })
        .collect();
    let op = stream.op.as_ref().map_or_else(
        || "none".to_owned(),
        |op| {
            let mut parts = vec![format!("field: {}", field(op.field))];
            for (name, values) in [("retract", &op.retract), ("end", &op.end)] {
                if !values.is_empty() {
                    let values: Vec<String> = values.iter().map(value).collect();
                    parts.push(format!("{name}: [{}]", values.join(", ")));
                }
            }
            format!("{{{}}}", parts.join(", "))
        },
    );
    let kind = match stream.kind {
        StreamKind::Event => "event",
        StreamKind::Changelog => "changelog",
    };
    vec![
        ("kind", kind.to_owned()),
        ("keys", format!("{{{}}}", keys.join(", "))),
        ("at", field(stream.at).to_owned()),
        ("id", optional(stream.id_field)),
        ("seq", optional(stream.seq)),
        ("revision", optional(stream.revision)),
        ("op", op),
        ("retracts", optional(stream.retracts)),
    ]
}

/// The settings of a stream that may change.
pub(crate) fn settings(stream: &Stream) -> Vec<(&'static str, String)> {
    let beyond = match stream.beyond_repair {
        BeyondRepair::Rebuild => "rebuild",
        BeyondRepair::Hold => "hold",
    };
    vec![
        ("out_of_orderness", duration::print(stream.out_of_orderness_us)),
        ("repair", duration::print(stream.repair_us)),
        ("beyond_repair", beyond.to_owned()),
        ("retention", stream.retention_us.map_or_else(|| "none".to_owned(), duration::print)),
    ]
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(v) => v.to_string(),
        Value::Int64(v) => v.to_string(),
        Value::Double(v) => format!("{v:?}"),
        Value::String(v) => v.to_string(),
        Value::Bytes(v) => format!("{v:?}"),
        Value::Timestamp(v) => v.to_string(),
    }
}

/// A field as an argument names it.
fn argument(catalog: &Catalog, view: &View, field: FieldRef) -> String {
    let stream = match field.source {
        Source::Event => Some(view.events),
        Source::Join(join) => view.joins.get(join).copied(),
    };
    let stream = stream.and_then(|id| catalog.stream_by_id(id));
    let name = stream.and_then(|s| s.fields.get(field.field)).map_or("?", |f| f.name.as_str());
    match (field.source, stream) {
        (Source::Join(_), Some(stream)) => format!("{}.{name}", stream.name),
        (Source::Event, _) | (Source::Join(_), None) => name.to_owned(),
    }
}

/// A feature, e.g. `{sum: dwell_ms, window: 1h, where: "clicks.price > 1.0"}`.
pub(crate) fn feature(catalog: &Catalog, view: &View, feature: &Feature) -> String {
    let argument = feature.argument.map(|a| argument(catalog, view, a));
    let argument = argument.unwrap_or_else(|| "{}".to_owned());
    let (name, parameters) = aggregate(feature.aggregate);
    let mut parts = vec![format!("{name}: {argument}")];
    parts.extend(parameters);
    match feature.window {
        Window::Unbounded => {}
        Window::Sliding { width_us, hop_us } => {
            parts.push(format!("window: {}", duration::print(width_us)));
            parts.push(format!("hop: {}", duration::print(hop_us)));
        }
        Window::Exact { width_us } => {
            parts.push(format!("window: {}", duration::print(width_us)));
            parts.push("exact: true".to_owned());
        }
    }
    if let Some(filter) = &feature.filter {
        parts.push(format!("where: {:?}", filter.source()));
    }
    format!("{{{}}}", parts.join(", "))
}

fn aggregate(aggregate: Aggregate) -> (&'static str, Vec<String>) {
    match aggregate {
        Aggregate::Count => ("count", vec![]),
        Aggregate::Sum => ("sum", vec![]),
        Aggregate::Mean => ("mean", vec![]),
        Aggregate::Min => ("min", vec![]),
        Aggregate::Max => ("max", vec![]),
        Aggregate::Variance => ("variance", vec![]),
        Aggregate::Stddev => ("stddev", vec![]),
        Aggregate::First => ("first", vec![]),
        Aggregate::Last => ("last", vec![]),
        Aggregate::FirstN { n } => ("first_n", vec![format!("n: {n}")]),
        Aggregate::LastN { n } => ("last_n", vec![format!("n: {n}")]),
        Aggregate::CountDistinct { limit } => ("count_distinct", vec![format!("limit: {limit}")]),
        Aggregate::TopK { k, limit } => {
            ("top_k", vec![format!("k: {k}"), format!("limit: {limit}")])
        }
        Aggregate::ApproxPercentile { p } => ("approx_percentile", vec![format!("p: {p}")]),
        Aggregate::Latest => ("latest", vec![]),
    }
}
