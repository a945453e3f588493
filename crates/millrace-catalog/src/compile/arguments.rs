//! The aggregates: what they take, and their parameters.

use millrace_types::FieldType;

use super::Context;
use super::reader::{self, Section};
use crate::diagnostic::{Rule, Sink, listed};
use crate::limits::{DISTINCT_LIMIT_DEFAULT, DISTINCT_LIMIT_MAX, K_MAX, N_MAX};
use crate::model::{Aggregate, FieldRef, Source};
use crate::program::{Resolved, Scope};
use crate::yaml::{Entry, NodeValue};

/// An aggregate before its parameters are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spec {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    Variance,
    Stddev,
    First,
    Last,
    FirstN,
    LastN,
    CountDistinct,
    TopK,
    ApproxPercentile,
    Latest,
}

const ALL: [(&str, Spec); 15] = [
    ("count", Spec::Count),
    ("sum", Spec::Sum),
    ("mean", Spec::Mean),
    ("min", Spec::Min),
    ("max", Spec::Max),
    ("variance", Spec::Variance),
    ("stddev", Spec::Stddev),
    ("first", Spec::First),
    ("last", Spec::Last),
    ("first_n", Spec::FirstN),
    ("last_n", Spec::LastN),
    ("count_distinct", Spec::CountDistinct),
    ("top_k", Spec::TopK),
    ("approx_percentile", Spec::ApproxPercentile),
    ("latest", Spec::Latest),
];

const NUMBERS: [FieldType; 2] = [FieldType::Int64, FieldType::Double];
const ORDERED: [FieldType; 4] =
    [FieldType::Int64, FieldType::Double, FieldType::String, FieldType::Timestamp];
const ANY: [FieldType; 6] = [
    FieldType::Bool,
    FieldType::Int64,
    FieldType::Double,
    FieldType::String,
    FieldType::Bytes,
    FieldType::Timestamp,
];

impl Spec {
    pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
        ALL.iter().map(|(name, _)| *name)
    }

    pub(super) fn find(name: &str) -> Option<Self> {
        ALL.iter().find(|(n, _)| *n == name).map(|(_, spec)| *spec)
    }

    /// The types of argument it takes (semantics §2).
    fn types(self) -> &'static [FieldType] {
        match self {
            Self::Sum | Self::Mean | Self::Variance | Self::Stddev | Self::ApproxPercentile => {
                &NUMBERS
            }
            Self::Min | Self::Max => &ORDERED,
            Self::Count
            | Self::First
            | Self::Last
            | Self::FirstN
            | Self::LastN
            | Self::CountDistinct
            | Self::TopK
            | Self::Latest => &ANY,
        }
    }

    /// The parameters it takes.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::FirstN | Self::LastN => &["n"],
            Self::CountDistinct => &["limit"],
            Self::TopK => &["k", "limit"],
            Self::ApproxPercentile => &["p"],
            Self::Count
            | Self::Sum
            | Self::Mean
            | Self::Min
            | Self::Max
            | Self::Variance
            | Self::Stddev
            | Self::First
            | Self::Last
            | Self::Latest => &[],
        }
    }
}

