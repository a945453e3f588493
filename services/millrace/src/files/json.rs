//! The rules by which a JSON object becomes a row, and a JSON value a value.

use std::collections::HashMap;
use std::fmt;

use millrace_catalog::{Field, Stream};
use millrace_types::{FieldType, ValueRef};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::CellError;
use super::text::{self, Cell};

/// The index of each field of a stream by name.
pub(crate) struct FieldIndex {
    by_name: HashMap<String, usize>,
    fields: usize,
    /// Whether an object may have no other field.
    is_closed: bool,
}

impl FieldIndex {
    pub(crate) fn new(stream: &Stream) -> Self {
        let by_name =
            stream.fields.iter().enumerate().map(|(index, field)| (field.name.clone(), index));
        Self { by_name: by_name.collect(), fields: stream.fields.len(), is_closed: false }
    }

    /// The same of objects that have no other fields.
    pub(crate) fn closed(mut self) -> Self {
        self.is_closed = true;
        self
    }
}

/// Splits a line into the raw JSON of each field, in field order; what has no field is ignored, unless
/// there may be none.
///
/// # Errors
/// The rule that is broken when the line is not one JSON object or holds a field twice, or one too many.
pub(crate) fn object<'a>(
    line: &'a str,
    fields: &FieldIndex,
) -> Result<Vec<Option<&'a str>>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let values = ObjectSeed(fields)
        .deserialize(&mut deserializer)
        .and_then(|values| deserializer.end().map(|()| values));
    values.map_err(|error| broken_rule(line, &error))
}

/// The names of the fields of a line, in their order.
///
/// # Errors
/// The rule that is broken when the line is not one JSON object.
pub(crate) fn names(line: &str) -> Result<Vec<String>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let names = deserializer
        .deserialize_map(NamesVisitor)
        .and_then(|names| deserializer.end().map(|()| names));
    names.map_err(|error| broken_rule(line, &error))
}

fn broken_rule(line: &str, error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    let rule = text.strip_suffix(&place).unwrap_or(&text);
    if error.is_data() {
        return rule.to_owned();
    }
    let hint = match line.contains("NaN") || line.contains("Infinity") {
        true => "; NaN and infinities are not JSON and not allowed: write null",
        false => "",
    };
    format!("is not a JSON object: {rule} at column {}{hint}", error.column())
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object on each line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            names.push(name);
        }
        Ok(names)
    }
}

struct ObjectSeed<'f>(&'f FieldIndex);

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = Vec<Option<&'de str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = Vec<Option<&'de str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object on each line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.fields];
        while let Some(index) = map.next_key_seed(KeySeed(self.0))? {
            let Some((index, name)) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if values[index].is_some() {
                return Err(A::Error::custom(format!("field {name} stands twice in the object")));
            }
            values[index] = Some(map.next_value::<&RawValue>()?.get());
        }
        Ok(values)
    }
}

struct KeySeed<'f>(&'f FieldIndex);

impl<'de, 'f> DeserializeSeed<'de> for KeySeed<'f> {
    type Value = Option<(usize, &'f str)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'f> Visitor<'_> for KeySeed<'f> {
    type Value = Option<(usize, &'f str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let found = self.0.by_name.get_key_value(name).map(|(name, index)| (*index, name.as_str()));
        if found.is_none() && self.0.is_closed {
            let rule =
                "is no column: the first line names them all, with null where it has no value";
            return Err(E::custom(format!("field {} {rule}", shortened(name))));
        }
        Ok(found)
    }
}

/// Reads raw JSON as a value of the field's type. Missing and `null` are NULL.
///
/// # Errors
/// [`CellError`] when it is none.
pub(crate) fn cell<'a>(field: &Field, raw: Option<&'a str>) -> Result<Cell<'a>, CellError> {
    let Some(raw) = raw.filter(|raw| *raw != "null") else {
        return Ok(Cell::NULL);
    };
    let kind = Kind::of(raw);
    let wrong = |wanted| Err(CellError::JsonKind { found: kind.describe(raw), wanted });
    Ok(Cell::Borrowed(match (field.ty, kind) {
        (FieldType::Bool, Kind::Bool) => ValueRef::Bool(raw == "true"),
        (FieldType::Bool, _) => return wrong("true or false"),
        (FieldType::Int64, Kind::Integer) => ValueRef::Int64(text::int64(raw)?),
        (FieldType::Int64, _) => return wrong("an integer"),
        (FieldType::Double, Kind::Integer | Kind::Decimal) => ValueRef::Double(text::double(raw)?),
        (FieldType::Double, _) => return wrong("a number"),
        (FieldType::String, Kind::String) => return string(raw),
        (FieldType::String, _) => return wrong("a string"),
        (FieldType::Bytes, Kind::String) => {
            return text::base64(&string_text(&string(raw)?)).map(Cell::Bytes);
        }
        (FieldType::Bytes, _) => return wrong("a string of base64"),
        (FieldType::Timestamp, Kind::Integer) => {
            ValueRef::Timestamp(text::timestamp(raw, field.unit)?)
        }
        (FieldType::Timestamp, Kind::String) => {
            ValueRef::Timestamp(text::instant(&string_text(&string(raw)?), field.unit)?)
        }
        (FieldType::Timestamp, _) => return wrong("an RFC 3339 string or an integer"),
    }))
}

