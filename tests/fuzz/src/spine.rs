//! Files of spines, as `millrace training` reads them.

use std::cell::RefCell;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use millrace::decoders::spine as read;
use millrace_catalog::{KeyColumn, View};
use millrace_types::KeyType;
use parquet::arrow::ArrowWriter;
use tempfile::NamedTempFile;

use crate::files::fill;
use crate::history::HISTORY;

/// The forms that a spine may have, by the first byte.
const FORMS: [&str; 4] = [".arrow", ".parquet", ".csv", ".ndjson"];
/// Rows that are read of an input: what matters comes early.
const ROWS_MAX: usize = 10_000;
const AT: &str = "2026-03-01T12:00:00Z";

fn view() -> &'static View {
    HISTORY.catalog.views.first().expect("the catalog has views")
}

/// The columns that name an entity.
fn keys() -> Vec<(String, KeyType)> {
    let of_kinds = HISTORY.catalog.key_columns(&[view()]);
    let name = |column: &KeyColumn| (column.names[0].clone(), column.ty);
    of_kinds.iter().flat_map(|(_, columns)| columns.iter().map(name)).collect()
}

/// Two rows of each type of column that there is.
fn batch() -> RecordBatch {
    let key = |(name, ty): (String, KeyType)| -> (String, ArrayRef) {
        match ty {
            KeyType::Int64 => (name, Arc::new(Int64Array::from(vec![1, 2]))),
            KeyType::String => (name, Arc::new(StringArray::from(vec!["a", "b"]))),
        }
    };
    let mut columns: Vec<(String, ArrayRef)> = keys().into_iter().map(key).collect();
    let instants = TimestampMillisecondArray::from(vec![1_772_366_400_000; 2]);
    columns.push(("at".to_owned(), Arc::new(instants)));
    let labels: DictionaryArray<Int32Type> = ["yes", "no"].into_iter().collect();
    columns.push(("label".to_owned(), Arc::new(labels)));
    columns.push(("weight".to_owned(), Arc::new(Float64Array::from(vec![Some(0.5), None]))));
    RecordBatch::try_from_iter(columns).expect("the columns are of one length")
}

fn arrow(compression: Option<CompressionType>) -> Vec<u8> {
    let batch = batch();
    let options = IpcWriteOptions::default().try_with_compression(compression);
    let options = options.expect("this compression is built in");
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options)
        .expect("a schema can be written");
    writer.write(&batch).expect("a batch can be written to memory");
    writer.into_inner().expect("a file can be ended in memory")
}

fn parquet() -> Vec<u8> {
    let batch = batch();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)
        .expect("a schema of plain types can be written");
    writer.write(&batch).expect("a batch can be written to memory");
    writer.into_inner().expect("a file can be ended in memory")
}

fn text() -> [String; 2] {
    let keys = keys();
    let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
    let cells = vec!["1"; names.len()].join(",");
    let csv = format!("{},at,label\n{cells},{AT},yes\n", names.join(","));
    let value = |(name, ty): &(String, KeyType)| match ty {
        KeyType::Int64 => format!("{name:?}:1"),
        KeyType::String => format!("{name:?}:\"a\""),
    };
    let pairs: Vec<String> = keys.iter().map(value).collect();
    let line = format!("{{{},\"at\":\"{AT}\",\"label\":[1]}}\n", pairs.join(","));
    [csv, line]
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let packed = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];
    let seed = |(form, bytes): (u8, Vec<u8>)| [vec![form], bytes].concat();
    let [csv, ndjson] = text().map(String::into_bytes);
    let others = [(1, parquet()), (2, csv), (3, ndjson)];
    packed.map(|how| (0, arrow(how))).into_iter().chain(others).map(seed).collect()
}

/// Reads a spine whole, in a form chosen by the first byte.
pub(crate) fn spine(data: &[u8]) -> bool {
    thread_local! {
        static FILES: [RefCell<NamedTempFile>; FORMS.len()] = FORMS.map(|form| {
            RefCell::new(NamedTempFile::with_suffix(form).expect("a temporary file"))
        });
    }
    let Some((form, bytes)) = data.split_first() else { return false };
    FILES.with(|files| {
        let mut file = files[usize::from(*form) % FORMS.len()].borrow_mut();
        fill(&mut file, bytes);
        read(file.path(), &HISTORY.catalog, view(), ROWS_MAX)
    })
}
