//! Reads with fixed answers.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use millrace_grpc::{ErrorCode, Fault};
use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_proto::v1::admin_service_server::AdminService;
use millrace_proto::v1::feature_service_server::FeatureService;
use millrace_proto::v1::join_service_server::JoinService;
use millrace_types::{FeatureValue, Micros, Value};
use tonic::{Request, Response, Status, Streaming};

use super::{Service, training};

/// 2026-03-01T12:00:00Z
const NOON: Micros = Micros(1_772_366_400_000_000);

#[tonic::async_trait]
impl FeatureService for Service {
    type GetTrainingSetStream =
        Pin<Box<dyn Stream<Item = Result<v1::GetTrainingSetResponse, Status>> + Send>>;

    async fn get_training_set(
        &self,
        request: Request<Streaming<v1::GetTrainingSetRequest>>,
    ) -> Result<Response<Self::GetTrainingSetStream>, Status> {
        // The call is answered before its spine is read, as clients expect.
        let answer = futures::stream::once(training::answer(request.into_inner()));
        let parts = answer.map(|parts| match parts {
            Ok(parts) => futures::stream::iter(parts),
            Err(status) => futures::stream::iter(vec![Err(status)]),
        });
        Ok(Response::new(Box::pin(parts.flatten())))
    }

    type StreamFeaturesStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamFeaturesResponse, Status>> + Send>>;

    /// At now every window is empty, at any other instant there are two clicks. Known ahead of noon
    /// is refused.
    async fn get_features(
        &self,
        request: Request<v1::GetFeaturesRequest>,
    ) -> Result<Response<v1::GetFeaturesResponse>, Status> {
        use v1::get_features_request::Instant;
        let request = request.into_inner();
        if request.known_at.is_some_and(|k| k.seconds > to_timestamp(NOON).seconds) {
            let fault = Fault::new(ErrorCode::KnownAtAhead, "known_at lies ahead of now");
            return Err(fault.into_status());
        }
        let (at, is_now) = match request.instant {
            Some(Instant::At(at)) => (at, false),
            Some(Instant::Moment(m)) => (to_timestamp(NOON), m == v1::Moment::Now as i32),
            None => (to_timestamp(NOON), true),
        };
        let (count, sum) = if is_now { (0, Value::Null) } else { (2, Value::Double(12.5)) };
        let status = if is_now { v1::ValueStatus::Null } else { v1::ValueStatus::Present };
        let entity = v1::EntityFeatures {
            values: vec![
                FeatureValue::Scalar(Value::Int64(count)).into(),
                FeatureValue::Scalar(sum).into(),
            ],
            statuses: vec![v1::ValueStatus::Present.into(), status.into()],
            watermark: Some(to_timestamp(NOON)),
            known_at: Some(to_timestamp(NOON)),
            r#final: !is_now,
            rebuilding: false,
            version: "3/1.22".to_owned(),
            versions: Vec::new(),
        };
        let window = |hours: i64| v1::FeatureWindow {
            start: Some(prost_types::Timestamp { seconds: at.seconds - hours * 3_600, nanos: 0 }),
            end: Some(at),
        };
        let feature = |name: &str, hours| v1::FeatureColumn {
            name: name.to_owned(),
            window: Some(window(hours)),
        };
        Ok(Response::new(v1::GetFeaturesResponse {
            at: Some(at),
            known_at: Some(to_timestamp(NOON)),
            features: vec![feature("clicks_1h", 1), feature("spend_24h", 24)],
            changelogs: Vec::new(),
            entities: vec![entity; request.entities.len()],
            catalog_version: 3,
        }))
    }

    /// One click with the profile it meets, one of two left out.
    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let request = request.into_inner();
        let fact = |id: &str| v1::ExplainedFact {
            stream: "clicks".to_owned(),
            id: id.to_owned(),
            at: Some(to_timestamp(NOON.minus(60_000_000))),
            known_at: Some(to_timestamp(NOON)),
            revision: 1,
            op: v1::FactOp::Assert.into(),
            position: Some(v1::LogPosition { epoch: 1, sequence: 7 }),
            tile: Some(to_timestamp(NOON.minus(60_000_000))),
            ..Default::default()
        };
        let met = v1::MetVersion {
            changelog: "profiles".to_owned(),
            valid_from: Some(to_timestamp(NOON.minus(120_000_000))),
            id: "p1".to_owned(),
            ..Default::default()
        };
        let none = v1::MetVersion { changelog: "plans".to_owned(), ..Default::default() };
        let used = v1::ExplainedFact {
            value: Some(Value::Double(12.5).into()),
            versions: vec![met, none],
            ..fact("e1")
        };
        let late = v1::LeftOutReason::Late;
        let left_out = v1::ExplainedFact { reason: late.into(), late_for_good: true, ..fact("e2") };
        Ok(Response::new(v1::ExplainResponse {
            at: Some(to_timestamp(NOON)),
            known_at: Some(to_timestamp(NOON)),
            feature: Some(v1::FeatureColumn {
                name: request.feature,
                window: Some(v1::FeatureWindow { start: None, end: Some(to_timestamp(NOON)) }),
            }),
            value: Some(FeatureValue::Scalar(Value::Double(12.5)).into()),
            status: v1::ValueStatus::Present.into(),
            version: "3:0:1.22".to_owned(),
            used: vec![used],
            used_total: 1,
            left_out: vec![left_out],
            left_out_totals: vec![v1::LeftOutCount { reason: late.into(), facts: 2 }],
        }))
    }

    async fn stream_features(
        &self,
        _request: Request<Streaming<v1::StreamFeaturesRequest>>,
    ) -> Result<Response<Self::StreamFeaturesStream>, Status> {
        Err(Status::unimplemented("the command line reads one by one"))
    }
}

