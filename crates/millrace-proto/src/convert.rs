//! Conversions between the messages of `millrace.v1` and `millrace-types`.
//!
//! What goes out cannot fail (`From`, or a function where neither type is ours). What comes in is
//! checked (`TryFrom`), and a [`ConvertError`] names the field by its path in the message.

mod error;
mod key;
mod request;
mod row;
mod time;
mod value;
mod verdict;

pub use error::{ConvertError, Rule};
pub use key::key_parts;
pub use row::id_text;
pub use time::{from_timestamp, known_at_timestamp, to_timestamp};
