//! Training sets, across the end of calls, connections and servers.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use millrace_proto::v1;
use millrace_proto::v1::get_training_set_request::Part as Ask;
use millrace_proto::v1::get_training_set_response::Part;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::arrow::{ArrowEncodeError, ArrowEncoder};
use crate::client::Client;
use crate::error::ClientError;
use crate::publisher::Payload;
use crate::reach::Patience;

/// Rows of the spine sent in a message at most.
const MESSAGE_ROWS: usize = 16_384;
/// Messages handed to the transport and not taken by it yet.
const AHEAD: usize = 2;

/// Rows of a training set.
#[derive(Debug)]
pub struct TrainingRows {
    /// The rows of the spine, as they were given; `None` where the rows are events.
    pub spine: Option<RecordBatch>,
    /// Their features; where the rows are events, what names them first.
    pub features: RecordBatch,
}

/// One call.
#[derive(Debug)]
struct Call {
    /// Closed once the spine was sent.
    to: Option<mpsc::Sender<v1::GetTrainingSetRequest>>,
    answers: Streaming<v1::GetTrainingSetResponse>,
    decoder: StreamDecoder,
    encoder: Option<ArrowEncoder>,
    /// Of the rows that wait for their answer, how many batches were sent on this call.
    sent: usize,
}

/// A training set that is being read. A call that ends although there is more is begun again behind
/// the rows received last, under the same version.
#[derive(Debug)]
pub struct TrainingSet {
    client: Client,
    start: v1::TrainingSetStart,
    /// The rest of the spine; `None` once it ended, or where there is none.
    spine: Option<mpsc::Receiver<RecordBatch>>,
    /// Rows of the spine that were taken and not answered.
    waiting: VecDeque<RecordBatch>,
    call: Option<Call>,
    header: Option<v1::TrainingSetHeader>,
    summary: Option<v1::TrainingSetSummary>,
    patience: Patience,
    resumed: bool,
}

/// What comes next.
enum Next {
    /// A part of the answer, or its end.
    Answer(Box<Result<Option<v1::GetTrainingSetResponse>, tonic::Status>>),
    /// The spine goes on, or ended.
    Spine(Option<RecordBatch>),
    /// There is room for another message.
    Room,
}

fn damaged(error: &ArrowError) -> ClientError {
    ClientError::Protocol(format!("rows that do not decode: {error}"))
}

fn unsendable(error: &ArrowEncodeError) -> ClientError {
    ClientError::InvalidBatch { field: "spine", rule: error.to_string() }
}

impl TrainingSet {
    pub(crate) fn new(
        client: Client,
        start: v1::TrainingSetStart,
        spine: Option<mpsc::Receiver<RecordBatch>>,
        patience: Patience,
    ) -> Self {
        Self {
            client,
            start,
            spine,
            waiting: VecDeque::new(),
            call: None,
            header: None,
            summary: None,
            patience,
            resumed: false,
        }
    }

    /// What the set is made under; there once rows were asked for.
    #[must_use]
    pub fn header(&self) -> Option<&v1::TrainingSetHeader> {
        self.header.as_ref()
    }

    /// What is to be said about the whole set; there once it ended. Of a set that was resumed it tells
    /// of the rows since.
    #[must_use]
    pub fn summary(&self) -> Option<&v1::TrainingSetSummary> {
        self.summary.as_ref()
    }

    /// Whether a call broke, and the set went on with another.
    #[must_use]
    pub fn was_resumed(&self) -> bool {
        self.resumed
    }

