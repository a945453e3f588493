//! The rows of a spine, as the client sends them.

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch, types};
use arrow_schema::{DataType, Schema, TimeUnit};
use bytes::Bytes;
use millrace_arrow::IpcStream;
use millrace_catalog::{Catalog, KeyColumn, View};
use millrace_types::entity::{KeyError, encode_key, entity_hash};
use millrace_types::{KeyPart, KeyType, Micros};

use crate::error::ReadError;

fn invalid(field: impl Into<String>, rule: impl Into<String>) -> ReadError {
    ReadError::Invalid { field: field.into(), rule: rule.into() }
}

/// Where the columns of a spine stand in its schema.
#[derive(Debug)]
struct Layout {
    at: usize,
    /// By kind of the views: the columns of its key's parts.
    keys: Vec<Vec<usize>>,
    /// All of these, once each, ascending.
    projection: Vec<usize>,
}

/// A kind whose keys a spine names.
#[derive(Debug, Clone)]
pub(crate) struct SpineKind {
    name: String,
    /// Its parts.
    parts: Vec<KeyColumn>,
}

impl SpineKind {
    /// The kinds of these views, in their order.
    pub(crate) fn of(catalog: &Catalog, views: &[&View]) -> Vec<Self> {
        let kinds = catalog.key_columns(views).into_iter();
        kinds.map(|(kind, parts)| Self { name: kind.name.clone(), parts }).collect()
    }

    /// The name and type of each part's column, where this service makes them.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&str, KeyType)> {
        self.parts.iter().map(|part| (part.names.first().map_or("", String::as_str), part.ty))
    }
}

/// A column of a key's part.
#[derive(Debug)]
enum KeyValues {
    Int64(Vec<i64>),
    Text { ends: Vec<usize>, text: String },
}

impl KeyValues {
    fn part(&self, row: usize) -> KeyPart<'_> {
        match self {
            Self::Int64(values) => KeyPart::Int64(values[row]),
            Self::Text { ends, text } => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before]);
                KeyPart::String(&text[start..ends[row]])
            }
        }
    }
}

/// Rows of a spine that are answered together.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) ats: Vec<i64>,
    /// By kind: the columns of its parts.
    keys: Vec<Vec<KeyValues>>,
    /// By kind: the hash of each row's entity.
    pub(crate) hashes: Vec<Vec<u64>>,
    bytes: usize,
}

impl Section {
    fn new(kinds: &[SpineKind]) -> Self {
        let column = |ty: &KeyType| match ty {
            KeyType::Int64 => KeyValues::Int64(Vec::new()),
            KeyType::String => KeyValues::Text { ends: Vec::new(), text: String::new() },
        };
        let of_kind = |k: &SpineKind| k.parts.iter().map(|part| column(&part.ty)).collect();
        let keys = kinds.iter().map(of_kind).collect();
        Self { ats: Vec::new(), keys, hashes: vec![Vec::new(); kinds.len()], bytes: 0 }
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.ats.len()
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The key of a row for the kind with this place, as canonical bytes, into `out`.
    pub(crate) fn key(&self, kind: usize, row: usize, out: &mut Vec<u8>) {
        out.clear();
        // Every key was encoded once when its row came, so this one is no error.
        let encoded = encode(&self.keys[kind], row, out);
        debug_assert!(encoded.is_ok(), "keys were checked");
    }
}

/// Takes the payloads of a spine.
#[derive(Debug)]
pub(crate) struct Spine {
    kinds: Vec<SpineKind>,
    stream: IpcStream,
    layout: Option<Layout>,
    section: Section,
    /// Rows taken before this section.
    before: u64,
    /// No row may lie beyond it.
    latest: Micros,
}

impl Spine {
    /// A spine that names keys of these kinds, of rows up to this instant.
    pub(crate) fn new(kinds: Vec<SpineKind>, latest: Micros) -> Self {
        let section = Section::new(&kinds);
        Self { kinds, stream: IpcStream::default(), layout: None, section, before: 0, latest }
    }

    /// The rows that were taken and not yet given out.
    pub(crate) fn section(&self) -> &Section {
        &self.section
    }

    /// Gives out the rows taken so far, and the number of the first.
    pub(crate) fn take(&mut self) -> (u64, Section) {
        let section = std::mem::replace(&mut self.section, Section::new(&self.kinds));
        let first = self.before;
        self.before += section.rows() as u64;
        (first, section)
    }

    /// Takes a payload in.
    ///
    /// # Errors
    /// [`ReadError::Invalid`] naming the column, and the row where one is to blame.
    pub(crate) fn accept(&mut self, payload: Bytes) -> Result<(), ReadError> {
        let wrong = |e: millrace_arrow::IpcError| invalid("spine_arrow_ipc", e.to_string());
        let accepted = self.stream.accept(payload).map_err(wrong)?;
        if accepted.brings_schema || self.layout.is_none() {
            self.layout = Some(self.layout_of(&accepted.schema)?);
        }
        let Some(layout) = &self.layout else { return Ok(()) };
        for batch in accepted.decode(&layout.projection).map_err(wrong)? {
            let first = self.before + self.section.rows() as u64;
            append(&mut self.section, &self.kinds, layout, &batch, first, self.latest)?;
        }
        Ok(())
    }

