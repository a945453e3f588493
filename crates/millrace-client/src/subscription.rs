//! Following a view.

use std::time::Duration;

use millrace_proto::v1;
use tonic::Streaming;

use crate::error::ClientError;

/// The changes of a view, batch by batch.
#[derive(Debug)]
pub struct Subscription {
    answers: Streaming<v1::SubscribeResponse>,
    limit: Duration,
}

impl Subscription {
    pub(crate) fn new(answers: Streaming<v1::SubscribeResponse>, limit: Duration) -> Self {
        Self { answers, limit }
    }

    /// The next batch; `None` at the end, which comes only with `until_idle`. Every change has its
    /// cursor, also where the message leaves out one that is equal to the one before. May be
    /// dropped while it waits without losing a batch.
    ///
    /// # Errors
    /// [`ClientError`]. The caller resumes with the cursor of a record up to which it is done.
    pub async fn next(&mut self) -> Result<Option<v1::SubscribeResponse>, ClientError> {
        match self.answers.message().await {
            Ok(Some(mut batch)) => {
                fill_cursors(&mut batch.changes);
                Ok(Some(batch))
            }
            Ok(None) => Ok(None),
            Err(status) => Err(ClientError::of(&status, self.limit)),
        }
    }
}

fn fill_cursors(changes: &mut [v1::Change]) {
    let mut last = String::new();
    for change in changes {
        if change.cursor.is_empty() {
            change.cursor.clone_from(&last);
        } else {
            last.clone_from(&change.cursor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stands_for_the_records_behind_it() {
        let change = |cursor: &str| v1::Change { cursor: cursor.to_owned(), kind: None };
        let mut changes = ["a", "", "", "b", ""].map(change);
        fill_cursors(&mut changes);
        assert_eq!(changes.map(|c| c.cursor), ["a", "a", "a", "b", "b"]);
    }
}