    /// The schema of [`TrainingRows::features`]; there once rows were asked for.
    #[must_use]
    pub fn schema(&self) -> Option<SchemaRef> {
        self.call.as_ref().and_then(|call| call.decoder.schema())
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError`]: a server that refuses, or that cannot be reached for longer than
    /// [`reach_within`](crate::ClientOptions::reach_within).
    pub async fn next(&mut self) -> Result<Option<TrainingRows>, ClientError> {
        loop {
            if self.summary.is_some() {
                return Ok(None);
            }
            let error = match self.step().await {
                Ok(Some(rows)) => return Ok(Some(rows)),
                Ok(None) => continue,
                Err(error) => error,
            };
            self.call = None;
            if self.header.is_none() || !error.is_retryable() {
                self.patience.wait(self.client.serving(), error).await?;
                continue;
            }
            tracing::info!(%error, "the training set broke off, it is resumed");
            self.resumed = true;
            self.patience.pause(self.client.serving(), error).await?;
        }
    }

    /// Sends or takes one thing.
    async fn step(&mut self) -> Result<Option<TrainingRows>, ClientError> {
        if self.call.is_none() {
            self.call = Some(self.begin().await?);
        }
        let Some(call) = &mut self.call else { return Ok(None) };
        let unsent = call.sent < self.waiting.len();
        let spine = &mut self.spine;
        let next = tokio::select! {
            biased;
            answer = call.answers.message() => Next::Answer(Box::new(answer)),
            Some(room) = room(call.to.as_ref()), if unsent => {
                if room { Next::Room } else { Next::Answer(Box::new(call.answers.message().await)) }
            }
            more = more(spine.as_mut()), if !unsent && spine.is_some() => Next::Spine(more),
        };
        match next {
            Next::Answer(answer) => self.take(*answer),
            Next::Spine(Some(batch)) => {
                let cuts = (0..batch.num_rows()).step_by(MESSAGE_ROWS);
                let cut = |from| batch.slice(from, MESSAGE_ROWS.min(batch.num_rows() - from));
                self.waiting.extend(cuts.map(cut));
                Ok(None)
            }
            Next::Spine(None) => {
                self.spine = None;
                call.to = None;
                Ok(None)
            }
            Next::Room => self.send(),
        }
    }

    /// Sends the oldest rows that were not sent on this call.
    fn send(&mut self) -> Result<Option<TrainingRows>, ClientError> {
        let Some(call) = &mut self.call else { return Ok(None) };
        let Some(batch) = self.waiting.get(call.sent) else { return Ok(None) };
        let first = call.encoder.is_none();
        let encoder = match &mut call.encoder {
            Some(encoder) => encoder,
            none => {
                let encoder = ArrowEncoder::try_new(batch.schema_ref());
                none.insert(encoder.map_err(|e| unsendable(&e))?)
            }
        };
        let payload = encoder.encode(batch);
        let payload = payload.map_err(|e| unsendable(&e))?;
        if let Payload::Arrow { schema, batches, .. } = payload {
            let bytes: Bytes =
                if first { [schema.as_ref(), batches.as_ref()].concat().into() } else { batches };
            let message = v1::GetTrainingSetRequest { part: Some(Ask::SpineArrowIpc(bytes)) };
            // There is room; a call that ended says why with its answer.
            if let Some(to) = &call.to {
                let _ = to.try_send(message);
            }
        }
        call.sent += 1;
        if self.spine.is_none() && call.sent == self.waiting.len() {
            call.to = None;
        }
        Ok(None)
    }

    fn take(
        &mut self,
        answer: Result<Option<v1::GetTrainingSetResponse>, tonic::Status>,
    ) -> Result<Option<TrainingRows>, ClientError> {
        let (role, limit) = (self.client.serving(), self.client.call_timeout());
        let answer = answer.map_err(|status| ClientError::of(&status, role, limit))?;
        let part = answer.and_then(|answer| answer.part);
        let part = part.ok_or_else(|| ClientError::Broken {
            reason: "the server ended it before its end".to_owned(),
        })?;
        match part {
            Part::Header(header) => {
                self.decode(&header.schema_arrow_ipc)?;
                self.start.version.clone_from(&header.version);
                self.header.get_or_insert(header);
                Ok(None)
            }
            Part::Rows(rows) => {
                let features = self.decode(&rows.arrow_ipc)?;
                self.patience.renew();
                self.start.cursor = rows.cursor;
                let Some(features) = features else { return Ok(None) };
                let spine = match &self.start.rows {
                    Some(v1::training_set_start::Rows::Spine(_)) => {
                        Some(self.answered(features.num_rows())?)
                    }
                    Some(v1::training_set_start::Rows::Events(_)) | None => None,
                };
                Ok(Some(TrainingRows { spine, features }))
            }
            Part::Summary(summary) => {
                self.summary = Some(summary);
                Ok(None)
            }
        }
    }

    fn decode(&mut self, bytes: &Bytes) -> Result<Option<RecordBatch>, ClientError> {
        let Some(call) = &mut self.call else { return Ok(None) };
        let mut buffer = Buffer::from(bytes.clone());
        call.decoder.decode(&mut buffer).map_err(|e| damaged(&e))
    }

    /// The rows of the spine that were answered: they wait no longer.
    fn answered(&mut self, rows: usize) -> Result<RecordBatch, ClientError> {
        let mut parts = Vec::new();
        let mut left = rows;
        while left > 0 {
            let Some(first) = self.waiting.pop_front() else {
                let what = "more rows than it was asked for".to_owned();
                return Err(ClientError::Protocol(what));
            };
            let taken = left.min(first.num_rows());
            parts.push(first.slice(0, taken));
            left -= taken;
            if taken < first.num_rows() {
                self.waiting.push_front(first.slice(taken, first.num_rows() - taken));
            } else if let Some(call) = &mut self.call {
                call.sent -= 1;
            }
        }
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(ClientError::Protocol("rows without any".to_owned())),
            [first, ..] => {
                let schema = first.schema();
                arrow_select::concat::concat_batches(&schema, &parts).map_err(|e| damaged(&e))
            }
        }
    }

    async fn begin(&self) -> Result<Call, ClientError> {
        let (to, requests) = mpsc::channel(AHEAD);
        let start = v1::GetTrainingSetRequest { part: Some(Ask::Start(self.start.clone())) };
        let _ = to.try_send(start);
        // Where nothing follows, the request ends here: a server may wait for that.
        let more = self.spine.is_some() || !self.waiting.is_empty();
        let to = more.then_some(to);
        let answers = self.client.open_training_set(ReceiverStream::new(requests)).await?;
        Ok(Call { to, answers, decoder: StreamDecoder::new(), encoder: None, sent: 0 })
    }
}

/// Whether there is room for a message; `None` where nothing more is sent, false when the call ended.
async fn room(to: Option<&mpsc::Sender<v1::GetTrainingSetRequest>>) -> Option<bool> {
    Some(to?.reserve().await.is_ok())
}

/// The next rows of the spine.
async fn more(spine: Option<&mut mpsc::Receiver<RecordBatch>>) -> Option<RecordBatch> {
    spine?.recv().await
}
