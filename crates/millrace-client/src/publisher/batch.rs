//! A batch, and the request it becomes.

use bytes::{Bytes, BytesMut};
use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_telemetry::Span;
use millrace_types::limits::BATCH_FACTS_MAX;
use millrace_types::{KnownAt, Micros};
use prost::Message as _;

use crate::error::ClientError;

/// Facts of one producer and one stream, or a statement about its watermark.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// See `PublishRequest.producer_id`.
    pub producer_id: String,
    /// The stream.
    pub stream: String,
    /// The least sequence that the batch covers.
    pub first_sequence: u64,
    /// One past the greatest; `None` for one past the last fact.
    pub next_sequence: Option<u64>,
    /// The sequence of each fact where there are holes; empty otherwise.
    pub sequences: Vec<u64>,
    /// The facts.
    pub payload: Payload,
    /// Since when each fact was known, in an import: any instants up to now, none before the one in
    /// front of it. Empty for facts that are published.
    pub known_at: Vec<KnownAt>,
    /// How far event time is complete, where the producer knows better than its facts.
    pub watermark: Option<Micros>,
    /// The producer has nothing more to send for now.
    pub idle: bool,
    /// The W3C trace context of the batch; empty for none.
    pub traceparent: String,
    /// Given back with the outcome; for the caller's own use.
    pub tag: u64,
}

/// The facts of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// None: a statement alone.
    None,
    /// Arrow IPC messages. The schema is sent when the call does not have it yet.
    Arrow {
        /// The schema message of the stream.
        schema: Bytes,
        /// Record batch messages, which need nothing but that schema.
        batches: Bytes,
        /// How many facts they hold.
        facts: usize,
    },
    /// Named values.
    Rows(Vec<v1::TypedRow>),
}

impl Batch {
    /// A batch of these facts with sequences from `first_sequence` on.
    #[must_use]
    pub fn new(
        producer_id: impl Into<String>,
        stream: impl Into<String>,
        first_sequence: u64,
        payload: Payload,
    ) -> Self {
        Self {
            producer_id: producer_id.into(),
            stream: stream.into(),
            first_sequence,
            next_sequence: None,
            sequences: Vec::new(),
            payload,
            known_at: Vec::new(),
            watermark: None,
            idle: false,
            traceparent: String::new(),
            tag: 0,
        }
    }
}

impl Payload {
    /// How many facts it holds.
    #[must_use]
    pub fn facts(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Arrow { facts, .. } => *facts,
            Self::Rows(rows) => rows.len(),
        }
    }
}

/// A batch that keeps the rules of one, ready to be sent any number of times.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Without the schema.
    request: v1::PublishRequest,
    schema: Bytes,
    pub(super) facts: u64,
    /// What it takes in flight, the schema included.
    pub(super) bytes: u64,
    pub(super) tag: u64,
    /// From when it was made until it is answered.
    _span: Span,
}

impl Prepared {
    pub(super) fn try_new(batch: Batch, bytes_max: usize) -> Result<Self, ClientError> {
        let facts = batch.payload.facts();
        let next_sequence = check(&batch, facts)?;
        let (schema, arrow_ipc, rows) = match batch.payload {
            Payload::None => (Bytes::new(), Bytes::new(), Vec::new()),
            Payload::Arrow { schema, batches, .. } => (schema, batches, Vec::new()),
            Payload::Rows(rows) => (Bytes::new(), Bytes::new(), rows),
        };
        // A batch that is in no trace yet is the head of one.
        let (mut traceparent, mut tracestate) = (batch.traceparent, String::new());
        let mut span = Span::default();
        if traceparent.is_empty() {
            span = Span::client("publish batch");
            (traceparent, tracestate) = span.context().write();
        }
        let request = v1::PublishRequest {
            producer_id: batch.producer_id,
            stream: batch.stream,
            first_sequence: batch.first_sequence,
            next_sequence,
            sequences: batch.sequences,
            arrow_ipc,
            rows,
            watermark: batch.watermark.map(to_timestamp),
            idle: batch.idle,
            traceparent,
            tracestate,
            known_at_us: batch.known_at.iter().map(|known_at| known_at.0).collect(),
        };
        let bytes = request.encoded_len() + schema.len();
        if bytes > bytes_max {
            let rule =
                format!("takes {bytes} bytes; at most {bytes_max} go in one batch: split it");
            return Err(ClientError::InvalidBatch { field: "payload", rule });
        }
        let (facts, bytes) = (facts as u64, bytes as u64);
        Ok(Self { request, schema, facts, bytes, tag: batch.tag, _span: span })
    }

    pub(super) fn stream(&self) -> &str {
        &self.request.stream
    }

    pub(super) fn producer_id(&self) -> &str {
        &self.request.producer_id
    }

    pub(super) fn sequences(&self) -> (u64, u64) {
        (self.request.first_sequence, self.request.next_sequence)
    }

    /// The schema message its payload needs; empty for none.
    pub(super) fn schema(&self) -> &Bytes {
        &self.schema
    }

