//! Files of spines. All their columns are kept: those of Parquet and Arrow files with their types, of CSV
//! and NDJSON what names no row as text. In NDJSON that is the text of a string, and the JSON of all else,
//! so that the type of a column does not rest on a row; the fields of the first line are the columns.

use std::fs::File;
use std::io::{BufRead as _, Read as _};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use millrace_catalog::{
    BeyondRepair, Field, KeyColumn, Kind, Stream, StreamKind, TimeUnit as CatalogUnit,
};
use millrace_types::{FieldType, KeyType, StreamId};
use parquet::arrow::ProjectionMask;
use tokio::sync::mpsc;

use crate::commands::Failure;
use crate::files::{
    ArrowFile, BATCH_ROWS, Format, Input, ParquetFile, Progress, RowReader, arrow_schema, guarded,
    json_names, open_text, widened,
};

const UTC: &str = "UTC";
/// Rows read at a time.
const ROWS: usize = 16_384;
/// Bytes of a first line at most.
const LINE_BYTES: u64 = 8 << 20;

/// A spine that is being read.
pub(crate) struct SpineReader {
    path: String,
    /// The columns that name a row: those of its keys, and `at`.
    named_by: Vec<String>,
    /// All columns, as they are sent.
    schema: SchemaRef,
    source: SpineSource,
}

