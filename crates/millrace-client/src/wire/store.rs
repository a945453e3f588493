//! Messages of `StoreService`.

use bytes::Bytes;
use millrace_proto::v1;
use millrace_proto::v1::StoreFaultKind as Kind;
use millrace_store::encoding::decode_mark;
use millrace_store::erasure::{decode_erasure, decode_receipt};
use millrace_store::{
    Append, AuditSample, Erasure, Incarnation, Mark, Member, MemberSlot, NodeId, NodeLease,
    Ownership, Part, Put, Receipt, SlotEpoch, StoreError,
};
use millrace_telemetry::TraceContext;
use millrace_types::{Entity, EntityKey, KindId, KnownAt, SlotId};

use super::{Malformed, position};
use crate::port::AppendRequest;

/// What stands for the operation of an error that came over a hop; its reason names the real one.
const REMOTE: &str = "store-writer";

/// A fault as a message.
#[must_use]
pub fn fault(error: &StoreError) -> v1::StoreFault {
    let (kind, what, reason) = match error {
        StoreError::Unknown { operation, reason } => (Kind::Unknown, *operation, reason),
        StoreError::Unavailable { operation, reason } => (Kind::Unavailable, *operation, reason),
        StoreError::NotTrusted { reason } => (Kind::NotTrusted, "", reason),
        // Whoever asked has to know what became of it; why nobody tries again is for a person.
        StoreError::RetriesSpent { error: last } => {
            let last = fault(last);
            let reason = format!("{}; the budget of retries is used up", last.reason);
            return v1::StoreFault { reason, ..last };
        }
        StoreError::ClockSkew { reason } => (Kind::ClockSkew, "", reason),
        StoreError::Failed { reason } => (Kind::Failed, "", reason),
        StoreError::Damaged { what, reason } => (Kind::Damaged, what.as_str(), reason),
    };
    v1::StoreFault { kind: kind as i32, what: what.to_owned(), reason: reason.clone() }
}

/// What a fault says.
#[must_use]
pub fn error(fault: v1::StoreFault) -> StoreError {
    let v1::StoreFault { what, reason, .. } = &fault;
    match fault.kind() {
        Kind::Unavailable => {
            StoreError::Unavailable { operation: REMOTE, reason: format!("{what}: {reason}") }
        }
        Kind::NotTrusted => StoreError::NotTrusted { reason: fault.reason },
        Kind::ClockSkew => StoreError::ClockSkew { reason: fault.reason },
        Kind::Failed => StoreError::Failed { reason: fault.reason },
        Kind::Damaged => StoreError::Damaged { what: fault.what, reason: fault.reason },
        // A kind of a later version: whether anything was done is not known.
        Kind::Unknown | Kind::Unspecified => {
            StoreError::Unknown { operation: REMOTE, reason: format!("{what}: {reason}") }
        }
    }
}

/// The result an answer states.
///
/// # Errors
/// The fault, if there is one.
pub fn result(fault: Option<v1::StoreFault>) -> Result<(), StoreError> {
    fault.map_or(Ok(()), |fault| Err(error(fault)))
}

/// Parts of snapshots, without a tag.
#[must_use]
pub fn put_request(parts: &[Put], trace: &TraceContext) -> v1::PutRequest {
    let (traceparent, tracestate) = trace.write();
    v1::PutRequest {
        parts: parts.iter().map(part_put).collect(),
        traceparent,
        tracestate,
        ..v1::PutRequest::default()
    }
}

/// A flush, without its tag.
#[must_use]
pub fn append_request(
    node: &NodeId,
    incarnation: Incarnation,
    chunks: &[Append],
    trace: &TraceContext,
) -> v1::AppendRequest {
    let (traceparent, tracestate) = trace.write();
    v1::AppendRequest {
        tag: 0,
        node: node.0.clone(),
        incarnation: incarnation.0,
        chunks: chunks.iter().map(chunk_append).collect(),
        traceparent,
        tracestate,
    }
}

/// What a flush asks for.
///
/// # Errors
/// [`Malformed`].
pub fn read_append(from: v1::AppendRequest) -> Result<AppendRequest, Malformed> {
    let chunks = from.chunks.into_iter().map(read_chunk_append).collect::<Result<_, _>>()?;
    Ok(AppendRequest {
        node: NodeId(from.node),
        incarnation: Incarnation(from.incarnation),
        chunks,
        trace: TraceContext::read(&from.traceparent, &from.tracestate),
    })
}

