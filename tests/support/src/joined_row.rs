//! An event together with the versions it meets.

use millrace_catalog::Source;
use millrace_types::{Micros, Value};

/// A joined row (semantics §1.5).
#[derive(Debug, Clone, PartialEq)]
pub struct JoinedRow {
    /// The id of the event.
    pub id: Vec<u8>,
    /// When the event happened.
    pub at: Micros,
    /// The event's source order.
    pub seq: u64,
    /// The event's values, one for each field of its stream.
    pub event: Vec<Value>,
    /// Per changelog of the view the values of the version at the event's own `at`; `None` where
    /// it is absent, because there is none or it is an END.
    pub joined: Vec<Option<Vec<Value>>>,
}

impl JoinedRow {
    /// The value of a field; NULL where the version is absent.
    #[must_use]
    pub fn field(&self, source: Source, field: usize) -> &Value {
        let values = match source {
            Source::Event => Some(&self.event),
            Source::Join(index) => self.joined[index].as_ref(),
        };
        values.and_then(|v| v.get(field)).unwrap_or(&Value::Null)
    }
}
