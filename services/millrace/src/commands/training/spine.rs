//! Files of spines. Parquet and Arrow files keep all their columns; of CSV the others are text, and of
//! NDJSON only what names a row is read.

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
use arrow_ipc::reader::FileReader;
use arrow_schema::{DataType, Field as ArrowField, Schema, TimeUnit};
use millrace_catalog::{
    BeyondRepair, Field, KeyColumn, Kind, Stream, StreamKind, TimeUnit as CatalogUnit,
};
use millrace_types::{FieldType, KeyType, StreamId};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use tokio::sync::mpsc;

use crate::commands::Failure;
use crate::files::{
    BATCH_ROWS, Bounded, Format, Input, Progress, RowReader, guarded, open_text, widened,
};

const UTC: &str = "UTC";
/// Rows read at a time.
const ROWS: usize = 16_384;
/// Bytes of a first line at most.
const LINE_BYTES: u64 = 8 << 20;

/// A spine that is being read.
pub(super) struct SpineReader {
    path: String,
    /// The names that columns of keys may have.
    keys: Vec<String>,
    source: SpineSource,
}

enum SpineSource {
    Rows(RowReader),
    Batches(Box<dyn Iterator<Item = Result<RecordBatch, String>> + Send>),
}

fn failed(path: &Path, reason: impl ToString) -> Failure {
    Failure::Spine { path: path.display().to_string(), reason: reason.to_string() }
}