#[tonic::async_trait]
impl JoinService for Service {
    type SubscribeStream =
        Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send>>;

    /// A row and a watermark; then the end with `until_idle`, and a broken call without.
    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let request = request.into_inner();
        if request.view != "user_activity" {
            let message = format!("no view is called {}", request.view);
            return Err(Fault::new(ErrorCode::ViewNotFound, message).into_status());
        }
        let answers = match request.from {
            Some(v1::subscribe_request::From::Cursor(cursor)) => resumed(&cursor),
            _ if request.until_idle => {
                let caught_up = change(v1::change::Kind::CaughtUp(v1::CaughtUp {}), "c3");
                vec![Ok(changes("e1", "c1", vec![caught_up]))]
            }
            _ => {
                let first = changes("e1", "c1", Vec::new());
                vec![Ok(first), Err(Status::unavailable("the node went away"))]
            }
        };
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }

    type ProcessStream = Pin<Box<dyn Stream<Item = Result<v1::ProcessResponse, Status>> + Send>>;

    async fn process(
        &self,
        _: Request<Streaming<v1::ProcessRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        Err(Status::unimplemented("services call this, not the command line"))
    }

    async fn close_up_to(
        &self,
        _: Request<v1::CloseUpToRequest>,
    ) -> Result<Response<v1::CloseUpToResponse>, Status> {
        Err(Status::unimplemented("services call this, not the command line"))
    }

    async fn suspect_entities(
        &self,
        _: Request<v1::SuspectEntitiesRequest>,
    ) -> Result<Response<v1::SuspectEntitiesResponse>, Status> {
        Err(Status::unimplemented("services call this, not the command line"))
    }

    async fn get_slots(
        &self,
        _: Request<v1::GetSlotsRequest>,
    ) -> Result<Response<v1::GetSlotsResponse>, Status> {
        Err(Status::unimplemented("services call this, not the command line"))
    }
}

