//! A catalog as the generator builds it, and its YAML.

use std::fmt::Write as _;

use millrace_types::{FieldType, KeyType, Value};

/// A catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogSpec {
    /// Entity kinds.
    pub kinds: Vec<KindSpec>,
    /// Event streams, then changelogs.
    pub streams: Vec<StreamSpec>,
    /// Views.
    pub views: Vec<ViewSpec>,
}

/// An entity kind.
#[derive(Debug, Clone, PartialEq)]
pub struct KindSpec {
    /// Its name.
    pub name: &'static str,
    /// The types of its key's parts, each with the field that holds it in every stream.
    pub parts: &'static [(KeyType, &'static str)],
}

/// A stream. Fields with a role have fixed names: `ts` (at), `eid` (id), `sq` (seq), `rv`
/// (revision), `op` and `undo` (retracts); a role is given when the stream has the field.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSpec {
    /// Its name.
    pub name: String,
    /// An event stream, or a changelog.
    pub event: bool,
    /// Indexes of the kinds it is routed to, and whether that key may be missing.
    pub keys: Vec<(usize, bool)>,
    /// What values of `op` mean.
    pub op: Option<OpSpec>,
    /// R, as text and in microseconds.
    pub repair: Span,
    /// `beyond_repair: hold`
    pub hold: bool,
    /// `retention`
    pub retention: Option<Span>,
    /// All fields in catalog order.
    pub fields: Vec<(String, FieldType)>,
}

/// The meaning of the values of `op`.
#[derive(Debug, Clone, PartialEq)]
pub struct OpSpec {
    /// Values that mean ASSERT.
    pub assert: Vec<Value>,
    /// Values that mean RETRACT.
    pub retract: Vec<Value>,
    /// Values that mean END.
    pub end: Vec<Value>,
}

/// A duration as the catalog writes it, and its microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// E.g. `10m`.
    pub text: &'static str,
    /// The same in microseconds.
    pub us: i64,
}

/// A view.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewSpec {
    /// Its name.
    pub name: String,
    /// The index of its kind.
    pub kind: usize,
    /// The index of its event stream.
    pub events: usize,
    /// The indexes of its changelogs.
    pub joins: Vec<usize>,
    /// Its features.
    pub features: Vec<FeatureSpec>,
}

/// A feature.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSpec {
    /// Its name.
    pub name: String,
    /// The aggregate and its parameters, e.g. `last_n: d, n: 3`.
    pub aggregate: String,
    /// The window, if it has one.
    pub window: Option<WindowSpec>,
    /// The `where` text.
    pub condition: Option<String>,
}

/// A window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    /// W
    pub width: Span,
    /// A hop that is stated.
    pub hop: Option<Span>,
    /// `exact: true`
    pub exact: bool,
}

impl StreamSpec {
    /// The type of a field, if the stream has it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<FieldType> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, ty)| *ty)
    }
}

impl CatalogSpec {
    /// The catalog file.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = String::from("entities: {");
        let kinds: Vec<String> = self.kinds.iter().map(KindSpec::to_yaml).collect();
        out.push_str(&kinds.join(", "));
        out.push_str("}\nstreams:\n");
        for stream in &self.streams {
            self.stream_yaml(stream, &mut out);
        }
        out.push_str("views:\n");
        for view in &self.views {
            self.view_yaml(view, &mut out);
        }
        out
    }

    fn stream_yaml(&self, stream: &StreamSpec, out: &mut String) {
        let kind = if stream.event { "event" } else { "changelog" };
        let _ = writeln!(out, "  {}:", stream.name);
        let mut line = |key: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(out, "    {key}: {value}");
        };
        line("kind", kind);
        let mapping = |(kind, _): &(usize, bool)| {
            let kind = &self.kinds[*kind];
            let fields: Vec<&str> = kind.parts.iter().map(|(_, field)| *field).collect();
            match fields.as_slice() {
                [one] => format!("{}: {one}", kind.name),
                several => format!("{}: [{}]", kind.name, several.join(", ")),
            }
        };
        let keys: Vec<String> = stream.keys.iter().map(mapping).collect();
        line("keys", &format!("{{{}}}", keys.join(", ")));
        let optional: Vec<&str> = stream
            .keys
            .iter()
            .filter(|(_, optional)| *optional)
            .map(|(kind, _)| self.kinds[*kind].name)
            .collect();
        if !optional.is_empty() {
            line("optional_keys", &format!("[{}]", optional.join(", ")));
        }
        for (role, field) in
            [("at", "ts"), ("id", "eid"), ("seq", "sq"), ("revision", "rv"), ("retracts", "undo")]
        {
            if stream.field(field).is_some() {
                line(role, field);
            }
        }
        if let Some(op) = &stream.op {
            line("op", &op.to_yaml());
        }
        line("repair", stream.repair.text);
        if stream.hold {
            line("beyond_repair", "hold");
        }
        if let Some(retention) = stream.retention {
            line("retention", retention.text);
        }
        let fields: Vec<String> =
            stream.fields.iter().map(|(name, ty)| format!("{name}: {ty}")).collect();
        line("fields", &format!("{{{}}}", fields.join(", ")));
    }

    fn view_yaml(&self, view: &ViewSpec, out: &mut String) {
        let joins: Vec<&str> = view.joins.iter().map(|j| self.streams[*j].name.as_str()).collect();
        let _ = write!(
            out,
            "  {}:\n    entity: {}\n    events: {}\n    join: [{}]\n    features:\n",
            view.name,
            self.kinds[view.kind].name,
            self.streams[view.events].name,
            joins.join(", ")
        );
        for feature in &view.features {
            let _ = writeln!(out, "      {}: {}", feature.name, feature.to_yaml());
        }
    }
}

impl KindSpec {
    fn to_yaml(&self) -> String {
        let part = |ty: &KeyType| match ty {
            KeyType::Int64 => "int64",
            KeyType::String => "string",
        };
        let parts: Vec<&str> = self.parts.iter().map(|(ty, _)| part(ty)).collect();
        match parts.as_slice() {
            [one] => format!("{}: {one}", self.name),
            several => format!("{}: [{}]", self.name, several.join(", ")),
        }
    }
}

impl OpSpec {
    fn to_yaml(&self) -> String {
        let list = |values: &[Value]| {
            let texts: Vec<String> = values.iter().map(op_value).collect();
            format!("[{}]", texts.join(", "))
        };
        let mut out = String::from("{field: op");
        for (key, values) in [("retract", &self.retract), ("end", &self.end)] {
            if !values.is_empty() {
                let _ = write!(out, ", {key}: {}", list(values));
            }
        }
        out.push('}');
        out
    }
}

/// The op fields the generator makes are string, int64 or bool.
fn op_value(value: &Value) -> String {
    match value {
        Value::Bool(v) => v.to_string(),
        Value::Int64(v) => v.to_string(),
        Value::String(v) => v.to_string(),
        Value::Null | Value::Double(_) | Value::Bytes(_) | Value::Timestamp(_) => {
            panic!("an op field is never of another type")
        }
    }
}

impl FeatureSpec {
    fn to_yaml(&self) -> String {
        let mut out = format!("{{{}", self.aggregate);
        if let Some(window) = &self.window {
            let _ = write!(out, ", window: {}", window.width.text);
            if let Some(hop) = window.hop {
                let _ = write!(out, ", hop: {}", hop.text);
            }
            if window.exact {
                out.push_str(", exact: true");
            }
        }
        if let Some(condition) = &self.condition {
            let escaped = condition.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(out, ", where: \"{escaped}\"");
        }
        out.push('}');
        out
    }
}
