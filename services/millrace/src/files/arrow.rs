//! Arrow files, which are Feather files of version 2: record batch by record batch, compressed or not.
//!
//! The library that decodes them makes room for what a file says before it looks at what is there. So a file
//! is read here: no block is larger than the file, and no buffer inflates to more than [`BUFFER_BYTES_MAX`].

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, Endianness, MessageHeader, root_as_footer, root_as_message};
use arrow_schema::{ArrowError, SchemaRef};

use super::guard::guarded;

/// Bytes of a buffer once it is inflated.
const BUFFER_BYTES_MAX: i64 = 512 << 20;
/// The footer's length and the magic bytes.
const TRAILER_BYTES: u64 = 10;
/// What begins a message, unless its writer is older than Arrow 0.15.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// An Arrow file whose footer and dictionaries were read.
pub(crate) struct ArrowFile {
    file: File,
    length: u64,
    schema: SchemaRef,
    decoder: FileDecoder,
    batches: std::vec::IntoIter<Block>,
}

impl ArrowFile {
    /// Reads the footer and the dictionaries.
    ///
    /// # Errors
    /// [`ArrowError`]: it is no Arrow file, or a damaged one.
    pub(crate) fn open(file: File) -> Result<Self, ArrowError> {
        guarded(|| Self::read_footer(file), ArrowError::IpcError)
    }

    fn read_footer(mut file: File) -> Result<Self, ArrowError> {
        let length = file.metadata()?.len();
        let is_none = || ArrowError::IpcError("it is not an Arrow file".to_owned());
        let before = length.checked_sub(TRAILER_BYTES).ok_or_else(is_none)?;
        let mut trailer = [0; TRAILER_BYTES as usize];
        file.seek(SeekFrom::Start(before))?;
        file.read_exact(&mut trailer)?;
        let footer_length = read_footer_length(trailer)?;
        let start =
            before.checked_sub(footer_length as u64).ok_or_else(|| ends_before("footer"))?;
        let mut footer = vec![0; footer_length];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut footer)?;
        let footer = root_as_footer(&footer)
            .map_err(|e| ArrowError::ParseError(format!("its footer is damaged: {e}")))?;
        let schema = footer.schema().ok_or_else(is_none)?;
        if schema.endianness() != Endianness::Little {
            return Err(ArrowError::IpcError("its numbers are big-endian".to_owned()));
        }
        let schema = Arc::new(try_fb_to_schema(schema)?);
        let blocks = footer.recordBatches().map(|blocks| blocks.iter().copied().collect());
        let batches: Vec<Block> = blocks.unwrap_or_default();
        let mut decoder = FileDecoder::new(Arc::clone(&schema), footer.version());
        for block in footer.dictionaries().iter().flatten() {
            decoder.read_dictionary(block, &read_block(&mut file, length, block)?)?;
        }
        Ok(Self { file, length, schema, decoder, batches: batches.into_iter() })
    }

    /// The columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        for block in self.batches.by_ref() {
            let bytes = read_block(&mut self.file, self.length, &block)?;
            if let Some(batch) = self.decoder.read_record_batch(&block, &bytes)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

impl Iterator for ArrowFile {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        guarded(|| self.next_batch(), ArrowError::IpcError).transpose()
    }
}

fn ends_before(what: &str) -> ArrowError {
    ArrowError::IpcError(format!("the file is damaged: it ends inside a {what}"))
}

/// Reads a message and its body.
fn read_block(file: &mut File, length: u64, block: &Block) -> Result<Buffer, ArrowError> {
    let number = |n: i64| u64::try_from(n).ok();
    let [start, metadata, body] =
        [block.offset(), i64::from(block.metaDataLength()), block.bodyLength()].map(number);
    let bytes = metadata.zip(body).and_then(|(metadata, body)| metadata.checked_add(body));
    let (start, bytes) = start
        .zip(bytes)
        .filter(|(start, bytes)| start.checked_add(*bytes).is_some_and(|end| end <= length))
        .ok_or_else(|| ends_before("record batch"))?;
    let mut buffer = MutableBuffer::from_len_zeroed(bytes as usize);
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut buffer)?;
    check_inflated(&buffer, block.metaDataLength() as usize)?;
    Ok(buffer.into())
}

/// Refuses buffers that inflate to too much: a compressed one begins with the bytes that it takes then.
fn check_inflated(block: &[u8], metadata: usize) -> Result<(), ArrowError> {
    let (message, body) = block.split_at(metadata);
    let prefix = if message.starts_with(&CONTINUATION) { 8 } else { 4 };
    let message = root_as_message(message.get(prefix..).unwrap_or_default())
        .map_err(|e| ArrowError::ParseError(format!("a message of it is damaged: {e}")))?;
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => {
            message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data())
        }
        _ => None,
    };
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return Ok(()) };
    for buffer in batch.buffers().iter().flatten() {
        let begins = usize::try_from(buffer.offset()).ok().and_then(|start| body.get(start..));
        let inflated = begins.and_then(<[u8]>::first_chunk).map_or(0, |n| i64::from_le_bytes(*n));
        if inflated > BUFFER_BYTES_MAX {
            let why = format!(
                "a column of {inflated} bytes in one record batch is too large: at most \
                 {BUFFER_BYTES_MAX} are read at a time"
            );
            return Err(ArrowError::IpcError(why));
        }
    }
    Ok(())
}
