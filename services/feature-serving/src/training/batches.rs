//! Rows as record batches, in the order of the spine or of the events.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;

use super::assemble;
use super::columns::Part;
use super::slot::SlotRows;

/// Rows of a batch at most.
pub(super) const BATCH_ROWS: usize = 16_384;
/// Bytes of a batch at most, unless it is one row: clients take messages of 4 MiB by default.
const BATCH_BYTES: usize = 2 << 20;

/// The message of a schema.
pub(super) fn encode_schema(schema: &SchemaRef) -> Result<Bytes, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    Ok(std::mem::take(writer.get_mut()).into())
}

/// The messages of a batch, each with its rows: several, where one would be too large.
pub(super) fn encode(batch: &RecordBatch) -> Result<Vec<(usize, Bytes)>, ArrowError> {
    let mut out = Vec::new();
    encode_into(batch, &mut out)?;
    Ok(out)
}

fn encode_into(batch: &RecordBatch, out: &mut Vec<(usize, Bytes)>) -> Result<(), ArrowError> {
    let bytes = Vec::with_capacity(batch.get_array_memory_size().min(BATCH_BYTES) + 4_096);
    let mut writer = StreamWriter::try_new(bytes, batch.schema_ref())?;
    let before = writer.get_ref().len();
    writer.write(batch)?;
    let bytes = Bytes::from(std::mem::take(writer.get_mut())).split_off(before);
    let rows = batch.num_rows();
    if bytes.len() > BATCH_BYTES && rows > 1 {
        encode_into(&batch.slice(0, rows / 2), out)?;
        return encode_into(&batch.slice(rows / 2, rows - rows / 2), out);
    }
    out.push((rows, bytes));
    Ok(())
}

/// The rows of one view, wherever they were made, by row of the section.
#[derive(Debug)]
struct Placed {
    parts: Vec<Part>,
    /// By row: which part, and where in it.
    places: Vec<(u32, u32)>,
}

/// The rows of a section.
#[derive(Debug)]
pub(super) struct Rows {
    schema: SchemaRef,
    views: Vec<Placed>,
    rows: usize,
}

impl Rows {
    /// Room for this many rows of this many views.
    pub(super) fn new(schema: SchemaRef, views: usize, rows: usize) -> Self {
        let empty = || Placed { parts: Vec::new(), places: vec![(0, 0); rows] };
        Self { schema, views: (0..views).map(|_| empty()).collect(), rows }
    }

    /// Places the rows of a slot, whose views stand at these places.
    pub(super) fn place(&mut self, views: &[usize], of_slot: SlotRows) {
        for (view, parts) in views.iter().zip(of_slot.views) {
            let placed = &mut self.views[*view];
            let mut rows = of_slot.rows.iter();
            for part in parts {
                let number = placed.parts.len() as u32;
                for (place, row) in rows.by_ref().take(part.rows).enumerate() {
                    placed.places[*row as usize] = (number, place as u32);
                }
                placed.parts.push(part);
            }
        }
    }

    /// How many batches the rows make.
    pub(super) fn batches(&self) -> usize {
        self.rows.div_ceil(BATCH_ROWS)
    }

    /// The batch with this number.
    pub(super) fn batch(&self, number: usize) -> Result<RecordBatch, ArrowError> {
        let start = number * BATCH_ROWS;
        let end = (start + BATCH_ROWS).min(self.rows);
        let mut columns: Vec<ArrayRef> = Vec::new();
        for placed in &self.views {
            columns.extend(assemble::columns(&placed.parts, &placed.places[start..end])?);
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}
