//! Records as a producer has them, before the catalog's roles make facts of them.

use std::fmt;
use std::sync::Arc;

use millrace_types::{Sequence, Value};

/// A record of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRecord {
    /// The stream's name.
    pub stream: Arc<str>,
    /// Who sends it.
    pub producer: Arc<str>,
    /// The number its producer gave it.
    pub sequence: Sequence,
    /// The names of the values, shared between the records of a stream.
    pub names: Arc<[String]>,
    /// One value for each name.
    pub values: Vec<Value>,
}

impl RawRecord {
    /// The value of a field; NULL when the record does not name it.
    #[must_use]
    pub fn get(&self, name: &str) -> &Value {
        self.names
            .iter()
            .position(|n| n == name)
            .and_then(|i| self.values.get(i))
            .unwrap_or(&Value::Null)
    }

    /// Sets the value of a field that the record names.
    ///
    /// # Panics
    /// When the record does not name the field.
    pub fn set(&mut self, name: &str, value: Value) {
        let index = self.names.iter().position(|n| n == name);
        self.values[index.expect("the record names the field")] = value;
    }
}

/// `stream producer/sequence {name: value, …}`, without the NULLs.
impl fmt::Display for RawRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{} {{", self.stream, self.producer, self.sequence.0)?;
        let present = self.names.iter().zip(&self.values).filter(|(_, v)| **v != Value::Null);
        for (i, (name, value)) in present.enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            write!(f, "{name}: ")?;
            match value {
                Value::Null => f.write_str("null")?,
                Value::Bool(v) => write!(f, "{v}")?,
                Value::Int64(v) => write!(f, "{v}")?,
                Value::Double(v) => write!(f, "{v:?}")?,
                Value::String(v) => write!(f, "{v:?}")?,
                Value::Bytes(v) => write!(f, "bytes {v:02x?}")?,
                Value::Timestamp(v) => write!(f, "{v} ({})", v.0)?,
            }
        }
        f.write_str("}")
    }
}

/// Consecutive records of one producer and stream with consecutive sequences. A request covers the
/// sequences from its first to its last, holes included; a number it leaves out must not come later,
/// and in a shuffled history it does.
#[must_use]
pub fn requests(records: &[RawRecord]) -> Vec<&[RawRecord]> {
    let follows = |a: &RawRecord, b: &RawRecord| {
        a.stream == b.stream
            && a.producer == b.producer
            && a.sequence.0.checked_add(1) == Some(b.sequence.0)
    };
    records.chunk_by(follows).collect()
}
