//! The spine of a training set: what of it was sent, and what is not answered yet.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::arrow::{ArrowEncodeError, ArrowEncoder};
use crate::error::ClientError;
use crate::publisher::Payload;

/// Rows sent in a message at most.
const MESSAGE_ROWS: usize = 16_384;
/// Bytes that these rows take in memory at most, unless it is one: half of what a server takes in a
/// message, where they take about as much.
const MESSAGE_BYTES: usize = 512 * 1024;

/// The rows that a training set is asked for.
#[derive(Debug)]
pub struct TrainingSpine {
    /// Record batches of one schema, which are taken as fast as the server takes them.
    pub rows: mpsc::Receiver<RecordBatch>,
    /// The columns that name a row to the server: those of its keys, and `at`. The others are not sent:
    /// they wait here for the answer to their row.
    pub named_by: Vec<String>,
}

/// Sends a spine and keeps its rows until they are answered.
#[derive(Debug)]
pub(super) struct Spine {
    /// The rest of it; `None` once it ended.
    rest: Option<mpsc::Receiver<RecordBatch>>,
    named_by: Vec<String>,
    /// Rows that were taken and not answered, each batch as large as a message.
    waiting: VecDeque<RecordBatch>,
    /// How many of these batches were sent on this call.
    sent: usize,
    /// Of this call, once something was sent.
    encoder: Option<ArrowEncoder>,
    /// Rows that were answered.
    answered: u64,
}

fn unsendable(rule: &impl ToString) -> ClientError {
    ClientError::InvalidBatch { field: "spine", rule: rule.to_string() }
}

impl Spine {
    pub(super) fn new(of: TrainingSpine) -> Self {
        Self {
            rest: Some(of.rows),
            named_by: of.named_by,
            waiting: VecDeque::new(),
            sent: 0,
            encoder: None,
            answered: 0,
        }
    }

    /// A new call begins, which is sent every row again that was not answered. Gives how many were.
    pub(super) fn restart(&mut self) -> u64 {
        self.sent = 0;
        self.encoder = None;
        self.answered
    }

