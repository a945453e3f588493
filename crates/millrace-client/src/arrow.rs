//! Batches from Arrow record batches.

use arrow_array::{Array as _, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Schema};
use bytes::Bytes;
use thiserror::Error;

use crate::publisher::Payload;

/// Encodes record batches of one schema, each on its own, so that any of them may be sent again on
/// another call.
pub struct ArrowEncoder {
    writer: StreamWriter<Vec<u8>>,
    schema: Bytes,
}

/// A schema or record batch that cannot be encoded.
#[derive(Debug, Error)]
pub enum ArrowEncodeError {
    /// Dictionaries would be sent once for all batches, and so be missing after a reconnect.
    #[error("column {0:?} has dictionary encoding; send its plain values")]
    Dictionary(String),
    /// Arrow refused it.
    #[error("encode Arrow IPC")]
    Arrow(#[from] ArrowError),
}

impl std::fmt::Debug for ArrowEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ArrowEncoder")
    }
}

impl ArrowEncoder {
    /// An encoder of record batches with this schema.
    ///
    /// # Errors
    /// [`ArrowEncodeError`] for a schema that cannot be sent.
    pub fn try_new(schema: &Schema) -> Result<Self, ArrowEncodeError> {
        for field in schema.fields() {
            if has_dictionary(field.data_type()) {
                return Err(ArrowEncodeError::Dictionary(field.name().clone()));
            }
        }
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        let schema = std::mem::take(writer.get_mut()).into();
        Ok(Self { writer, schema })
    }

    /// The payload of a record batch.
    ///
    /// # Errors
    /// [`ArrowEncodeError::Arrow`] when it does not have the encoder's schema.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Payload, ArrowEncodeError> {
        // Of a slice of a larger batch its own part alone: what is reserved is held until it is sent.
        let bytes = batch.columns().iter().map(|c| c.to_data().get_slice_memory_size());
        let bytes: usize = bytes.sum::<Result<_, _>>()?;
        self.writer.get_mut().reserve(bytes + 1_024);
        let written = self.writer.write(batch);
        // Also after an error, so that nothing of it is left for the next batch.
        let batches = std::mem::take(self.writer.get_mut());
        written?;
        Ok(Payload::Arrow {
            schema: self.schema.clone(),
            batches: batches.into(),
            facts: batch.num_rows(),
        })
    }
}

fn has_dictionary(ty: &DataType) -> bool {
    matches!(ty, DataType::Dictionary(..))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use arrow_ipc::reader::StreamReader;
    use arrow_schema::Field;

    use super::*;

    #[test]
    fn every_batch_reads_back_behind_the_schema() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("user_id", DataType::Int64, true),
            Field::new("item_id", DataType::Utf8, true),
        ]));
        let mut encoder = ArrowEncoder::try_new(&schema).unwrap();
        for n in [0, 3] {
            let users: Int64Array = (0..n).collect();
            let items: StringArray = (0..n).map(|i| Some(format!("i{i}"))).collect();
            let columns: Vec<arrow_array::ArrayRef> = vec![Arc::new(users), Arc::new(items)];
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
            let Payload::Arrow { schema, batches, facts } = encoder.encode(&batch).unwrap() else {
                panic!("not Arrow");
            };
            assert_eq!(facts, batch.num_rows());
            let whole = [schema.as_ref(), batches.as_ref()].concat();
            let read: Vec<RecordBatch> = StreamReader::try_new(Cursor::new(whole), None)
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(read, [batch]);
        }
    }

    #[test]
    fn dictionaries_are_refused() {
        let ty = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let schema = Schema::new(vec![Field::new("category", ty, true)]);
        let error = ArrowEncoder::try_new(&schema).err().unwrap();
        assert!(error.to_string().contains("\"category\""), "{error}");
    }
}
