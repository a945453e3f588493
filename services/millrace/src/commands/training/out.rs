//! The file of a training set: written beside its place, and moved there once it is whole.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, SchemaRef};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tempfile::NamedTempFile;

use super::columns_out::ColumnsOut;
use super::write::Metadata;
use crate::commands::Failure;
use crate::output::arrow::{ArrowCell, write_csv_cell};
use crate::output::json::Entries;

/// Rows of a Parquet row group.
const GROUP_ROWS: usize = 512 * 1024;

/// The format of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutFormat {
    Parquet,
    Arrow,
    Csv,
    Ndjson,
}

impl OutFormat {
    /// The format that the name of a file states.
    ///
    /// # Errors
    /// [`Failure::Usage`] when it states none.
    pub(super) fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
            "parquet" => Ok(Self::Parquet),
            "arrow" => Ok(Self::Arrow),
            "csv" => Ok(Self::Csv),
            "ndjson" | "jsonl" => Ok(Self::Ndjson),
            _ => Err(Failure::Usage {
                message: format!("the name of {} does not tell its format", path.display()),
                next: "call it .parquet, .arrow, .csv or .ndjson".to_owned(),
            }),
        }
    }

    /// Whether a file says of itself what it was made of; text has no room for that beside its rows.
    pub(super) fn tells_of_itself(self) -> bool {
        match self {
            Self::Parquet | Self::Arrow => true,
            Self::Csv | Self::Ndjson => false,
        }
    }
}

/// Where it stands what a file of text was made of: as tables on the web have it (W3C, "Model for Tabular Data
/// and Metadata on the Web", 2015, section 5.3).
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-metadata.json");
    PathBuf::from(name)
}

