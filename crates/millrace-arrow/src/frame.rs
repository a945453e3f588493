//! One message of an Arrow IPC stream: metadata and body, split off the bytes and checked.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::RecordBatchDecoder;
use arrow_ipc::{Endianness, Message, MetadataVersion, root_as_message_with_opts};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use bytes::{Buf, Bytes};
use flatbuffers::VerifierOptions;
use millrace_types::limits::BATCH_FACTS_MAX;

use crate::{COLUMNS_MAX, IpcError, layout};

/// Greatest size of a message's metadata when every reference in it is followed, in bytes. A few
/// bytes can otherwise name the same table a million times.
const METADATA_APPARENT_MAX: usize = 2 << 20;
/// Greatest number of tables in a message's metadata, followed likewise.
const METADATA_TABLES_MAX: usize = 8 * COLUMNS_MAX;

/// A message: its metadata, a flatbuffer, and its body.
#[derive(Debug, Clone)]
pub struct Frame {
    metadata: Bytes,
    body: Bytes,
}

fn malformed(what: impl ToString) -> IpcError {
    IpcError::Malformed(what.to_string())
}

fn arrow(error: ArrowError) -> IpcError {
    IpcError::Malformed(error.to_string())
}

impl Frame {
    /// Splits the first message off `rest`; `None` at the end.
    ///
    /// # Errors
    /// [`IpcError`]: the bytes are no message.
    pub fn split(rest: &mut Bytes) -> Result<Option<Self>, IpcError> {
        let length = loop {
            if rest.is_empty() {
                return Ok(None);
            }
            // Writers older than Arrow 0.15 leave the continuation marker out.
            let marked = rest.starts_with(&[0xff; 4]);
            if marked {
                rest.advance(4);
            }
            if rest.len() < 4 {
                return Err(malformed("the bytes end inside the length of a message"));
            }
            match rest.get_u32_le() as usize {
                0 => {} // end of stream; another may follow
                length => break length,
            }
        };
        if length > rest.len() {
            return Err(malformed("the bytes end inside the metadata of a message"));
        }
        let metadata = rest.split_to(length);
        let mut frame = Self { metadata, body: Bytes::new() };
        let body = usize::try_from(frame.message()?.bodyLength());
        match body {
            Ok(body) if body <= rest.len() => frame.body = rest.split_to(body),
            _ => return Err(malformed("the bytes end inside the body of a message")),
        }
        Ok(Some(frame))
    }

    /// The verified metadata.
    ///
    /// # Errors
    /// [`IpcError`]: it is damaged, or of a version that is not supported.
    pub fn message(&self) -> Result<Message<'_>, IpcError> {
        let options = VerifierOptions {
            max_tables: METADATA_TABLES_MAX,
            max_apparent_size: METADATA_APPARENT_MAX,
            ..VerifierOptions::default()
        };
        let message = root_as_message_with_opts(&options, &self.metadata)
            .map_err(|_| malformed("the metadata of a message is damaged"))?;
        match message.version() {
            MetadataVersion::V4 | MetadataVersion::V5 => Ok(message),
            other => Err(malformed(format!("metadata version {} is not supported", other.0))),
        }
    }

    /// Checks every number in the metadata of a record batch against the body and gives the number
    /// of rows. What decodes the columns slices the body without looking.
    ///
    /// # Errors
    /// [`IpcError`]: a number does not fit the body, or the batch is larger than allowed or compressed.
    pub fn check_batch(&self, message: &Message<'_>) -> Result<usize, IpcError> {
        let batch = message
            .header_as_record_batch()
            .ok_or_else(|| malformed("a record batch has no header"))?;
        if batch.compression().is_some() {
            return Err(malformed("compressed bodies are not accepted; compress the call instead"));
        }
        let length = |n: i64| usize::try_from(n).ok();
        let rows = length(batch.length()).filter(|&n| n <= BATCH_FACTS_MAX);
        let rows = rows.ok_or_else(|| {
            malformed(format!(
                "a record batch of {} rows; at most {BATCH_FACTS_MAX} are allowed",
                batch.length()
            ))
        })?;
        let body = self.body.len();
        let fits = |offset: i64, len: i64| {
            let end = length(offset).zip(length(len)).and_then(|(o, l)| o.checked_add(l));
            end.is_some_and(|end| end <= body)
        };
        let buffers = batch.buffers().unwrap_or_default();
        if !buffers.iter().all(|b| fits(b.offset(), b.length())) {
            return Err(malformed("a buffer lies outside the body"));
        }
        let counted = |node: &arrow_ipc::FieldNode| {
            let (len, nulls) = (length(node.length()), length(node.null_count()));
            len.zip(nulls).is_some_and(|(len, nulls)| nulls <= len)
        };
        if !batch.nodes().unwrap_or_default().iter().all(counted) {
            return Err(malformed("a column counts more nulls than values"));
        }
        let variadic = batch.variadicBufferCounts().unwrap_or_default();
        if !variadic.iter().all(|n| length(n).is_some_and(|n| n <= buffers.len())) {
            return Err(malformed("a column counts more buffers than there are"));
        }
        Ok(rows)
    }

    /// Decodes these columns of a record batch that [`Frame::check_batch`] accepted.
    ///
    /// # Errors
    /// [`IpcError`]: a column does not decode.
    pub fn decode(
        &self,
        schema: &SchemaRef,
        projection: &[usize],
    ) -> Result<RecordBatch, IpcError> {
        let message = self.message()?;
        let batch = message
            .header_as_record_batch()
            .ok_or_else(|| malformed("a record batch has no header"))?;
        layout::check(schema, projection, &batch, message.version()).map_err(malformed)?;
        let body = Buffer::from(self.body.clone());
        let (none, version) = (HashMap::new(), message.version());
        RecordBatchDecoder::try_new(&body, batch, Arc::clone(schema), &none, &version)
            .and_then(|decoder| decoder.with_projection(Some(projection)).read_record_batch())
            .map_err(arrow)
    }
}

/// Reads the schema of a schema message.
///
/// # Errors
/// [`IpcError`]: it is damaged, or asks for what is not accepted.
pub fn schema(message: &Message<'_>) -> Result<SchemaRef, IpcError> {
    let schema =
        message.header_as_schema().ok_or_else(|| malformed("a schema message has no schema"))?;
    if schema.endianness() != Endianness::Little {
        return Err(malformed("big-endian data is not accepted"));
    }
    let columns = schema.fields().map_or(0, |fields| fields.len());
    if columns > COLUMNS_MAX {
        return Err(malformed(format!("{columns} columns; at most {COLUMNS_MAX} are allowed")));
    }
    // Its own metadata, such as what pandas leaves there, is of no use and may be large.
    try_fb_to_schema(schema).map(|schema| Arc::new(Schema::new(schema.fields))).map_err(arrow)
}
