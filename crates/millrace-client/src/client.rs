//! Calls of the services.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use millrace_grpc::carry_trace;
use millrace_proto::v1;
use millrace_proto::v1::admin_service_client::AdminServiceClient;
use millrace_proto::v1::catalog_service_client::CatalogServiceClient;
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use millrace_proto::v1::ingest_service_client::IngestServiceClient;
use millrace_proto::v1::join_service_client::JoinServiceClient;
use millrace_telemetry::Span;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::endpoints::{EndpointError, Endpoints, Role, Roles};
use crate::error::ClientError;
use crate::publisher::{self, Outcomes, Publisher, PublisherOptions};
use crate::reach::Patience;
use crate::security::{ClientSecurity, Wire};
use crate::subscription::Subscription;

/// Bytes of an answer that are taken; servers send less.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Reads handed to the transport and not taken by it yet.
const READS_BUFFERED: usize = 16;

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// How long a call may take, attempts and pauses together; sent along as its deadline. Streams
    /// have none. Default 60 s.
    pub call_timeout: Duration,
    /// How long a service that cannot be reached is tried. Zero: once. Default 15 s.
    pub reach_within: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { call_timeout: Duration::from_secs(60), reach_within: Duration::from_secs(15) }
    }
}

/// A client of all services. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    roles: Roles,
    options: ClientOptions,
}

impl Client {
    /// A client that connects when it first calls. Must be made within a tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError`] for an address that is none.
    pub fn new(endpoints: &Endpoints, options: ClientOptions) -> Result<Self, EndpointError> {
        Self::secure(endpoints, options, &ClientSecurity::default())
    }

    /// The same, over TLS or with a credential.
    ///
    /// # Errors
    /// [`EndpointError`] for an address that is none, or that is not fit for what would be sent.
    pub fn secure(
        endpoints: &Endpoints,
        options: ClientOptions,
        security: &ClientSecurity,
    ) -> Result<Self, EndpointError> {
        Ok(Self { roles: endpoints.roles(security)?, options })
    }