    fn layout_of(&self, schema: &Schema) -> Result<Layout, ReadError> {
        let find = |names: &[String]| {
            let named = |name: &String| schema.fields().iter().position(|f| f.name() == name);
            names.iter().find_map(named)
        };
        let at = find(&["at".to_owned()]);
        let at = at.ok_or_else(|| invalid("spine.at", "a column `at` with the rows' instants"))?;
        let ty = schema.field(at).data_type();
        if !matches!(ty, DataType::Int64 | DataType::Timestamp(_, Some(_))) {
            let rule = format!("a timestamp with a time zone, or int64 microseconds, not {ty}");
            return Err(invalid("spine.at", rule));
        }
        let mut keys = Vec::new();
        for kind in &self.kinds {
            let mut columns = Vec::new();
            for KeyColumn { ty, names } in &kind.parts {
                let or = names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" or ");
                let column = find(names).ok_or_else(|| {
                    let have: Vec<&str> =
                        schema.fields().iter().take(20).map(|f| f.name().as_str()).collect();
                    let rule = format!(
                        "a column {or} with the keys of {}; it has {}",
                        kind.name,
                        have.join(", ")
                    );
                    invalid("spine", rule)
                })?;
                let found = schema.field(column).data_type();
                let fits = match ty {
                    KeyType::Int64 => matches!(found, DataType::Int64),
                    KeyType::String => matches!(found, DataType::Utf8 | DataType::LargeUtf8),
                };
                if !fits {
                    let wants = match ty {
                        KeyType::Int64 => "int64",
                        KeyType::String => "utf8",
                    };
                    let field = format!("spine.{}", schema.field(column).name());
                    let rule = format!("keys of {} are {wants}, not {found}", kind.name);
                    return Err(invalid(field, rule));
                }
                columns.push(column);
            }
            keys.push(columns);
        }
        let mut projection: Vec<usize> = keys.iter().flatten().copied().chain([at]).collect();
        projection.sort_unstable();
        projection.dedup();
        Ok(Layout { at, keys, projection })
    }
}

fn append(
    section: &mut Section,
    kinds: &[SpineKind],
    layout: &Layout,
    batch: &RecordBatch,
    first: u64,
    latest: Micros,
) -> Result<(), ReadError> {
    // The decoded batch has the columns of the projection, in its order.
    let column = |index: usize| {
        let place = layout.projection.partition_point(|p| *p < index);
        (batch.column(place), batch.schema_ref().field(place).name().clone())
    };
    let (ats, name) = column(layout.at);
    if let Some(row) = first_null(ats) {
        return Err(invalid(format!("spine[{}].{name}", first + row), "not NULL"));
    }
    let before = section.ats.len();
    instants(ats, &mut section.ats);
    if let Some(row) = section.ats[before..].iter().position(|at| *at > latest.0) {
        let at = Micros(section.ats[before + row]);
        let rule = format!("{at} is ahead of now, {latest}: what will be known is not known yet");
        return Err(invalid(format!("spine[{}].{name}", first + row as u64), rule));
    }
    for (of_kind, columns) in layout.keys.iter().enumerate() {
        for (index, to) in columns.iter().zip(&mut section.keys[of_kind]) {
            let (keys, name) = column(*index);
            if let Some(row) = first_null(keys) {
                return Err(invalid(format!("spine[{}].{name}", first + row), "not NULL"));
            }
            section.bytes += append_keys(keys, to);
        }
    }
    section.bytes += 8 * (1 + kinds.len()) * batch.num_rows();
    let mut key = Vec::new();
    for (of_kind, kind) in kinds.iter().enumerate() {
        for row in 0..batch.num_rows() {
            key.clear();
            encode(&section.keys[of_kind], before + row, &mut key).map_err(|e| {
                invalid(format!("spine[{}].{}", first + row as u64, kind.name), e.to_string())
            })?;
            section.hashes[of_kind].push(entity_hash(&kind.name, &key));
        }
    }
    Ok(())
}

/// The key of a row as canonical bytes.
fn encode(parts: &[KeyValues], row: usize, out: &mut Vec<u8>) -> Result<(), KeyError> {
    match parts {
        [one] => encode_key(out, &[one.part(row)]),
        more => encode_key(out, &more.iter().map(|p| p.part(row)).collect::<Vec<_>>()),
    }
}

fn first_null(column: &dyn Array) -> Option<u64> {
    (column.null_count() > 0)
        .then(|| (0..column.len()).find(|row| column.is_null(*row)).unwrap_or(0) as u64)
}

/// The instants of a column whose type was checked, in microseconds.
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
fn instants(column: &dyn Array, out: &mut Vec<i64>) {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            let ats = column.as_primitive::<types::TimestampSecondType>().values();
            out.extend(ats.iter().map(|at| at.saturating_mul(1_000_000)));
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            let ats = column.as_primitive::<types::TimestampMillisecondType>().values();
            out.extend(ats.iter().map(|at| at.saturating_mul(1_000)));
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let ats = column.as_primitive::<types::TimestampMicrosecondType>().values();
            out.extend_from_slice(ats);
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let ats = column.as_primitive::<types::TimestampNanosecondType>().values();
            out.extend(ats.iter().map(|at| at.div_euclid(1_000)));
        }
        _ => out.extend_from_slice(column.as_primitive::<Int64Type>().values()),
    }
}

/// Appends the keys of a column whose type was checked, and gives their size.
fn append_keys(column: &dyn Array, to: &mut KeyValues) -> usize {
    match to {
        KeyValues::Int64(values) => {
            values.extend_from_slice(column.as_primitive::<Int64Type>().values());
            8 * column.len()
        }
        KeyValues::Text { ends, text } => {
            let before = text.len();
            let mut push = |key: Option<&str>| {
                text.push_str(key.unwrap_or_default());
                ends.push(text.len());
            };
            match column.as_string_opt::<i32>() {
                Some(keys) => keys.iter().for_each(&mut push),
                None => column.as_string::<i64>().iter().for_each(&mut push),
            }
            text.len() - before + 8 * column.len()
        }
    }
}
