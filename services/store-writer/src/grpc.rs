//! `StoreService` over gRPC: the ports of a store, for services in other processes.

mod answers;
mod erasures;
mod lane;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use millrace_client::port::{AppendOutcome, StorePort, TakenOver};
use millrace_client::wire;
use millrace_client::wire::credits::{Load, Loaded};
use millrace_grpc::{Drain, PeerInfo, Turn, Turns, status, trace_of};
use millrace_proto::v1;
use millrace_proto::v1::store_service_server::StoreService;
use millrace_store::{
    AUDIT_SAMPLES_MAX, Applied, Fencing, Incarnation, NodeId, Seen, Store, StoreError,
};
use millrace_telemetry::TraceContext;
use millrace_types::{KnownAt, SlotId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use erasures::Compactions;
use lane::{Answer, Lane};

/// What all calls that append may have under way together: as much as the queue of appends holds.
pub const APPENDS: Load = Load { facts: 1 << 20, bytes: 64 << 20 };
/// What all calls that put may have under way together, in parts.
pub const PUTS: Load = Load { facts: 1 << 16, bytes: 64 << 20 };
/// Loads worked on at a time; more wait their turn, as long as their callers do. Turns go from caller to
/// caller: a node that rebuilds a thousand entities, or takes many slots over, keeps no reader waiting.
pub const LOADS_AT_ONCE: u32 = 64;
/// Pages of logs read at a time: they hold megabytes each, and must not starve loads and appends.
pub const LOG_READS_AT_ONCE: u32 = 8;
/// Requests of one call that are worked on at a time; the transport holds the rest back.
const AT_ONCE: usize = 64;
/// Answers that may wait for a slow reader.
const CHANNEL: usize = 4;
/// Numbers one question about a producer may be about.
const NUMBERS_MAX: u64 = 1 << 20;

/// The service.
pub struct StoreGrpc {
    port: Arc<dyn StorePort>,
    store: Arc<dyn Store>,
    drain: Drain,
    appends: Lane,
    puts: Lane,
    loads: Turns<Connection>,
    log_reads: Turns<Connection>,
    compactions: Compactions,
}

impl StoreGrpc {
    /// Serves this port, and the catalog and producer windows of this store, until the drain starts.
    #[must_use]
    pub fn new(port: Arc<dyn StorePort>, store: Arc<dyn Store>, drain: Drain) -> Self {
        Self {
            port,
            store,
            drain,
            appends: Lane::new(APPENDS),
            puts: Lane::new(PUTS),
            loads: Turns::new(LOADS_AT_ONCE, u32::MAX),
            log_reads: Turns::new(LOG_READS_AT_ONCE, u32::MAX),
            compactions: Compactions::default(),
        }
    }
}

type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// Works on the requests of a call side by side, at most [`AT_ONCE`] of them. A message that is
/// none of the protocol ends the call; so does the drain, once what is under way is answered.
fn side_by_side<Q, A, F>(
    mut requests: Streaming<Q>,
    drain: Drain,
    lane: &Lane,
    work: impl Fn(Q) -> Result<F, wire::Malformed> + Send + 'static,
) -> Answers<A>
where
    Q: Loaded + Send + 'static,
    A: Answer,
    F: Future<Output = A> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let call = lane.open();
    tokio::spawn(async move {
        let mut load = Load::default();
        let mut under_way = FuturesUnordered::new();
        if sender.send(Ok(A::default().with(call.credits()))).await.is_err() {
            return;
        }
        let started = drain.started();
        tokio::pin!(started);
        let mut end = None;
        loop {
            if end.is_some() && under_way.is_empty() {
                break;
            }
            tokio::select! {
                Some((answer, took)) = under_way.next() => {
                    load.remove(took);
                    let answer: A = answer;
                    if sender.send(Ok(answer.with(call.credits()))).await.is_err() {
                        return; // nobody reads the answers: their outcome is unknown there
                    }
                }
                () = &mut started, if end.is_none() => end = Some(Some(Drain::status())),
                // Who keeps to the credits is never made to wait here.
                request = requests.message(), if end.is_none()
                    && under_way.len() < AT_ONCE
                    && load.admits(Load::default(), call.credits()) =>
                {
                    match request {
                        Ok(Some(request)) => {
                            let took = request.load();
                            match work(request) {
                                Ok(future) => {
                                    load.add(took);
                                    under_way.push(async move { (future.await, took) });
                                }
                                Err(malformed) => end = Some(Some(status(&malformed))),
                            }
                        }
                        // A call that broke needs no word of it.
                        Ok(None) | Err(_) => end = Some(None),
                    }
                }
            }
        }
        if let Some(Some(status)) = end {
            let _ = sender.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Who calls: a service, by its connection. Several may be on one host.
type Connection = Option<SocketAddr>;

fn connection_of<T>(request: &Request<T>) -> Connection {
    request.extensions().get().and_then(PeerInfo::address)
}

/// Does the work of a call that has its turn, and no longer than somebody waits for what it sends.
fn in_turn<A: Send + 'static>(
    turn: Turn<Connection>,
    sender: &mpsc::Sender<A>,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let left = sender.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = left.closed() => {}
            () = work => {}
        }
        drop(turn);
    });
}

