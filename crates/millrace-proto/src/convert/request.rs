//! The unary form of a batch and the streamed one are the same to a service.

use crate::v1::{PublishBatchRequest, PublishRequest};

impl From<PublishBatchRequest> for PublishRequest {
    fn from(from: PublishBatchRequest) -> Self {
        let PublishBatchRequest {
            producer_id,
            stream,
            first_sequence,
            next_sequence,
            sequences,
            arrow_ipc,
            rows,
            watermark,
            idle,
            traceparent,
            tracestate,
            known_at_us,
        } = from;
        Self {
            producer_id,
            stream,
            first_sequence,
            next_sequence,
            sequences,
            arrow_ipc,
            rows,
            watermark,
            idle,
            traceparent,
            tracestate,
            known_at_us,
        }
    }
}

impl From<PublishRequest> for PublishBatchRequest {
    fn from(from: PublishRequest) -> Self {
        let PublishRequest {
            producer_id,
            stream,
            first_sequence,
            next_sequence,
            sequences,
            arrow_ipc,
            rows,
            watermark,
            idle,
            traceparent,
            tracestate,
            known_at_us,
        } = from;
        Self {
            producer_id,
            stream,
            first_sequence,
            next_sequence,
            sequences,
            arrow_ipc,
            rows,
            watermark,
            idle,
            traceparent,
            tracestate,
            known_at_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn both_forms_of_a_batch_have_the_same_bytes() {
        let streamed = PublishRequest {
            producer_id: "p".to_owned(),
            stream: "clicks".to_owned(),
            first_sequence: 1,
            next_sequence: 9,
            sequences: vec![1, 8],
            arrow_ipc: vec![1, 2].into(),
            rows: vec![crate::v1::TypedRow::default()],
            watermark: Some(prost_types::Timestamp::default()),
            idle: true,
            traceparent: "t".to_owned(),
            tracestate: "s".to_owned(),
            known_at_us: vec![-1, 5],
        };
        let unary = PublishBatchRequest::from(streamed.clone());
        assert_eq!(unary.encode_to_vec(), streamed.encode_to_vec());
        assert_eq!(PublishRequest::from(unary), streamed);
    }
}
