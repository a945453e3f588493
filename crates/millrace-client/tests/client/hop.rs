//! The call on which ingest hands batches over, broken by the other side.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{Stream, StreamExt as _};
use millrace_client::ClientSecurity;
use millrace_client::port::{Holds, JoinError, JoinPort as _, ProcessRequest};
use millrace_client::remote::RemoteJoin;
use millrace_grpc::{Drain, GrpcServer, ServerLimits, services};
use millrace_proto::v1;
use millrace_proto::v1::join_service_server::JoinService;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::support::SOON;

type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// Answers one batch of its first call and breaks off at the next; later calls it answers whole.
#[derive(Default)]
struct BreaksOnce(AtomicUsize);

#[tonic::async_trait]
impl JoinService for BreaksOnce {
    type SubscribeStream = Answers<v1::SubscribeResponse>;
    type ProcessStream = Answers<v1::ProcessResponse>;

    async fn process(
        &self,
        request: Request<Streaming<v1::ProcessRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let is_first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
        let answers = request.into_inner().enumerate().map(move |(index, message)| {
            if is_first && index == 1 {
                return Err(Status::unavailable("broken off"));
            }
            Ok(v1::ProcessResponse { tag: message?.tag, ..v1::ProcessResponse::default() })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn subscribe(
        &self,
        _: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn close_up_to(
        &self,
        _: Request<v1::CloseUpToRequest>,
    ) -> Result<Response<v1::CloseUpToResponse>, Status> {
        // No position: no service answers like this.
        Ok(Response::new(v1::CloseUpToResponse::default()))
    }

    async fn suspect_entities(
        &self,
        _: Request<v1::SuspectEntitiesRequest>,
    ) -> Result<Response<v1::SuspectEntitiesResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn get_slots(
        &self,
        _: Request<v1::GetSlotsRequest>,
    ) -> Result<Response<v1::GetSlotsResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }
}

async fn join() -> RemoteJoin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let limits = ServerLimits::default();
    let server = GrpcServer::new(limits, Drain::new())
        .add_service(services::join(BreaksOnce::default(), &limits));
    tokio::spawn(server.serve(listener, std::future::pending()));
    RemoteJoin::new(&[endpoint], &ClientSecurity::default()).unwrap()
}

pub(crate) fn batch() -> ProcessRequest {
    ProcessRequest {
        incarnation: 1,
        catalog_version: 1,
        slots: Vec::new(),
        watermarks: Vec::new(),
        routes: Default::default(),
        order: Default::default(),
        departs: false,
        replays_late: false,
        trace: Default::default(),
    }
}

#[tokio::test]
async fn a_batch_whose_call_breaks_fails_with_a_hold_and_the_next_goes_on_another() {
    let (join, holds) = (join().await, Holds::default());
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        let pending = join.process(batch(), &holds).await.unwrap();
        outcomes.push(timeout(SOON, pending).await.unwrap().unwrap());
    }
    let [first, second, third] = outcomes.try_into().unwrap();
    assert!(first.unwrap().is_empty() && third.unwrap().is_empty());
    let failed = second.unwrap_err();
    assert!(matches!(failed.error, JoinError::Store(_)), "{:?}", failed.error);
    assert!(holds.any(), "a later batch could state a watermark ahead of its facts");
    drop(failed);
    assert!(!holds.any());
}

#[tokio::test]
async fn an_answer_without_a_position_is_not_the_beginning_of_the_log() {
    use millrace_client::port::SlotPort as _;
    use millrace_store::StoreError;
    use millrace_types::{KnownAt, SlotId};

    let closed = join().await.close_up_to(SlotId(0), KnownAt(1)).await;
    assert!(matches!(closed, Err(JoinError::Store(StoreError::Failed { .. }))), "{closed:?}");
}
