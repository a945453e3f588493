//! `GetTrainingSet` over gRPC.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use millrace_grpc::{Caller, Coded as _, Deadline, Drain, PeerNetwork, status};
use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_telemetry::Span;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Status, Streaming};

use super::question::Question;
use super::{Outlet, Told};
use crate::error::ReadError;
use crate::read::Reader;

type Requests = Streaming<v1::GetTrainingSetRequest>;

fn no_start() -> ReadError {
    let rule = "the first message of a call, and no other, says what is wanted";
    ReadError::Invalid { field: "start".to_owned(), rule: rule.to_owned() }
}

/// Answers a call: its parts come as the client takes them.
///
/// # Errors
/// What is wrong with the first message.
pub(crate) async fn answer(
    reader: Arc<Reader>,
    caller: Caller,
    peer: PeerNetwork,
    span: Span,
    drain: Drain,
    request: Request<Requests>,
) -> Result<impl Stream<Item = Result<v1::GetTrainingSetResponse, Status>> + Send, Status> {
    use v1::get_training_set_request::Part;

    let deadline = Deadline::of(&request);
    let mut requests = request.into_inner();
    let first = requests.message().await?;
    let Some(Part::Start(start)) = first.and_then(|message| message.part) else {
        return Err(status(&no_start()));
    };
    for view in &start.views {
        caller.may_read(&view.view)?;
    }
    let question = Question::try_from(start).map_err(|e| status(&e))?;
    let (outlet, parts) = Outlet::new();
    let spine = requests.map(|message| match message {
        Ok(v1::GetTrainingSetRequest { part: Some(Part::SpineArrowIpc(bytes)) }) => Ok(bytes),
        Ok(_) => Err(no_start()),
        Err(status) => Err(ReadError::Call(status)),
    });
    let making = make(reader, peer, question, spine, outlet, span, drain);
    let making = AbortOnDropHandle::new(tokio::spawn(Deadline::carry(deadline, making)));
    Ok(ReceiverStream::new(parts).map(move |part| {
        // The work ends with the call.
        let _ = &making;
        part.map(message).map_err(|error| {
            if let ReadError::Call(told) = &error { told.clone() } else { status(&error) }
        })
    }))
}

async fn make(
    reader: Arc<Reader>,
    peer: PeerNetwork,
    question: Question,
    spine: impl Stream<Item = Result<Bytes, ReadError>> + Send + Unpin,
    outlet: Outlet,
    span: Span,
    drain: Drain,
) {
    let set = span.around(reader.training_set(peer, question, spine, outlet.clone()));
    let made = tokio::select! {
        made = set => made,
        () = drain.started() => Err(ReadError::Call(Drain::status())),
    };
    if let Err(error) = made {
        span.fail(error.code().reason());
        outlet.fail(error).await;
    }
}

fn message(told: Told) -> v1::GetTrainingSetResponse {
    use v1::get_training_set_response::Part;

    let part = match told {
        Told::Header(header) => Part::Header(v1::TrainingSetHeader {
            version: header.version.text(),
            catalog_version: header.version.catalog,
            known_at: Some(to_timestamp(header.known_at)),
            watermark: header.watermark.map(to_timestamp),
            schema_arrow_ipc: header.schema,
        }),
        Told::Rows { first, rows, arrow_ipc, cursor } => Part::Rows(v1::TrainingSetRows {
            arrow_ipc,
            first_row: first,
            rows: rows as u64,
            cursor: cursor.as_ref().map(super::EventCursor::text).unwrap_or_default(),
        }),
        Told::Summary(summary) => Part::Summary(v1::TrainingSetSummary {
            rows: summary.swept.rows,
            missing_rows: summary.swept.missing,
            unknown_rows: summary.swept.unknown,
            facts_read: summary.facts,
            rows_from: summary.rows_from.map(to_timestamp),
        }),
    };
    v1::GetTrainingSetResponse { part: Some(part) }
}
