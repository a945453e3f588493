//! A Parquet file whose columns are encoded on several threads: packing and compressing them takes longer
//! than everything else that the command does.

use std::fs::File;
use std::io::BufWriter;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

/// Threads that encode, at most.
const THREADS_MAX: usize = 4;
/// Batches that wait for a thread.
const BATCHES_AHEAD: usize = 2;

/// Writes record batches of one schema.
pub(super) struct ColumnsOut {
    file: SerializedFileWriter<BufWriter<File>>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// By field: how many columns of the file it takes.
    leaves: Vec<usize>,
    group_rows: usize,
    threads: usize,
    /// The row group that is under way, and how many rows it has.
    group: Option<(Vec<Encoder>, usize)>,
}

/// A thread that encodes some columns of a row group.
struct Encoder {
    batches: SyncSender<RecordBatch>,
    /// Its columns, each with the number of its first among those of the file.
    encoded: JoinHandle<Result<Encoded>>,
}

/// Columns of the file, by number.
type Encoded = Vec<(usize, ArrowColumnChunk)>;

/// A field of the schema with the columns that it takes.
struct FieldWriter {
    field: usize,
    first_column: usize,
    columns: Vec<ArrowColumnWriter>,
}

impl ColumnsOut {
    /// Begins a file whose row groups have so many rows.
    ///
    /// # Errors
    /// [`ParquetError`] when the file cannot be written to, or the schema is none of Parquet's.
    pub(super) fn new(
        file: BufWriter<File>,
        schema: &SchemaRef,
        properties: WriterProperties,
        group_rows: usize,
    ) -> Result<Self> {
        let writer = ArrowWriter::try_new(file, SchemaRef::clone(schema), Some(properties))?;
        let (file, factory) = writer.into_serialized_writer()?;
        let mut leaves = vec![0; schema.fields().len()];
        for column in 0..file.schema_descr().num_columns() {
            leaves[file.schema_descr().get_column_root_idx(column)] += 1;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let schema = SchemaRef::clone(schema);
        let threads = cores.min(THREADS_MAX);
        Ok(Self { file, factory, schema, leaves, group_rows, threads, group: None })
    }

    /// Writes rows.
    ///
    /// # Errors
    /// [`ParquetError`] of an earlier row group or this one.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < batch.num_rows() {
            let (encoders, rows) = match self.group.take() {
                Some(group) => group,
                None => (self.begin()?, 0),
            };
            let count = (batch.num_rows() - from).min(self.group_rows - rows);
            let part = batch.slice(from, count);
            // A thread that ended early says why when it is joined.
            let taken = encoders.iter().all(|e| e.batches.send(part.clone()).is_ok());
            self.group = Some((encoders, rows + count));
            from += count;
            if !taken || rows + count == self.group_rows {
                self.end()?;
            }
        }
        Ok(())
    }

    /// Ends the file, and gives what it was written to.
    ///
    /// # Errors
    /// [`ParquetError`].
    pub(super) fn finish(mut self) -> Result<BufWriter<File>> {
        self.end()?;
        self.file.into_inner()
    }

    /// Begins a row group: deals its columns out to threads.
    fn begin(&self) -> Result<Vec<Encoder>> {
        let group = self.file.flushed_row_groups().len();
        let mut columns = self.factory.create_column_writers(group)?.into_iter();
        let mut dealt: Vec<Vec<FieldWriter>> = (0..self.threads).map(|_| Vec::new()).collect();
        let mut first_column = 0;
        for (field, leaves) in self.leaves.iter().enumerate() {
            let columns = columns.by_ref().take(*leaves).collect();
            dealt[field % self.threads].push(FieldWriter { field, first_column, columns });
            first_column += leaves;
        }
        let begin = |fields: Vec<FieldWriter>| {
            let (batches, from) = sync_channel(BATCHES_AHEAD);
            let schema = SchemaRef::clone(&self.schema);
            let encoder = std::thread::Builder::new().name("parquet".to_owned());
            let encoded = encoder.spawn(move || encode(&schema, fields, &from))?;
            Ok(Encoder { batches, encoded })
        };
        dealt.into_iter().filter(|fields| !fields.is_empty()).map(begin).collect()
    }

    /// Ends the row group that is under way.
    fn end(&mut self) -> Result<()> {
        let Some((encoders, _)) = self.group.take() else { return Ok(()) };
        let mut columns: Encoded = Vec::new();
        for Encoder { batches, encoded } in encoders {
            drop(batches);
            let failed = |_| ParquetError::General("a thread that encodes columns failed".into());
            columns.extend(encoded.join().map_err(failed)??);
        }
        columns.sort_unstable_by_key(|(column, _)| *column);
        let mut group = self.file.next_row_group()?;
        for (_, column) in columns {
            column.append_to_row_group(&mut group)?;
        }
        group.close().map(|_| ())
    }
}

