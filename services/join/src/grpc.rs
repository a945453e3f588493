//! `JoinService` over gRPC: `Subscribe` for everybody, `Process`, `CloseUpTo`, `SuspectEntities` and
//! `GetSlots` for the
//! other services.

mod process;

use std::sync::Arc;

use millrace_catalog::{Catalog, View};
use millrace_client::port::{
    CatalogPort, Change, JoinError, SlotPort as _, SubscribeFrom, SubscribePort as _, Subscribed,
};
use millrace_client::wire;
use millrace_grpc::{Caller, Coded, Drain, ErrorCode, Fault, status};
use millrace_proto::convert::{id_text, to_timestamp};
use millrace_proto::v1;
use millrace_types::{KnownAt, RowView, SlotId};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::service::JoinService;

/// Messages a slow reader may leave waiting.
const CHANNEL: usize = 4;

/// The service.
pub struct JoinGrpc {
    join: Arc<JoinService>,
    catalog: Arc<dyn CatalogPort>,
    drain: Drain,
}

impl JoinGrpc {
    /// Serves until the drain starts.
    #[must_use]
    pub fn new(join: Arc<JoinService>, catalog: Arc<dyn CatalogPort>, drain: Drain) -> Self {
        Self { join, catalog, drain }
    }
}

/// Why a subscription fails.
#[derive(Debug, Error)]
enum SubscribeError {
    #[error("from: BEGINNING, NOW or a cursor")]
    From,
    #[error("no view is called {view:?}; the catalog has {known}")]
    ViewNotFound { view: String, known: String },
    #[error(transparent)]
    Join(JoinError),
}

impl Coded for SubscribeError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::From => ErrorCode::InvalidArgument,
            Self::ViewNotFound { .. } => ErrorCode::ViewNotFound,
            Self::Join(error) => error.code(),
        }
    }

    fn describe(&self, fault: Fault) -> Fault {
        match self {
            Self::From => fault.violation("from", "BEGINNING, NOW or a cursor"),
            Self::ViewNotFound { view, .. } => fault.with("view", view).resource("view", view),
            Self::Join(_) => fault,
        }
    }
}

#[tonic::async_trait]
impl v1::join_service_server::JoinService for JoinGrpc {
    type SubscribeStream = ReceiverStream<Result<v1::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Caller::of(&request).may_read(&request.get_ref().view)?;
        let request = request.into_inner();
        let from = from_of(&request).map_err(|e| status(&e))?;
        let mut catalog = self.catalog.current();
        if catalog.view(&request.view).is_none() && self.catalog.catch_up().await {
            catalog = self.catalog.current();
        }
        let Some(view) = catalog.view(&request.view).cloned() else {
            let names: Vec<&str> = catalog.views.iter().map(|v| v.name.as_str()).collect();
            let known = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
            return Err(status(&SubscribeError::ViewNotFound { view: request.view, known }));
        };
        let Subscribed { cursor, changes } = self
            .join
            .subscribe(request.view, from)
            .await
            .map_err(|e| status(&SubscribeError::Join(e)))?;
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let schema = v1::SubscribeResponse {
            schema: Some(schema(&catalog, &view)),
            changes: Vec::new(),
            cursor: cursor.as_ref().to_owned(),
        };
        let relay = Relay { sender, until_idle: request.until_idle, drain: self.drain.clone() };
        tokio::spawn(relay.run(schema, changes));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type ProcessStream = ReceiverStream<Result<v1::ProcessResponse, Status>>;

