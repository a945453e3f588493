//! Random catalogs.

use millrace_types::{FieldType, KeyType, Value};

use super::Options;
use super::conditions::{Name, condition};
use super::rng::Rng;
use super::spec::{
    CatalogSpec, FeatureSpec, KindSpec, OpSpec, Span, StreamSpec, ViewSpec, WindowSpec,
};

const fn span(text: &'static str, us: i64) -> Span {
    Span { text, us }
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Widths on both sides of every step of the default hop.
const WIDTHS: [Span; 17] = [
    span("1us", 1),
    span("7us", 7),
    span("1500us", 1_500),
    span("250ms", 250_000),
    span("1s", SECOND),
    span("7s", 7 * SECOND),
    span("59s", 59 * SECOND),
    span("60s", 60 * SECOND),
    span("90s", 90 * SECOND),
    span("10m", 10 * MINUTE),
    span("1h", HOUR),
    span("5h", 5 * HOUR),
    span("30h", 30 * HOUR),
    span("60h", 60 * HOUR),
    span("3d", 3 * DAY),
    span("7d", 7 * DAY),
    span("60d", 60 * DAY),
];

const REPAIRS: [Span; 5] = [
    span("1s", SECOND),
    span("10m", 10 * MINUTE),
    span("5h", 5 * HOUR),
    span("24h", DAY),
    span("60d", 60 * DAY),
];

const KINDS: [KindSpec; 3] = [
    KindSpec { name: "user", parts: &[(KeyType::Int64, "user_id")] },
    KindSpec { name: "item", parts: &[(KeyType::String, "item_id")] },
    KindSpec { name: "pair", parts: &[(KeyType::Int64, "pair_a"), (KeyType::String, "pair_b")] },
];

const PAYLOAD: [(&str, FieldType); 10] = [
    ("b", FieldType::Bool),
    ("i", FieldType::Int64),
    ("i2", FieldType::Int64),
    ("d", FieldType::Double),
    ("d2", FieldType::Double),
    ("s", FieldType::String),
    ("s2", FieldType::String),
    ("y", FieldType::Bytes),
    ("t", FieldType::Timestamp),
    ("t2", FieldType::Timestamp),
];

/// A random catalog.
pub(super) fn catalog(rng: &mut Rng, options: &Options) -> CatalogSpec {
    let mut kinds = KINDS.to_vec();
    rng.shuffle(&mut kinds);
    kinds.truncate(rng.between(1, 3));
    let (events, changelogs) = (rng.between(1, 2), rng.below(3));
    let mut streams = Vec::new();
    for i in 0..events {
        streams.push(stream(rng, options, format!("e{i}"), true, &kinds));
    }
    for i in 0..changelogs {
        streams.push(stream(rng, options, format!("p{i}"), false, &kinds));
    }
    let views = (0..rng.between(1, 2))
        .map(|i| view(rng, options, format!("v{i}"), events, &streams))
        .collect();
    CatalogSpec { kinds, streams, views }
}

fn stream(
    rng: &mut Rng,
    options: &Options,
    name: String,
    event: bool,
    kinds: &[KindSpec],
) -> StreamSpec {
    // Mostly all kinds, so that streams meet in a view.
    let mut keys: Vec<usize> = (0..kinds.len()).filter(|_| rng.percent(75)).collect();
    if keys.is_empty() {
        keys.push(rng.below(kinds.len()));
    }
    let keys: Vec<(usize, bool)> =
        keys.iter().enumerate().map(|(n, kind)| (*kind, n > 0 && rng.percent(50))).collect();
    let mut fields: Vec<(String, FieldType)> = Vec::new();
    let mut field = |name: &str, ty: FieldType| fields.push((name.to_owned(), ty));
    for (kind, _) in &keys {
        for (ty, name) in kinds[*kind].parts {
            let ty = match ty {
                KeyType::Int64 => FieldType::Int64,
                KeyType::String => FieldType::String,
            };
            field(name, ty);
        }
    }
    field("ts", FieldType::Timestamp);
    let id = *rng.pick(&[FieldType::String, FieldType::Int64]);
    let has_id = rng.percent(75);
    if has_id {
        field("eid", id);
    }
    if rng.percent(50) {
        field("sq", FieldType::Int64);
    }
    if rng.percent(60) {
        field("rv", FieldType::Int64);
    }
    let op = rng.percent(60).then(|| op(rng, event));
    if let Some((ty, _)) = &op {
        field("op", *ty);
    }
    if rng.percent(30) {
        // Ids that a producer's name makes are texts.
        field("undo", if has_id { id } else { FieldType::String });
    }
    let mut payload = PAYLOAD.to_vec();
    rng.shuffle(&mut payload);
    payload.truncate(rng.between(2, 6));
    payload.into_iter().for_each(|(name, ty)| field(name, ty));
    rng.shuffle(&mut fields);
    let hold = options.hold && rng.percent(60);
    let (op, repair) = (op.map(|o| o.1), *rng.pick(&REPAIRS));
    StreamSpec { name, event, keys, op, repair, hold, retention: None, fields }
}

fn op(rng: &mut Rng, event: bool) -> (FieldType, OpSpec) {
    let text = |texts: &[&str]| texts.iter().map(|t| Value::String((*t).into())).collect();
    let (ty, assert, retract, end): (_, Vec<Value>, Vec<Value>, Vec<Value>) = match rng.below(4) {
        0 => {
            let ints = |ints: &[i64]| ints.iter().map(|i| Value::Int64(*i)).collect();
            (FieldType::Int64, ints(&[0, 9]), ints(&[-1, 2]), ints(&[1]))
        }
        // A bool has room for one meaning besides ASSERT.
        1 => {
            let on = vec![Value::Bool(true)];
            let off = vec![Value::Bool(false)];
            if event {
                (FieldType::Bool, off, on, vec![])
            } else {
                (FieldType::Bool, off, vec![], on)
            }
        }
        _ => (FieldType::String, text(&["c", "u", ""]), text(&["r"]), text(&["d", "gone"])),
    };
    (ty, OpSpec { assert, retract, end: if event { vec![] } else { end } })
}

fn view(
    rng: &mut Rng,
    options: &Options,
    name: String,
    event_streams: usize,
    streams: &[StreamSpec],
) -> ViewSpec {
    let events = rng.below(event_streams);
    let kind = rng.pick(&streams[events].keys).0;
    let mut joins: Vec<usize> = (event_streams..streams.len())
        .filter(|i| streams[*i].keys.iter().any(|(k, _)| *k == kind))
        .collect();
    rng.shuffle(&mut joins);
    if rng.percent(20) {
        joins.pop();
    }
    let scope = FeatureScope {
        events: &streams[events],
        joins: joins.iter().map(|j| &streams[*j]).collect(),
    };
    let features = (0..rng.between(1, options.features_max))
        .map(|i| feature(rng, format!("f{i}"), &scope))
        .collect();
    ViewSpec { name, kind, events, joins, features }
}

struct FeatureScope<'a> {
    events: &'a StreamSpec,
    joins: Vec<&'a StreamSpec>,
}

