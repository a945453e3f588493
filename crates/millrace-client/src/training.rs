//! Training sets, across the end of calls, connections and servers.

mod spine;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::{StreamDecoder, StreamReader};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use millrace_proto::v1;
use millrace_proto::v1::get_training_set_request::Part as Ask;
use millrace_proto::v1::get_training_set_response::Part;
use millrace_proto::v1::training_set_start::Rows;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::client::Client;
use crate::error::ClientError;
use crate::reach::Patience;
use spine::Spine;
pub use spine::TrainingSpine;

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
}

/// A training set that is being read. A call that ends although there is more is begun again behind
/// the rows received last, under the same version.
#[derive(Debug)]
pub struct TrainingSet {
    client: Client,
    start: v1::TrainingSetStart,
    /// `None` where the rows are events.
    spine: Option<Spine>,
    call: Option<Call>,
    header: Option<v1::TrainingSetHeader>,
    /// Of the features, once there is a header.
    schema: Option<SchemaRef>,
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

impl TrainingSet {
    pub(crate) fn new(
        client: Client,
        start: v1::TrainingSetStart,
        spine: Option<TrainingSpine>,
        patience: Patience,
    ) -> Self {
        Self {
            client,
            start,
            spine: spine.map(Spine::new),
            call: None,
            header: None,
            schema: None,
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
        self.schema.clone()
    }

    /// What the set is made under, before any of its rows.
    ///
    /// # Errors
    /// As [`TrainingSet::next`].
    pub async fn begun(&mut self) -> Result<v1::TrainingSetHeader, ClientError> {
        loop {
            if let Some(header) = &self.header {
                return Ok(header.clone());
            }
            if self.go_on().await?.is_some() {
                return Err(ClientError::Protocol("rows before a header".to_owned()));
            }
        }
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError`]: a server that refuses, or that cannot be reached for longer than
    /// [`reach_within`](crate::ClientOptions::reach_within).
    pub async fn next(&mut self) -> Result<Option<TrainingRows>, ClientError> {
        while self.summary.is_none() {
            if let Some(rows) = self.go_on().await? {
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }

    /// Sends or takes one thing. A call that broke is begun again, after a pause.
    async fn go_on(&mut self) -> Result<Option<TrainingRows>, ClientError> {
        let error = match self.step().await {
            Ok(rows) => return Ok(rows),
            Err(error) => error,
        };
        self.call = None;
        if self.header.is_none() || !error.is_retryable() {
            self.patience.wait(self.client.serving(), error).await?;
            return Ok(None);
        }
        tracing::info!(%error, "the training set broke off, it is resumed");
        self.resumed = true;
        self.patience.pause(self.client.serving(), error).await?;
        Ok(None)
    }

    /// Sends or takes one thing.
    async fn step(&mut self) -> Result<Option<TrainingRows>, ClientError> {
        if self.call.is_none() {
            self.call = Some(self.begin().await?);
        }
        let Some(call) = &mut self.call else { return Ok(None) };
        let spine = &mut self.spine;
        let unsent = spine.as_ref().is_some_and(Spine::has_unsent);
        let goes_on = spine.as_ref().is_some_and(Spine::goes_on);
        let next = tokio::select! {
            biased;
            answer = call.answers.message() => Next::Answer(Box::new(answer)),
            Some(room) = room(call.to.as_ref()), if unsent => {
                if room { Next::Room } else { Next::Answer(Box::new(call.answers.message().await)) }
            }
            more = more(spine.as_mut()), if !unsent && goes_on => Next::Spine(more),
        };
        let Some(spine) = spine else {
            return if let Next::Answer(answer) = next { self.take(*answer) } else { Ok(None) };
        };
        match next {
            Next::Answer(answer) => return self.take(*answer),
            Next::Spine(rows) => spine.take(rows)?,
            Next::Room => {
                let message = spine.message()?.map(Ask::SpineArrowIpc);
                // There is room; a call that ended says why with its answer.
                if let Some(to) = &call.to {
                    let _ = to.try_send(v1::GetTrainingSetRequest { part: message });
                }
            }
        }
        if spine.is_sent() {
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
                // The decoder itself tells of a schema once there is something behind it.
                let schema = StreamReader::try_new(header.schema_arrow_ipc.as_ref(), None);
                self.schema = Some(schema.map_err(|e| damaged(&e))?.schema());
                self.start.version.clone_from(&header.version);
                self.header.get_or_insert(header);
                Ok(None)
            }
            Part::Rows(rows) => {
                let features = self.decode(&rows.arrow_ipc)?;
                self.patience.renew();
                self.start.cursor = rows.cursor;
                let Some(features) = features else { return Ok(None) };
                let answered = |spine: &mut Spine| spine.answered(features.num_rows());
                let spine = self.spine.as_mut().map(answered).transpose()?;
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

    async fn begin(&mut self) -> Result<Call, ClientError> {
        let (to, requests) = mpsc::channel(AHEAD);
        if let Some(spine) = &mut self.spine {
            let rows_before = spine.restart();
            self.start.rows = Some(Rows::Spine(v1::SpineRows { rows_before }));
        }
        let start = v1::GetTrainingSetRequest { part: Some(Ask::Start(self.start.clone())) };
        let _ = to.try_send(start);
        // Where nothing follows, the request ends here: a server may wait for that.
        let more = self.spine.as_ref().is_some_and(|spine| !spine.is_sent());
        let to = more.then_some(to);
        let answers = self.client.open_training_set(ReceiverStream::new(requests)).await?;
        Ok(Call { to, answers, decoder: StreamDecoder::new() })
    }
}

/// Whether there is room for a message; `None` where nothing more is sent, false when the call ended.
async fn room(to: Option<&mpsc::Sender<v1::GetTrainingSetRequest>>) -> Option<bool> {
    Some(to?.reserve().await.is_ok())
}

/// The next rows of the spine.
async fn more(spine: Option<&mut Spine>) -> Option<RecordBatch> {
    spine?.next().await
}