/// A chunk to write.
#[must_use]
pub fn chunk_append(chunk: &Append) -> v1::ChunkAppend {
    v1::ChunkAppend {
        slot: chunk.slot.0,
        position: Some(chunk.position.into()),
        known_at_us: chunk.known_at.0,
        chunk: chunk.bytes.clone(),
    }
}

/// A chunk that is to be written.
///
/// # Errors
/// [`Malformed`].
pub fn read_chunk_append(from: v1::ChunkAppend) -> Result<Append, Malformed> {
    Ok(Append {
        slot: SlotId(from.slot),
        position: position(from.position, "chunks.position")?,
        known_at: KnownAt(from.known_at_us),
        bytes: from.chunk,
    })
}

/// An entity.
#[must_use]
pub fn stored_entity(entity: &Entity) -> v1::StoredEntity {
    v1::StoredEntity {
        kind: u32::from(entity.kind.0),
        key: Bytes::copy_from_slice(entity.key.as_bytes()),
    }
}

/// The entity that is meant; `fields` are the names of its kind and its key.
///
/// # Errors
/// [`Malformed`].
pub fn read_entity(
    from: &v1::StoredEntity,
    fields: [&'static str; 2],
) -> Result<Entity, Malformed> {
    let kind =
        u16::try_from(from.kind).map_err(|_| Malformed::new(fields[0], "must be below 65536"))?;
    let key = EntityKey::from_bytes(&from.key)
        .map_err(|e| Malformed::new(fields[1], format!("must be a key: {e}")))?;
    Ok(Entity { kind: KindId(kind), key })
}

/// An erasure.
///
/// # Errors
/// [`Malformed`].
pub fn read_erasure(bytes: &[u8]) -> Result<Erasure, Malformed> {
    decode_erasure(bytes).map_err(|e| Malformed::new("erasure", format!("must be an erasure: {e}")))
}

/// A receipt.
///
/// # Errors
/// [`Malformed`].
pub fn read_receipt(bytes: &[u8]) -> Result<Receipt, Malformed> {
    decode_receipt(bytes).map_err(|e| Malformed::new("receipt", format!("must be a receipt: {e}")))
}

/// The name of a part.
#[must_use]
pub fn part_name(entity: &Entity, part: Part) -> v1::PartName {
    let (kind, ver, number) = match part {
        Part::Head => (v1::PartKind::Head, KnownAt(0), 0),
        Part::RebuiltHead(ver) => (v1::PartKind::RebuiltHead, ver, 0),
        Part::Page(ver, number) => (v1::PartKind::Page, ver, number),
        Part::Ids(ver, number) => (v1::PartKind::Ids, ver, number),
    };
    v1::PartName { entity: Some(stored_entity(entity)), kind: kind as i32, ver_us: ver.0, number }
}

/// The part a name stands for.
///
/// # Errors
/// [`Malformed`].
pub fn read_part_name(from: v1::PartName) -> Result<(Entity, Part), Malformed> {
    let (ver, number) = (KnownAt(from.ver_us), from.number);
    let part = match from.kind() {
        v1::PartKind::Head => Part::Head,
        v1::PartKind::RebuiltHead => Part::RebuiltHead(ver),
        v1::PartKind::Page => Part::Page(ver, number),
        v1::PartKind::Ids => Part::Ids(ver, number),
        v1::PartKind::Unspecified => {
            return Err(Malformed::new("parts.kind", "must be a kind of part"));
        }
    };
    let entity = from.entity.ok_or_else(|| Malformed::new("parts.entity", "must be set"))?;
    Ok((read_entity(&entity, ["parts.entity.kind", "parts.entity.key"])?, part))
}

/// A part to write.
#[must_use]
pub fn part_put(put: &Put) -> v1::PartPut {
    v1::PartPut {
        slot: put.slot.0,
        name: Some(part_name(&put.entity, put.part)),
        ver_us: put.ver.0,
        bytes: put.bytes.clone(),
    }
}

/// What is to be written.
///
/// # Errors
/// [`Malformed`].
pub fn read_part_put(from: v1::PartPut) -> Result<Put, Malformed> {
    let name = from.name.ok_or_else(|| Malformed::new("parts.name", "must be set"))?;
    let (entity, part) = read_part_name(name)?;
    let (slot, ver) = (SlotId(from.slot), KnownAt(from.ver_us));
    Ok(Put { slot, entity, part, ver, bytes: from.bytes })
}

/// A mark.
///
/// # Errors
/// [`Malformed`].
pub fn read_mark(bytes: &[u8]) -> Result<Mark, Malformed> {
    decode_mark(bytes).map_err(|e| Malformed::new("marks.mark", format!("must be a mark: {e}")))
}

/// What was loaded.
#[must_use]
pub fn loaded(value: Option<(KnownAt, Bytes)>) -> v1::LoadedValue {
    value.map_or_else(v1::LoadedValue::default, |(ver, bytes)| v1::LoadedValue {
        found: true,
        ver_us: ver.0,
        bytes,
    })
}

/// What a loaded value says.
#[must_use]
pub fn read_loaded(from: v1::LoadedValue) -> Option<(KnownAt, Bytes)> {
    from.found.then_some((KnownAt(from.ver_us), from.bytes))
}

/// What a node tells of itself.
#[must_use]
pub fn member(member: &Member) -> v1::Member {
    let slot = |s: &MemberSlot| v1::MemberSlot {
        slot: s.slot.0,
        epoch: s.epoch,
        load: s.load,
        offered_to: s.offered_to.as_ref().map(|node| node.0.clone()).unwrap_or_default(),
    };
    v1::Member {
        node: member.node.0.clone(),
        incarnation: member.incarnation.0,
        endpoint: member.endpoint.clone(),
        weight: member.weight,
        beat: member.beat,
        leaving: member.leaving,
        slots: member.slots.iter().map(slot).collect(),
    }
}

/// A sample of an answer.
#[must_use]
pub fn sample(sample: AuditSample) -> v1::AnswerSample {
    v1::AnswerSample { place: sample.place, ver_us: sample.ver.0, sample: sample.bytes }
}

/// The sample a message holds.
#[must_use]
pub fn read_sample(from: v1::AnswerSample) -> AuditSample {
    AuditSample { place: from.place, ver: KnownAt(from.ver_us), bytes: from.sample }
}

/// What a node told of itself.
#[must_use]
pub fn read_member(from: v1::Member) -> Member {
    let slot = |s: v1::MemberSlot| MemberSlot {
        slot: SlotId(s.slot),
        epoch: s.epoch,
        load: s.load,
        offered_to: Some(s.offered_to).filter(|node| !node.is_empty()).map(NodeId),
    };
    Member {
        node: NodeId(from.node),
        incarnation: Incarnation(from.incarnation),
        endpoint: from.endpoint,
        weight: from.weight,
        beat: from.beat,
        leaving: from.leaving,
        slots: from.slots.into_iter().map(slot).collect(),
    }
}

/// A node's row.
#[must_use]
pub fn node_row(row: &NodeLease) -> v1::NodeRow {
    v1::NodeRow {
        incarnation: row.incarnation.0,
        renewals: row.renewals,
        ceiling_us: row.ceiling.0,
        fenced: row.fenced,
    }
}

/// What a node's row says.
#[must_use]
pub fn read_node_row(from: &v1::NodeRow) -> NodeLease {
    NodeLease {
        incarnation: Incarnation(from.incarnation),
        renewals: from.renewals,
        ceiling: KnownAt(from.ceiling_us),
        fenced: from.fenced,
    }
}

/// An epoch's row.
#[must_use]
pub fn epoch_row(row: &SlotEpoch) -> v1::EpochRow {
    v1::EpochRow {
        epoch: row.epoch,
        node: row.node.0.clone(),
        incarnation: row.incarnation.0,
        floor_us: row.floor.0,
        previous_end: row.previous_end,
        released_end: row.released.map(|(end, _)| end),
        released_ver_us: row.released.map_or(0, |(_, ver)| ver.0),
    }
}

/// What an epoch's row says.
#[must_use]
pub fn read_epoch_row(from: v1::EpochRow) -> SlotEpoch {
    SlotEpoch {
        epoch: from.epoch,
        node: NodeId(from.node),
        incarnation: Incarnation(from.incarnation),
        floor: KnownAt(from.floor_us),
        previous_end: from.previous_end,
        released: from.released_end.map(|end| (end, KnownAt(from.released_ver_us))),
    }
}

/// What a look found.
#[must_use]
pub fn ownership(found: &Ownership) -> v1::LookAtOwnershipResponse {
    let node = |lease: &Option<NodeLease>| v1::FoundOwnership {
        lease: lease.as_ref().map(node_row),
        ..v1::FoundOwnership::default()
    };
    let slot = |epochs: &Vec<SlotEpoch>| v1::FoundOwnership {
        epochs: epochs.iter().map(epoch_row).collect(),
        ..v1::FoundOwnership::default()
    };
    v1::LookAtOwnershipResponse {
        nodes: found.leases.iter().map(node).collect(),
        slots: found.epochs.iter().map(slot).collect(),
        fault: None,
    }
}

/// What an answer says that a look found.
#[must_use]
pub fn read_ownership(from: v1::LookAtOwnershipResponse) -> Ownership {
    let lease = |found: v1::FoundOwnership| found.lease.as_ref().map(read_node_row);
    let epochs = |found: v1::FoundOwnership| found.epochs.into_iter().map(read_epoch_row).collect();
    Ownership {
        leases: from.nodes.into_iter().map(lease).collect(),
        epochs: from.slots.into_iter().map(epochs).collect(),
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::{KeyPart, Position};

    use super::*;

    fn entity() -> Entity {
        let key = EntityKey::try_new(&[KeyPart::Int64(-7), KeyPart::String("a")]).unwrap();
        Entity { kind: KindId(3), key }
    }

    #[test]
    fn parts_puts_and_appends_come_back_as_they_were() {
        let ver = KnownAt(9);
        for part in [Part::Head, Part::RebuiltHead(ver), Part::Page(ver, 2), Part::Ids(ver, 4)] {
            let put = Put { slot: SlotId(1), entity: entity(), part, ver, bytes: "x".into() };
            assert_eq!(read_part_put(part_put(&put)), Ok(put));
        }
        let chunk = Append {
            slot: SlotId(5),
            position: Position { epoch: 1, sequence: 2 },
            known_at: KnownAt(-3),
            bytes: "chunk".into(),
        };
        let (node, run) = (NodeId("n".to_owned()), Incarnation(u64::MAX));
        let chunks = vec![chunk];
        let read =
            read_append(append_request(&node, run, &chunks, &TraceContext::default())).unwrap();
        assert_eq!((read.node, read.incarnation, read.chunks), (node, run, chunks));
    }

    #[test]
    fn rows_come_back_as_they_were() {
        for released in [None, Some((0, KnownAt(0))), Some((7, KnownAt(8)))] {
            let row = SlotEpoch {
                epoch: 2,
                node: NodeId("n".to_owned()),
                incarnation: Incarnation(3),
                floor: KnownAt(4),
                previous_end: 5,
                released,
            };
            assert_eq!(read_epoch_row(epoch_row(&row)), row);
        }
    }

    #[test]
    fn faults_keep_their_kind() {
        let reason = || "r".to_owned();
        let remote = || "op: r".to_owned();
        let unknown = StoreError::Unknown { operation: "op", reason: reason() };
        assert_eq!(
            error(fault(&unknown)),
            StoreError::Unknown { operation: REMOTE, reason: remote() }
        );
        let unavailable = StoreError::Unavailable { operation: "op", reason: reason() };
        assert_eq!(
            error(fault(&unavailable)),
            StoreError::Unavailable { operation: REMOTE, reason: remote() }
        );
        for same in [
            StoreError::NotTrusted { reason: reason() },
            StoreError::ClockSkew { reason: reason() },
            StoreError::Failed { reason: reason() },
            StoreError::Damaged { what: "page".to_owned(), reason: reason() },
        ] {
            assert_eq!(error(fault(&same)), same);
        }
        let spent = StoreError::RetriesSpent { error: Box::new(unavailable) };
        let StoreError::Unavailable { reason, .. } = error(fault(&spent)) else {
            panic!("{spent}")
        };
        assert!(reason.contains("budget of retries"), "{reason}");
        let later = v1::StoreFault { kind: 99, ..v1::StoreFault::default() };
        assert!(matches!(error(later), StoreError::Unknown { .. }));
    }

    #[test]
    fn what_is_no_part_is_named() {
        let mut name = part_name(&entity(), Part::Head);
        name.kind = 77;
        assert_eq!(read_part_name(name.clone()).unwrap_err().field, "parts.kind");
        name = part_name(&entity(), Part::Head);
        name.entity.as_mut().unwrap().key = "?".into();
        assert_eq!(read_part_name(name).unwrap_err().field, "parts.entity.key");
    }

    #[test]
    fn what_a_look_found_comes_back_as_it_was() {
        let row = |epoch, released| SlotEpoch {
            epoch,
            node: NodeId("join-0".to_owned()),
            incarnation: Incarnation(u64::MAX),
            floor: KnownAt(7),
            previous_end: 3,
            released,
        };
        let lease = NodeLease {
            incarnation: Incarnation(9),
            renewals: 4,
            ceiling: KnownAt(11),
            fenced: true,
        };
        let found = Ownership {
            leases: vec![None, Some(lease)],
            epochs: vec![vec![row(1, Some((5, KnownAt(6)))), row(2, None)], vec![]],
        };
        assert_eq!(read_ownership(ownership(&found)), found);
    }
}
