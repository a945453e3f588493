//! [`StorePort`], [`CatalogStore`] and [`ProducerWindows`] over gRPC.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_grpc::{Deadline, carry_trace};
use millrace_proto::v1;
use millrace_proto::v1::store_service_client::StoreServiceClient;
use millrace_store::encoding::encode_mark;
use millrace_store::{
    Applied, AuditSample, AuditStore, CatalogStore, Fencing, Incarnation, LogPage, Mark, Member,
    NodeId, NodeLease, Ownership, Part, ProducerWindows, Put, Seen, StoreError, until_known,
};
use millrace_telemetry::TraceContext;
use millrace_types::{Entity, KnownAt, Position, SlotId};
use tonic::{Code, Request, Response, Status};

use super::hop::{Broken, Hop};
use super::loads::{Loaded, Loads, Names};
use super::patience::Persistence;
use super::peer::RemotePeer;
use crate::client::ANSWER_BYTES_MAX;
use crate::endpoints::{EndpointError, Role};
use crate::error::innermost;
use crate::hedge::Hedge;
use crate::port::{AppendOutcome, AppendRequest, StorePort, TakenOver};
use crate::security::{ClientSecurity, Wire};
use crate::wire;

/// How long one attempt of a call may take; no longer than what is left to the call on whose behalf
/// it is made.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(30);

fn timed<Q>(message: Q) -> Request<Q> {
    let mut request = Request::new(message);
    request.set_timeout(Deadline::within(ATTEMPT_WITHIN));
    carry_trace(&mut request);
    request
}

/// A store-writer in another process.
#[derive(Debug)]
pub struct RemoteStore {
    append: Hop<v1::AppendRequest, v1::AppendResponse>,
    put: Hop<v1::PutRequest, v1::PutResponse>,
    client: StoreServiceClient<Wire>,
    role: Role,
    persistence: Persistence,
    loads: Loads,
    hedged_after: Option<Duration>,
}

impl RemoteStore {
    /// The store-writer at these addresses. Connects when it first has to. Must be made within a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError`] for an address that is none, or that is not fit for what would be sent.
    pub fn new(
        endpoints: &[String],
        security: &ClientSecurity,
        persistence: Persistence,
    ) -> Result<Self, EndpointError> {
        let role = Role::secure("store-writer", endpoints, security)?;
        let client =
            StoreServiceClient::new(role.wire()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let calls = client.clone();
        let append = Hop::spawn("append", role.clone(), move |requests| {
            let mut client = calls.clone();
            Box::pin(async move { Ok(client.append(requests).await?.into_inner()) })
        });
        let calls = client.clone();
        let put = Hop::spawn("put", role.clone(), move |requests| {
            let mut client = calls.clone();
            Box::pin(async move { Ok(client.put(requests).await?.into_inner()) })
        });
        let loads = Loads::spawn(client.clone(), role.clone(), None);
        Ok(Self { append, put, client, role, persistence, loads, hedged_after: None })
    }

    /// The same, asking once more for what was not loaded after so long: where there are several
    /// store-writers, mostly another one. At most one read in twenty is asked twice. Must be called within a
    /// tokio runtime.
    #[must_use]
    pub fn hedged(mut self, after: Duration) -> Self {
        let hedge = Some(Arc::new(Hedge::new(after)));
        self.loads = Loads::spawn(self.client.clone(), self.role.clone(), hedge);
        self.hedged_after = Some(after);
        self
    }

    /// After how long it asks once more, if it does.
    #[must_use]
    pub fn hedged_after(&self) -> Option<Duration> {
        self.hedged_after
    }

    /// Whether the store-writer serves, asked on the connection of the calls: what it says holds for
    /// them.
    #[must_use]
    pub fn peer(&self) -> RemotePeer {
        RemotePeer::of(&self.role)
    }

    fn trusted(&self) -> Result<(), StoreError> {
        self.role.trusted().map_err(|reason| StoreError::NotTrusted { reason })
    }

    /// Repeats a call, unchanged, until its outcome is known or patience ends.
    async fn repeat<T, F>(&self, call: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        until_known(&mut self.persistence.patience(), call).await
    }

    /// One unary call, repeated.
    pub(super) async fn unary<Q, A, F, T>(
        &self,
        operation: &'static str,
        request: Q,
        call: impl Fn(StoreServiceClient<Wire>, Request<Q>) -> F,
        read: impl Fn(A) -> Result<T, StoreError>,
    ) -> Result<T, StoreError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.repeat(|| async {
            self.trusted()?;
            let answer = call(self.client.clone(), timed(request.clone())).await;
            read(answer.map_err(|s| failed(&self.role, operation, &s))?.into_inner())
        })
        .await
    }

