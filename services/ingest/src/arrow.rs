//! Facts in Arrow IPC stream format. The bytes come from outside, so nothing in them is believed.
//!
//! A payload is read in two steps. [`ArrowStreams::accept`] splits it into messages, keeps the
//! schema of each stream of a call and checks every number in the metadata against the bytes that
//! are there. [`ArrowPayload::columns`] then decodes, with full validation, the columns that a
//! version of the catalog names, and no others; it runs again when the catalog changed meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use bytes::Bytes;
use millrace_arrow::{Accepted, IpcError, IpcStream};
use millrace_catalog::Stream;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Greatest number of streams whose schemas one call may keep.
pub const SCHEMAS_MAX: usize = 64;

/// What is wrong with a payload as a whole; nothing of it is sent on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// The bytes are no Arrow IPC stream.
    #[error("not an Arrow IPC stream: {0}")]
    Malformed(String),
    /// Record batches came before a schema.
    #[error("the first payload of a stream on a call starts with the schema")]
    NoSchema,
    /// More streams on one call than are kept.
    #[error("a call carries the schemas of at most {SCHEMAS_MAX} streams")]
    TooManySchemas,
    /// A column the catalog names is not there.
    #[error("column {0:?} is missing; the catalog names it")]
    MissingColumn(String),
    /// A column the catalog names is there twice.
    #[error("column {0:?} is there more than once")]
    RepeatedColumn(String),
    /// A column's type does not fit the field's.
    #[error("column {name:?} is {found}, the field is {wants}; nothing is converted")]
    ColumnType {
        /// The column.
        name: String,
        /// The field's type.
        wants: &'static str,
        /// The column's type.
        found: String,
    },
    /// The facts take much more room than the payload: views that repeat the same bytes.
    #[error("the facts of the batch take more than {0} bytes when written out; split it")]
    TooLarge(usize),
}

impl PayloadError {
    /// The path in the request of what is to blame.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Self::Malformed(_) | Self::NoSchema | Self::TooManySchemas | Self::TooLarge(_) => {
                "arrow_ipc".to_owned()
            }
            Self::MissingColumn(name)
            | Self::RepeatedColumn(name)
            | Self::ColumnType { name, .. } => format!("arrow_ipc.{name}"),
        }
    }
}

/// The schemas of the streams of one call, by the stream's name.
#[derive(Debug, Default)]
pub struct ArrowStreams {
    schemas: HashMap<String, SchemaRef>,
}

/// A checked payload: its schema and its record batches, not decoded yet.
#[derive(Debug, Clone)]
pub struct ArrowPayload(Accepted);

impl From<IpcError> for PayloadError {
    fn from(error: IpcError) -> Self {
        match error {
            IpcError::Malformed(what) => Self::Malformed(what),
            IpcError::NoSchema => Self::NoSchema,
        }
    }
}

impl ArrowStreams {
    /// Takes the next payload of a stream. One that starts with a schema replaces the stream's.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub fn accept(&mut self, stream: &str, payload: Bytes) -> Result<ArrowPayload, PayloadError> {
        let mut of_stream = IpcStream::of(self.schemas.get(stream).cloned());
        let accepted = of_stream.accept(payload)?;
        if accepted.brings_schema {
            if !self.schemas.contains_key(stream) && self.schemas.len() == SCHEMAS_MAX {
                return Err(PayloadError::TooManySchemas);
            }
            self.schemas.insert(stream.to_owned(), Arc::clone(&accepted.schema));
        }
        Ok(ArrowPayload(accepted))
    }
}

impl ArrowPayload {
    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.0.rows
    }

    /// Decodes the columns that `stream` names, in the order of its fields.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub fn columns(&self, stream: &Stream) -> Result<Vec<RecordBatch>, PayloadError> {
        let projection = stream
            .fields
            .iter()
            .map(|field| self.column(&field.name))
            .collect::<Result<Vec<_>, _>>()?;
        for (field, &index) in stream.fields.iter().zip(&projection) {
            let found = self.0.schema.field(index).data_type();
            if !crate::columns::accepts(field, found) {
                return Err(PayloadError::ColumnType {
                    name: field.name.clone(),
                    wants: field.ty.name(),
                    found: type_name(found),
                });
            }
        }
        Ok(self.0.decode(&projection)?)
    }

    fn column(&self, name: &str) -> Result<usize, PayloadError> {
        let mut found =
            self.0.schema.fields().iter().enumerate().filter(|(_, field)| field.name() == name);
        match (found.next(), found.next()) {
            (None, _) => Err(PayloadError::MissingColumn(name.to_owned())),
            (Some((index, _)), None) => Ok(index),
            (Some(_), Some(_)) => Err(PayloadError::RepeatedColumn(name.to_owned())),
        }
    }
}

/// An Arrow type for a message, without the nested fields that may be arbitrarily long.
fn type_name(found: &DataType) -> String {
    let full = found.to_string();
    match full.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &full[..end]),
        None => full,
    }
}
