//! A server that the tests play. It keeps what it is sent, gives verdicts by the id of a fact
//! (`late…`, `conflict…`, and REJECTED without a user), and answers reads with fixed values.

mod reads;
mod training;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::StreamDecoder;
use millrace_catalog::Catalog;
use millrace_grpc::{Drain, GrpcServer, ServerLimits, services};
use millrace_proto::v1;
use millrace_proto::v1::catalog_service_server::CatalogService;
use millrace_proto::v1::ingest_service_server::IngestService;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// The catalog in force.
pub(crate) const CATALOG: &str = "\
entities: {user: int64, pair: [int64, string]}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    fields: {event_id: string, user_id: int64, ts: timestamp(ms), price: double}
  visits:
    kind: event
    keys: {pair: [user_id, page]}
    at: ts
    fields: {user_id: int64, page: string, ts: timestamp}
views:
  user_activity:
    entity: user
    events: clicks
    features:
      clicks_1h: {count: {}, window: 1h}
      spend_24h: {sum: price, window: 24h}
  pair_visits:
    entity: pair
    events: visits
    features:
      visits: {count: {}}
";

/// A request of `Publish` as it came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    pub(crate) producer: String,
    pub(crate) stream: String,
    pub(crate) sequences: Vec<u64>,
    pub(crate) first: u64,
    pub(crate) next: u64,
    pub(crate) ids: Vec<String>,
    pub(crate) known_at: Vec<i64>,
    pub(crate) idle: bool,
}

/// What a server was sent, and what it is told to be.
#[derive(Default)]
pub(crate) struct Played {
    pub(crate) received: Mutex<Vec<Received>>,
    pub(crate) seen: Mutex<HashSet<(String, u64)>>,
    pub(crate) is_down: bool,
}

/// Starts it; it runs until the test ends.
pub(crate) async fn start(played: Played) -> (SocketAddr, Arc<Played>) {
    let played = Arc::new(played);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ServerLimits::default();
    let server = GrpcServer::new(limits, Drain::new())
        .add_service(services::ingest(Service(played.clone()), &limits))
        .add_service(services::catalog(Service(played.clone()), &limits))
        .add_service(services::features(Service(played.clone()), &limits))
        .add_service(services::join(Service(played.clone()), &limits))
        .add_service(services::admin(Service(played.clone()), &limits));
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await.unwrap() });
    (address, played)
}

struct Service(Arc<Played>);

#[tonic::async_trait]
impl CatalogService for Service {
    async fn validate_catalog(
        &self,
        request: Request<v1::ValidateCatalogRequest>,
    ) -> Result<Response<v1::ValidateCatalogResponse>, Status> {
        let problems = Catalog::compile(&request.into_inner().source, None).err();
        let problem = |d: millrace_catalog::Diagnostic| v1::CatalogProblem {
            line: d.line,
            column: d.column,
            rule: d.rule.name().to_owned(),
            message: d.message,
            suggestion: d.suggestion.unwrap_or_default(),
        };
        let problems = problems.unwrap_or_default().into_iter().map(problem).collect();
        Ok(Response::new(v1::ValidateCatalogResponse { problems }))
    }

    async fn apply_catalog(
        &self,
        request: Request<v1::ApplyCatalogRequest>,
    ) -> Result<Response<v1::ApplyCatalogResponse>, Status> {
        let applied = !request.into_inner().dry_run;
        let change = |kind: v1::CatalogChangeKind, before: &str, after: &str| v1::CatalogChange {
            kind: kind.into(),
            path: "views.v.features.f".to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
        };
        Ok(Response::new(v1::ApplyCatalogResponse {
            version: if applied { 4 } else { 3 },
            applied,
            changes: vec![
                change(v1::CatalogChangeKind::Added, "", "{count: {}}"),
                change(v1::CatalogChangeKind::Changed, "1h", "2h"),
            ],
        }))
    }

    async fn get_catalog(
        &self,
        _request: Request<v1::GetCatalogRequest>,
    ) -> Result<Response<v1::GetCatalogResponse>, Status> {
        Ok(Response::new(v1::GetCatalogResponse { version: 3, source: CATALOG.to_owned() }))
    }
}