fn fault<T>(result: Result<T, StoreError>) -> (Option<T>, Option<v1::StoreFault>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(wire::store::fault(&error))),
    }
}

#[tonic::async_trait]
impl StoreService for StoreGrpc {
    type AppendStream = Answers<v1::AppendResponse>;

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let port = self.port.clone();
        let work = move |message: v1::AppendRequest| {
            let tag = message.tag;
            let (port, request) = (port.clone(), wire::store::read_append(message)?);
            Ok(async move {
                let (outcome, fault) = fault(port.append(request).await);
                let outcome = match outcome {
                    Some(AppendOutcome::Confirmed) => v1::AppendOutcome::Confirmed,
                    Some(AppendOutcome::Fenced) => v1::AppendOutcome::Fenced,
                    None => v1::AppendOutcome::Unspecified,
                };
                v1::AppendResponse { tag, outcome: outcome as i32, fault, credits: None }
            })
        };
        Ok(Response::new(side_by_side(
            request.into_inner(),
            self.drain.clone(),
            &self.appends,
            work,
        )))
    }

    type PutStream = Answers<v1::PutResponse>;

    async fn put(
        &self,
        request: Request<Streaming<v1::PutRequest>>,
    ) -> Result<Response<Self::PutStream>, Status> {
        let port = self.port.clone();
        let work = move |message: v1::PutRequest| {
            let (tag, port) = (message.tag, port.clone());
            let trace = TraceContext::read(&message.traceparent, &message.tracestate);
            let parts: Vec<_> = message
                .parts
                .into_iter()
                .map(wire::store::read_part_put)
                .collect::<Result<_, _>>()?;
            let marks = message.marks.into_iter().map(|put| {
                let mark = wire::store::read_mark(&put.mark)?;
                Ok((SlotId(put.slot), KnownAt(put.ver_us), mark))
            });
            let marks: Vec<_> = marks.collect::<Result<_, wire::Malformed>>()?;
            Ok(async move {
                let put = async {
                    if !parts.is_empty() {
                        port.put(parts, trace).await?;
                    }
                    for (slot, ver, mark) in marks {
                        port.put_mark(slot, ver, mark).await?;
                    }
                    Ok(())
                };
                v1::PutResponse { tag, fault: fault(put.await).1, credits: None }
            })
        };
        Ok(Response::new(side_by_side(request.into_inner(), self.drain.clone(), &self.puts, work)))
    }

    type LoadStream = Answers<v1::LoadResponse>;

    async fn load(
        &self,
        request: Request<v1::LoadRequest>,
    ) -> Result<Response<Self::LoadStream>, Status> {
        let (scope, caller) = (trace_of(&request).scope(), connection_of(&request));
        let request = request.into_inner();
        let slots = request.mark_slots.into_iter().map(SlotId).collect();
        let parts = request
            .parts
            .into_iter()
            .map(wire::store::read_part_name)
            .collect::<Result<_, _>>()
            .map_err(|e| status(&e))?;
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let turn = self.loads.turn(caller, 1).await;
        let work = answers::load(self.port.clone(), slots, parts, sender.clone());
        in_turn(turn, &sender, scope.around(work));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type ReadLogStream = Answers<v1::ReadLogResponse>;

    async fn read_log(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let (scope, caller) = (trace_of(&request).scope(), connection_of(&request));
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let turn = self.log_reads.turn(caller, 1).await;
        let work = answers::read_log(self.port.clone(), request.into_inner(), sender.clone());
        in_turn(turn, &sender, scope.around(work));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn renew_node(
        &self,
        request: Request<v1::RenewNodeRequest>,
    ) -> Result<Response<v1::RenewNodeResponse>, Status> {
        let v1::RenewNodeRequest { node, incarnation, ceiling_us } = request.into_inner();
        let (node, incarnation) = (NodeId(node), Incarnation(incarnation));
        let renewed = self.port.renew_node(&node, incarnation, KnownAt(ceiling_us)).await;
        let (applied, fault) = fault(renewed);
        let (renewed, row) = match applied {
            Some(Applied::Yes) => (true, None),
            Some(Applied::No(row)) => (false, row.as_ref().map(wire::store::node_row)),
            None => (false, None),
        };
        Ok(Response::new(v1::RenewNodeResponse { renewed, row, fault }))
    }

    async fn take_over(
        &self,
        request: Request<v1::TakeOverRequest>,
    ) -> Result<Response<v1::TakeOverResponse>, Status> {
        let request = request.into_inner();
        let fencing = match request.beside_others {
            true => Fencing::Dead(request.dead.into_iter().map(Incarnation).collect()),
            false => Fencing::Anyone,
        };
        let (node, incarnation) = (NodeId(request.node), Incarnation(request.incarnation));
        let taken = self.port.take_over(SlotId(request.slot), &node, incarnation, &fencing).await;
        let (taken, fault) = fault(taken);
        let (epoch, theirs) = match &taken {
            Some(TakenOver::Mine(row)) => (Some(wire::store::epoch_row(row)), false),
            Some(TakenOver::Theirs(row)) => (Some(wire::store::epoch_row(row)), true),
            None => (None, false),
        };
        Ok(Response::new(v1::TakeOverResponse { epoch, fault, theirs }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let r = request.into_inner();
        let (slot, incarnation) = (SlotId(r.slot), Incarnation(r.incarnation));
        let released =
            self.port.release(slot, r.epoch, incarnation, r.end, KnownAt(r.last_ver_us)).await;
        Ok(Response::new(v1::ReleaseResponse { fault: fault(released).1 }))
    }

    async fn put_member(
        &self,
        request: Request<v1::PutMemberRequest>,
    ) -> Result<Response<v1::PutMemberResponse>, Status> {
        let v1::PutMemberRequest { ver_us, member } = request.into_inner();
        let member = wire::store::read_member(member.unwrap_or_default());
        let put = self.port.put_member(KnownAt(ver_us), member).await;
        Ok(Response::new(v1::PutMemberResponse { fault: fault(put).1 }))
    }

    async fn list_members(
        &self,
        _request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        let (members, fault) = fault(self.port.members().await);
        let members = members.iter().flatten().map(wire::store::member).collect();
        Ok(Response::new(v1::ListMembersResponse { members, fault }))
    }

    async fn look_at_ownership(
        &self,
        request: Request<v1::LookAtOwnershipRequest>,
    ) -> Result<Response<v1::LookAtOwnershipResponse>, Status> {
        answers::check_look(request.get_ref()).map_err(|e| status(&e))?;
        let turn = self.loads.turn(connection_of(&request), 1).await;
        let v1::LookAtOwnershipRequest { nodes, slots } = request.into_inner();
        let (nodes, slots) = (nodes.into_iter().map(NodeId), slots.into_iter().map(SlotId));
        let (found, fault) = fault(self.port.look(nodes.collect(), slots.collect()).await);
        drop(turn);
        let found = wire::store::ownership(&found.unwrap_or_default());
        Ok(Response::new(v1::LookAtOwnershipResponse { fault, ..found }))
    }

    async fn put_samples(
        &self,
        request: Request<v1::PutSamplesRequest>,
    ) -> Result<Response<v1::PutSamplesResponse>, Status> {
        let v1::PutSamplesRequest { node, samples } = request.into_inner();
        answers::check_samples(&samples).map_err(|e| status(&e))?;
        let samples = samples.into_iter().map(wire::store::read_sample).collect();
        let put = self.port.put_samples(&NodeId(node), samples).await;
        Ok(Response::new(v1::PutSamplesResponse { fault: fault(put).1 }))
    }

    async fn list_samples(
        &self,
        request: Request<v1::ListSamplesRequest>,
    ) -> Result<Response<v1::ListSamplesResponse>, Status> {
        let caller = connection_of(&request);
        let v1::ListSamplesRequest { node, after_us, max } = request.into_inner();
        let max = (max as usize).min(AUDIT_SAMPLES_MAX);
        let turn = self.log_reads.turn(caller, 1).await;
        let (found, fault) = fault(self.port.samples(&NodeId(node), KnownAt(after_us), max).await);
        drop(turn);
        let samples = found.unwrap_or_default().into_iter().map(wire::store::sample).collect();
        Ok(Response::new(v1::ListSamplesResponse { samples, fault }))
    }

    async fn forget_samples(
        &self,
        request: Request<v1::ForgetSamplesRequest>,
    ) -> Result<Response<v1::ForgetSamplesResponse>, Status> {
        let turn = self.log_reads.turn(connection_of(&request), 1).await;
        let forgotten = self.port.forget_samples(KnownAt(request.into_inner().up_to_us)).await;
        drop(turn);
        Ok(Response::new(v1::ForgetSamplesResponse { fault: fault(forgotten).1 }))
    }

    async fn list_catalogs(
        &self,
        request: Request<v1::ListCatalogsRequest>,
    ) -> Result<Response<v1::ListCatalogsResponse>, Status> {
        let after = request.into_inner().after_version;
        let (newer, fault) = fault(self.store.catalogs_after(after).await);
        let newer = newer.unwrap_or_default();
        let mut runs = wire::split(newer, |(_, text)| text.len()).into_iter();
        let catalogs = runs.next().unwrap_or_default().into_iter();
        let catalogs = catalogs.map(|(version, text)| v1::CatalogText { version, text }).collect();
        let more = runs.next().is_some();
        Ok(Response::new(v1::ListCatalogsResponse { catalogs, more, fault }))
    }

    async fn put_catalog(
        &self,
        request: Request<v1::PutCatalogRequest>,
    ) -> Result<Response<v1::PutCatalogResponse>, Status> {
        let catalog = request.into_inner().catalog.unwrap_or_default();
        let put = self.store.put_catalog(catalog.version, catalog.text).await;
        let (applied, fault) = fault(put);
        let (stored, there) = match applied {
            Some(Applied::Yes) => (true, None),
            Some(Applied::No(there)) => (false, there),
            None => (false, None),
        };
        Ok(Response::new(v1::PutCatalogResponse { stored, there, fault }))
    }

    async fn put_erasure(
        &self,
        request: Request<v1::PutErasureRequest>,
    ) -> Result<Response<v1::PutErasureResponse>, Status> {
        erasures::put(&*self.port, request.into_inner()).await.map(Response::new)
    }

    async fn list_erasures(
        &self,
        request: Request<v1::ListErasuresRequest>,
    ) -> Result<Response<v1::ListErasuresResponse>, Status> {
        Ok(Response::new(erasures::list(&*self.port, request.into_inner()).await))
    }

    async fn put_receipt(
        &self,
        request: Request<v1::PutReceiptRequest>,
    ) -> Result<Response<v1::PutReceiptResponse>, Status> {
        erasures::put_receipt(&*self.port, request.into_inner()).await.map(Response::new)
    }

    async fn list_receipts(
        &self,
        request: Request<v1::ListReceiptsRequest>,
    ) -> Result<Response<v1::ListReceiptsResponse>, Status> {
        Ok(Response::new(erasures::receipts(&*self.port, request.into_inner()).await))
    }

    async fn rewrite(
        &self,
        request: Request<v1::RewriteRequest>,
    ) -> Result<Response<v1::RewriteResponse>, Status> {
        erasures::rewrite(&*self.port, request.into_inner()).await.map(Response::new)
    }

    async fn list_parts(
        &self,
        request: Request<v1::ListPartsRequest>,
    ) -> Result<Response<v1::ListPartsResponse>, Status> {
        erasures::parts(&*self.port, request.into_inner()).await.map(Response::new)
    }

    async fn compact(
        &self,
        request: Request<v1::CompactRequest>,
    ) -> Result<Response<v1::CompactResponse>, Status> {
        let number = request.into_inner().number;
        Ok(Response::new(self.compactions.ask(&self.port, number).await))
    }

    async fn seen_sequences(
        &self,
        request: Request<v1::SeenSequencesRequest>,
    ) -> Result<Response<v1::SeenSequencesResponse>, Status> {
        let v1::SeenSequencesRequest { producer, first, next } = request.into_inner();
        answers::check_numbers(first, next, NUMBERS_MAX).map_err(|e| status(&e))?;
        let (seen, fault) = fault(self.store.seen(&producer, first, next).await);
        let byte = |seen| u8::from(seen == Seen::Yes);
        let seen: Vec<u8> = seen.unwrap_or_default().into_iter().map(byte).collect();
        Ok(Response::new(v1::SeenSequencesResponse { seen: seen.into(), fault }))
    }

    async fn mark_sequences(
        &self,
        request: Request<v1::MarkSequencesRequest>,
    ) -> Result<Response<v1::MarkSequencesResponse>, Status> {
        let v1::MarkSequencesRequest { producer, first, next } = request.into_inner();
        answers::check_numbers(first, next, u64::MAX).map_err(|e| status(&e))?;
        let marked = self.store.mark(&producer, first, next).await;
        Ok(Response::new(v1::MarkSequencesResponse { fault: fault(marked).1 }))
    }
}
