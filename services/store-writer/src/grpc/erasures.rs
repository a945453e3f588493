//! Erasures over gRPC.

use millrace_client::port::StorePort;
use millrace_client::wire::{self, Malformed};
use millrace_grpc::status;
use millrace_proto::v1;
use millrace_store::Applied;
use millrace_store::erasure::{encode_erasure, encode_receipt};
use millrace_types::KnownAt;
use tonic::Status;

use super::fault;

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