/// By kind of entity, the columns of its key.
type Keys<'c> = &'c [(&'c Kind, Vec<KeyColumn>)];

/// Opens a spine and checks its columns.
///
/// # Errors
/// [`Failure::Spine`], [`Failure::Read`].
pub(super) fn open(path: &Path, kinds: Keys<'_>) -> Result<SpineReader, Failure> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let source = if matches!(extension, "arrow" | "feather" | "ipc") {
        let file = File::open(path).map_err(|e| failed(path, e))?;
        let reader = FileReader::try_new_buffered(file, None).map_err(|e| failed(path, e))?;
        check_columns(path, &reader.schema(), kinds)?;
        SpineSource::Batches(Box::new(reader.map(|batch| batch.map_err(|e| e.to_string()))))
    } else {
        match Format::of_name(path) {
            Some(Format::Parquet) => SpineSource::Batches(parquet(path, kinds)?),
            Some(format @ (Format::Csv | Format::Ndjson)) => {
                SpineSource::Rows(rows(path, format, kinds)?)
            }
            None => {
                let reason = "its name does not tell its format: .parquet, .arrow, .csv or .ndjson";
                return Err(failed(path, reason));
            }
        }
    };
    let keys = columns_of(kinds).flat_map(|column| column.names.iter().cloned()).collect();
    Ok(SpineReader { path: path.display().to_string(), keys, source })
}

fn columns_of(kinds: Keys<'_>) -> impl Iterator<Item = &KeyColumn> {
    kinds.iter().flat_map(|(_, columns)| columns)
}

fn parquet(
    path: &Path,
    kinds: Keys<'_>,
) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, String>> + Send>, Failure> {
    let file = File::open(path).map_err(|e| failed(path, e))?;
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder =
        guarded(|| ParquetRecordBatchReaderBuilder::try_new_with_options(Bounded(file), options))
            .map_err(|e| failed(path, e))?;
    check_columns(path, builder.schema(), kinds)?;
    let mut reader =
        guarded(|| builder.with_batch_size(ROWS).build()).map_err(|e| failed(path, e))?;
    let read = move || guarded(|| Ok(reader.next().transpose()?)).map_err(|e| e.to_string());
    Ok(Box::new(std::iter::from_fn({
        let mut read = read;
        move || read().transpose()
    })))
}

/// Every column that names a row is there.
fn check_columns(path: &Path, schema: &Schema, kinds: Keys<'_>) -> Result<(), Failure> {
    let have: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    check_names(path, &have, kinds)
}

fn check_names(path: &Path, have: &[&str], kinds: Keys<'_>) -> Result<(), Failure> {
    let lacks = |what: String| {
        failed(path, format!("it has no column {what}; its columns are {}", have.join(", ")))
    };
    for (kind, columns) in kinds {
        for column in columns {
            if !column.names.iter().any(|name| have.contains(&name.as_str())) {
                let names: Vec<String> = column.names.iter().map(|n| format!("{n:?}")).collect();
                return Err(lacks(format!(
                    "{} with the keys of {}",
                    names.join(" or "),
                    kind.name
                )));
            }
        }
    }
    if have.contains(&"at") {
        Ok(())
    } else {
        Err(lacks("\"at\" with the instants of the rows".to_owned()))
    }
}

/// Reads text by a stream that has the columns of the spine as its fields.
fn rows(path: &Path, format: Format, kinds: Keys<'_>) -> Result<RowReader, Failure> {
    let names = first_names(path, format)?;
    let have: Vec<&str> = names.iter().map(String::as_str).collect();
    check_names(path, &have, kinds)?;
    let mut fields = Vec::new();
    for name in &names {
        let key = columns_of(kinds).find(|key| {
            let found = key.names.iter().find(|n| names.contains(*n));
            found == Some(name)
        });
        let ty = match (key.map(|key| key.ty), name.as_str(), format) {
            (Some(KeyType::Int64), ..) => FieldType::Int64,
            (Some(KeyType::String), ..) => FieldType::String,
            (None, "at", _) => FieldType::Timestamp,
            (None, _, Format::Csv) => FieldType::String,
            (None, _, Format::Ndjson | Format::Parquet) => continue,
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
    let input = Input::File(path.to_owned());
    Ok(RowReader::open(&input, format, &stream, BATCH_ROWS, &Progress::default())?)
}

/// The names of the columns, as the first line of the file has them.
fn first_names(path: &Path, format: Format) -> Result<Vec<String>, Failure> {
    let mut first = String::new();
    let text = open_text(&Input::File(path.to_owned()), &Progress::default())?;
    text.take(LINE_BYTES).read_line(&mut first).map_err(|e| failed(path, e))?;
    match format {
        Format::Csv => {
            let mut reader =
                ::csv::ReaderBuilder::new().has_headers(true).from_reader(first.as_bytes());
            let names = reader.headers().map_err(|e| failed(path, e))?;
            Ok(names.iter().map(str::to_owned).collect())
        }
        Format::Ndjson | Format::Parquet => {
            let first: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&first).map_err(|e| failed(path, format!("line 1: {e}")))?;
            Ok(first.into_iter().map(|(name, _)| name).collect())
        }
    }
}

impl SpineReader {
    /// Reads the spine through. Ends early where nobody takes rows any more.
    ///
    /// # Errors
    /// [`Failure::Spine`] naming the line of a row that cannot be read.
    pub(super) fn send(self, to: &mpsc::Sender<RecordBatch>) -> Result<(), Failure> {
        let path = Path::new(&self.path);
        match self.source {
            SpineSource::Rows(mut reader) => {
                while let Some(batch) = reader.next_batch()? {
                    if let Some(bad) = batch.rejected.first() {
                        return Err(failed(path, format!("line {}: {}", bad.line, bad.error)));
                    }
                    if to.blocking_send(batch.records).is_err() {
                        break;
                    }
                }
            }
            SpineSource::Batches(batches) => {
                for batch in batches {
                    let batch = batch.map_err(|e| failed(path, e))?;
                    let batch = named(&batch, &self.keys).map_err(|e| failed(path, e))?;
                    if to.blocking_send(batch).is_err() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The batch with the columns that name rows in the types of the protocol.
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
fn named(batch: &RecordBatch, keys: &[String]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let schema = batch.schema();
    let mut fields: Vec<ArrowField> = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let is_key = keys.contains(field.name());
        let column = match field.data_type() {
            DataType::Timestamp(unit, None) if field.name() == "at" => zoned(column, *unit),
            _ if is_key || field.name() == "at" => widened(column),
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
