//! The messages of internal hops (`store.proto`, and the internal calls of `join.proto`) and what
//! they stand for, both ways. Both ends of a hop convert here, so that neither sees the other's words.

pub mod credits;
pub mod join;
pub mod store;

use millrace_grpc::{Coded, ErrorCode, Fault};
use millrace_proto::v1;
use millrace_types::Position;
use thiserror::Error;

/// Bytes of facts, chunks or parts after which a message of a hop takes no more; with one more of
/// them, at most a MiB each, it stays below the 4 MiB that servers take.
pub const MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// A message of a hop that no service of this version sends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {rule}")]
pub struct Malformed {
    /// The field.
    pub field: &'static str,
    /// What it must be.
    pub rule: String,
}

impl Malformed {
    pub(crate) fn new(field: &'static str, rule: impl Into<String>) -> Self {
        Self { field, rule: rule.into() }
    }
}

impl Coded for Malformed {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidArgument
    }

    fn describe(&self, fault: Fault) -> Fault {
        fault.violation(self.field, self.rule.clone())
    }
}

pub(crate) fn position(
    from: Option<v1::LogPosition>,
    field: &'static str,
) -> Result<Position, Malformed> {
    from.map(Into::into).ok_or_else(|| Malformed::new(field, "must be set"))
}

/// Splits items into runs of about [`MESSAGE_BYTES`], at least one item each, in order.
pub fn split<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    let mut sum = 0;
    for item in items {
        let size = bytes(&item);
        match runs.last_mut() {
            Some(run) if sum + size <= MESSAGE_BYTES => run.push(item),
            Some(_) | None => {
                runs.push(vec![item]);
                sum = 0;
            }
        }
        sum += size;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_keep_the_order_and_the_bound() {
        let items = vec![MESSAGE_BYTES, 1, MESSAGE_BYTES - 1, 1, 5 * MESSAGE_BYTES, 2];
        let runs = split(items.clone(), |size| *size);
        assert_eq!(runs.concat(), items);
        let over = |run: &&Vec<usize>| run.len() > 1 && run.iter().sum::<usize>() > MESSAGE_BYTES;
        assert_eq!(runs.iter().find(over), None);
        assert_eq!(runs.len(), 5);
        assert!(split(Vec::<usize>::new(), |size| *size).is_empty());
    }
}
