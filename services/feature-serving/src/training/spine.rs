//! The rows of a spine, as the client sends them.

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array, LargeStringArray, RecordBatch, StringArray, types};
use arrow_schema::{DataType, Schema, TimeUnit};
use bytes::Bytes;
use millrace_arrow::IpcStream;
use millrace_catalog::{Catalog, KeyColumn, View};
use millrace_kernel::training::Entities;
use millrace_types::entity::{KeyError, encode_key};
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
enum KeyValues<'a> {
    Int64(&'a [i64]),
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
}

impl<'a> KeyValues<'a> {
    /// The values of a column whose type was checked.
    fn of(column: &'a dyn Array) -> Self {
        if let Some(keys) = column.as_primitive_opt::<Int64Type>() {
            Self::Int64(keys.values())
        } else if let Some(keys) = column.as_string_opt::<i32>() {
            Self::Text(keys)
        } else {
            Self::LargeText(column.as_string::<i64>())
        }
    }

    #[inline]
    fn part(&self, row: usize) -> KeyPart<'a> {
        match self {
            Self::Int64(values) => KeyPart::Int64(values[row]),
            Self::Text(values) => KeyPart::String(values.value(row)),
            Self::LargeText(values) => KeyPart::String(values.value(row)),
        }
    }
}

/// Rows of a spine that are answered together.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) ats: Vec<i64>,
    /// By kind: the entities of the rows.
    pub(crate) kinds: Vec<SectionKind>,
}

/// The entities of one kind that a section names.
#[derive(Debug)]
pub(crate) struct SectionKind {
    pub(crate) entities: Entities,
    /// By row: the number of its entity.
    pub(crate) rows: Vec<u32>,
}

impl Section {
    fn new(kinds: &[SpineKind]) -> Self {
        let empty = |kind: &SpineKind| SectionKind {
            entities: Entities::new(&kind.name),
            rows: Vec::new(),
        };
        Self { ats: Vec::new(), kinds: kinds.iter().map(empty).collect() }
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.ats.len()
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        let of_kind = |kind: &SectionKind| 4 * kind.rows.len() + kind.entities.heap_bytes();
        8 * self.ats.len() + self.kinds.iter().map(of_kind).sum::<usize>()
    }
}

/// Takes the payloads of a spine.
#[derive(Debug)]
pub(crate) struct Spine {
    kinds: Vec<SpineKind>,
    stream: IpcStream,
    layout: Option<Layout>,
    section: Section,
    /// Rows of the spine before this section.
    before: u64,
    /// No row may lie beyond it.
    latest: Micros,
}

impl Spine {
    /// A spine that names keys of these kinds, of rows up to this instant, which goes on behind so many
    /// rows.
    pub(crate) fn new(kinds: Vec<SpineKind>, before: u64, latest: Micros) -> Self {
        let section = Section::new(&kinds);
        Self { kinds, stream: IpcStream::default(), layout: None, section, before, latest }
    }

    /// The rows that were taken and not yet given out.
    pub(crate) fn section(&self) -> &Section {
        &self.section
    }

    /// Gives out the rows taken so far, and the number of the first in the whole spine.
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
    for ((columns, kind), named) in layout.keys.iter().zip(kinds).zip(&mut section.kinds) {
        let mut parts = Vec::with_capacity(columns.len());
        for index in columns {
            let (keys, name) = column(*index);
            if let Some(row) = first_null(keys) {
                return Err(invalid(format!("spine[{}].{name}", first + row), "not NULL"));
            }
            parts.push(KeyValues::of(keys));
        }
        named.name(kind, &parts, batch.num_rows(), first)?;
    }
    Ok(())
}

impl SectionKind {
    /// Names the entities of the next rows, given the columns of their keys.
    fn name(
        &mut self,
        kind: &SpineKind,
        parts: &[KeyValues<'_>],
        rows: usize,
        first: u64,
    ) -> Result<(), ReadError> {
        let mut key = Vec::new();
        self.rows.reserve(rows);
        for row in 0..rows {
            key.clear();
            encode(parts, row, &mut key).map_err(|e| {
                invalid(format!("spine[{}].{}", first + row as u64, kind.name), e.to_string())
            })?;
            self.rows.push(self.entities.name(&key));
        }
        Ok(())
    }
}

/// The key of a row as canonical bytes.
fn encode(parts: &[KeyValues<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), KeyError> {
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
