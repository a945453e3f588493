//! Arrow IPC stream format from outside: nothing in it is believed. Messages are split off the bytes
//! ([`Frame::split`]), every number in their metadata is checked against the bytes that are there
//! ([`Frame::check_batch`]), and the columns that are wanted are decoded with full validation
//! ([`Frame::decode`]). The library that decodes panics, or reserves what the sender says, without.

mod frame;
mod layout;
mod stream;

use thiserror::Error;

pub use frame::{Frame, schema};
pub use stream::{Accepted, IpcStream};

/// Greatest number of columns of a schema.
pub const COLUMNS_MAX: usize = 1024;

/// Bytes that are no Arrow IPC stream, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IpcError {
    /// They are none.
    #[error("not an Arrow IPC stream: {0}")]
    Malformed(String),
    /// A record batch came before the schema.
    #[error("the first payload of a stream starts with the schema")]
    NoSchema,
}
