//! Files that `millrace publish` reads.

use std::cell::RefCell;
use std::io::{Seek, Write};
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use millrace::files::{Format, Input, Progress, RowReader, arrow_schema};
use millrace_catalog::Stream;
use millrace_types::{FieldType, Value};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use tempfile::NamedTempFile;

use crate::history::HISTORY;

/// Rows of a seed.
const ROWS: usize = 6;
/// Rows that are read of an input at most: what matters comes early.
const ROWS_MAX: usize = 10_000;

/// The stream whose files are read: the one with the most fields.
pub(crate) fn stream() -> &'static Stream {
    let streams = HISTORY.catalog.streams.iter();
    streams.max_by_key(|stream| stream.fields.len()).expect("the catalog has streams")
}

/// The values of the first records of the stream, in the order of its fields.
fn rows() -> impl Iterator<Item = Vec<Value>> {
    let of_stream = HISTORY.records.iter().filter(|record| *record.stream == *stream().name);
    of_stream
        .take(ROWS)
        .map(|record| stream().fields.iter().map(|field| record.get(&field.name).clone()).collect())
}

/// A value as CSV and JSON have it, without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(v) => v.to_string(),
        Value::Int64(v) => v.to_string(),
        Value::Double(v) => format!("{v:?}"),
        Value::String(v) => v.to_string(),
        Value::Bytes(v) => BASE64_STANDARD.encode(v),
        Value::Timestamp(v) => v.to_rfc3339(),
    }
}

pub(crate) fn csv_seeds() -> Vec<Vec<u8>> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |cells: Vec<String>| cells.join(",") + "\r\n";
    let names = stream().fields.iter().map(|field| quoted(&field.name)).collect();
    let cell = |value: &Value| match value == &Value::Null {
        true => String::new(),
        false => quoted(&plain(value)),
    };
    let rows = rows().map(|row| line(row.iter().map(cell).collect()));
    vec![std::iter::once(line(names)).chain(rows).collect::<String>().into_bytes()]
}

pub(crate) fn ndjson_seeds() -> Vec<Vec<u8>> {
    let json = |value: &Value| match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(v) => (*v).into(),
        Value::Int64(v) => (*v).into(),
        Value::Double(v) => (*v).into(),
        Value::String(_) | Value::Bytes(_) | Value::Timestamp(_) => plain(value).into(),
    };
    let object = |row: Vec<Value>| {
        let pair =
            |(field, value): (&millrace_catalog::Field, &Value)| (field.name.clone(), json(value));
        serde_json::Value::Object(stream().fields.iter().zip(&row).map(pair).collect()).to_string()
    };
    vec![rows().map(|row| object(row) + "\n").collect::<String>().into_bytes()]
}

pub(crate) fn parquet_seeds() -> Vec<Vec<u8>> {
    let plain = WriterProperties::builder();
    let packed = WriterProperties::builder().set_compression(Compression::SNAPPY);
    let delta = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_dictionary_enabled(false);
    let written = |properties: WriterPropertiesBuilder| {
        let mut writer =
            ArrowWriter::try_new(Vec::new(), arrow_schema(stream()), Some(properties.build()))
                .expect("a schema of a stream can be written");
        writer.write(&batch()).expect("a batch can be written to memory");
        writer.into_inner().expect("a file can be ended in memory")
    };
    [plain, packed, delta].map(written).to_vec()
}

/// The rows as a record batch.
pub(crate) fn batch() -> RecordBatch {
    let rows: Vec<Vec<Value>> = rows().collect();
    let schema = arrow_schema(stream());
    let column = |(index, field): (usize, &millrace_catalog::Field)| -> ArrayRef {
        let values = rows.iter().map(|row| &row[index]);
        macro_rules! build {
            ($builder:expr, $kind:path, $of:expr) => {{
                let mut builder = $builder;
                for value in values {
                    if let $kind(value) = value {
                        builder.append_value($of(value));
                    } else {
                        builder.append_null();
                    }
                }
                Arc::new(builder.finish())
            }};
        }
        match field.ty {
            FieldType::Bool => build!(BooleanBuilder::new(), Value::Bool, |v: &bool| *v),
            FieldType::Int64 => build!(Int64Builder::new(), Value::Int64, |v: &i64| *v),
            FieldType::Double => build!(Float64Builder::new(), Value::Double, |v: &f64| *v),
            FieldType::String => build!(StringBuilder::new(), Value::String, |v| v),
            FieldType::Bytes => build!(BinaryBuilder::new(), Value::Bytes, |v| v),
            FieldType::Timestamp => {
                let builder = TimestampMicrosecondBuilder::new().with_timezone("UTC");
                build!(builder, Value::Timestamp, |v: &millrace_types::Micros| v.0)
            }
        }
    };
    let columns = stream().fields.iter().enumerate().map(column).collect();
    RecordBatch::try_new(schema, columns).expect("the columns are those of the schema")
}

pub(crate) fn csv(data: &[u8]) -> bool {
    read(data, Format::Csv)
}

pub(crate) fn ndjson(data: &[u8]) -> bool {
    read(data, Format::Ndjson)
}

pub(crate) fn parquet(data: &[u8]) -> bool {
    read(data, Format::Parquet)
}

/// Makes a file one of these bytes.
pub(crate) fn fill(file: &mut NamedTempFile, data: &[u8]) {
    let written = file.as_file().set_len(0).and_then(|()| file.rewind());
    written.and_then(|()| file.write_all(data)).expect("the temporary file takes the input");
}

/// Reads a file whole; true when it has rows and no fault.
fn read(data: &[u8], format: Format) -> bool {
    thread_local! {
        static FILE: RefCell<NamedTempFile> =
            RefCell::new(NamedTempFile::new().expect("a temporary file"));
    }
    FILE.with_borrow_mut(|file| {
        fill(file, data);
        let input = Input::File(file.path().to_owned());
        let reader = RowReader::open(&input, format, stream(), 7, &Progress::default());
        let Ok(mut reader) = reader else { return false };
        let (mut taken, mut next) = (0, None);
        while taken < ROWS_MAX {
            let batch = match reader.next_batch() {
                Ok(Some(batch)) => batch,
                Ok(None) => return taken > 0,
                Err(_) => return false,
            };
            assert!(next.is_none_or(|next| batch.first == next), "sequences have no gaps");
            assert_eq!(batch.records.num_rows(), batch.sequences.len());
            assert_eq!(batch.records.num_rows(), batch.lines.len());
            let rows = batch.sequences.len() + batch.rejected.len();
            assert_eq!(batch.next - batch.first, rows as u64, "each row is taken or refused");
            next = Some(batch.next);
            taken += rows;
        }
        true
    })
}