    /// Checks a catalog, on its own and against the one in force.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn validate_catalog(
        &self,
        source: String,
    ) -> Result<v1::ValidateCatalogResponse, ClientError> {
        let request = v1::ValidateCatalogRequest { source };
        self.call(&self.roles.ingest, request, |channel, request| async move {
            catalog(channel).validate_catalog(request).await
        })
        .await
    }

    /// Applies a catalog, or with `dry_run` in it only shows the difference.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with CATALOG_INVALID and violations, or CATALOG_CHANGED; others.
    pub async fn apply_catalog(
        &self,
        request: v1::ApplyCatalogRequest,
    ) -> Result<v1::ApplyCatalogResponse, ClientError> {
        self.call(&self.roles.ingest, request, |channel, request| async move {
            catalog(channel).apply_catalog(request).await
        })
        .await
    }

    /// The catalog of a version, or the one in force.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_catalog(
        &self,
        version: Option<u32>,
    ) -> Result<v1::GetCatalogResponse, ClientError> {
        let request = v1::GetCatalogRequest { version };
        self.read(&self.roles.ingest, request, |channel, request| async move {
            catalog(channel).get_catalog(request).await
        })
        .await
    }

    /// Publishes one batch and waits until it is durable. For more than a few, [`Self::publisher`]
    /// is the way.
    ///
    /// # Errors
    /// [`ClientError`]. Sending the same batch again is safe after any of them.
    pub async fn publish_batch(
        &self,
        request: v1::PublishBatchRequest,
    ) -> Result<v1::PublishBatchResponse, ClientError> {
        let span = Span::client("publish batch");
        let call = self.call(&self.roles.ingest, request, |channel, request| async move {
            ingest(channel).publish_batch(request).await
        });
        span.around(call).await
    }

    /// A publisher on a call of its own, and what becomes of its batches. Clones of the publisher
    /// share the call. It ends when all of them are dropped and every batch is answered.
    #[must_use]
    pub fn publisher(&self, options: PublisherOptions) -> (Publisher, Outcomes) {
        publisher::start(self.roles.ingest.clone(), options, self.options)
    }

    /// Reads features.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_features(
        &self,
        request: v1::GetFeaturesRequest,
    ) -> Result<v1::GetFeaturesResponse, ClientError> {
        let span = Span::client("get features");
        let call = self.read(&self.roles.serving, request, |channel, request| async move {
            features(channel).get_features(request).await
        });
        span.around(call).await
    }

    /// Explains the value of a feature: the facts behind it, and those left out.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain(
        &self,
        request: v1::ExplainRequest,
    ) -> Result<v1::ExplainResponse, ClientError> {
        self.read(&self.roles.serving, request, |channel, request| async move {
            features(channel).explain(request).await
        })
        .await
    }

    /// Reads features many times on one call. Answers come in the order of the requests, which are
    /// taken as fast as the server takes them. A call that breaks is not resumed.
    ///
    /// # Errors
    /// [`ClientError`] when the call cannot start; later ones come through the stream and end it.
    pub async fn stream_features(
        &self,
        requests: impl Stream<Item = v1::StreamFeaturesRequest> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<v1::StreamFeaturesResponse, ClientError>>, ClientError>
    {
        let role = &self.roles.serving;
        // The requests can be taken once, so they wait until a call stands.
        let (taken, answers) = self
            .attempt(role, |_remaining| {
                let (taken, stream) = mpsc::channel(READS_BUFFERED);
                let mut client = features(role.wire());
                async move {
                    let answers = client.stream_features(ReceiverStream::new(stream)).await?;
                    Ok((taken, answers.into_inner()))
                }
            })
            .await?;
        tokio::spawn(async move {
            let mut requests = pin!(requests);
            while let Some(request) = requests.next().await {
                if taken.send(request).await.is_err() {
                    break; // the call is over
                }
            }
        });
        let (role, limit) = (role.clone(), self.options.call_timeout);
        Ok(answers.map(move |answer| answer.map_err(|s| ClientError::of(&s, &role, limit))).boxed())
    }

    /// Reads a training set. `spine` gives the rows, where they do not come from events.
    #[cfg(feature = "arrow")]
    #[must_use]
    pub fn training_set(
        &self,
        start: v1::TrainingSetStart,
        spine: Option<crate::training::TrainingSpine>,
    ) -> crate::training::TrainingSet {
        let patience = Patience::new(self.options.reach_within);
        crate::training::TrainingSet::new(self.clone(), start, spine, patience)
    }

    /// One call for a training set.
    #[cfg(feature = "arrow")]
    pub(crate) async fn open_training_set(
        &self,
        requests: ReceiverStream<v1::GetTrainingSetRequest>,
    ) -> Result<Streaming<v1::GetTrainingSetResponse>, ClientError> {
        let role = &self.roles.serving;
        let limit = self.options.call_timeout;
        let mut request = Request::new(requests);
        carry_trace(&mut request);
        let answers = timeout_at(Instant::now() + limit, async {
            features(role.wire()).get_training_set(request).await
        });
        match answers.await {
            Ok(Ok(answers)) => Ok(answers.into_inner()),
            Ok(Err(status)) => Err(ClientError::of(&status, role, limit)),
            Err(_) => Err(ClientError::DeadlineExceeded { after: limit }),
        }
    }

    #[cfg(feature = "arrow")]
    pub(crate) fn serving(&self) -> &Role {
        &self.roles.serving
    }

    /// Follows the joined rows of a view.
    ///
    /// # Errors
    /// [`ClientError`] when it cannot start.
    pub async fn subscribe(
        &self,
        request: v1::SubscribeRequest,
    ) -> Result<Subscription, ClientError> {
        let answers = self.open_subscription(&request).await?;
        let patience = Patience::new(self.options.reach_within);
        Ok(Subscription::new(self.clone(), request, answers, patience))
    }

    /// One call of a subscription.
    pub(crate) async fn open_subscription(
        &self,
        request: &v1::SubscribeRequest,
    ) -> Result<Streaming<v1::SubscribeResponse>, ClientError> {
        let role = &self.roles.join;
        self.attempt(role, |_remaining| {
            let mut client =
                JoinServiceClient::new(role.wire()).max_decoding_message_size(ANSWER_BYTES_MAX);
            let request = request.clone();
            async move { client.subscribe(request).await.map(Response::into_inner) }
        })
        .await
    }

    pub(crate) fn join(&self) -> &Role {
        &self.roles.join
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.options.call_timeout
    }

    /// The state of the server, with every slot's own if asked for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self, include_slots: bool) -> Result<v1::GetStatusResponse, ClientError> {
        let request = v1::GetStatusRequest { include_slots };
        self.read(&self.roles.serving, request, |channel, request| async move {
            admin(channel).get_status(request).await
        })
        .await
    }

    /// A page of the LATE facts of a stream.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_late_facts(
        &self,
        request: v1::ListLateFactsRequest,
    ) -> Result<v1::ListLateFactsResponse, ClientError> {
        self.read(&self.roles.serving, request, |channel, request| async move {
            admin(channel).list_late_facts(request).await
        })
        .await
    }

    /// Replays a page of the LATE facts of a stream. Safe to call again after any error: what is in
    /// effect is passed over.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn replay_late_facts(
        &self,
        request: v1::ReplayLateFactsRequest,
    ) -> Result<v1::ReplayLateFactsResponse, ClientError> {
        self.call(&self.roles.serving, request, |channel, request| async move {
            admin(channel).replay_late_facts(request).await
        })
        .await
    }

    /// Erases an entity, or tells how far its erasure is. Safe to call again after any error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn erase_entity(
        &self,
        request: v1::EraseEntityRequest,
    ) -> Result<v1::EraseEntityResponse, ClientError> {
        self.call(&self.roles.serving, request, |channel, request| async move {
            admin(channel).erase_entity(request).await
        })
        .await
    }

    /// One unary call with its deadline, tried again while the service cannot be reached.
    async fn call<Req, Resp, F>(
        &self,
        role: &Role,
        message: Req,
        send: impl Fn(Wire, Request<Req>) -> F,
    ) -> Result<Resp, ClientError>
    where
        Req: Clone,
        F: Future<Output = Result<Response<Resp>, Status>>,
    {
        self.attempt(role, |remaining| request(role.wire(), &message, remaining, &send)).await
    }

    /// A call that changes nothing: where several processes could answer, another is asked too when one
    /// takes long.
    async fn read<Req, Resp, F>(
        &self,
        role: &Role,
        message: Req,
        send: impl Fn(Wire, Request<Req>) -> F,
    ) -> Result<Resp, ClientError>
    where
        Req: Clone,
        F: Future<Output = Result<Response<Resp>, Status>>,
    {
        let Some(pool) = &role.pool else { return self.call(role, message, send).await };
        let (message, send) = (&message, &send);
        // A read of two attempts is large, and most have one.
        let read = self.attempt(role, |remaining| {
            let asked = Cell::new(None);
            pool.hedge.race(move || {
                // Whoever was asked before took too long.
                asked.take().into_iter().for_each(|before| pool.leave_out(before));
                let next = pool.next();
                asked.set(next.as_ref().map(|(index, _)| *index));
                let wire = next.map_or_else(|| role.wire(), |(_, way)| role.wire_over(way));
                let answer = request(wire, message, remaining, send);
                let asked = asked.get();
                async move {
                    let answer = answer.await;
                    if let (Some(index), Err(status)) = (asked, &answer)
                        && status.code() == Code::Unavailable
                    {
                        pool.leave_out(index);
                    }
                    answer
                }
            })
        });
        Box::pin(read).await
    }

    async fn attempt<T, F>(
        &self,
        role: &Role,
        send: impl Fn(Duration) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let limit = self.options.call_timeout;
        let until = Instant::now() + limit;
        let mut patience = Patience::new(self.options.reach_within);
        loop {
            let remaining = until.saturating_duration_since(Instant::now());
            let error = match timeout_at(until, send(remaining)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => ClientError::of(&status, role, limit),
                Err(_) => return Err(ClientError::DeadlineExceeded { after: limit }),
            };
            patience.wait(role, error).await?;
        }
    }
}

/// One attempt of a call that may take so long.
fn request<Req, Resp, F, S>(
    wire: Wire,
    message: &Req,
    remaining: Duration,
    send: &S,
) -> impl Future<Output = Result<Resp, Status>> + use<Req, Resp, F, S>
where
    Req: Clone,
    F: Future<Output = Result<Response<Resp>, Status>>,
    S: Fn(Wire, Request<Req>) -> F,
{
    let mut request = Request::new(message.clone());
    request.set_timeout(remaining);
    carry_trace(&mut request);
    let sent = send(wire, request);
    async move { sent.await.map(Response::into_inner) }
}

fn catalog(channel: Wire) -> CatalogServiceClient<Wire> {
    CatalogServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

pub(crate) fn ingest(channel: Wire) -> IngestServiceClient<Wire> {
    IngestServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn features(channel: Wire) -> FeatureServiceClient<Wire> {
    FeatureServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn admin(channel: Wire) -> AdminServiceClient<Wire> {
    AdminServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}
