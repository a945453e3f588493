//! The real data sets, read into records for the catalogs in `examples/`.
//!
//! They are not part of the repository: `MILLRACE_DATA` names the folder that holds them, by default
//! `../shared/data` beside the repository. Where `MILLRACE_REAL_DATA=required`, their absence is an
//! error.

use std::env;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use millrace_catalog::{Catalog, Diagnostic, Field, Stream};
use millrace_types::{FieldType, Micros, Sequence, Value};
use thiserror::Error;

use crate::record::RawRecord;
use crate::wheres::{Wheres, WheresError};

#[cfg(test)]
mod tests;

/// A data set: its folder, its example catalog, and the file of each stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSet {
    /// The name of its folder, and of its catalog without `.yaml`.
    pub name: &'static str,
    /// Streams and their files.
    pub files: &'static [(&'static str, &'static str)],
}

/// Touches of files of packages, and the packages' manifests.
pub const VCPKG_PORTS: DataSet = DataSet {
    name: "vcpkg-ports",
    files: &[("touches", "events.csv.gz"), ("manifests", "profile_changes.csv.gz")],
};

/// Purchase lines, the items' price list and the customers' countries.
pub const ONLINE_RETAIL: DataSet = DataSet {
    name: "online-retail",
    files: &[
        ("lines", "events.csv.gz"),
        ("items", "item_changes.csv.gz"),
        ("customers", "customer_changes.csv.gz"),
    ],
};

/// Whether a data set is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folder {
    /// It is here.
    Present(PathBuf),
    /// It was looked for here. A test says so and does nothing.
    Absent(PathBuf),
}

/// Why a data set could not be read.
#[derive(Debug, Error)]
pub enum RealDataError {
    /// It has to be there and is not.
    #[error("the data set is not at {0}, and MILLRACE_REAL_DATA=required")]
    Missing(PathBuf),
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A file is no CSV.
    #[error("{path}: {source}")]
    Csv {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: csv::Error,
    },
    /// A file lacks a column that the catalog names.
    #[error("{path} has no column {column}")]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// The example catalog lacks the stream of a file.
    #[error("the catalog has no stream {0}")]
    MissingStream(&'static str),
    /// The example catalog does not compile.
    #[error("the example catalog is refused: {0:?}")]
    Catalog(Vec<Diagnostic>),
    /// Its `where` texts could not be read.
    #[error(transparent)]
    Wheres(#[from] WheresError),
}

/// A data set in memory.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The compiled example catalog.
    pub catalog: Catalog,
    /// Its `where` texts.
    pub wheres: Wheres,
    /// Per file its records in the file's order. The producer is `NAME/FILE`, the sequence counts
    /// the rows from 0.
    pub streams: Vec<Vec<RawRecord>>,
    /// Rows that do not parse, which are REJECTED.
    pub bad_rows: Vec<BadRow>,
}

/// A row that does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Its stream.
    pub stream: &'static str,
    /// Its number, from 0.
    pub row: u64,
    /// The field that is to blame.
    pub field: String,
    /// What stands there.
    pub text: String,
}

impl DataSet {
    /// Looks for the data set.
    ///
    /// # Errors
    /// [`RealDataError::Missing`] when it is absent and has to be there.
    pub fn find(&self) -> Result<Folder, RealDataError> {
        let data =
            env::var_os("MILLRACE_DATA").map_or_else(|| "../shared/data".into(), PathBuf::from);
        // A relative path starts at the repository, wherever the test runs.
        let folder = repository().join(data).join(self.name);
        if self.files.iter().all(|(_, file)| folder.join(file).is_file()) {
            return Ok(Folder::Present(folder));
        }
        match env::var_os("MILLRACE_REAL_DATA") {
            Some(value) if value == "required" => Err(RealDataError::Missing(folder)),
            Some(_) | None => Ok(Folder::Absent(folder)),
        }
    }

    /// The path of its example catalog.
    #[must_use]
    pub fn catalog_path(&self) -> PathBuf {
        repository().join("examples").join(self.name).with_extension("yaml")
    }

    /// Reads its catalog and all its files.
    ///
    /// # Errors
    /// [`RealDataError`]
    pub fn load(&self, folder: &Path) -> Result<Loaded, RealDataError> {
        let path = self.catalog_path();
        let yaml =
            std::fs::read_to_string(&path).map_err(|source| RealDataError::Io { path, source })?;
        let catalog = Catalog::compile(&yaml, None).map_err(RealDataError::Catalog)?;
        let wheres = Wheres::of_yaml(&yaml)?;
        let mut loaded = Loaded { catalog, wheres, streams: Vec::new(), bad_rows: Vec::new() };
        for (name, file) in self.files {
            let stream = loaded.catalog.stream(name).ok_or(RealDataError::MissingStream(name))?;
            let producer = format!("{}/{file}", self.name);
            let (records, bad) = read(&folder.join(file), name, stream, &producer)?;
            loaded.streams.push(records);
            loaded.bad_rows.extend(bad);
        }
        Ok(loaded)
    }
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Reads a `.csv.gz` file: the columns that the stream has as fields, an empty cell being NULL.
fn read(
    path: &Path,
    name: &'static str,
    stream: &Stream,
    producer: &str,
) -> Result<(Vec<RawRecord>, Vec<BadRow>), RealDataError> {
    let failed = |source| RealDataError::Csv { path: path.to_owned(), source };
    let file =
        File::open(path).map_err(|source| RealDataError::Io { path: path.to_owned(), source })?;
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(file));
    let header = reader.headers().map_err(failed)?.clone();
    let column = |field: &Field| {
        header.iter().position(|h| h == field.name).ok_or_else(|| RealDataError::MissingColumn {
            path: path.to_owned(),
            column: field.name.clone(),
        })
    };
    let columns = stream.fields.iter().map(column).collect::<Result<Vec<usize>, _>>()?;
    let names: Arc<[String]> = stream.fields.iter().map(|f| f.name.clone()).collect();
    let (stream_name, producer): (Arc<str>, Arc<str>) =
        (stream.name.as_str().into(), producer.into());
    let (mut records, mut bad) = (Vec::new(), Vec::new());
    for (row, record) in (0..).zip(reader.records()) {
        let record = record.map_err(failed)?;
        let mut values = Vec::with_capacity(columns.len());
        for (field, column) in stream.fields.iter().zip(&columns) {
            let text = record.get(*column).unwrap_or_default();
            match cell(text, field) {
                Some(value) => values.push(value),
                None => {
                    let (field, text) = (field.name.clone(), text.to_owned());
                    bad.push(BadRow { stream: name, row, field, text });
                    break;
                }
            }
        }
        if values.len() == columns.len() {
            records.push(RawRecord {
                stream: stream_name.clone(),
                producer: producer.clone(),
                sequence: Sequence(row),
                names: names.clone(),
                values,
            });
        }
    }
    Ok((records, bad))
}

/// The value of a cell; `None` when it is none of the field's type.
fn cell(text: &str, field: &Field) -> Option<Value> {
    if text.is_empty() {
        return Some(Value::Null);
    }
    match field.ty {
        FieldType::Bool => text.parse().ok().map(Value::Bool),
        FieldType::Int64 => text.parse().ok().map(Value::Int64),
        FieldType::Double => text.parse().ok().map(Value::Double),
        FieldType::String => Some(Value::String(text.into())),
        // The data sets have no bytes.
        FieldType::Bytes => None,
        FieldType::Timestamp => match text.parse() {
            Ok(count) => field.unit.instant(count).map(Value::Timestamp),
            Err(_) => Micros::parse_rfc3339(text).ok().map(Value::Timestamp),
        },
    }
}
