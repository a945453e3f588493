//! A stream whose payloads continue each other: the schema once, then record batches.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::MessageHeader;
use arrow_schema::SchemaRef;
use bytes::Bytes;

use crate::{Frame, IpcError, frame};

/// One stream.
#[derive(Debug, Default)]
pub struct IpcStream {
    schema: Option<SchemaRef>,
}

/// A checked payload: its schema and its record batches, not decoded yet.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The schema; that of the payload where it brings one.
    pub schema: SchemaRef,
    /// Whether the payload brings it.
    pub brings_schema: bool,
    /// The number of rows.
    pub rows: usize,
    batches: Vec<Frame>,
}

impl IpcStream {
    /// Goes on with a stream of this schema.
    #[must_use]
    pub fn of(schema: Option<SchemaRef>) -> Self {
        Self { schema }
    }

    /// Takes the next payload. One that starts with a schema replaces the stream's.
    ///
    /// # Errors
    /// [`IpcError`].
    pub fn accept(&mut self, payload: Bytes) -> Result<Accepted, IpcError> {
        let mut brings_schema = false;
        let (mut batches, mut rows) = (Vec::new(), 0usize);
        let mut rest = payload;
        let mut schema = self.schema.clone();
        while let Some(frame) = Frame::split(&mut rest)? {
            let message = frame.message()?;
            match message.header_type() {
                MessageHeader::Schema => {
                    brings_schema = true;
                    schema = Some(frame::schema(&message)?);
                }
                MessageHeader::RecordBatch => {
                    if schema.is_none() {
                        return Err(IpcError::NoSchema);
                    }
                    rows += frame.check_batch(&message)?;
                    batches.push(frame);
                }
                // The dictionaries of columns that nobody asks for are of no use, and those that
                // somebody asks for are refused by their type.
                MessageHeader::DictionaryBatch => {}
                other => {
                    let what = format!("a message of type {:?}", other.variant_name());
                    return Err(IpcError::Malformed(what));
                }
            }
        }
        let schema = schema.ok_or(IpcError::NoSchema)?;
        self.schema = Some(Arc::clone(&schema));
        Ok(Accepted { schema, brings_schema, rows, batches })
    }
}

impl Accepted {
    /// Decodes the columns with these indexes.
    ///
    /// # Errors
    /// [`IpcError::Malformed`].
    pub fn decode(&self, projection: &[usize]) -> Result<Vec<RecordBatch>, IpcError> {
        self.batches.iter().map(|frame| frame.decode(&self.schema, projection)).collect()
    }
}
