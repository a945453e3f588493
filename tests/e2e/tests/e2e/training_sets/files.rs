//! Files of training sets: what they say of themselves, and that a version makes the same again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use serde_json::Value;

use super::{LATEST, VIEW, made, site};
use crate::fixture::{CLICKS, Topology, on_both_overnight};

type Metadata = BTreeMap<String, String>;

/// What a Parquet file says of itself, and its rows.
fn parquet(path: &Path) -> (Metadata, Vec<RecordBatch>) {
    let file = File::open(path).expect("the set");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    let pairs = reader.metadata().file_metadata().key_value_metadata().cloned();
    let pairs = pairs.unwrap_or_default().into_iter().map(|p| (p.key, p.value.unwrap_or_default()));
    let pairs = pairs.filter(|(name, _)| name.starts_with("millrace.")).collect();
    let rows = reader.build().expect("Parquet").collect::<Result<_, _>>().expect("rows");
    (pairs, rows)
}

/// The same of an Arrow file.
fn arrow(path: &Path) -> (Metadata, Vec<RecordBatch>) {
    let reader = FileReader::try_new(File::open(path).expect("the set"), None).expect("Arrow");
    let pairs = reader.custom_metadata().clone().into_iter().collect();
    (pairs, reader.collect::<Result<_, _>>().expect("rows"))
}

/// What stands beside a file of text, under the same names.
fn beside(path: &Path) -> Metadata {
    let text = fs::read(format!("{}-metadata.json", path.display())).expect("what is beside a set");
    serde_json::from_slice(&text).expect("texts by name")
}

/// Every part of a Parquet file is compressed and says between which values its column lies, so that a
/// reader passes over what it does not look for. Each column has a value: of NULLs alone there is no least.
#[track_caller]
fn assert_compact(path: &Path) {
    let file = File::open(path).expect("the set");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    let groups = reader.metadata().row_groups();
    assert!(!groups.is_empty(), "a set with rows has a row group");
    for column in groups.iter().flat_map(|group| group.columns()) {
        let name = column.column_path().string();
        let compression = column.compression();
        assert!(matches!(compression, Compression::ZSTD(_)), "{name} is {compression:?}");
        let statistics = column.statistics().unwrap_or_else(|| panic!("{name} has no statistics"));
        let ends = [statistics.min_bytes_opt(), statistics.max_bytes_opt()];
        assert!(
            ends.iter().all(Option::is_some),
            "{name} has no least or greatest: {statistics:?}"
        );
        assert!(statistics.null_count_opt().is_some(), "{name} does not count NULLs");
    }
}

fn columns(rows: &[RecordBatch]) -> Vec<&[arrow_array::ArrayRef]> {
    rows.iter().map(RecordBatch::columns).collect()
}

/// What a report says, as a file says it.
#[track_caller]
fn assert_told(found: &Metadata, told: &Value) {
    let text = |name: &str| {
        let value = &told[name];
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    };
    let expected = [
        ("millrace.views", VIEW.to_owned()),
        ("millrace.known_at", "latest".to_owned()),
        ("millrace.include_late", "false".to_owned()),
        ("millrace.version", text("version")),
        ("millrace.catalog_version", text("catalog_version")),
        ("millrace.log_known_at", text("known_at")),
        ("millrace.watermark", text("watermark")),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(found, &Metadata::from(expected));
    assert!(!text("version").is_empty() && told["watermark"].is_string(), "{told}");
}

on_both_overnight!(files_say_what_they_were_made_of_and_a_version_makes_the_same_again);
fn files_say_what_they_were_made_of_and_a_version_makes_the_same_again(on: Topology) {
    let site = site(on);
    let lines = ["user_id,at,label", "2,2026-03-01T12:00:00Z,yes", "1,2026-03-01T12:00:01Z,no"];
    let spine = site.file("spine.csv", &lines).display().to_string();
    let make = |name: &str, version: &[&str]| -> Value {
        made(&site, &[&[VIEW, "--spine", &spine][..], &LATEST, version].concat(), name)
    };
    let forms = ["parquet", "arrow", "csv", "ndjson"];
    let told = make("first.parquet", &[]);
    let version = ["--set-version", told["version"].as_str().expect("a version")];
    for form in &forms[1..] {
        make(&format!("first.{form}"), &version);
    }
    let path = |name: &str, form: &str| site.path(&format!("{name}.{form}"));
    let first = parquet(&path("first", "parquet"));
    assert_told(&first.0, &told);
    assert_compact(&path("first", "parquet"));
    let (metadata, rows) = arrow(&path("first", "arrow"));
    assert_eq!((&metadata, columns(&rows)), (&first.0, columns(&first.1)), "the same twice");
    for form in ["csv", "ndjson"] {
        assert_eq!(beside(&path("first", form)), first.0, "{form}");
    }

    // Nothing came since: the files are the same to the last byte.
    for form in forms {
        make(&format!("same.{form}"), &version);
        let files = ["same", "first"].map(|name| fs::read(path(name, form)).expect("the set"));
        assert!(files[0] == files[1], "{form}");
    }
    // Facts came that move the watermark: the version holds that of its making.
    let later = ["e8,1,2026-03-01T09:59:00Z,,,1,1.0,a", "e9,2,2026-03-09T10:00:00Z,,,1,1.0,a"];
    assert_eq!(site.publish("clicks", &[&[CLICKS][..], &later].concat()).sent, 2);
    assert_ne!(make("newer.parquet", &[])["version"], told["version"]);
    for form in forms {
        make(&format!("later.{form}"), &version);
    }
    for form in forms {
        let files = ["later", "first"].map(|name| fs::read(path(name, form)).expect("the set"));
        assert!(files[0] == files[1], "{form}");
    }
    // What stands beside a file is of its last making.
    let newest = make("first.csv", &[]);
    assert_ne!(newest["version"], told["version"]);
    assert_told(&beside(&path("first", "csv")), &newest);
    let newer = parquet(&path("newer", "parquet"));
    assert_ne!(columns(&newer.1), columns(&first.1));
}
