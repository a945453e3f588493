//! Following a view, across the end of calls, connections and servers.

use millrace_proto::v1;
use tonic::Streaming;

use crate::client::Client;
use crate::error::ClientError;
use crate::reach::Patience;

/// The changes of a view, batch by batch. A call that ends although there is more is begun again
/// after what was received last, without a record missing or coming twice: servers end calls at
/// their age, when they drain and when they fail.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    /// What the next call is begun with.
    request: v1::SubscribeRequest,
    /// The call, while there is one.
    answers: Option<Streaming<v1::SubscribeResponse>>,
    patience: Patience,
    /// The last watermark given, as seconds and nanoseconds.
    watermark: Option<(i64, i32)>,
    is_caught_up: bool,
}

impl Subscription {
    pub(crate) fn new(
        client: Client,
        request: v1::SubscribeRequest,
        answers: Streaming<v1::SubscribeResponse>,
        patience: Patience,
    ) -> Self {
        let answers = Some(answers);
        Self { client, request, answers, patience, watermark: None, is_caught_up: false }
    }

    /// The next batch; `None` at the end, which comes only with `until_idle`. Every change has the
    /// cursor that resumes right after it. Watermarks only grow. May be dropped while it waits
    /// without losing a batch.
    ///
    /// # Errors
    /// [`ClientError`]: a server that refuses to go on, or that cannot be reached for longer than
    /// [`reach_within`](crate::ClientOptions::reach_within). The caller resumes with the cursor of
    /// the record up to which it is done.
    pub async fn next(&mut self) -> Result<Option<v1::SubscribeResponse>, ClientError> {
        loop {
            let error = match self.message().await {
                Ok(Some(batch)) => return Ok(Some(self.take(batch))),
                Ok(None) if self.is_caught_up && self.request.until_idle => return Ok(None),
                Ok(None) => ClientError::Broken { reason: "the server ended it".to_owned() },
                Err(error) => error,
            };
            self.answers = None;
            if !error.is_retryable() {
                return Err(error);
            }
            let role = self.client.join();
            tracing::info!(view = self.request.view, %error, "the changelog ended, it is resumed");
            self.patience.pause(role, error).await?;
        }
    }

    async fn message(&mut self) -> Result<Option<v1::SubscribeResponse>, ClientError> {
        let answers = match &mut self.answers {
            Some(answers) => answers,
            none => none.insert(self.client.open_subscription(&self.request).await?),
        };
        let (role, limit) = (self.client.join(), self.client.call_timeout());
        answers.message().await.map_err(|status| ClientError::of(&status, role, limit))
    }

    /// Completes a batch, and remembers to go on after it.
    fn take(&mut self, mut batch: v1::SubscribeResponse) -> v1::SubscribeResponse {
        use v1::change::Kind;
        use v1::subscribe_request::From;

        if !batch.changes.is_empty() {
            // The service did something: what went wrong before is past.
            self.patience.renew();
        }
        fill_cursors(&mut batch.changes);
        // A call that was resumed tells the watermark again.
        batch.changes.retain(|change| match &change.kind {
            Some(Kind::Watermark(at)) => {
                let at = Some((at.seconds, at.nanos));
                let is_new = at > self.watermark;
                self.watermark = self.watermark.max(at);
                is_new
            }
            Some(Kind::CaughtUp(v1::CaughtUp {})) => {
                self.is_caught_up = true;
                true
            }
            Some(Kind::Row(_) | Kind::Erased(_)) | None => true,
        });
        let last = batch.changes.last().map(|change| &change.cursor);
        if let Some(cursor) = last.or(Some(&batch.cursor)).filter(|cursor| !cursor.is_empty()) {
            self.request.from = Some(From::Cursor(cursor.clone()));
        }
        batch
    }
}

/// Gives every change the cursor that resumes right after it.
fn fill_cursors(changes: &mut [v1::Change]) {
    let mut last = String::new();
    for change in changes {
        if !change.cursor.is_empty() {
            last.clone_from(&change.cursor);
        }
        change.cursor.clone_from(&last);
        // An older server numbers no rows: its cursors stand for whole chunks.
        if change.of_chunk > 0 {
            change.cursor.push_str(&format!("#{}", change.of_chunk));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stands_for_the_records_behind_it() {
        let change = |(cursor, of_chunk): (&str, u64)| v1::Change {
            cursor: cursor.to_owned(),
            kind: None,
            of_chunk,
        };
        let mut changes = [("a", 0), ("", 0), ("b", 7), ("", 8), ("c", 1), ("d", 0)].map(change);
        fill_cursors(&mut changes);
        assert_eq!(changes.map(|c| c.cursor), ["a", "a", "b#7", "b#8", "c#1", "d"]);
    }
}
