//! The hops to store-writer keep to the credits that it states.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use millrace_client::ClientSecurity;
use millrace_client::port::{AppendOutcome, AppendRequest, StorePort as _};
use millrace_client::remote::{Persistence, RemoteStore};
use millrace_grpc::{Drain, GrpcServer, ServerLimits, services};
use millrace_proto::v1;
use millrace_proto::v1::store_service_server::StoreService;
use millrace_store::{Append, Incarnation, NodeId, Part, Put, StoreError};
use millrace_types::{Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::support::{MOMENT, SOON, soon};

type Answers<A> = ReceiverStream<Result<A, Status>>;
type Never<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// A call, seen from store-writer.
struct Call<Q, A> {
    requests: Streaming<Q>,
    answers: mpsc::Sender<Result<A, Status>>,
}

impl<Q, A> Call<Q, A> {
    fn play(requests: Streaming<Q>, calls: &mpsc::Sender<Self>) -> Response<Answers<A>> {
        let (answers, stream) = mpsc::channel(4);
        calls.try_send(Self { requests, answers }).expect("one call a test");
        Response::new(ReceiverStream::new(stream))
    }

    async fn request(&mut self) -> Q {
        soon(self.requests.message()).await.unwrap().unwrap()
    }

    async fn answer(&self, answer: A) {
        self.answers.send(Ok(answer)).await.unwrap();
    }

    /// Fails when a request comes.
    async fn assert_quiet(&mut self) {
        assert!(tokio::time::timeout(MOMENT, self.requests.message()).await.is_err());
    }
}

struct Played {
    appends: mpsc::Sender<Call<v1::AppendRequest, v1::AppendResponse>>,
    puts: mpsc::Sender<Call<v1::PutRequest, v1::PutResponse>>,
}

macro_rules! not_played {
    ($($name:ident: $request:ty => $answer:ty),* $(,)?) => {
        #[tonic::async_trait]
        impl StoreService for Played {
            type AppendStream = Answers<v1::AppendResponse>;
            type PutStream = Answers<v1::PutResponse>;
            type LoadStream = Never<v1::LoadResponse>;
            type ReadLogStream = Never<v1::ReadLogResponse>;

            async fn append(
                &self,
                request: Request<Streaming<v1::AppendRequest>>,
            ) -> Result<Response<Self::AppendStream>, Status> {
                Ok(Call::play(request.into_inner(), &self.appends))
            }

            async fn put(
                &self,
                request: Request<Streaming<v1::PutRequest>>,
            ) -> Result<Response<Self::PutStream>, Status> {
                Ok(Call::play(request.into_inner(), &self.puts))
            }

            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$answer>, Status> {
                Err(Status::unimplemented("not played"))
            })*
        }
    };
}

not_played! {
    load: v1::LoadRequest => Self::LoadStream,
    read_log: v1::ReadLogRequest => Self::ReadLogStream,
    renew_node: v1::RenewNodeRequest => v1::RenewNodeResponse,
    take_over: v1::TakeOverRequest => v1::TakeOverResponse,
    release: v1::ReleaseRequest => v1::ReleaseResponse,
    put_member: v1::PutMemberRequest => v1::PutMemberResponse,
    list_members: v1::ListMembersRequest => v1::ListMembersResponse,
    look_at_ownership: v1::LookAtOwnershipRequest => v1::LookAtOwnershipResponse,
    put_samples: v1::PutSamplesRequest => v1::PutSamplesResponse,
    list_samples: v1::ListSamplesRequest => v1::ListSamplesResponse,
    forget_samples: v1::ForgetSamplesRequest => v1::ForgetSamplesResponse,
    list_catalogs: v1::ListCatalogsRequest => v1::ListCatalogsResponse,
    put_catalog: v1::PutCatalogRequest => v1::PutCatalogResponse,
    put_erasure: v1::PutErasureRequest => v1::PutErasureResponse,
    list_erasures: v1::ListErasuresRequest => v1::ListErasuresResponse,
    put_receipt: v1::PutReceiptRequest => v1::PutReceiptResponse,
    list_receipts: v1::ListReceiptsRequest => v1::ListReceiptsResponse,
    rewrite: v1::RewriteRequest => v1::RewriteResponse,
    list_parts: v1::ListPartsRequest => v1::ListPartsResponse,
    compact: v1::CompactRequest => v1::CompactResponse,
    seen_sequences: v1::SeenSequencesRequest => v1::SeenSequencesResponse,
    mark_sequences: v1::MarkSequencesRequest => v1::MarkSequencesResponse,
}

struct Site {
    store: Arc<RemoteStore>,
    appends: mpsc::Receiver<Call<v1::AppendRequest, v1::AppendResponse>>,
    puts: mpsc::Receiver<Call<v1::PutRequest, v1::PutResponse>>,
}

