//! `IngestService` over gRPC.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use millrace_grpc::{Caller, Drain, ErrorCode, Fault, PeerNetwork, peer_of, status, trace_of};
use millrace_proto::v1;
use millrace_proto::v1::ingest_service_server::IngestService;
use millrace_telemetry::TraceContext;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::arrow::ArrowStreams;
use crate::error::IngestError;
use crate::ingest::{Batch, Ingest};
use crate::publish;
use crate::request::result;

/// How often watermarks that moved are sent on their own.
const PUNCTUATE_EVERY: Duration = Duration::from_secs(1);

/// The service on a server.
#[derive(Clone)]
pub struct IngestApi {
    ingest: Arc<Ingest>,
    drain: Drain,
}

impl IngestApi {
    /// Serves `ingest`; calls end when `drain` starts, after what they sent is settled.
    #[must_use]
    pub fn new(ingest: Arc<Ingest>, drain: Drain) -> Self {
        Self { ingest, drain }
    }

    async fn batch(
        &self,
        peer: PeerNetwork,
        request: v1::PublishRequest,
    ) -> Result<v1::PublishResult, Status> {
        let ingest = Arc::clone(&self.ingest);
        let mut streams = ArrowStreams::default();
        let refused = |error: IngestError| {
            ingest.instruments.failed(&error);
            status(&error)
        };
        let batch = Batch::read(request, &mut streams, ingest.latest_at()).map_err(refused)?;
        let permit = ingest.room(peer, &batch).await.map_err(refused)?;
        // The handler's future is dropped when the client leaves; a batch that is on its way must
        // reach its end.
        let publisher = Arc::clone(&ingest);
        let task = self.drain.tasks().spawn(async move {
            let ingest = publisher;
            let _permit = permit;
            let producer = Arc::clone(&batch.producer);
            let stream = ingest.attach(&batch.stream, &producer).await;
            let published = ingest.publish(batch).await;
            if let Some(stream) = stream {
                ingest.detach(stream, &producer, false).await;
            }
            published
        });
        match task.await {
            Ok(Ok((batch, answer))) => {
                let next = batch.sequences.next();
                Ok(result(answer, &batch.sequences, next))
            }
            Ok(Err(error)) => Err(refused(error)),
            Err(panic) => {
                ingest.instruments.failed_with(ErrorCode::Internal);
                tracing::error!(error = %panic, "publishing a batch failed");
                Err(Fault::new(ErrorCode::Internal, "an internal error; see the server's log")
                    .into())
            }
        }
    }
}

#[tonic::async_trait]
impl IngestService for IngestApi {
    type PublishStream = Pin<Box<dyn Stream<Item = Result<v1::PublishResponse, Status>> + Send>>;

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let (caller, peer) = (Caller::of(&request), peer_of(&request));
        let trace = trace_of(&request);
        let requests =
            request.into_inner().map(move |request| -> Result<v1::PublishRequest, Status> {
                let mut request: v1::PublishRequest = request?;
                caller.may_publish(&request.stream)?;
                belong(&mut request, &trace);
                Ok(request)
            });
        let answers = publish::start(Arc::clone(&self.ingest), &self.drain, peer, requests);
        let answers = ReceiverStream::new(answers).map(|answered| answered.response);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn publish_batch(
        &self,
        request: Request<v1::PublishBatchRequest>,
    ) -> Result<Response<v1::PublishBatchResponse>, Status> {
        let (caller, peer) = (Caller::of(&request), peer_of(&request));
        let trace = trace_of(&request);
        let mut request = v1::PublishRequest::from(request.into_inner());
        belong(&mut request, &trace);
        caller.may_publish(&request.stream)?;
        let result = self.batch(peer, request).await?;
        Ok(Response::new(v1::PublishBatchResponse {
            result: Some(result),
            dedup_retention: self.ingest.dedup_retention(),
        }))
    }
}

/// A batch that says nothing of its trace belongs to its call's.
fn belong(batch: &mut v1::PublishRequest, call: &TraceContext) {
    if batch.traceparent.is_empty() {
        (batch.traceparent, batch.tracestate) = call.write();
    }
}

/// Sends watermarks that moved, at most once a second, until the future is dropped.
pub async fn punctuate(ingest: Arc<Ingest>) {
    let mut ticks = interval(PUNCTUATE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = ingest.punctuate().await {
            tracing::debug!(%error, "watermarks wait for the next request");
        }
    }
}