    async fn process(
        &self,
        request: Request<Streaming<v1::ProcessRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let (join, drain) = (self.join.clone(), self.drain.clone());
        tokio::spawn(process::run(join, request.into_inner(), sender, drain));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn close_up_to(
        &self,
        request: Request<v1::CloseUpToRequest>,
    ) -> Result<Response<v1::CloseUpToResponse>, Status> {
        let v1::CloseUpToRequest { slot, known_at_us } = request.into_inner();
        let closed = self.join.close_up_to(SlotId(slot), KnownAt(known_at_us)).await;
        Ok(Response::new(match closed {
            Ok(position) => v1::CloseUpToResponse { position: Some(position.into()), fault: None },
            Err(error) => {
                v1::CloseUpToResponse { position: None, fault: Some(self.join.fault(error)) }
            }
        }))
    }

    async fn suspect_entities(
        &self,
        request: Request<v1::SuspectEntitiesRequest>,
    ) -> Result<Response<v1::SuspectEntitiesResponse>, Status> {
        let v1::SuspectEntitiesRequest { slot, entities } = request.into_inner();
        let entities = wire::join::read_suspects(&entities).map_err(|e| status(&e))?;
        Ok(Response::new(match self.join.suspect(SlotId(slot), entities).await {
            Ok(position) => {
                v1::SuspectEntitiesResponse { position: Some(position.into()), fault: None }
            }
            Err(error) => {
                let fault = Some(self.join.fault(error));
                v1::SuspectEntitiesResponse { position: None, fault }
            }
        }))
    }

    async fn get_slots(
        &self,
        _: Request<v1::GetSlotsRequest>,
    ) -> Result<Response<v1::GetSlotsResponse>, Status> {
        Ok(Response::new(match self.join.status().await {
            Ok(slots) => v1::GetSlotsResponse {
                // Of the others it may know less than their owners.
                slots: slots
                    .iter()
                    .filter(|slot| slot.is_owned)
                    .map(wire::join::owned_slot)
                    .collect(),
                fault: None,
            },
            Err(error) => {
                v1::GetSlotsResponse { slots: Vec::new(), fault: Some(self.join.fault(error)) }
            }
        }))
    }
}

fn from_of(request: &v1::SubscribeRequest) -> Result<SubscribeFrom, SubscribeError> {
    use v1::subscribe_request::From;

    match &request.from {
        Some(From::Cursor(cursor)) => Ok(SubscribeFrom::Cursor(cursor.clone())),
        Some(From::Start(start)) => match v1::SubscribeStart::try_from(*start) {
            Ok(v1::SubscribeStart::Beginning) => Ok(SubscribeFrom::Start),
            Ok(v1::SubscribeStart::Now | v1::SubscribeStart::Unspecified) => Ok(SubscribeFrom::Now),
            Err(_) => Err(SubscribeError::From),
        },
        None => Ok(SubscribeFrom::Now),
    }
}

fn schema(catalog: &Catalog, view: &View) -> v1::JoinedSchema {
    let of = |id| {
        catalog.stream_by_id(id).map(|stream| v1::StreamSchema {
            stream: stream.name.clone(),
            fields: stream.fields.iter().map(|f| f.name.clone()).collect(),
        })
    };
    v1::JoinedSchema {
        event: of(view.events),
        changelogs: view.joins.iter().filter_map(|j| of(*j)).collect(),
    }
}

/// Sends changes on as messages.
struct Relay {
    sender: mpsc::Sender<Result<v1::SubscribeResponse, Status>>,
    until_idle: bool,
    drain: Drain,
}

impl Relay {
    async fn run(
        self,
        schema: v1::SubscribeResponse,
        mut changes: mpsc::Receiver<Result<Vec<Change>, JoinError>>,
    ) {
        if self.sender.send(Ok(schema)).await.is_err() {
            return;
        }
        let started = self.drain.started();
        tokio::pin!(started);
        loop {
            let next = tokio::select! {
                biased;
                () = &mut started => {
                    // A reader that is gone needs no word of it.
                    let _ = self.sender.send(Err(Drain::status())).await;
                    return;
                }
                next = changes.recv() => next,
            };
            let (message, done) = match next {
                Some(Ok(batch)) => {
                    let caught_up = batch.iter().any(|c| matches!(c, Change::CaughtUp { .. }));
                    let message = v1::SubscribeResponse {
                        changes: messages(batch),
                        ..v1::SubscribeResponse::default()
                    };
                    (Ok(message), caught_up && self.until_idle)
                }
                Some(Err(error)) => (Err(status(&SubscribeError::Join(error))), true),
                None => return,
            };
            if self.sender.send(message).await.is_err() || done {
                return;
            }
        }
    }
}

/// The changes of a message. A cursor stands once, before the records that share it.
fn messages(batch: Vec<Change>) -> Vec<v1::Change> {
    let mut last: Option<Arc<str>> = None;
    let message = |change| {
        let (mut message, cursor) = message(change);
        if last.as_ref() != Some(&cursor) {
            message.cursor = cursor.as_ref().to_owned();
            last = Some(cursor);
        }
        message
    };
    batch.into_iter().map(message).collect()
}

fn message(change: Change) -> (v1::Change, Arc<str>) {
    use v1::change::Kind;

    let row = |bytes: &[u8]| v1::Row::from(RowView::new_unchecked(bytes));
    let (kind, cursor, of_chunk) = match change {
        Change::Row { plus, id, entity, at, row: event, joined, is_final, cursor, of_chunk } => {
            let op = if plus { v1::ChangeOp::Add } else { v1::ChangeOp::Remove };
            let change = v1::RowChange {
                op: op as i32,
                id: id_text(&id).into_owned(),
                key: Some((&entity.key).into()),
                at: Some(to_timestamp(at)),
                row: Some(row(&event)),
                joined: joined
                    .iter()
                    .map(|j| v1::JoinedRow { row: j.as_ref().map(|b| row(b)) })
                    .collect(),
                r#final: is_final,
            };
            (Kind::Row(change), cursor, of_chunk)
        }
        Change::Erased { entity, cursor, of_chunk } => {
            let erased = v1::RowsErased { key: Some((&entity.key).into()) };
            (Kind::Erased(erased), cursor, of_chunk)
        }
        Change::Watermark { watermark, cursor } => {
            (Kind::Watermark(to_timestamp(watermark)), cursor, 0)
        }
        Change::CaughtUp { cursor } => (Kind::CaughtUp(v1::CaughtUp {}), cursor, 0),
    };
    (v1::Change { kind: Some(kind), cursor: String::new(), of_chunk }, cursor)
}