    /// The request, with its schema in front if asked for. Sharing, not copying, without.
    pub(super) fn request(&self, with_schema: bool) -> v1::PublishRequest {
        let mut request = self.request.clone();
        if with_schema {
            let len = self.schema.len() + request.arrow_ipc.len();
            let mut whole = BytesMut::with_capacity(len);
            whole.extend_from_slice(&self.schema);
            whole.extend_from_slice(&request.arrow_ipc);
            request.arrow_ipc = whole.freeze();
        }
        request
    }
}

/// Checks what would end the call, and gives one past the greatest sequence.
fn check(batch: &Batch, facts: usize) -> Result<u64, ClientError> {
    let error = |field, rule: String| Err(ClientError::InvalidBatch { field, rule });
    if batch.producer_id.is_empty() {
        return error("producer_id", "must not be empty".to_owned());
    }
    if batch.stream.is_empty() {
        return error("stream", "must not be empty".to_owned());
    }
    if facts > BATCH_FACTS_MAX {
        return error("payload", format!("holds {facts} facts; at most {BATCH_FACTS_MAX} go"));
    }
    let known_at = &batch.known_at;
    if !known_at.is_empty() && (known_at.len() != facts || !known_at.is_sorted()) {
        let rule =
            "must hold one instant a fact, none before the one in front of it; or none at all";
        return error("known_at", rule.to_owned());
    }
    let first = batch.first_sequence;
    let after_last = if batch.sequences.is_empty() {
        match first.checked_add(facts as u64) {
            Some(next) => next,
            None => return error("first_sequence", "leaves no room for the facts".to_owned()),
        }
    } else {
        let rising = batch.sequences.windows(2).all(|pair| pair[0] < pair[1]);
        if batch.sequences.len() != facts || !rising || batch.sequences[0] < first {
            let rule = "must hold one number a fact, rising, from first_sequence on";
            return error("sequences", rule.to_owned());
        }
        match batch.sequences[facts - 1].checked_add(1) {
            Some(next) => next,
            None => return error("sequences", "must be below 2^64 - 1".to_owned()),
        }
    };
    match batch.next_sequence {
        Some(next) if next < after_last => {
            error("next_sequence", format!("must be at least {after_last}"))
        }
        Some(next) => Ok(next),
        None => Ok(after_last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize) -> Payload {
        Payload::Rows(vec![v1::TypedRow::default(); n])
    }

    #[test]
    fn a_batch_covers_its_sequences() {
        let covered = |change: fn(&mut Batch)| {
            let mut batch = Batch::new("p", "clicks", 5, rows(2));
            change(&mut batch);
            Prepared::try_new(batch, 1_000).map(|p| p.sequences()).map_err(|e| e.to_string())
        };
        assert_eq!(covered(|_| {}), Ok((5, 7)));
        assert_eq!(covered(|b| b.next_sequence = Some(9)), Ok((5, 9)));
        assert_eq!(covered(|b| b.sequences = vec![5, 8]), Ok((5, 9)));
        let low = covered(|b| b.next_sequence = Some(6));
        assert_eq!(low, Err("next_sequence: must be at least 7".to_owned()));
        for wrong in [vec![5], vec![4, 6], vec![6, 6], vec![5, u64::MAX]] {
            let mut batch = Batch::new("p", "clicks", 5, rows(2));
            batch.sequences = wrong;
            let error = Prepared::try_new(batch, 1_000).unwrap_err();
            assert!(matches!(error, ClientError::InvalidBatch { field: "sequences", .. }));
        }
        for wrong in [vec![1], vec![2, 1], vec![1, 2, 3]] {
            let mut batch = Batch::new("p", "clicks", 5, rows(2));
            batch.known_at = wrong.into_iter().map(KnownAt).collect();
            let error = Prepared::try_new(batch, 1_000).unwrap_err();
            assert!(matches!(error, ClientError::InvalidBatch { field: "known_at", .. }));
        }
        let mut import = Batch::new("p", "clicks", 5, rows(2));
        import.known_at = vec![KnownAt(-7), KnownAt(-7)];
        let import = Prepared::try_new(import, 1_000).unwrap().request(false);
        assert_eq!(import.known_at_us, [-7, -7]);
        let top = Batch::new("p", "clicks", u64::MAX, rows(2));
        let top = Prepared::try_new(top, 1_000).unwrap_err();
        assert!(matches!(top, ClientError::InvalidBatch { field: "first_sequence", .. }));
    }

    #[test]
    fn the_schema_goes_in_front_only_when_asked_for() {
        let (schema, batches) = (Bytes::from_static(b"S"), Bytes::from_static(b"BB"));
        let payload = Payload::Arrow { schema, batches, facts: 3 };
        let prepared = Prepared::try_new(Batch::new("p", "clicks", 0, payload), 1_000).unwrap();
        assert_eq!(prepared.request(false).arrow_ipc, "BB");
        assert_eq!(prepared.request(true).arrow_ipc, "SBB");
        assert_eq!(prepared.bytes, prepared.request(true).encoded_len() as u64);
        let payload = Payload::Rows(vec![v1::TypedRow::default(); 100]);
        let large = Prepared::try_new(Batch::new("p", "clicks", 0, payload), 100).unwrap_err();
        assert!(large.to_string().ends_with("at most 100 go in one batch: split it"), "{large}");
    }
}