/// Reads raw JSON as text: of a string that which it holds, of all else the JSON. Missing and `null` are
/// NULL.
///
/// # Errors
/// [`CellError`] for a string that is none.
pub(crate) fn any(raw: Option<&str>) -> Result<Cell<'_>, CellError> {
    let Some(raw) = raw else { return Ok(Cell::NULL) };
    match Kind::of(raw) {
        Kind::Null => Ok(Cell::NULL),
        Kind::String => string(raw),
        Kind::Bool | Kind::Integer | Kind::Decimal | Kind::Array | Kind::Object => {
            Ok(Cell::Borrowed(ValueRef::String(raw)))
        }
    }
}

/// The text of a string or number, for naming a row.
pub(crate) fn text_of(raw: &str) -> Option<String> {
    match Kind::of(raw) {
        Kind::String => string(raw).ok().map(|cell| string_text(&cell)),
        Kind::Integer | Kind::Decimal => Some(raw.to_owned()),
        Kind::Null | Kind::Bool | Kind::Array | Kind::Object => None,
    }
}

/// Unescapes a JSON string; borrows it when it holds no escape.
fn string(raw: &str) -> Result<Cell<'_>, CellError> {
    let inner = raw.get(1..raw.len() - 1).unwrap_or_default();
    if !inner.contains('\\') {
        return Ok(Cell::Borrowed(ValueRef::String(inner)));
    }
    serde_json::from_str::<String>(raw).map(Cell::Text).map_err(|error| {
        let text = error.to_string();
        let place = text.find(" at line ").unwrap_or(text.len());
        CellError::JsonString(text[..place].to_owned())
    })
}

fn string_text(cell: &Cell<'_>) -> String {
    match cell.as_value() {
        ValueRef::String(text) => text.to_owned(),
        ValueRef::Null
        | ValueRef::Bool(_)
        | ValueRef::Int64(_)
        | ValueRef::Double(_)
        | ValueRef::Bytes(_)
        | ValueRef::Timestamp(_) => String::new(),
    }
}

/// What a JSON value is, by its first byte; numbers by whether they have a fraction or exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Bool,
    Integer,
    Decimal,
    String,
    Array,
    Object,
}

impl Kind {
    fn of(raw: &str) -> Self {
        match raw.as_bytes().first() {
            None | Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Bool,
            Some(b'"') => Self::String,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            Some(_) if raw.contains(['.', 'e', 'E']) => Self::Decimal,
            Some(_) => Self::Integer,
        }
    }

    fn describe(self, raw: &str) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool => format!("the bool {raw}"),
            Self::Integer => format!("the integer {}", shortened(raw)),
            Self::Decimal => format!("the number {}", shortened(raw)),
            Self::String => format!("the string {}", shortened(raw)),
            Self::Array => "an array".to_owned(),
            Self::Object => "an object".to_owned(),
        }
    }
}

fn shortened(raw: &str) -> String {
    match raw.char_indices().nth(60) {
        None => raw.to_owned(),
        Some((cut, _)) => format!("{}…", &raw[..cut]),
    }
}