    async fn read_log_once(&self, request: v1::ReadLogRequest) -> Result<LogPage, StoreError> {
        self.trusted()?;
        let broken = |status: Status| failed(&self.role, "read the log", &status);
        let mut answers =
            self.client.clone().read_log(timed(request)).await.map_err(broken)?.into_inner();
        let mut page = LogPage::default();
        while let Some(answer) = answers.message().await.map_err(broken)? {
            wire::store::result(answer.fault)?;
            page.complete = answer.complete;
            for chunk in answer.chunks {
                let position = wire::position(chunk.position, "chunks.position");
                let position = position.map_err(|e| malformed(&e))?;
                page.chunks.push((position, chunk.chunk));
            }
        }
        Ok(page)
    }

    async fn put_once(&self, request: v1::PutRequest) -> Result<(), StoreError> {
        let answer = self.put.ask(request).await.map_err(|e| broken("put", e))?;
        wire::store::result(answer.fault)
    }
}

fn broken(operation: &'static str, broken: Broken) -> StoreError {
    match broken {
        Broken::Call(reason) => StoreError::Unknown { operation, reason },
        Broken::NotTrusted(reason) => StoreError::NotTrusted { reason },
    }
}

/// What a status of the transport or of the server's limits means for a call that may be repeated.
pub(super) fn failed(role: &Role, operation: &'static str, status: &Status) -> StoreError {
    if let Some(reason) = role.distrust(status) {
        return StoreError::NotTrusted { reason };
    }
    let reason = innermost(status);
    match status.code() {
        Code::InvalidArgument
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::OutOfRange => {
            StoreError::Failed { reason: format!("store-writer refuses to {operation}: {reason}") }
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => StoreError::Unknown { operation, reason },
    }
}

pub(super) fn malformed(error: &wire::Malformed) -> StoreError {
    StoreError::Failed { reason: format!("the answer of store-writer is not understood: {error}") }
}

#[async_trait]
impl StorePort for RemoteStore {
    async fn append(&self, request: AppendRequest) -> Result<AppendOutcome, StoreError> {
        let AppendRequest { node, incarnation, chunks, trace } = request;
        for run in wire::split(chunks, |chunk| chunk.bytes.len()) {
            let message = wire::store::append_request(&node, incarnation, &run, &trace);
            let outcome = self
                .repeat(|| async {
                    let answer = self.append.ask(message.clone()).await;
                    let answer = answer.map_err(|e| broken("append", e))?;
                    let outcome = answer.outcome();
                    wire::store::result(answer.fault)?;
                    match outcome {
                        v1::AppendOutcome::Confirmed => Ok(AppendOutcome::Confirmed),
                        v1::AppendOutcome::Fenced => Ok(AppendOutcome::Fenced),
                        v1::AppendOutcome::Unspecified => {
                            let reason = "the answer has no outcome".to_owned();
                            Err(StoreError::Unknown { operation: "append", reason })
                        }
                    }
                })
                .await?;
            if outcome == AppendOutcome::Fenced {
                return Ok(outcome);
            }
        }
        Ok(AppendOutcome::Confirmed)
    }

    async fn put(&self, parts: Vec<Put>, trace: TraceContext) -> Result<(), StoreError> {
        // One after the other: pages are known before the head that lists them.
        for run in wire::split(parts, |put| put.bytes.len()) {
            let message = wire::store::put_request(&run, &trace);
            self.repeat(|| self.put_once(message.clone())).await?;
        }
        Ok(())
    }

    async fn load(&self, parts: Vec<(Entity, Part)>) -> Result<Vec<Loaded>, StoreError> {
        let names = Names::Parts(parts);
        self.repeat(|| self.loads.load(names.clone(), ATTEMPT_WITHIN)).await
    }

    async fn put_mark(&self, slot: SlotId, ver: KnownAt, mark: Mark) -> Result<(), StoreError> {
        let mark = v1::MarkPut { slot: slot.0, ver_us: ver.0, mark: encode_mark(&mark).into() };
        let message = v1::PutRequest { marks: vec![mark], ..v1::PutRequest::default() };
        self.repeat(|| self.put_once(message.clone())).await
    }

    async fn load_mark(&self, slot: SlotId) -> Result<Option<(KnownAt, Mark)>, StoreError> {
        let names = Names::Marks(vec![slot]);
        let loaded = self.repeat(|| self.loads.load(names.clone(), ATTEMPT_WITHIN)).await?;
        let read = |(ver, bytes): (KnownAt, Bytes)| {
            let mark = wire::store::read_mark(&bytes).map_err(|e| malformed(&e))?;
            Ok((ver, mark))
        };
        loaded.into_iter().next().flatten().map(read).transpose()
    }

    async fn read_log(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError> {
        let request = v1::ReadLogRequest {
            slot: slot.0,
            after: Some(after.into()),
            up_to: Some(up_to.into()),
            max_bytes: max_bytes as u64,
        };
        self.repeat(|| self.read_log_once(request)).await
    }

    async fn renew_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        ceiling: KnownAt,
    ) -> Result<Applied<NodeLease>, StoreError> {
        let request = v1::RenewNodeRequest {
            node: node.0.clone(),
            incarnation: incarnation.0,
            ceiling_us: ceiling.0,
        };
        self.unary(
            "renew",
            request,
            |mut client, request| async move { client.renew_node(request).await },
            |answer: v1::RenewNodeResponse| {
                wire::store::result(answer.fault)?;
                Ok(match answer.renewed {
                    true => Applied::Yes,
                    false => Applied::No(answer.row.as_ref().map(wire::store::read_node_row)),
                })
            },
        )
        .await
    }

    async fn take_over(
        &self,
        slot: SlotId,
        node: &NodeId,
        incarnation: Incarnation,
        fencing: &Fencing,
    ) -> Result<TakenOver, StoreError> {
        let dead = match fencing {
            Fencing::Anyone => None,
            Fencing::Dead(dead) => Some(dead.iter().map(|run| run.0).collect()),
        };
        let request = v1::TakeOverRequest {
            slot: slot.0,
            node: node.0.clone(),
            incarnation: incarnation.0,
            beside_others: dead.is_some(),
            dead: dead.unwrap_or_default(),
        };
        self.unary(
            "take over",
            request,
            |mut client, request| async move { client.take_over(request).await },
            |answer: v1::TakeOverResponse| {
                wire::store::result(answer.fault)?;
                let none = || wire::Malformed::new("epoch", "must be set");
                let row = answer.epoch.ok_or_else(none).map_err(|e| malformed(&e))?;
                let row = wire::store::read_epoch_row(row);
                Ok(if answer.theirs { TakenOver::Theirs(row) } else { TakenOver::Mine(row) })
            },
        )
        .await
    }

    async fn release(
        &self,
        slot: SlotId,
        epoch: u64,
        incarnation: Incarnation,
        end: u64,
        last_ver: KnownAt,
    ) -> Result<(), StoreError> {
        let request = v1::ReleaseRequest {
            slot: slot.0,
            epoch,
            incarnation: incarnation.0,
            end,
            last_ver_us: last_ver.0,
        };
        self.unary(
            "release",
            request,
            |mut client, request| async move { client.release(request).await },
            |answer: v1::ReleaseResponse| wire::store::result(answer.fault),
        )
        .await
    }

    async fn put_member(&self, ver: KnownAt, member: Member) -> Result<(), StoreError> {
        let member = Some(wire::store::member(&member));
        self.unary(
            "put a member",
            v1::PutMemberRequest { ver_us: ver.0, member },
            |mut client, request| async move { client.put_member(request).await },
            |answer: v1::PutMemberResponse| wire::store::result(answer.fault),
        )
        .await
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.unary(
            "list members",
            v1::ListMembersRequest {},
            |mut client, request| async move { client.list_members(request).await },
            |answer: v1::ListMembersResponse| {
                wire::store::result(answer.fault)?;
                Ok(answer.members.into_iter().map(wire::store::read_member).collect())
            },
        )
        .await
    }

    async fn look(&self, nodes: Vec<NodeId>, slots: Vec<SlotId>) -> Result<Ownership, StoreError> {
        let request = v1::LookAtOwnershipRequest {
            nodes: nodes.into_iter().map(|node| node.0).collect(),
            slots: slots.into_iter().map(|slot| slot.0).collect(),
        };
        self.unary(
            "look at the ownership",
            request,
            |mut client, request| async move { client.look_at_ownership(request).await },
            |answer: v1::LookAtOwnershipResponse| {
                wire::store::result(answer.fault.clone())?;
                Ok(wire::store::read_ownership(answer))
            },
        )
        .await
    }
}

#[async_trait]
impl AuditStore for RemoteStore {
    async fn put_samples(
        &self,
        node: &NodeId,
        samples: Vec<AuditSample>,
    ) -> Result<(), StoreError> {
        let samples = samples.into_iter().map(wire::store::sample).collect();
        self.unary(
            "put samples",
            v1::PutSamplesRequest { node: node.0.clone(), samples },
            |mut client, request| async move { client.put_samples(request).await },
            |answer: v1::PutSamplesResponse| wire::store::result(answer.fault),
        )
        .await
    }

    async fn samples(
        &self,
        node: &NodeId,
        after: KnownAt,
        max: usize,
    ) -> Result<Vec<AuditSample>, StoreError> {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        self.unary(
            "list samples",
            v1::ListSamplesRequest { node: node.0.clone(), after_us: after.0, max },
            |mut client, request| async move { client.list_samples(request).await },
            |answer: v1::ListSamplesResponse| {
                wire::store::result(answer.fault)?;
                Ok(answer.samples.into_iter().map(wire::store::read_sample).collect())
            },
        )
        .await
    }

    async fn forget_samples(&self, up_to: KnownAt) -> Result<(), StoreError> {
        self.unary(
            "forget samples",
            v1::ForgetSamplesRequest { up_to_us: up_to.0 },
            |mut client, request| async move { client.forget_samples(request).await },
            |answer: v1::ForgetSamplesResponse| wire::store::result(answer.fault),
        )
        .await
    }
}

#[async_trait]
impl CatalogStore for RemoteStore {
    async fn put_catalog(&self, version: u32, text: String) -> Result<Applied<String>, StoreError> {
        let catalog = Some(v1::CatalogText { version, text });
        self.unary(
            "put a catalog",
            v1::PutCatalogRequest { catalog },
            |mut client, request| async move { client.put_catalog(request).await },
            |answer: v1::PutCatalogResponse| {
                wire::store::result(answer.fault)?;
                Ok(if answer.stored { Applied::Yes } else { Applied::No(answer.there) })
            },
        )
        .await
    }

    async fn catalogs(&self) -> Result<Vec<(u32, String)>, StoreError> {
        self.catalogs_after(0).await
    }

    async fn catalogs_after(&self, version: u32) -> Result<Vec<(u32, String)>, StoreError> {
        let mut all: Vec<(u32, String)> = Vec::new();
        loop {
            let after_version = all.last().map_or(version, |(version, _)| *version);
            let (found, more) = self
                .unary(
                    "list catalogs",
                    v1::ListCatalogsRequest { after_version },
                    |mut client, request| async move { client.list_catalogs(request).await },
                    |answer: v1::ListCatalogsResponse| {
                        wire::store::result(answer.fault)?;
                        Ok((answer.catalogs, answer.more))
                    },
                )
                .await?;
            let stuck = found.is_empty();
            all.extend(found.into_iter().map(|catalog| (catalog.version, catalog.text)));
            if !more || stuck {
                return Ok(all);
            }
        }
    }
}

/// Asked once: a window that does not answer only costs work.
#[async_trait]
impl ProducerWindows for RemoteStore {
    async fn seen(&self, producer: &str, first: u64, next: u64) -> Result<Vec<Seen>, StoreError> {
        self.trusted()?;
        let request = v1::SeenSequencesRequest { producer: producer.to_owned(), first, next };
        let answer = self.client.clone().seen_sequences(timed(request)).await;
        let answer = answer.map_err(|s| failed(&self.role, "ask a window", &s))?.into_inner();
        wire::store::result(answer.fault)?;
        let seen = |byte: &u8| if *byte == 1 { Seen::Yes } else { Seen::No };
        Ok(answer.seen.iter().map(seen).collect())
    }

    async fn mark(&self, producer: &str, first: u64, next: u64) -> Result<(), StoreError> {
        self.trusted()?;
        let request = v1::MarkSequencesRequest { producer: producer.to_owned(), first, next };
        let answer = self.client.clone().mark_sequences(timed(request)).await;
        let answer = answer.map_err(|s| failed(&self.role, "mark a window", &s))?.into_inner();
        wire::store::result(answer.fault)
    }
}
