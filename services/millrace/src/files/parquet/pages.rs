//! The pages of a Parquet file, which hold no more than their bytes can.
//!
//! The library that reads Parquet makes room for what a page's header says before it looks at what is there,
//! so that a damaged file of a few thousand bytes takes many gigabytes.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, FileReader, Length, RowGroupReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::{SchemaDescriptor, Type};

use super::bounded::{Bounded, EndsOnce};

/// Bytes of a page once it is inflated. Writers close a page at a million bytes, the most generous at a
/// hundred million.
const PAGE_BYTES_MAX: u64 = 512 << 20;

/// A Parquet file whose footer was read.
pub(crate) struct ParquetFile {
    file: Arc<PageFile>,
    metadata: ArrowReaderMetadata,
}

impl ParquetFile {
    /// Reads the footer. An Arrow schema that the writer embedded is not looked at.
    pub(crate) fn open(file: File) -> Result<Self> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let file = Bounded(file);
        let metadata = ArrowReaderMetadata::load(&file, options)?;
        Ok(Self { file: Arc::new(PageFile(file)), metadata })
    }

    /// The columns, by their Parquet types.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// The columns as the file describes them.
    pub(crate) fn parquet_schema(&self) -> &SchemaDescriptor {
        self.metadata.parquet_schema()
    }

    /// How many rows the footer says there are; zero where it says less.
    pub(crate) fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Reads columns in batches of so many rows.
    pub(crate) fn read(
        self,
        columns: ProjectionMask,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader> {
        let levels = parquet_to_arrow_field_levels(self.parquet_schema(), columns, None)?;
        let batch_rows = batch_rows.min(usize::try_from(self.rows()).unwrap_or(usize::MAX));
        let metadata = Arc::clone(self.metadata.metadata());
        let groups: Arc<dyn FileReader> = Arc::new(Groups { file: self.file, metadata });
        ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, batch_rows, None)
    }
}

/// The row groups of a file.
struct Groups {
    file: Arc<PageFile>,
    metadata: Arc<ParquetMetaData>,
}

impl FileReader for Groups {
    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    fn num_row_groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    fn get_row_group(&self, i: usize) -> Result<Box<dyn RowGroupReader + '_>> {
        Ok(Box::new(Group { file: &self.file, metadata: self.metadata.row_group(i) }))
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_file(projection, self)
    }
}

/// A row group.
struct Group<'a> {
    file: &'a Arc<PageFile>,
    metadata: &'a RowGroupMetaData,
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        let rows = usize::try_from(self.metadata.num_rows()).unwrap_or(0);
        let (file, column) = (Arc::clone(self.file), self.metadata.column(i));
        Ok(Box::new(Pages(SerializedPageReader::new(file, column, rows, None)?)))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// The pages of a column chunk.
struct Pages(SerializedPageReader<PageFile>);

/// Refuses a dictionary of more values than bytes. A value takes one byte or more, except the only one that
/// takes none.
fn believable(page: Page) -> Result<Page> {
    if let Page::DictionaryPage { buf, num_values, .. } = &page
        && *num_values as usize > buf.len().max(1)
    {
        let bytes = buf.len();
        let why = format!("a dictionary cannot have {num_values} values in {bytes} bytes");
        return Err(ParquetError::General(why));
    }
    Ok(page)
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.0.get_next_page()?.map(believable).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.0.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.0.at_record_boundary()
    }
}

/// A file of which pages are read: what is read in order is a page's header.
struct PageFile(Bounded);

impl Length for PageFile {
    fn len(&self) -> u64 {
        Length::len(&self.0)
    }
}

impl ChunkReader for PageFile {
    type T = EndsOnce<BufReader<File>>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut header = self.0.get_read(start)?;
        let inflated = inflated_bytes(header.fill_buf()?).unwrap_or(0);
        if inflated > PAGE_BYTES_MAX {
            let why = format!(
                "a page of {inflated} bytes is too large: at most {PAGE_BYTES_MAX} are read at a time"
            );
            return Err(ParquetError::General(why));
        }
        Ok(header)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// The bytes that a page takes once it is inflated, by its header: the second field of Thrift's compact
/// protocol, after the kind of page, both `i32`. `None` where that is not how it begins.
fn inflated_bytes(header: &[u8]) -> Option<u64> {
    /// One field further than the one before, an `i32`.
    const NEXT_IS_I32: u8 = 0x15;
    let field = |bytes: &mut &[u8]| {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        (*first == NEXT_IS_I32).then_some(())?;
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // Zigzag: a negative number is none of ours.
                return Some(value >> 1);
            }
        }
        None
    };
    let mut rest = header;
    let _kind = field(&mut rest)?;
    field(&mut rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inflated_bytes_are_the_second_number_of_a_header() {
        assert_eq!(inflated_bytes(&[0x15, 0x04, 0x15, 0x80, 0x02, 0x15, 0x10]), Some(128));
        assert_eq!(
            inflated_bytes(&[0x15, 0x00, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f]),
            Some(i32::MAX as u64)
        );
        assert_eq!(inflated_bytes(&[0x15, 0x00, 0x15, 0xff, 0xff]), None);
        assert_eq!(inflated_bytes(&[0xf9, 0xf7]), None);
        assert_eq!(inflated_bytes(&[]), None);
    }
}