impl FeatureScope<'_> {
    /// The fields an aggregate takes: those of the events by their name alone.
    fn arguments(&self) -> Vec<Name> {
        let of_events = self.events.fields.iter();
        let of_events = of_events.map(|(name, ty)| Name { text: name.clone(), ty: *ty });
        of_events.chain(self.joins.iter().flat_map(|s| qualified(s))).collect()
    }

    /// The fields a `where` takes.
    fn names(&self) -> Vec<Name> {
        let streams = std::iter::once(&self.events).chain(&self.joins);
        streams.flat_map(|s| qualified(s)).collect()
    }
}

fn qualified(stream: &StreamSpec) -> impl Iterator<Item = Name> {
    let name = |(field, ty): &(String, FieldType)| Name {
        text: format!("{}.{field}", stream.name),
        ty: *ty,
    };
    stream.fields.iter().map(name)
}

fn feature(rng: &mut Rng, name: String, scope: &FeatureScope<'_>) -> FeatureSpec {
    if !scope.joins.is_empty() && rng.percent(12) {
        let fields: Vec<Name> = scope.joins.iter().flat_map(|s| qualified(s)).collect();
        let aggregate = format!("latest: {}", rng.pick(&fields).text);
        return FeatureSpec { name, aggregate, window: None, condition: None };
    }
    let condition = rng.percent(35).then(|| {
        let depth = rng.below(3);
        condition(rng, &scope.names(), depth)
    });
    let aggregate = aggregate(rng, scope);
    FeatureSpec { name, aggregate, window: window(rng, scope.events.repair), condition }
}

fn aggregate(rng: &mut Rng, scope: &FeatureScope<'_>) -> String {
    use FieldType::{Bool, Bytes, Double, Int64, String, Timestamp};
    const AGGREGATES: [&str; 15] = [
        "rows",
        "count",
        "sum",
        "sum",
        "mean",
        "min",
        "max",
        "variance",
        "stddev",
        "first",
        "last",
        "first_n",
        "last_n",
        "count_distinct",
        "top_k",
    ];
    // One more, at the same rate as the others.
    let name = *rng.pick(&AGGREGATES[..]);
    let name = if rng.below(16) == 0 { "approx_percentile" } else { name };
    let types: &[FieldType] = match name {
        "sum" | "mean" | "variance" | "stddev" | "approx_percentile" => &[Int64, Double],
        "min" | "max" => &[Int64, Double, String, Timestamp],
        _ => &[Bool, Int64, Double, String, Bytes, Timestamp],
    };
    let arguments: Vec<Name> =
        scope.arguments().into_iter().filter(|a| types.contains(&a.ty)).collect();
    if name == "rows" || arguments.is_empty() {
        return "count: {}".to_owned();
    }
    let argument = &rng.pick(&arguments).text;
    let few = rng.between(1, 4);
    let limit = if rng.percent(60) { format!(", limit: {}", rng.between(1, 4)) } else { "".into() };
    match name {
        "first_n" | "last_n" => format!("{name}: {argument}, n: {few}"),
        "count_distinct" => format!("{name}: {argument}{limit}"),
        "top_k" => format!("{name}: {argument}, k: {few}{limit}"),
        "approx_percentile" => {
            let p = rng.pick(&["0.5", "0.9", "0.1", "1", "0.3333333333333333", "1e-9"]);
            format!("{name}: {argument}, p: {p}")
        }
        _ => format!("{name}: {argument}"),
    }
}

/// A width below `width`, if there is one that takes this hop.
pub(super) fn narrower(rng: &mut Rng, width: Span, hop: Option<Span>) -> Span {
    let least = hop.map_or(0, |hop| hop.us);
    let narrower: Vec<Span> =
        WIDTHS.into_iter().filter(|w| w.us < width.us && w.us >= least).collect();
    if narrower.is_empty() { width } else { *rng.pick(&narrower) }
}

fn window(rng: &mut Rng, repair: Span) -> Option<WindowSpec> {
    if rng.percent(20) {
        return None;
    }
    let width = *rng.pick(&WIDTHS);
    if width.us <= repair.us && rng.percent(30) {
        return Some(WindowSpec { width, hop: None, exact: true });
    }
    let hops: Vec<Span> = WIDTHS.into_iter().filter(|hop| hop.us <= width.us).collect();
    let hop = rng.percent(35).then(|| *rng.pick(&hops));
    Some(WindowSpec { width, hop, exact: false })
}