#[tonic::async_trait]
impl IngestService for Service {
    type PublishStream = ReceiverStream<Result<v1::PublishResponse, Status>>;

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(16);
        let played = self.0.clone();
        tokio::spawn(async move {
            let credits = Some(v1::Credits { facts: 10_000, bytes: 4 << 20 });
            let granted = v1::PublishResponse { credits, ..Default::default() };
            answers.send(Ok(granted.clone())).await.unwrap();
            let mut decoders = HashMap::new();
            while let Ok(Some(request)) = requests.message().await {
                let result = Some(played.take(request, &mut decoders));
                let answer = v1::PublishResponse { result, ..granted.clone() };
                answers.send(Ok(answer)).await.unwrap();
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn publish_batch(
        &self,
        _request: Request<v1::PublishBatchRequest>,
    ) -> Result<Response<v1::PublishBatchResponse>, Status> {
        Err(Status::unimplemented("the command line publishes on one call"))
    }
}

impl Played {
    fn take(
        &self,
        request: v1::PublishRequest,
        decoders: &mut HashMap<String, StreamDecoder>,
    ) -> v1::PublishResult {
        let decoder = decoders.entry(request.stream.clone()).or_default();
        let mut buffer = request.arrow_ipc.into();
        let mut facts = Vec::new();
        while let Some(batch) = decoder.decode(&mut buffer).unwrap() {
            facts.extend(read(&batch));
        }
        let first = request.first_sequence;
        let sequences = match request.sequences.is_empty() {
            true => (first..first + facts.len() as u64).collect(),
            false => request.sequences,
        };
        let mut counts = v1::VerdictCounts::default();
        let mut exceptions = Vec::new();
        for (index, (id, user)) in facts.iter().enumerate() {
            let sequence = sequences[index];
            let verdict = self.judge(&request.producer_id, sequence, id, *user, &mut counts);
            let conflict = id.starts_with("conflict");
            let (reason, field, message) = match verdict {
                v1::Verdict::Rejected => {
                    (v1::RejectReason::MissingKey, "user_id", "user_id is NULL: a key must be set")
                }
                v1::Verdict::Late => (Default::default(), "", "25h behind the watermark"),
                v1::Verdict::Accepted if conflict => {
                    (Default::default(), "", "another payload of this id is known")
                }
                v1::Verdict::Unspecified
                | v1::Verdict::Accepted
                | v1::Verdict::Repaired
                | v1::Verdict::Duplicate => continue,
            };
            exceptions.push(v1::FactException {
                index: index as u32,
                sequence,
                id: id.clone(),
                verdict: verdict.into(),
                conflict,
                reason: reason.into(),
                field: field.to_owned(),
                message: message.to_owned(),
            });
        }
        self.received.lock().unwrap().push(Received {
            producer: request.producer_id,
            stream: request.stream,
            sequences,
            first,
            next: request.next_sequence,
            ids: facts.into_iter().map(|(id, _)| id).collect(),
            known_at: request.known_at_us,
            idle: request.idle,
        });
        v1::PublishResult {
            first_sequence: first,
            next_sequence: request.next_sequence,
            durable_sequence: request.next_sequence,
            counts: Some(counts),
            exceptions,
            exceptions_omitted: 0,
        }
    }

    fn judge(
        &self,
        producer: &str,
        sequence: u64,
        id: &str,
        has_user: bool,
        counts: &mut v1::VerdictCounts,
    ) -> v1::Verdict {
        if !has_user {
            counts.rejected += 1;
            return v1::Verdict::Rejected;
        }
        if id.starts_with("late") {
            counts.late += 1;
            return v1::Verdict::Late;
        }
        if !self.seen.lock().unwrap().insert((producer.to_owned(), sequence)) {
            counts.duplicate += 1;
            return v1::Verdict::Duplicate;
        }
        if id.starts_with("repair") {
            counts.repaired += 1;
            counts.rows_repaired += 2;
            return v1::Verdict::Repaired;
        }
        counts.accepted += 1;
        v1::Verdict::Accepted
    }
}

/// The id of each fact, and whether it has a user.
fn read(batch: &RecordBatch) -> Vec<(String, bool)> {
    let ids = batch.column_by_name("event_id").unwrap().as_string::<i32>().clone();
    let users = batch.column_by_name("user_id").unwrap().clone();
    (0..batch.num_rows()).map(|row| (ids.value(row).to_owned(), !users.is_null(row))).collect()
}
