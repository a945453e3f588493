//! From the messages of the protocol to batches, and from answers to messages.

use std::sync::Arc;

use millrace_proto::convert::{from_timestamp, id_text};
use millrace_proto::v1;
use millrace_telemetry::TraceContext;
use millrace_types::{KnownAt, Micros, Verdict};
use prost::Message as _;

use crate::arrow::ArrowStreams;
use crate::batch::Sequences;
use crate::budget::Cost;
use crate::encode::Payload;
use crate::error::IngestError;
use crate::ingest::Batch;
use crate::reject::KNOWN_AT;
use crate::verdicts::{Answer, Exception};

/// Greatest size of the name of a producer or a stream, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 256;

impl Batch {
    /// Takes a request apart and checks it as a whole; `streams` holds the Arrow schemas of the
    /// call, `latest_at` is the latest watermark that may be stated.
    ///
    /// # Errors
    /// [`IngestError`] that names the field of the request.
    pub fn read(
        request: v1::PublishRequest,
        streams: &mut ArrowStreams,
        latest_at: Micros,
    ) -> Result<Self, IngestError> {
        let request_bytes = request.encoded_len();
        name("producer_id", &request.producer_id)?;
        name("stream", &request.stream)?;
        let stated = match &request.watermark {
            None => None,
            Some(timestamp) => {
                let stated = from_timestamp(timestamp)
                    .map_err(|error| IngestError::Watermark(error.within("watermark")))?;
                if stated > latest_at {
                    let rule = format!("must not lie ahead of {latest_at}, is {stated}");
                    return Err(IngestError::field("watermark", rule));
                }
                Some(stated)
            }
        };
        let payload = match (request.arrow_ipc.is_empty(), request.rows.is_empty()) {
            (true, true) => Payload::Empty,
            (true, false) => Payload::Typed(request.rows),
            (false, true) => Payload::Arrow(streams.accept(&request.stream, request.arrow_ipc)?),
            (false, false) => {
                return Err(IngestError::field("rows", "must be empty where arrow_ipc is set"));
            }
        };
        let sequences = Sequences::try_new(
            request.first_sequence,
            request.next_sequence,
            request.sequences,
            payload.facts(),
        )?;
        let known_at = known_at(request.known_at_us, payload.facts())?;
        Ok(Self {
            producer: Arc::from(request.producer_id),
            stream: Arc::from(request.stream),
            sequences,
            payload,
            known_at,
            request_bytes,
            stated,
            idle: request.idle,
            trace: TraceContext::read(&request.traceparent, &request.tracestate),
        })
    }

    /// What the batch takes of the budget.
    #[must_use]
    pub fn cost(&self) -> Cost {
        Cost {
            facts: self.sequences.facts() as u32, // at most BATCH_FACTS_MAX
            bytes: u32::try_from(self.request_bytes + self.payload.decoded_bytes())
                .unwrap_or(u32::MAX),
        }
    }
}

/// What an import states of each fact; nothing of facts that are published.
fn known_at(stated: Vec<i64>, facts: usize) -> Result<Vec<KnownAt>, IngestError> {
    if !stated.is_empty() && stated.len() != facts {
        let rule = format!("states {} instants for {facts} facts; one a fact", stated.len());
        return Err(IngestError::field(KNOWN_AT, rule));
    }
    let back = stated.windows(2).position(|pair| pair[1] < pair[0]);
    if let Some(before) = back.map(|index| (index, Micros(stated[index]))) {
        let (index, before) = (before.0 + 1, before.1);
        let rule = format!(
            "must not go back: {} of fact {index} lies before {before} of the fact in front of it",
            Micros(stated[index])
        );
        return Err(IngestError::field(KNOWN_AT, rule));
    }
    Ok(stated.into_iter().map(KnownAt).collect())
}

fn name(field: &'static str, text: &str) -> Result<(), IngestError> {
    match text.len() {
        0 => Err(IngestError::field(field, "must be set")),
        n if n > NAME_BYTES_MAX => Err(IngestError::field(
            field,
            format!("takes {n} bytes; at most {NAME_BYTES_MAX} are allowed"),
        )),
        _ => Ok(()),
    }
}

/// The message for an answer.
pub(crate) fn result(answer: Answer, sequences: &Sequences, durable: u64) -> v1::PublishResult {
    let exception = |exception: Exception| {
        let Exception { index, id, verdict, conflict, field, message } = exception;
        let reason = match verdict {
            Verdict::Rejected(reason) => v1::RejectReason::from(reason),
            Verdict::Accepted
            | Verdict::Repaired { .. }
            | Verdict::Queued
            | Verdict::Duplicate
            | Verdict::Late => v1::RejectReason::Unspecified,
        };
        v1::FactException {
            index,
            sequence: sequences.get(index as usize),
            id: id_text(&id).into_owned(),
            verdict: v1::Verdict::from(verdict) as i32,
            conflict,
            reason: reason as i32,
            field,
            message,
        }
    };
    v1::PublishResult {
        first_sequence: sequences.first(),
        next_sequence: sequences.next(),
        durable_sequence: durable,
        counts: Some(answer.counts.into()),
        exceptions: answer.exceptions.into_iter().map(exception).collect(),
        exceptions_omitted: answer.exceptions_omitted,
    }
}
