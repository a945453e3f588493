//! The real data sets: gzipped CSV files, written anew in another order of their rows.

use std::fs::File;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use flate2::read::GzDecoder;

use crate::{HarnessError, Order};

/// A folder of gzipped CSV files.
#[derive(Debug, Clone)]
pub struct DataSet {
    folder: PathBuf,
}

/// A CSV file in memory.
#[derive(Debug, Clone)]
pub struct Table {
    /// The names of the columns.
    pub header: StringRecord,
    /// The rows.
    pub rows: Vec<StringRecord>,
}

impl DataSet {
    /// The data set in this folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Reads `NAME.csv.gz`.
    ///
    /// # Errors
    ///
    /// [`HarnessError::File`] when it is not there or not gzipped CSV.
    pub fn table(&self, name: &str) -> Result<Table, HarnessError> {
        let path = self.folder.join(format!("{name}.csv.gz"));
        let file = File::open(&path).map_err(HarnessError::file(&path))?;
        let mut reader = csv::Reader::from_reader(GzDecoder::new(file));
        let invalid = |cause: csv::Error| HarnessError::file(&path)(cause.into());
        let header = reader.headers().map_err(invalid)?.clone();
        let rows = reader.records().collect::<Result<_, _>>().map_err(invalid)?;
        Ok(Table { header, rows })
    }
}

impl Table {
    /// The values of a column; empty when there is none of this name.
    pub fn column<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let index = self.header.iter().position(|column| column == name);
        self.rows.iter().filter_map(move |row| row.get(index?))
    }

    /// The rows in another order.
    #[must_use]
    pub fn ordered(&self, order: Order) -> Self {
        Self { header: self.header.clone(), rows: order.of(self.rows.clone()) }
    }

    /// Writes it as a CSV file.
    ///
    /// # Errors
    ///
    /// [`HarnessError::File`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), HarnessError> {
        let invalid = |cause: csv::Error| HarnessError::file(path)(cause.into());
        let mut writer = csv::Writer::from_path(path).map_err(invalid)?;
        writer.write_record(&self.header).map_err(invalid)?;
        for row in &self.rows {
            writer.write_record(row).map_err(invalid)?;
        }
        writer.flush().map_err(HarnessError::file(path))
    }
}
