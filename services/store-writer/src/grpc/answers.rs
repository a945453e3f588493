//! Answers that take several messages, and what the numbers of a question must be.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use millrace_client::port::{LOOK_MAX, StorePort};
use millrace_client::wire::{self, Malformed};
use millrace_proto::v1;
use millrace_store::encoding::encode_mark;
use millrace_store::{
    AUDIT_PLACES_MAX, AUDIT_SAMPLE_BYTES_MAX, AUDIT_SAMPLES_MAX, Part, StoreError,
};
use millrace_types::{Entity, KnownAt, Position, SlotId};
use tokio::sync::mpsc;
use tonic::Status;

/// Bytes of the log that one question may ask for.
const LOG_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Marks of one question that are loaded at a time.
const MARKS_AT_ONCE: usize = 64;

type Sender<A> = mpsc::Sender<Result<A, Status>>;

/// Reads marks, then parts, and sends them on.
pub(super) async fn load(
    port: Arc<dyn StorePort>,
    slots: Vec<SlotId>,
    parts: Vec<(Entity, Part)>,
    sender: Sender<v1::LoadResponse>,
) {
    let messages = match read(&port, slots, parts).await {
        Ok(messages) => messages,
        Err(error) => {
            let fault = Some(wire::store::fault(&error));
            vec![v1::LoadResponse { fault, ..v1::LoadResponse::default() }]
        }
    };
    for message in messages {
        if sender.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

async fn read(
    port: &Arc<dyn StorePort>,
    slots: Vec<SlotId>,
    parts: Vec<(Entity, Part)>,
) -> Result<Vec<v1::LoadResponse>, StoreError> {
    let encoded = |(ver, mark)| (ver, Bytes::from(encode_mark(&mark)));
    // Side by side: a store over a network takes as long for all as for one.
    let mark = |slot| {
        let port = Arc::clone(port);
        async move { port.load_mark(slot).await }
    };
    let marks = stream::iter(slots).map(mark).buffered(MARKS_AT_ONCE);
    let marks: Vec<_> = marks.map_ok(|mark| mark.map(encoded)).try_collect().await?;
    let parts = match parts.is_empty() {
        true => Vec::new(),
        false => port.load(parts).await?,
    };
    let size = |value: &Option<(KnownAt, Bytes)>| value.as_ref().map_or(0, |(_, b)| b.len()) + 16;
    let loaded = |run: Vec<_>| run.into_iter().map(wire::store::loaded).collect();
    let marks = wire::split(marks, size)
        .into_iter()
        .map(|run| v1::LoadResponse { marks: loaded(run), ..v1::LoadResponse::default() });
    let parts = wire::split(parts, size)
        .into_iter()
        .map(|run| v1::LoadResponse { parts: loaded(run), ..v1::LoadResponse::default() });
    Ok(marks.chain(parts).collect())
}

/// Reads a part of a slot's log and sends it on.
pub(super) async fn read_log(
    port: Arc<dyn StorePort>,
    request: v1::ReadLogRequest,
    sender: Sender<v1::ReadLogResponse>,
) {
    let (after, up_to): (Position, Position) =
        (request.after.unwrap_or_default().into(), request.up_to.unwrap_or_default().into());
    let bytes = usize::try_from(request.max_bytes).unwrap_or(usize::MAX).min(LOG_BYTES_MAX);
    let page = match port.read_log(SlotId(request.slot), after, up_to, bytes).await {
        Ok(page) => page,
        Err(error) => {
            let fault = Some(wire::store::fault(&error));
            // Whoever dropped the receiver does not want to know.
            let _ = sender.send(Ok(v1::ReadLogResponse { fault, ..Default::default() })).await;
            return;
        }
    };
    let mut runs = wire::split(page.chunks, |(_, bytes)| bytes.len()).into_iter().peekable();
    loop {
        let run = runs.next().unwrap_or_default();
        let last = runs.peek().is_none();
        let chunks = run
            .into_iter()
            .map(|(position, chunk)| v1::LoggedChunk { position: Some(position.into()), chunk });
        let message = v1::ReadLogResponse {
            chunks: chunks.collect(),
            complete: last && page.complete,
            fault: None,
        };
        if sender.send(Ok(message)).await.is_err() || last {
            return;
        }
    }
}

/// Samples of a ring: few enough, small enough, and in places that a ring may have.
pub(super) fn check_samples(samples: &[v1::AnswerSample]) -> Result<(), Malformed> {
    let most = |field, most: usize| Err(Malformed { field, rule: format!("at most {most}") });
    if samples.len() > AUDIT_SAMPLES_MAX {
        return most("samples", AUDIT_SAMPLES_MAX);
    }
    if samples.iter().any(|sample| sample.sample.len() > AUDIT_SAMPLE_BYTES_MAX) {
        return most("samples.sample", AUDIT_SAMPLE_BYTES_MAX);
    }
    if samples.iter().any(|sample| sample.place >= AUDIT_PLACES_MAX) {
        return most("samples.place", AUDIT_PLACES_MAX as usize - 1);
    }
    Ok(())
}

/// A look at no more nodes and slots than one may be about.
pub(super) fn check_look(asked: &v1::LookAtOwnershipRequest) -> Result<(), Malformed> {
    for (field, count) in [("nodes", asked.nodes.len()), ("slots", asked.slots.len())] {
        if count > LOOK_MAX {
            return Err(Malformed { field, rule: format!("at most {LOOK_MAX}") });
        }
    }
    Ok(())
}

/// A range of a producer's numbers.
pub(super) fn check_numbers(first: u64, next: u64, max: u64) -> Result<(), Malformed> {
    match next.checked_sub(first) {
        Some(count) if count <= max => Ok(()),
        Some(_) => Err(Malformed { field: "next", rule: format!("at most {max} beyond first") }),
        None => Err(Malformed { field: "next", rule: "not below first".to_owned() }),
    }
}