/// Reads the argument: `Some(None)` for `count: {}`, `None` when it is wrong.
pub(super) fn read(
    entry: &Entry,
    spec: Spec,
    path: &str,
    scope: &Scope<'_>,
    context: &mut Context<'_>,
) -> Option<Option<FieldRef>> {
    let path = reader::join(path, &entry.key);
    let node = &entry.value;
    if let (Spec::Count, NodeValue::Map(entries)) = (spec, &node.value)
        && entries.is_empty()
    {
        return Some(None);
    }
    let field = match &node.value {
        NodeValue::Scalar(scalar) if !scalar.is_null() => scalar.text.as_str(),
        NodeValue::Broken => return None,
        NodeValue::Scalar(_) | NodeValue::List(_) | NodeValue::Map(_) => {
            let message = format!("`{}` takes a field", entry.key);
            let help = if spec == Spec::Count {
                "write `count: {}` to count rows"
            } else if spec == Spec::Latest {
                "write `changelog.field`"
            } else {
                "write a field of the event stream, or `changelog.field`"
            };
            context.sink.report(node.at, Rule::Argument, &path, message).help(help);
            return None;
        }
    };
    let resolved = match field.split_once('.') {
        Some((stream, field)) => scope.qualified(stream, field),
        None if spec == Spec::Latest => {
            let message = format!("`latest` takes a field of a joined changelog, not `{field}`");
            let help = scope
                .in_changelogs(field)
                .unwrap_or_else(|| "write `changelog.field`; `last` takes an event's".to_owned());
            context.sink.report(node.at, Rule::Argument, &path, message).help(help);
            return None;
        }
        None => scope.bare(field),
    };
    let found = match resolved {
        Resolved::Field(found) => found,
        Resolved::Silent => return None,
        Resolved::Wrong { rule, message, help } => {
            context.sink.report(node.at, rule, &path, message).help_if(help);
            return None;
        }
    };
    if spec == Spec::Latest && found.source == Source::Event {
        let message = "`latest` takes a field of a joined changelog; this is an event's";
        let help = "use `last` for the field of the last event";
        context.sink.report(node.at, Rule::Argument, &path, message).help(help);
        return None;
    }
    if !spec.types().contains(&found.ty) {
        let types = listed(spec.types().iter().map(|t| t.name()));
        let message = format!("`{}` takes {types}; `{field}` is {}", entry.key, found.ty);
        context.sink.report(node.at, Rule::Argument, &path, message);
        return None;
    }
    Some(Some(found))
}

/// Reads the parameters and makes the aggregate.
pub(super) fn parameters(section: &Section<'_>, spec: Spec, sink: &mut Sink) -> Option<Aggregate> {
    for key in ["n", "k", "limit", "p"] {
        if let Some(entry) = section.entry(key)
            && !spec.parameters().contains(&key)
        {
            let owners = ALL.iter().filter(|(_, s)| s.parameters().contains(&key));
            let owners = listed(owners.map(|(name, _)| *name));
            let message = format!("`{key}` is a parameter of {owners} only");
            sink.report(entry.key_at, Rule::Parameter, &section.path, message)
                .help(format!("leave `{key}` out"));
        }
    }
    let mut number = |key: &str, max: usize, default: Option<usize>| {
        let node = match (section.get(key), default) {
            (Some(node), _) => node,
            (None, Some(default)) => return Some(default),
            (None, None) => section.require(key, section.at, sink)?,
        };
        reader::count(node, &section.child(key), max, sink)
    };
    let limit = Some(DISTINCT_LIMIT_DEFAULT);
    Some(match spec {
        Spec::Count => Aggregate::Count,
        Spec::Sum => Aggregate::Sum,
        Spec::Mean => Aggregate::Mean,
        Spec::Min => Aggregate::Min,
        Spec::Max => Aggregate::Max,
        Spec::Variance => Aggregate::Variance,
        Spec::Stddev => Aggregate::Stddev,
        Spec::First => Aggregate::First,
        Spec::Last => Aggregate::Last,
        Spec::Latest => Aggregate::Latest,
        Spec::FirstN => Aggregate::FirstN { n: number("n", N_MAX, None)? },
        Spec::LastN => Aggregate::LastN { n: number("n", N_MAX, None)? },
        Spec::CountDistinct => {
            Aggregate::CountDistinct { limit: number("limit", DISTINCT_LIMIT_MAX, limit)? }
        }
        Spec::TopK => {
            let (k, limit) = (number("k", K_MAX, None), number("limit", DISTINCT_LIMIT_MAX, limit));
            Aggregate::TopK { k: k?, limit: limit? }
        }
        Spec::ApproxPercentile => Aggregate::ApproxPercentile { p: percentile(section, sink)? },
    })
}

fn percentile(section: &Section<'_>, sink: &mut Sink) -> Option<f64> {
    let node = section.require("p", section.at, sink)?;
    let path = section.child("p");
    let text = reader::text(node, &path, sink)?;
    match text.parse::<f64>() {
        Ok(p) if p > 0.0 && p <= 1.0 => Some(p),
        Ok(_) | Err(_) => {
            let message = format!("`{text}` is not a number above 0 and at most 1");
            let percent = text.parse::<f64>().ok().filter(|p| *p > 1.0 && *p <= 100.0);
            let help = percent.map(|p| format!("did you mean `{}`?", p / 100.0));
            sink.report(node.at, Rule::Parameter, &path, message).help_if(help);
            None
        }
    }
}