async fn site() -> Site {
    let (appends, appending) = mpsc::channel(1);
    let (puts, putting) = mpsc::channel(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let limits = ServerLimits::default();
    let server = GrpcServer::new(limits, Drain::new())
        .add_service(services::store(Played { appends, puts }, &limits));
    tokio::spawn(server.serve(listener, std::future::pending()));
    let within = Persistence::Within(SOON);
    let store = RemoteStore::new(&[endpoint], &ClientSecurity::default(), within).unwrap();
    Site { store: Arc::new(store), appends: appending, puts: putting }
}

/// Five messages want to go; `answer` answers a tag and states credits for so many of them.
async fn keeps_to_credits<Q, A>(
    mut call: Call<Q, A>,
    tag: impl Fn(Q) -> u64,
    answer: impl Fn(u64, u64) -> A,
) {
    call.answer(answer(0, 2)).await;
    let (first, second) = (tag(call.request().await), tag(call.request().await));
    call.assert_quiet().await;
    call.answer(answer(first, 2)).await;
    let third = tag(call.request().await);
    call.assert_quiet().await;
    // Less than before: what is under way uses it up.
    call.answer(answer(second, 1)).await;
    call.assert_quiet().await;
    call.answer(answer(third, 1)).await;
    let fourth = tag(call.request().await);
    call.assert_quiet().await;
    // Less than a message: it goes alone.
    call.answer(answer(fourth, 0)).await;
    let fifth = tag(call.request().await);
    call.answer(answer(fifth, 0)).await;
}

async fn all_done<T: std::fmt::Debug + 'static>(mut sent: JoinSet<Result<T, StoreError>>) {
    let mut count = 0;
    while let Some(outcome) = soon(sent.join_next()).await {
        outcome.unwrap().unwrap();
        count += 1;
    }
    assert_eq!(count, 5);
}

/// Parts count one each.
#[tokio::test]
async fn puts_keep_to_the_parts_that_were_stated() {
    let mut site = site().await;
    let mut sent = JoinSet::new();
    for user in 0..5_i64 {
        let key = EntityKey::try_new(&[KeyPart::Int64(user)]).unwrap();
        let put = Put {
            slot: SlotId(0),
            entity: Entity { kind: KindId(1), key },
            part: Part::Head,
            ver: KnownAt(1),
            bytes: Bytes::from_static(b"head"),
        };
        let store = Arc::clone(&site.store);
        sent.spawn(async move { store.put(vec![put], Default::default()).await });
    }
    let call = soon(site.puts.recv()).await.unwrap();
    let answer = |tag, facts| v1::PutResponse {
        tag,
        credits: Some(v1::Credits { facts, bytes: 1 << 20 }),
        ..Default::default()
    };
    keeps_to_credits(call, |request| request.tag, answer).await;
    all_done(sent).await;
}

fn flush(slot: u32, bytes: Bytes) -> AppendRequest {
    let position = Position { epoch: 1, sequence: 1 };
    AppendRequest {
        node: NodeId("join-0".to_owned()),
        incarnation: Incarnation(1),
        chunks: vec![Append { slot: SlotId(slot), position, known_at: KnownAt(1), bytes }],
        trace: Default::default(),
    }
}

/// What is no chunk counts as its bytes alone.
#[tokio::test]
async fn appends_keep_to_the_bytes_that_were_stated() {
    const BYTES: usize = 100;
    let mut site = site().await;
    let mut sent = JoinSet::new();
    for slot in 0..5 {
        let request = flush(slot, Bytes::from_static(&[0xff; BYTES]));
        let store = Arc::clone(&site.store);
        sent.spawn(async move { store.append(request).await });
    }
    let call = soon(site.appends.recv()).await.unwrap();
    let answer = |tag, messages: u64| v1::AppendResponse {
        tag,
        outcome: v1::AppendOutcome::Confirmed as i32,
        // One byte less than another one would need.
        credits: Some(v1::Credits { facts: 1 << 20, bytes: (messages + 1) * BYTES as u64 - 1 }),
        fault: None,
    };
    keeps_to_credits(call, |request| request.tag, answer).await;
    all_done(sent).await;
}

/// A chunk of almost as many bytes as a message between services may have. None is as large: a flush ends
/// before it.
#[tokio::test]
async fn a_chunk_as_large_as_a_message_may_be_gets_through() {
    let mut site = site().await;
    let most = ServerLimits::default().internal_message_bytes_max;
    let request = flush(0, vec![0xff; most - 1_000].into());
    let store = Arc::clone(&site.store);
    let large = tokio::spawn(async move { store.append(request).await });
    let credits = v1::Credits { facts: 1 << 20, bytes: 64 << 20 };
    let answer = |tag| v1::AppendResponse {
        tag,
        outcome: v1::AppendOutcome::Confirmed as i32,
        credits: Some(credits),
        fault: None,
    };
    let mut call = soon(site.appends.recv()).await.unwrap();
    call.answer(answer(0)).await;
    let request = call.request().await;
    assert_eq!(request.chunks[0].chunk.len(), most - 1_000);
    call.answer(answer(request.tag)).await;
    assert_eq!(soon(large).await.unwrap(), Ok(AppendOutcome::Confirmed));
}