enum SpineSource {
    Rows(RowReader),
    Batches(Batches),
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, String>> + Send>;

type Opened = Result<SpineReader, Failure>;

fn failed(path: &Path, reason: impl ToString) -> Failure {
    Failure::Spine { path: path.display().to_string(), reason: reason.to_string() }
}

/// By kind of entity, the columns of its key.
type Keys<'c> = &'c [(&'c Kind, Vec<KeyColumn>)];

/// Opens a spine and checks its columns.
///
/// # Errors
/// [`Failure::Spine`], [`Failure::Read`].
pub(crate) fn open(path: &Path, kinds: Keys<'_>) -> Opened {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if matches!(extension, "arrow" | "feather" | "ipc") {
        let file = File::open(path).map_err(|e| failed(path, e))?;
        let reader = ArrowFile::open(file).map_err(|e| failed(path, e))?;
        let schema = SchemaRef::clone(reader.schema());
        let batches = Box::new(reader.map(|batch| batch.map_err(|e| e.to_string())));
        return of_batches(path, &schema, kinds, batches);
    }
    match Format::of_name(path) {
        Some(Format::Parquet) => parquet(path, kinds),
        Some(format @ (Format::Csv | Format::Ndjson)) => rows(path, format, kinds),
        None => {
            let reason = "its name does not tell its format: .parquet, .arrow, .csv or .ndjson";
            Err(failed(path, reason))
        }
    }
}

fn columns_of(kinds: Keys<'_>) -> impl Iterator<Item = &KeyColumn> {
    kinds.iter().flat_map(|(_, columns)| columns)
}

fn of_batches(path: &Path, schema: &SchemaRef, kinds: Keys<'_>, batches: Batches) -> Opened {
    let have: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let named_by = naming(path, &have, kinds)?;
    let none = RecordBatch::new_empty(SchemaRef::clone(schema));
    let schema = named(&none, &named_by).map_err(|e| failed(path, e))?.schema();
    let path = path.display().to_string();
    Ok(SpineReader { path, named_by, schema, source: SpineSource::Batches(batches) })
}

fn parquet(path: &Path, kinds: Keys<'_>) -> Opened {
    let file = File::open(path).map_err(|e| failed(path, e))?;
    let opened = guarded(|| ParquetFile::open(file)).map_err(|e| failed(path, e))?;
    let schema = SchemaRef::clone(opened.schema());
    let mut reader =
        guarded(|| opened.read(ProjectionMask::all(), ROWS)).map_err(|e| failed(path, e))?;
    let mut read = move || guarded(|| Ok(reader.next().transpose()?)).map_err(|e| e.to_string());
    let batches = Box::new(std::iter::from_fn(move || read().transpose()));
    of_batches(path, &schema, kinds, batches)
}

/// The columns that name a row, of those that there are: as the server takes them.
fn naming(path: &Path, have: &[&str], kinds: Keys<'_>) -> Result<Vec<String>, Failure> {
    let lacks = |what: String| {
        failed(path, format!("it has no column {what}; its columns are {}", have.join(", ")))
    };
    let mut naming = Vec::new();
    for (kind, columns) in kinds {
        for column in columns {
            match column.names.iter().find(|name| have.contains(&name.as_str())) {
                Some(name) => naming.push(name.clone()),
                None => {
                    let names: Vec<String> =
                        column.names.iter().map(|n| format!("{n:?}")).collect();
                    let or = names.join(" or ");
                    return Err(lacks(format!("{or} with the keys of {}", kind.name)));
                }
            }
        }
    }
    if !have.contains(&"at") {
        return Err(lacks("\"at\" with the instants of the rows".to_owned()));
    }
    naming.push("at".to_owned());
    Ok(naming)
}

/// Reads text by a stream that has the columns of the spine as its fields.
fn rows(path: &Path, format: Format, kinds: Keys<'_>) -> Opened {
    let names = first_names(path, format)?;
    let have: Vec<&str> = names.iter().map(String::as_str).collect();
    let named_by = naming(path, &have, kinds)?;
    let (mut fields, mut others) = (Vec::new(), Vec::new());
    for name in &names {
        let key = columns_of(kinds).find(|key| {
            let found = key.names.iter().find(|n| names.contains(*n));
            found == Some(name)
        });
        let ty = match (key.map(|key| key.ty), name.as_str()) {
            (Some(KeyType::Int64), _) => FieldType::Int64,
            (Some(KeyType::String), _) => FieldType::String,
            (None, "at") => FieldType::Timestamp,
            (None, _) => {
                others.push(name.clone());
                FieldType::String
            }
        };
        fields.push(Field { name: name.clone(), ty, unit: CatalogUnit::Micros });
    }
    let at = fields.iter().position(|f| f.name == "at").unwrap_or(0);
    let stream = Stream {
        id: StreamId(0),
        name: "the spine".to_owned(),
        kind: StreamKind::Event,
        keys: Vec::new(),
        at,
        id_field: None,
        seq: None,
        revision: None,
        op: None,
        retracts: None,
        out_of_orderness_us: 0,
        repair_us: 0,
        beyond_repair: BeyondRepair::Rebuild,
        retention_us: None,
        forgets: false,
        fields,
    };
    let (input, progress) = (Input::File(path.to_owned()), Progress::default());
    let reader = match format {
        Format::Ndjson => RowReader::open_ndjson(&input, &stream, &others, BATCH_ROWS, &progress)?,
        Format::Csv | Format::Parquet => {
            RowReader::open(&input, format, &stream, BATCH_ROWS, &progress)?
        }
    };
    let (path, schema) = (path.display().to_string(), arrow_schema(&stream));
    Ok(SpineReader { path, named_by, schema, source: SpineSource::Rows(reader) })
}

/// The names of the columns, as the first line of the file that is not blank has them.
fn first_names(path: &Path, format: Format) -> Result<Vec<String>, Failure> {
    let text = open_text(&Input::File(path.to_owned()), &Progress::default())?;
    let mut text = text.take(LINE_BYTES);
    let (mut first, mut line) = (String::new(), 0);
    while first.trim().is_empty() {
        first.clear();
        line += 1;
        if text.read_line(&mut first).map_err(|e| failed(path, e))? == 0 {
            return Err(failed(path, "it is empty, so that nothing names its columns"));
        }
    }
    match format {
        Format::Csv => {
            let mut reader =
                ::csv::ReaderBuilder::new().has_headers(true).from_reader(first.as_bytes());
            let names = reader.headers().map_err(|e| failed(path, e))?;
            Ok(names.iter().map(str::to_owned).collect())
        }
        Format::Ndjson | Format::Parquet => {
            json_names(first.trim()).map_err(|rule| failed(path, format!("line {line}: it {rule}")))
        }
    }
}

impl SpineReader {
    /// The columns that name a row.
    pub(super) fn named_by(&self) -> Vec<String> {
        self.named_by.clone()
    }

    /// All columns.
    pub(super) fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// Reads the spine through. Ends early where nobody takes rows any more.
    ///
    /// # Errors
    /// As [`Self::next_batch`].
    pub(super) fn send(mut self, to: &mpsc::Sender<RecordBatch>) -> Result<(), Failure> {
        while let Some(batch) = self.next_batch()? {
            if to.blocking_send(batch).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The rows that come next; `None` at the end.
    ///
    /// # Errors
    /// [`Failure::Spine`] naming the line of a row that cannot be read.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>, Failure> {
        let path = Path::new(&self.path);
        match &mut self.source {
            SpineSource::Rows(reader) => {
                let Some(batch) = reader.next_batch()? else { return Ok(None) };
                match batch.rejected.first() {
                    Some(bad) => Err(failed(path, format!("line {}: {}", bad.line, bad.error))),
                    None => Ok(Some(batch.records)),
                }
            }
            SpineSource::Batches(batches) => {
                let batch = batches.next().transpose().map_err(|e| failed(path, e))?;
                let named = batch.map(|batch| named(&batch, &self.named_by)).transpose();
                named.map_err(|e| failed(path, e))
            }
        }
    }
}

/// The batch with the columns that name rows in the types of the protocol.
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
fn named(batch: &RecordBatch, named_by: &[String]) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let mut fields: Vec<ArrowField> = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let column = match field.data_type() {
            DataType::Timestamp(unit, None) if field.name() == "at" => zoned(column, *unit),
            _ if named_by.contains(field.name()) => widened(column),
            _ => column.clone(),
        };
        fields.push(ArrowField::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Instants without a zone are UTC.
fn zoned(column: &ArrayRef, unit: TimeUnit) -> ArrayRef {
    match unit {
        TimeUnit::Second => {
            Arc::new(column.as_primitive::<TimestampSecondType>().clone().with_timezone(UTC))
        }
        TimeUnit::Millisecond => {
            Arc::new(column.as_primitive::<TimestampMillisecondType>().clone().with_timezone(UTC))
        }
        TimeUnit::Microsecond => {
            Arc::new(column.as_primitive::<TimestampMicrosecondType>().clone().with_timezone(UTC))
        }
        TimeUnit::Nanosecond => {
            Arc::new(column.as_primitive::<TimestampNanosecondType>().clone().with_timezone(UTC))
        }
    }
}