/// A file that is not in its place yet. Dropped, it leaves nothing behind.
pub(super) struct OutFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl OutFile {
    /// Begins a file beside the place where it will be.
    ///
    /// # Errors
    /// [`Failure::OutFile`].
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let named = path.file_name().and_then(|n| n.to_str()).unwrap_or("training");
        let file = tempfile::Builder::new()
            .prefix(&format!(".{named}."))
            .suffix(".partial")
            .tempfile_in(folder_of(path))
            .map_err(|source| Failure::OutFile { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// A writer of rows.
    ///
    /// # Errors
    /// [`Failure::OutFile`].
    pub(super) fn writer(
        &self,
        format: OutFormat,
        schema: &SchemaRef,
        metadata: &Metadata,
    ) -> Result<RowWriter, Failure> {
        let file = self.file.as_file().try_clone().map_err(|e| self.failed(e))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(match format {
            OutFormat::Parquet => {
                let written =
                    ColumnsOut::new(file, schema, properties(schema, metadata), GROUP_ROWS);
                RowWriter::Parquet(Box::new(written.map_err(|e| self.failed(io::Error::other(e)))?))
            }
            OutFormat::Arrow => {
                let mut writer = FileWriter::try_new(file, schema)
                    .map_err(|e| self.failed(io::Error::other(e)))?;
                for (name, value) in &metadata.0 {
                    writer.write_metadata(name, value);
                }
                RowWriter::Arrow(Box::new(writer))
            }
            OutFormat::Csv => {
                let mut file = file;
                let mut header = ::csv::Writer::from_writer(Vec::new());
                let names = schema.fields().iter().map(|f| f.name());
                let line = header.write_record(names).map_err(io::Error::other);
                let line = line.and_then(|()| header.into_inner().map_err(io::Error::other));
                line.and_then(|line| file.write_all(&line)).map_err(|e| self.failed(e))?;
                RowWriter::Csv(file)
            }
            OutFormat::Ndjson => RowWriter::Ndjson(file),
        })
    }

    /// Puts the file in its place, durably, and `metadata` beside it where it does not tell of itself. What
    /// stood there is replaced. What does not belong to the rows is never beside them, whenever this ends.
    ///
    /// # Errors
    /// [`Failure::OutFile`].
    pub(super) fn finish(self, metadata: Option<&Metadata>) -> Result<(), Failure> {
        let told = metadata.map(|metadata| self.told(metadata)).transpose()?;
        let old = beside(&self.path);
        if metadata.is_some() && old.exists() {
            let removed = std::fs::remove_file(&old).and_then(|()| synced(folder_of(&old)));
            removed.map_err(|source| Failure::OutFile { path: old, source })?;
        }
        self.persist()?;
        told.map_or(Ok(()), Self::persist)
    }

    /// The file that says what the rows were made of, not in its place yet.
    fn told(&self, metadata: &Metadata) -> Result<Self, Failure> {
        let told = Self::create(&beside(&self.path))?;
        let entries = Entries(metadata.0.clone());
        let text = serde_json::to_vec_pretty(&entries).map_err(io::Error::from);
        let written = text.and_then(|mut text| {
            text.push(b'\n');
            told.file.as_file().write_all(&text)
        });
        written.map_err(|source| told.failed(source))?;
        Ok(told)
    }

    /// Puts this file alone in its place: what comes after it is there only where it is.
    fn persist(self) -> Result<(), Failure> {
        let Self { path, file } = self;
        let failed = |source| Failure::OutFile { path: path.clone(), source };
        file.as_file().sync_all().map_err(failed)?;
        // A file for others to read, as every other command would make it.
        readable(file.as_file()).map_err(failed)?;
        file.persist(&path).map_err(|e| failed(e.error))?;
        synced(folder_of(&path)).map_err(failed)
    }

    /// Why it could not be written.
    pub(super) fn failed(&self, source: io::Error) -> Failure {
        Failure::OutFile { path: self.path.clone(), source }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// What was renamed in a folder stays so.
fn synced(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(unix)]
fn readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &File) -> io::Result<()> {
    Ok(())
}

/// Small integers of windows and prices seldom repeat enough for dictionaries, texts do.
fn properties(schema: &SchemaRef, metadata: &Metadata) -> WriterProperties {
    let pairs = metadata.0.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone()));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(pairs.collect()));
    for field in schema.fields() {
        // A path of one part: names of features of several views hold dots.
        let column = ColumnPath::from(vec![field.name().clone()]);
        if matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8) {
            properties = properties.set_column_dictionary_enabled(column, true);
        } else if matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(..)) {
            // zstd over plain integers takes twice the time for the same size.
            properties = properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
    }
    properties.build()
}

/// Writes rows in a format.
pub(super) enum RowWriter {
    Parquet(Box<ColumnsOut>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
    Csv(BufWriter<File>),
    Ndjson(BufWriter<File>),
}

impl RowWriter {
    /// Writes rows.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(io::Error::other),
            Self::Arrow(writer) => writer.write(batch).map_err(io::Error::other),
            Self::Csv(out) => {
                for row in 0..batch.num_rows() {
                    for (place, column) in batch.columns().iter().enumerate() {
                        if place > 0 {
                            out.write_all(b",")?;
                        }
                        write_csv_cell(out, column, row)?;
                    }
                    out.write_all(b"\r\n")?;
                }
                Ok(())
            }
            Self::Ndjson(out) => {
                let schema = batch.schema();
                for row in 0..batch.num_rows() {
                    let cell = |(field, column): (&Arc<arrow_schema::Field>, _)| {
                        (field.name().clone(), ArrowCell(column, row))
                    };
                    let columns = batch.columns().iter().map(|c| c.as_ref() as &dyn Array);
                    let cells = schema.fields().iter().zip(columns).map(cell).collect();
                    crate::output::json::write_line(out, &Entries(cells))?;
                }
                Ok(())
            }
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Parquet(writer) => {
                writer.finish().map_err(io::Error::other).and_then(|mut out| out.flush())
            }
            Self::Arrow(mut writer) => {
                writer.finish().map_err(io::Error::other)?;
                writer.into_inner().map_err(io::Error::other).and_then(|mut out| out.flush())
            }
            Self::Csv(mut out) | Self::Ndjson(mut out) => out.flush(),
        }
    }
}