#[tonic::async_trait]
impl AdminService for Service {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let state = |stream: &str, watermark| v1::StreamState {
            stream: stream.to_owned(),
            watermark,
            latest: watermark,
            forgotten_before: None,
        };
        let slot = v1::SlotState {
            slot: 0,
            position: Some(v1::LogPosition { epoch: 1, sequence: 7 }),
            node: "join-0".to_owned(),
            ..Default::default()
        };
        let include_slots = request.into_inner().include_slots;
        Ok(Response::new(v1::GetStatusResponse {
            serving: !self.0.is_down,
            services: vec![v1::ServiceState {
                name: "join".to_owned(),
                serving: !self.0.is_down,
                reason: if self.0.is_down { "slot 0 has no owner yet" } else { "" }.to_owned(),
                places: vec![v1::ServicePlace {
                    node: "join-0".to_owned(),
                    endpoint: "http://127.0.0.1:7402".to_owned(),
                    serving: !self.0.is_down,
                    reason: if self.0.is_down { "refused" } else { "" }.to_owned(),
                    next: if self.0.is_down { "start it" } else { "" }.to_owned(),
                }],
            }],
            unowned_slots: u32::from(self.0.is_down),
            unknown_slots: u32::from(self.0.is_down),
            unowned: match self.0.is_down {
                true => vec![v1::UnownedSlot {
                    slot: 0,
                    reason: v1::UnownedReason::Silent.into(),
                    node: "join-0".to_owned(),
                    next_node: String::new(),
                    epoch: 1,
                }],
                false => Vec::new(),
            },
            join_nodes: vec![v1::JoinNodeState {
                incarnation: 0xab,
                lease: Some(v1::LeaseState {
                    incarnation: 0xab,
                    until: Some(to_timestamp(Micros(NOON.0 + 2_500_000))),
                    fenced: false,
                    renewals: 9,
                }),
                first_epoch: 1,
                last_epoch: 3,
                unmarked_for: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
                node: "join-0".to_owned(),
                endpoint: "http://127.0.0.1:7402".to_owned(),
                weight: 1,
                slots: 1,
                unmarked_chunks: 7,
                ..Default::default()
            }],
            slot_count: 1,
            rebuild_queue: 5,
            streams: vec![state("clicks", Some(to_timestamp(NOON))), state("visits", None)],
            catalog_version: 3,
            software_version: "0.1.0".to_owned(),
            now: Some(to_timestamp(NOON)),
            slots: if include_slots { vec![slot] } else { Vec::new() },
            ..Default::default()
        }))
    }

    /// Two facts on two pages; only of `clicks`. The second is in effect.
    async fn list_late_facts(
        &self,
        request: Request<v1::ListLateFactsRequest>,
    ) -> Result<Response<v1::ListLateFactsResponse>, Status> {
        let request = request.into_inner();
        let first = request.cursor.is_empty();
        let values = vec![Value::String("e\"1".into()).into(), Value::Int64(42).into()];
        let part = v1::KeyPart { kind: Some(v1::key_part::Kind::Int64(42)) };
        let fact = v1::LateFact {
            entity: "user".to_owned(),
            key: Some(v1::EntityKey { parts: vec![part] }),
            id: if first { "e1" } else { "e2" }.to_owned(),
            at: Some(to_timestamp(NOON.minus(90_000_000_000))),
            revision: 0,
            op: v1::FactOp::Assert.into(),
            values,
            known_at: Some(to_timestamp(NOON)),
            slot: 3,
            position: Some(v1::LogPosition { epoch: 1, sequence: 7 }),
            in_effect_since: (!first).then(|| to_timestamp(NOON)),
            late_for_good: false,
        };
        Ok(Response::new(v1::ListLateFactsResponse {
            facts: if first || !request.pending_only { vec![fact] } else { Vec::new() },
            fields: ["event_id", "user_id", "ts"].map(str::to_owned).to_vec(),
            next_cursor: if first { "clicks@3:1.7/0" } else { "" }.to_owned(),
        }))
    }

    async fn erase_entity(
        &self,
        request: Request<v1::EraseEntityRequest>,
    ) -> Result<Response<v1::EraseEntityResponse>, Status> {
        let request = request.into_inner();
        assert_eq!(request.entity, "user");
        Ok(Response::new(v1::EraseEntityResponse {
            number: 1,
            asked_at: Some(to_timestamp(NOON)),
            slots: 64,
            slots_done: 64,
            is_done: true,
            facts: 3,
            chunks: 2,
            entities: 1,
            parts: 4,
        }))
    }

    async fn replay_late_facts(
        &self,
        request: Request<v1::ReplayLateFactsRequest>,
    ) -> Result<Response<v1::ReplayLateFactsResponse>, Status> {
        let first = request.into_inner().cursor.is_empty();
        let counts = match first {
            true => v1::VerdictCounts { accepted: 2, ..Default::default() },
            false => v1::VerdictCounts { repaired: 1, queued: 1, ..Default::default() },
        };
        let next_cursor = if first { "clicks@3:1.7/0" } else { "" }.to_owned();
        Ok(Response::new(v1::ReplayLateFactsResponse { counts: Some(counts), next_cursor }))
    }
}

/// How a subscription goes on: after the watermark with another chunk, of which the first row was
/// received, then not for a while.
fn resumed(cursor: &str) -> Vec<Result<v1::SubscribeResponse, Status>> {
    match cursor {
        "c2" => {
            let aged = Fault::new(ErrorCode::StreamAged, "old enough").into_status();
            vec![Ok(changes("e2", "c9", Vec::new())), Err(aged)]
        }
        "c9#1" => {
            let busy = Fault::new(ErrorCode::Overloaded, "come back tomorrow");
            vec![Err(busy.retry_after(Duration::from_secs(86_400)).into_status())]
        }
        other => vec![Err(Fault::new(ErrorCode::CursorInvalid, other).into_status())],
    }
}

/// A row, the watermark that was told before once more, and more.
fn changes(id: &str, cursor: &str, more: Vec<v1::Change>) -> v1::SubscribeResponse {
    let fields = ["event_id", "user_id"].map(str::to_owned).to_vec();
    let event = Some(v1::StreamSchema { stream: "clicks".to_owned(), fields });
    let values = vec![Value::String(id.into()).into(), Value::Int64(42).into()];
    let part = v1::KeyPart { kind: Some(v1::key_part::Kind::Int64(42)) };
    let row = v1::RowChange {
        op: v1::ChangeOp::Add.into(),
        id: id.to_owned(),
        key: Some(v1::EntityKey { parts: vec![part] }),
        at: Some(to_timestamp(NOON)),
        row: Some(v1::Row { values }),
        joined: Vec::new(),
        r#final: false,
    };
    let row = v1::Change { of_chunk: 1, ..change(v1::change::Kind::Row(row), cursor) };
    let watermark = change(v1::change::Kind::Watermark(to_timestamp(NOON)), "c2");
    let changes = match cursor {
        // The watermark comes again with a call that was resumed.
        "c9" => vec![watermark, row],
        _ => vec![row, watermark],
    };
    v1::SubscribeResponse {
        schema: Some(v1::JoinedSchema { event, changelogs: Vec::new() }),
        changes: changes.into_iter().chain(more).collect(),
        cursor: "c0".to_owned(),
    }
}

fn change(kind: v1::change::Kind, cursor: &str) -> v1::Change {
    v1::Change { kind: Some(kind), cursor: cursor.to_owned(), of_chunk: 0 }
}
