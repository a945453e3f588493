//! Erasures over gRPC.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use millrace_client::port::StorePort;
use millrace_client::wire::{self, Malformed};
use millrace_grpc::status;
use millrace_proto::v1;
use millrace_store::erasure::{encode_erasure, encode_receipt};
use millrace_store::{Applied, StoreError};
use millrace_types::KnownAt;
use tonic::Status;

use super::fault;

/// How long a call waits for a compaction: shorter than calls may take.
const COMPACTED_WITHIN: Duration = Duration::from_secs(5);
/// Compactions that are under way, or done and not asked for again.
const COMPACTIONS_MAX: usize = 16;

type Compaction = Shared<BoxFuture<'static, Result<(), StoreError>>>;

/// Compactions by the number that who asked gave them. They take longer than a call may.
#[derive(Default)]
pub(super) struct Compactions(Mutex<BTreeMap<u64, Compaction>>);

impl Compactions {
    /// Begins a compaction, or waits for the one of this number for a while.
    pub(super) async fn ask(&self, port: &Arc<dyn StorePort>, number: u64) -> v1::CompactResponse {
        let compaction = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= COMPACTIONS_MAX && !all.contains_key(&number) {
                all.retain(|_, compaction| compaction.peek().is_none());
            }
            if all.len() >= COMPACTIONS_MAX && !all.contains_key(&number) {
                let reason = format!("{COMPACTIONS_MAX} compactions are under way");
                let error = StoreError::Unavailable { operation: "compact", reason };
                return v1::CompactResponse { fault: fault::<()>(Err(error)).1, running: false };
            }
            all.entry(number).or_insert_with(|| begin(Arc::clone(port))).clone()
        };
        match tokio::time::timeout(COMPACTED_WITHIN, compaction).await {
            Ok(outcome) => v1::CompactResponse { fault: fault(outcome).1, running: false },
            Err(_) => v1::CompactResponse { fault: None, running: true },
        }
    }
}

fn begin(port: Arc<dyn StorePort>) -> Compaction {
    // It goes on when the call that asked for it breaks.
    let task = tokio::spawn(async move { port.compact().await });
    let outcome = async move {
        task.await.unwrap_or_else(|error| {
            let reason = format!("it was not finished: {error}");
            Err(StoreError::Unavailable { operation: "compact", reason })
        })
    };
    outcome.boxed().shared()
}

fn refused(malformed: Malformed) -> Status {
    status(&malformed)
}

pub(super) async fn put(
    port: &dyn StorePort,
    request: v1::PutErasureRequest,
) -> Result<v1::PutErasureResponse, Status> {
    let erasure = wire::store::read_erasure(&request.erasure).map_err(refused)?;
    let (applied, fault) = fault(port.put_erasure(request.number, erasure).await);
    let (stored, there) = match applied {
        Some(Applied::Yes) => (true, None),
        Some(Applied::No(there)) => (false, there),
        None => (false, None),
    };
    let there = there.map(|erasure| encode_erasure(&erasure).into());
    Ok(v1::PutErasureResponse { stored, there, fault })
}

pub(super) async fn list(
    port: &dyn StorePort,
    request: v1::ListErasuresRequest,
) -> v1::ListErasuresResponse {
    let (erasures, fault) = fault(port.erasures_after(request.after_number).await);
    let numbered = |(number, erasure)| v1::NumberedErasure {
        number,
        erasure: encode_erasure(&erasure).into(),
    };
    let erasures = erasures.into_iter().flatten().map(numbered).collect();
    v1::ListErasuresResponse { erasures, fault }
}

pub(super) async fn put_receipt(
    port: &dyn StorePort,
    request: v1::PutReceiptRequest,
) -> Result<v1::PutReceiptResponse, Status> {
    let receipt = wire::store::read_receipt(&request.receipt).map_err(refused)?;
    let put = port.put_receipt(request.number, KnownAt(request.ver_us), receipt).await;
    Ok(v1::PutReceiptResponse { fault: fault(put).1 })
}

pub(super) async fn receipts(
    port: &dyn StorePort,
    request: v1::ListReceiptsRequest,
) -> v1::ListReceiptsResponse {
    let (receipts, fault) = fault(port.receipts(request.number).await);
    let receipts = receipts.iter().flatten().map(|r| encode_receipt(r).into()).collect();
    v1::ListReceiptsResponse { receipts, fault }
}

pub(super) async fn rewrite(
    port: &dyn StorePort,
    request: v1::RewriteRequest,
) -> Result<v1::RewriteResponse, Status> {
    let chunks = request.chunks.into_iter().map(wire::store::read_chunk_append);
    let chunks = chunks.collect::<Result<_, _>>().map_err(refused)?;
    let rewritten = port.rewrite(KnownAt(request.ver_us), chunks).await;
    Ok(v1::RewriteResponse { fault: fault(rewritten).1 })
}

pub(super) async fn parts(
    port: &dyn StorePort,
    request: v1::ListPartsRequest,
) -> Result<v1::ListPartsResponse, Status> {
    let entity = request.entity.unwrap_or_default();
    let entity =
        wire::store::read_entity(&entity, ["entity.kind", "entity.key"]).map_err(refused)?;
    let (parts, fault) = fault(port.parts(entity.clone()).await);
    let name = |part| wire::store::part_name(&entity, part);
    let parts = parts.into_iter().flatten().map(name).collect();
    Ok(v1::ListPartsResponse { parts, fault })
}
