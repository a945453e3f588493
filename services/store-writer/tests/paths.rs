//! What each caller of a path may take of it, over gRPC.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_client::wire;
use millrace_grpc::{Drain, GrpcServer, ServerLimits, services};
use millrace_proto::v1;
use millrace_proto::v1::store_service_client::StoreServiceClient;
use millrace_store::memory::{Call, Fault, FaultPlan, Landing, MemoryStore};
use millrace_store::{Append, Incarnation, NodeId, Part, Put};
use millrace_store_writer::{LOADS_AT_ONCE, LOG_READS_AT_ONCE, Options, StoreGrpc, StoreWriter};
use millrace_types::{Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// A failure takes at most this long.
const SOON: Duration = Duration::from_secs(20);

/// The run of the node that writes, and the slot it owns.
const RUN: Incarnation = Incarnation(7);
const SLOT: SlotId = SlotId(0);

/// Calls of these kinds wait until they are told to go on.
fn holding(calls: &[Call]) -> FaultPlan {
    let held = Fault::Delayed(Landing::OnDemand);
    calls.iter().fold(FaultPlan::none(), |plan, call| plan.on_first(1_000, *call, held))
}

/// Reads of two kinds that wait in a store until it is told to go on.
struct Site {
    store: Arc<MemoryStore>,
    endpoint: Endpoint,
}

impl Site {
    async fn start(held: Call) -> Self {
        let store = Arc::new(MemoryStore::new().handle(holding(&[held])));
        let writer = StoreWriter::spawn(Arc::clone(&store) as _, Options::default());
        let limits = ServerLimits::default();
        let drain = Drain::new();
        let service = StoreGrpc::new(Arc::new(writer), Arc::clone(&store) as _, drain.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = GrpcServer::new(limits, drain).add_service(services::store(service, &limits));
        tokio::spawn(server.serve(listener, std::future::pending()));
        Self { store, endpoint: Endpoint::from_shared(endpoint).unwrap() }
    }

    /// A service on a connection of its own.
    async fn connect(&self) -> StoreServiceClient<Channel> {
        StoreServiceClient::new(self.endpoint.connect().await.unwrap())
    }

    /// Waits until so many reads of this kind reached the store.
    async fn reached(&self, call: Call, reads: u64) {
        let reached = async {
            while self.store.calls(call) < reads {
                yield_now().await;
            }
        };
        timeout(SOON, reached).await.unwrap();
        assert_eq!(self.store.calls(call), reads);
    }
}

async fn load(mut client: StoreServiceClient<Channel>) {
    let request = v1::LoadRequest { mark_slots: vec![1], ..v1::LoadRequest::default() };
    let mut answers = client.load(request).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
}

async fn read_log(mut client: StoreServiceClient<Channel>) {
    let mut answers = client.read_log(v1::ReadLogRequest::default()).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
}

/// All that was asked for on this connection before has reached its handler.
async fn asked(client: &StoreServiceClient<Channel>) {
    client.clone().list_members(v1::ListMembersRequest {}).await.unwrap();
}

/// One service asks for three times what there is, another one for one thing: it is next but one.
async fn is_next<F>(held: Call, units: u32, read: impl Fn(StoreServiceClient<Channel>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let site = Site::start(held).await;
    let (many, one) = (site.connect().await, site.connect().await);
    let all: Vec<JoinHandle<()>> =
        (0..3 * units).map(|_| tokio::spawn(read(many.clone()))).collect();
    site.reached(held, units.into()).await;
    asked(&many).await;
    let single = tokio::spawn(read(one.clone()));
    asked(&one).await;
    site.store.land();
    site.reached(held, 2 * u64::from(units)).await;
    assert!(!single.is_finished());
    // It was among those that went on: a read of those before it would have to be the third.
    site.store.land();
    timeout(SOON, single).await.unwrap().unwrap();
    for lands in 3.. {
        if all.iter().all(JoinHandle::is_finished) {
            break;
        }
        assert!(lands < 1_000_000, "reads are stuck");
        site.store.land();
        yield_now().await;
    }
}

#[tokio::test]
async fn one_service_that_loads_much_keeps_no_other_waiting() {
    is_next(Call::LoadMark, LOADS_AT_ONCE, load).await;
}

#[tokio::test]
async fn one_service_that_reads_many_logs_keeps_no_other_waiting() {
    is_next(Call::ReadLog, LOG_READS_AT_ONCE, read_log).await;
}

/// Loads, reads of logs and everything else do not wait for each other.
#[tokio::test]
async fn the_paths_do_not_wait_for_each_other() {
    async fn apart<F, G>(
        held: Call,
        units: u32,
        read: impl Fn(StoreServiceClient<Channel>) -> F,
        other: impl Fn(StoreServiceClient<Channel>) -> G,
    ) where
        F: Future<Output = ()> + Send + 'static,
        G: Future<Output = ()>,
    {
        let site = Site::start(held).await;
        let client = site.connect().await;
        for _ in 0..2 * units {
            tokio::spawn(read(client.clone()));
        }
        site.reached(held, units.into()).await;
        timeout(SOON, other(client.clone())).await.unwrap();
        timeout(SOON, asked(&client)).await.unwrap();
    }
    apart(Call::LoadMark, LOADS_AT_ONCE, load, read_log).await;
    apart(Call::ReadLog, LOG_READS_AT_ONCE, read_log, load).await;
}

fn node() -> NodeId {
    NodeId("join-0".into())
}

/// The node owns its slot from now on.
async fn own(client: &mut StoreServiceClient<Channel>) {
    let NodeId(name) = node();
    let renewed = client.renew_node(v1::RenewNodeRequest {
        node: name.clone(),
        incarnation: RUN.0,
        ceiling_us: 1 << 40,
    });
    assert!(renewed.await.unwrap().into_inner().renewed);
    let taken = client.take_over(v1::TakeOverRequest {
        slot: SLOT.0,
        node: name,
        incarnation: RUN.0,
        ..v1::TakeOverRequest::default()
    });
    let taken = taken.await.unwrap().into_inner();
    assert!(taken.fault.is_none() && !taken.theirs, "{taken:?}");
    assert_eq!(taken.epoch.unwrap().epoch, 1);
}

/// Appends the first chunk of the slot: it is confirmed.
async fn append(mut client: StoreServiceClient<Channel>) {
    let position = Position { epoch: 1, sequence: 1 };
    let bytes = Bytes::from_static(b"chunk");
    let chunk = Append { slot: SLOT, position, known_at: KnownAt(1), bytes };
    let request = wire::store::append_request(&node(), RUN, &[chunk], &Default::default());
    let request = v1::AppendRequest { tag: 1, ..request };
    let answers = client.append(tokio_stream::iter([request])).await.unwrap();
    let mut answers = answers.into_inner();
    while let Some(answer) = answers.message().await.unwrap() {
        // The first one, of tag 0, states credits alone.
        if answer.tag == 1 {
            assert_eq!(answer.outcome(), v1::AppendOutcome::Confirmed, "{answer:?}");
            return;
        }
    }
    panic!("the append was not answered");
}

/// Puts a head: it is done.
async fn put(mut client: StoreServiceClient<Channel>) {
    let key = EntityKey::try_new(&[KeyPart::Int64(1)]).unwrap();
    let entity = Entity { kind: KindId(0), key };
    let (ver, bytes) = (KnownAt(1), Bytes::from_static(b"head"));
    let head = Put { slot: SLOT, entity, part: Part::Head, ver, bytes };
    let request = wire::store::put_request(&[head], &Default::default());
    let request = v1::PutRequest { tag: 1, ..request };
    let answers = client.put(tokio_stream::iter([request])).await.unwrap();
    let mut answers = answers.into_inner();
    while let Some(answer) = answers.message().await.unwrap() {
        if answer.tag == 1 {
            assert!(answer.fault.is_none(), "{answer:?}");
            return;
        }
    }
    panic!("the put was not answered");
}

/// While loads and reads of logs have all they may have, and more of both wait, facts are taken in and
/// heads are saved, also for the service that reads so much.
#[tokio::test]
async fn writes_do_not_wait_for_reads() {
    let site = Site::start(Call::ReadLog).await;
    let (mut reader, other) = (site.connect().await, site.connect().await);
    // Taking a slot over looks at its mark.
    site.store.set_plan(FaultPlan::none());
    own(&mut reader).await;
    site.store.set_plan(holding(&[Call::LoadMark, Call::ReadLog]));
    for _ in 0..2 * LOADS_AT_ONCE {
        tokio::spawn(load(reader.clone()));
    }
    for _ in 0..2 * LOG_READS_AT_ONCE {
        tokio::spawn(read_log(reader.clone()));
    }
    site.reached(Call::LoadMark, LOADS_AT_ONCE.into()).await;
    site.reached(Call::ReadLog, LOG_READS_AT_ONCE.into()).await;
    timeout(SOON, append(other.clone())).await.unwrap();
    timeout(SOON, put(other)).await.unwrap();
    timeout(SOON, put(reader)).await.unwrap();
    assert_eq!(site.store.calls(Call::LoadMark), LOADS_AT_ONCE.into());
    assert_eq!(site.store.calls(Call::ReadLog), LOG_READS_AT_ONCE.into());
}

/// Whoever leaves gives its turn back, though the store has not answered.
#[tokio::test]
async fn a_caller_that_leaves_gives_its_turns_back() {
    let site = Site::start(Call::ReadLog).await;
    let (gone, other) = (site.connect().await, site.connect().await);
    let reads: Vec<_> =
        (0..LOG_READS_AT_ONCE).map(|_| tokio::spawn(read_log(gone.clone()))).collect();
    site.reached(Call::ReadLog, LOG_READS_AT_ONCE.into()).await;
    let waits = tokio::spawn(read_log(other));
    for read in &reads {
        read.abort();
    }
    site.reached(Call::ReadLog, u64::from(LOG_READS_AT_ONCE) + 1).await;
    site.store.land();
    timeout(SOON, waits).await.unwrap().unwrap();
}