    /// Whether rows were taken that were not sent on this call.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.waiting.len()
    }

    /// Whether this call was sent all there is.
    pub(super) fn is_sent(&self) -> bool {
        self.rest.is_none() && !self.has_unsent()
    }

    /// The next rows; `None` where it ended. What it gives is to be taken in.
    pub(super) async fn next(&mut self) -> Option<RecordBatch> {
        match &mut self.rest {
            Some(rest) => rest.recv().await,
            None => None,
        }
    }

    /// Whether it goes on, as far as is known.
    pub(super) fn goes_on(&self) -> bool {
        self.rest.is_some()
    }

    /// Takes rows in, or the end.
    ///
    /// # Errors
    /// [`ClientError::InvalidBatch`] for columns whose size cannot be told.
    pub(super) fn take(&mut self, rows: Option<RecordBatch>) -> Result<(), ClientError> {
        let Some(rows) = rows else {
            self.rest = None;
            return Ok(());
        };
        let mut left = vec![rows];
        while let Some(rows) = left.pop() {
            let count = rows.num_rows();
            if count > 1 && (count > MESSAGE_ROWS || self.message_bytes(&rows)? > MESSAGE_BYTES) {
                let half = count / 2;
                left.push(rows.slice(half, count - half));
                left.push(rows.slice(0, half));
            } else if count > 0 {
                self.waiting.push_back(rows);
            }
        }
        Ok(())
    }

    /// The message with the oldest rows that were not sent on this call, which are sent with it.
    ///
    /// # Errors
    /// [`ClientError::InvalidBatch`] for columns that cannot be sent.
    pub(super) fn message(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(rows) = self.waiting.get(self.sent) else { return Ok(None) };
        let rows = self.naming(rows)?;
        let first = self.encoder.is_none();
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => {
                let encoder = ArrowEncoder::try_new(rows.schema_ref());
                none.insert(encoder.map_err(|e| unsendable(&e))?)
            }
        };
        let payload = encoder.encode(&rows).map_err(|e: ArrowEncodeError| unsendable(&e))?;
        self.sent += 1;
        Ok(match payload {
            Payload::Arrow { schema, batches, .. } if first => {
                Some([schema.as_ref(), batches.as_ref()].concat().into())
            }
            Payload::Arrow { batches, .. } => Some(batches),
            Payload::None | Payload::Rows(_) => None,
        })
    }

    /// The oldest rows, so many of which were answered: they wait no longer.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] where fewer were sent.
    pub(super) fn answered(&mut self, rows: usize) -> Result<RecordBatch, ClientError> {
        let mut parts = Vec::new();
        let mut left = rows;
        while left > 0 {
            let first = if self.sent > 0 { self.waiting.pop_front() } else { None };
            let Some(first) = first else {
                let what = "more rows than it was asked for".to_owned();
                return Err(ClientError::Protocol(what));
            };
            let taken = left.min(first.num_rows());
            parts.push(first.slice(0, taken));
            left -= taken;
            if taken < first.num_rows() {
                self.waiting.push_front(first.slice(taken, first.num_rows() - taken));
            } else {
                self.sent -= 1;
            }
        }
        self.answered += rows as u64;
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(ClientError::Protocol("rows without any".to_owned())),
            [first, ..] => {
                let schema = first.schema();
                arrow_select::concat::concat_batches(&schema, &parts).map_err(|e| unsendable(&e))
            }
        }
    }

    /// The columns of rows that name them. One that is missing is the server's to tell of.
    fn naming(&self, rows: &RecordBatch) -> Result<RecordBatch, ClientError> {
        let fields = rows.schema_ref().fields().iter().enumerate();
        let named = fields.filter(|(_, field)| self.named_by.contains(field.name()));
        let places: Vec<usize> = named.map(|(place, _)| place).collect();
        rows.project(&places).map_err(|e| unsendable(&e))
    }

    /// The bytes that rows take in a message, about.
    fn message_bytes(&self, rows: &RecordBatch) -> Result<usize, ClientError> {
        let rows = self.naming(rows)?;
        let bytes = rows.columns().iter().map(|c| c.to_data().get_slice_memory_size());
        bytes.sum::<Result<_, ArrowError>>().map_err(|e| unsendable(&e))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use arrow_ipc::reader::StreamReader;

    use super::*;

    fn spine() -> Spine {
        let (_, rows) = mpsc::channel(1);
        Spine::new(TrainingSpine { rows, named_by: vec!["user".to_owned(), "at".to_owned()] })
    }

    /// So many rows with keys and labels of these lengths.
    fn rows(count: usize, key: usize, label: usize) -> RecordBatch {
        let text = |row: usize, length: usize| format!("{row}{}", "x".repeat(length));
        let keys = (0..count).map(|row| text(row, key));
        let labels = (0..count).map(|row| text(row, label));
        let columns: [(&str, ArrayRef); 3] = [
            ("label", Arc::new(StringArray::from_iter_values(labels))),
            ("user", Arc::new(StringArray::from_iter_values(keys))),
            ("at", Arc::new(Int64Array::from_iter_values(0..count as i64))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// All messages of a call, and the rows in them.
    fn messages(spine: &mut Spine) -> (Vec<Bytes>, RecordBatch) {
        let mut messages = Vec::new();
        while spine.has_unsent() {
            messages.push(spine.message().unwrap().unwrap());
        }
        let whole = messages.concat();
        let reader = StreamReader::try_new(whole.as_slice(), None).unwrap();
        let schema = reader.schema();
        let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap();
        (messages, arrow_select::concat::concat_batches(&schema, &batches).unwrap())
    }

    /// A server takes messages of 1 MiB: rows whose labels alone are more were refused.
    #[test]
    fn wide_rows_are_sent_without_what_names_no_row() {
        let mut spine = spine();
        let given = rows(2_000, 8, 1_000);
        spine.take(Some(given.clone())).unwrap();
        let (messages, sent) = messages(&mut spine);
        assert_eq!(messages.len(), 1);
        assert!(messages[0].len() < 100_000, "{} bytes", messages[0].len());
        assert_eq!(sent, given.project(&[1, 2]).unwrap());
        assert_eq!(spine.answered(2_000).unwrap(), given, "labels stay with their rows");
    }

    #[test]
    fn long_keys_are_sent_in_messages_of_a_bounded_size() {
        let mut spine = spine();
        let given = rows(16_384, 250, 1);
        spine.take(Some(given.clone())).unwrap();
        let (messages, sent) = messages(&mut spine);
        let largest = messages.iter().map(Bytes::len).max().unwrap();
        assert!(largest <= 640 * 1024, "{largest} bytes");
        assert!(messages.len() >= 8, "{} messages", messages.len());
        assert_eq!(sent, given.project(&[1, 2]).unwrap());
        // What is answered does not end where messages do.
        let parts = [1, 5_000, 11_383].map(|rows| spine.answered(rows).unwrap());
        assert_eq!(arrow_select::concat::concat_batches(&given.schema(), &parts).unwrap(), given);
        assert!(spine.answered(1).is_err(), "no row is left");
    }

    #[test]
    fn a_row_is_sent_alone_however_long_it_is() {
        let mut spine = spine();
        spine.take(Some(rows(2, 2 << 20, 1))).unwrap();
        let (messages, _) = messages(&mut spine);
        assert_eq!(messages.len(), 2);
    }

    #[test]
    fn a_new_call_is_sent_what_was_not_answered() {
        let mut spine = spine();
        let given = rows(40_000, 8, 8);
        spine.take(Some(given.clone())).unwrap();
        let (first, _) = messages(&mut spine);
        assert_eq!(spine.answered(12_000).unwrap(), given.slice(0, 12_000));
        assert_eq!(spine.restart(), 12_000);
        spine.take(None).unwrap();
        assert!(!spine.is_sent());
        let (second, sent) = messages(&mut spine);
        assert!(spine.is_sent());
        assert!(second.len() <= first.len());
        assert_eq!(sent, given.project(&[1, 2]).unwrap().slice(12_000, 28_000));
    }

    #[test]
    fn answers_to_rows_that_were_not_sent_are_refused() {
        let mut spine = spine();
        spine.take(Some(rows(3, 1, 1))).unwrap();
        let refused = spine.answered(1).unwrap_err();
        assert!(matches!(refused, ClientError::Protocol(_)), "{refused}");
    }
}