/// Encodes the columns of these fields until no more batches come.
fn encode(
    schema: &SchemaRef,
    mut fields: Vec<FieldWriter>,
    batches: &Receiver<RecordBatch>,
) -> Result<Encoded> {
    for batch in batches {
        for FieldWriter { field, columns, .. } in &mut fields {
            let leaves = compute_leaves(schema.field(*field), batch.column(*field))?;
            for (column, leaf) in columns.iter_mut().zip(&leaves) {
                column.write(leaf)?;
            }
        }
    }
    let mut encoded = Vec::new();
    for FieldWriter { first_column, columns, .. } in fields {
        for (place, column) in columns.into_iter().enumerate() {
            encoded.push((first_column + place, column.close()?));
        }
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{Int64Builder, ListBuilder};
    use arrow_array::{ArrayRef, Int64Array, StringArray, StructArray};
    use arrow_schema::{DataType, Field};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    /// Rows with scalars, texts, lists and structs, some of which are NULL.
    fn rows(range: std::ops::Range<i64>) -> RecordBatch {
        let numbers = Int64Array::from_iter(range.clone().map(|n| (n % 5 > 0).then_some(n)));
        let texts =
            StringArray::from_iter(range.clone().map(|n| (n % 3 > 0).then(|| n.to_string())));
        let mut lists = ListBuilder::new(Int64Builder::new());
        for n in range {
            (0..n % 4).for_each(|item| lists.values().append_value(item * n));
            lists.append(n % 7 > 0);
        }
        let fields = [("text", DataType::Utf8), ("number", DataType::Int64)];
        let fields = fields.map(|(name, ty)| Field::new(name, ty, true));
        let parts: Vec<ArrayRef> = vec![Arc::new(texts.clone()), Arc::new(numbers.clone())];
        let of_struct = StructArray::new(fields.to_vec().into(), parts, None);
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("number", Arc::new(numbers), true),
            ("text", Arc::new(texts), true),
            ("list", Arc::new(lists.finish()), true),
            ("counted", Arc::new(of_struct), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    /// How many row groups a file of these batches has, and what is read back.
    fn written(batches: &[RecordBatch], group_rows: usize) -> (usize, RecordBatch) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let schema = rows(0..0).schema();
        let out = BufWriter::new(file.reopen().unwrap());
        let properties = WriterProperties::default();
        let mut out = ColumnsOut::new(out, &schema, properties, group_rows).unwrap();
        for batch in batches {
            out.write(batch).unwrap();
        }
        out.finish().unwrap().into_inner().unwrap().sync_all().unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.reopen().unwrap()).unwrap();
        let groups = reader.metadata().num_row_groups();
        let batches: Vec<RecordBatch> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
        (groups, arrow_select::concat::concat_batches(&schema, &batches).unwrap())
    }

    #[test]
    fn rows_of_several_row_groups_read_back() {
        let whole = rows(0..1_000);
        let cuts = [0..1, 1..90, 90..530, 530..1_000];
        let batches: Vec<RecordBatch> =
            cuts.into_iter().map(|r| whole.slice(r.start, r.len())).collect();
        for (group_rows, groups) in [(100, 10), (300, 4), (999, 2), (1_000, 1), (5_000, 1)] {
            assert_eq!(written(&batches, group_rows), (groups, whole.clone()), "{group_rows}");
        }
    }

    #[test]
    fn a_file_without_rows_reads_back() {
        assert_eq!(written(&[], 100), (0, rows(0..0)));
        assert_eq!(written(&[rows(0..0)], 100), (0, rows(0..0)));
    }
}
