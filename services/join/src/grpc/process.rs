//! The call on which an ingest process hands its batches over.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use millrace_client::port::{
    CallOrder, Holds, JoinError, JoinPort as _, PendingVerdicts, ProcessRequest, SlotGrant,
};
use millrace_client::wire;
use millrace_grpc::{Drain, status};
use millrace_proto::v1;
use millrace_store::StoreError;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::service::JoinService;

/// Batches of one call that wait for their verdicts; the transport holds the rest back.
const AT_ONCE: usize = 1_024;

/// Queues the batches in their order and answers each once it is confirmed. The drain ends the
/// call when everything taken is answered.
pub(super) async fn run(
    join: Arc<JoinService>,
    mut requests: Streaming<v1::ProcessRequest>,
    answers: mpsc::Sender<Result<v1::ProcessResponse, Status>>,
    drain: Drain,
) {
    let handing = join.hand_over();
    let hello =
        v1::ProcessResponse { credits: Some(credits(&join)), ..v1::ProcessResponse::default() };
    if answers.send(Ok(hello)).await.is_err() {
        return;
    }
    // The holds that count are those of the ingest process, where the answers arrive.
    let holds = Holds::default();
    let mut waiting = FuturesUnordered::new();
    let started = drain.started();
    tokio::pin!(started);
    let mut end: Option<Option<Status>> = None;
    let mut incarnation = None;
    loop {
        if end.is_some() && waiting.is_empty() {
            break;
        }
        tokio::select! {
            Some(answer) = waiting.next() => {
                let credits = Some(credits(&join));
                let answer = v1::ProcessResponse { credits, ..answer };
                if answers.send(Ok(answer)).await.is_err() {
                    // The ingest process is gone; what it sent is judged all the same.
                    end = Some(None);
                    waiting.clear();
                }
            }
            () = &mut started, if end.is_none() => end = Some(Some(Drain::status())),
            request = requests.message(), if end.is_none() && waiting.len() < AT_ONCE => {
                let request = match request {
                    Ok(Some(request)) => request,
                    // A call that broke needs no word of it.
                    Ok(None) | Err(_) => {
                        end = Some(None);
                        continue;
                    }
                };
                let tag = request.tag;
                // Only an ingest process can be missed, and only until it takes its leave.
                if !request.replays_late {
                    incarnation = Some(request.incarnation).filter(|_| !request.departs);
                }
                let refused_up_to = request.refused_up_to;
                let order = CallOrder { call: handing.call(), tag, refused_up_to };
                let request = match wire::join::read_process(request) {
                    Ok(request) => ProcessRequest { order, ..request },
                    Err(malformed) => {
                        end = Some(Some(status(&malformed)));
                        continue;
                    }
                };
                // Awaited here, not beside the others: batches are queued in their order.
                waiting.push(answer(&join, tag, join.process(request, &holds).await));
            }
        }
    }
    let call = handing.call();
    drop(handing);
    join.gone(call, incarnation).await;
    if let Some(Some(status)) = end {
        // Nobody may be there to read it any more.
        let _ = answers.send(Err(status)).await;
    }
}

fn credits(join: &JoinService) -> v1::Credits {
    let SlotGrant { facts, bytes } = join.credits();
    v1::Credits { facts, bytes }
}

async fn answer(
    join: &JoinService,
    tag: u64,
    queued: Result<PendingVerdicts, JoinError>,
) -> v1::ProcessResponse {
    let (slots, error) = match queued {
        Ok(pending) => match pending.await {
            Ok(Ok(verdicts)) => (verdicts, None),
            Ok(Err(failed)) => (failed.landed, Some(failed.error)),
            Err(_) => {
                let reason = "the worker stopped before the outcome was known".to_owned();
                let unknown = StoreError::Unknown { operation: "process", reason };
                (Vec::new(), Some(JoinError::Store(unknown)))
            }
        },
        Err(error) => (Vec::new(), Some(error)),
    };
    v1::ProcessResponse {
        tag,
        slots: slots.iter().map(wire::join::judgement).collect(),
        fault: error.map(|error| join.fault(error)),
        credits: None,
    }
}
