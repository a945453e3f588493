//! CSV files, gzipped or not, written anew in another order of their rows.

use std::fs::File;
use std::path::Path;

use csv::StringRecord;
use flate2::read::MultiGzDecoder;

use crate::{HarnessError, Order};

/// A CSV file in memory.
#[derive(Debug, Clone)]
pub struct Table {
    /// The names of the columns.
    pub header: StringRecord,
    /// The rows.
    pub rows: Vec<StringRecord>,
}

impl Table {
    /// Reads a `.csv.gz` file.
    ///
    /// # Errors
    ///
    /// [`HarnessError::File`] when it is not there or not gzipped CSV.
    pub fn read(path: &Path) -> Result<Self, HarnessError> {
        let file = File::open(path).map_err(HarnessError::file(path))?;
        let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(file));
        let invalid = |cause: csv::Error| HarnessError::file(path)(cause.into());
        let header = reader.headers().map_err(invalid)?.clone();
        let rows = reader.records().collect::<Result<_, _>>().map_err(invalid)?;
        Ok(Self { header, rows })
    }

    /// The rows in another order.
    #[must_use]
    pub fn ordered(self, order: Order) -> Self {
        Self { header: self.header, rows: order.of(self.rows) }
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
