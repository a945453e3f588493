//! The internal messages of `JoinService`.

use millrace_proto::v1;
use millrace_proto::v1::JoinFaultKind as Kind;
use millrace_store::{Incarnation, NodeId, StoreError};
use millrace_telemetry::TraceContext;
use millrace_types::fact::check_records;
use millrace_types::{
    Entity, Judged, KnownAt, Micros, RejectReason, SlotId, StreamId, StreamWatermark, Verdict,
};

use super::{Malformed, position, store};
use crate::port::{
    BackfillStatus, CallOrder, JoinError, ProcessRequest, Routes, SUSPECTS_MAX, SlotFacts,
    SlotOwner, SlotStatus, SlotVerdicts,
};

/// See `SlotJudgement.verdicts`.
const ACCEPTED: u8 = 1;
const REPAIRED: u8 = 2;
const DUPLICATE: u8 = 3;
const LATE: u8 = 4;
const QUEUED: u8 = 5;
const REJECTED: u8 = 16;
const CONFLICT: u8 = 64;

/// A fault as a message. Errors of reads and subscriptions do not occur in internal calls.
#[must_use]
pub fn fault(error: &JoinError) -> v1::JoinFault {
    let mut fault = v1::JoinFault { reason: error.to_string(), ..v1::JoinFault::default() };
    let kind = match error {
        JoinError::Overloaded { slot } => {
            fault.slot = slot.0;
            Kind::Overloaded
        }
        JoinError::NotServing { slot } => {
            fault.slot = slot.0;
            Kind::NotServing
        }
        JoinError::Moved { slot, owner } => {
            fault.slot = slot.0;
            fault.owner = Some(slot_owner(owner));
            Kind::Moved
        }
        JoinError::UnknownCatalog(version) => {
            fault.catalog_version = *version;
            Kind::UnknownCatalog
        }
        JoinError::Store(error) => {
            fault.store = Some(store::fault(error));
            Kind::Store
        }
        JoinError::UnknownView(_) | JoinError::BudgetSpent { .. } | JoinError::BadCursor(_) => {
            Kind::Unspecified
        }
    };
    fault.kind = kind as i32;
    fault
}

/// What a fault says.
#[must_use]
pub fn error(fault: v1::JoinFault) -> JoinError {
    let slot = SlotId(fault.slot);
    match fault.kind() {
        Kind::Overloaded => JoinError::Overloaded { slot },
        Kind::NotServing => JoinError::NotServing { slot },
        Kind::Moved => match fault.owner {
            Some(owner) => JoinError::Moved { slot, owner: Box::new(read_slot_owner(owner)) },
            None => JoinError::NotServing { slot },
        },
        Kind::UnknownCatalog => JoinError::UnknownCatalog(fault.catalog_version),
        Kind::Store => JoinError::Store(store::error(fault.store.unwrap_or_default())),
        Kind::Unspecified => {
            JoinError::Store(StoreError::Unknown { operation: "join", reason: fault.reason })
        }
    }
}

fn slot_owner(owner: &SlotOwner) -> v1::SlotOwner {
    v1::SlotOwner {
        node: owner.node.0.clone(),
        incarnation: owner.incarnation.0,
        endpoint: owner.endpoint.clone(),
        epoch: owner.epoch,
    }
}

fn read_slot_owner(from: v1::SlotOwner) -> SlotOwner {
    let v1::SlotOwner { node, incarnation, endpoint, epoch } = from;
    SlotOwner { node: NodeId(node), incarnation: Incarnation(incarnation), endpoint, epoch }
}

/// Entities under suspicion.
///
/// # Errors
/// [`Malformed`], also for more than [`SUSPECTS_MAX`].
pub fn read_suspects(from: &[v1::StoredEntity]) -> Result<Vec<Entity>, Malformed> {
    if from.len() > SUSPECTS_MAX {
        return Err(Malformed::new("entities", format!("must be at most {SUSPECTS_MAX}")));
    }
    let fields = ["entities.kind", "entities.key"];
    from.iter().map(|entity| store::read_entity(entity, fields)).collect()
}

/// A batch, without its tag.
#[must_use]
pub fn process_request(request: &ProcessRequest) -> v1::ProcessRequest {
    let (traceparent, tracestate) = request.trace.write();
    v1::ProcessRequest {
        tag: 0,
        incarnation: request.incarnation,
        catalog_version: request.catalog_version,
        slots: request
            .slots
            .iter()
            .map(|slot| v1::SlotFacts {
                slot: slot.slot.0,
                count: slot.count,
                facts: slot.facts.clone(),
                fingerprints: slot.fingerprints.clone(),
            })
            .collect(),
        watermarks: request
            .watermarks
            .iter()
            .map(|w| v1::StatedWatermark {
                stream: u32::from(w.stream.0),
                at_us: w.at.0,
                idle: w.idle,
            })
            .collect(),
        departs: request.departs,
        replays_late: request.replays_late,
        routed: matches!(request.routes, Routes::Slots(_)),
        routes: match &request.routes {
            Routes::All => Vec::new(),
            Routes::Slots(slots) => slots.iter().map(|slot| slot.0).collect(),
        },
        refused_up_to: 0,
        traceparent,
        tracestate,
    }
}

/// What a batch asks for.
///
/// # Errors
/// [`Malformed`].
pub fn read_process(from: v1::ProcessRequest) -> Result<ProcessRequest, Malformed> {
    let slots = from
        .slots
        .into_iter()
        .map(|slot| {
            if slot.count as usize != slot.fingerprints.len() {
                return Err(Malformed::new("slots.fingerprints", "must be one a fact"));
            }
            // What the join service takes into its state it does not look through again.
            match check_records(&slot.facts) {
                Ok(found) if found == slot.count as usize => {}
                Ok(_) => return Err(Malformed::new("slots.count", "must be that of the facts")),
                Err(error) => return Err(Malformed::new("slots.facts", error.to_string())),
            }
            Ok(SlotFacts {
                slot: SlotId(slot.slot),
                count: slot.count,
                facts: slot.facts,
                fingerprints: slot.fingerprints,
            })
        })
        .collect::<Result<_, _>>()?;
    let watermarks = from
        .watermarks
        .into_iter()
        .map(|w| {
            let stream = stream_id(w.stream, "watermarks.stream")?;
            Ok(StreamWatermark { stream, at: Micros(w.at_us), idle: w.idle })
        })
        .collect::<Result<_, _>>()?;
    let routes = match from.routed {
        false => Routes::All,
        true if from.routes.is_sorted() => {
            Routes::Slots(from.routes.into_iter().map(SlotId).collect())
        }
        true => return Err(Malformed::new("routes", "must be ascending")),
    };
    Ok(ProcessRequest {
        incarnation: from.incarnation,
        catalog_version: from.catalog_version,
        slots,
        watermarks,
        routes,
        order: CallOrder::default(),
        departs: from.departs,
        replays_late: from.replays_late,
        trace: TraceContext::read(&from.traceparent, &from.tracestate),
    })
}

fn stream_id(number: u32, field: &'static str) -> Result<StreamId, Malformed> {
    u16::try_from(number).map(StreamId).map_err(|_| Malformed::new(field, "must be below 65536"))
}

/// The verdicts of a slot.
#[must_use]
pub fn judgement(slot: &SlotVerdicts) -> v1::SlotJudgement {
    let mut verdicts = Vec::with_capacity(slot.judged.len());
    let mut rows = Vec::new();
    for judged in &slot.judged {
        let code = match judged.verdict {
            Verdict::Accepted => ACCEPTED,
            Verdict::Repaired { rows: count } => {
                rows.push(count);
                REPAIRED
            }
            Verdict::Duplicate => DUPLICATE,
            Verdict::Late => LATE,
            Verdict::Queued => QUEUED,
            Verdict::Rejected(reason) => REJECTED + reason as u8,
        };
        verdicts.push(code | if judged.conflict { CONFLICT } else { 0 });
    }
    v1::SlotJudgement {
        slot: slot.slot.0,
        position: Some(slot.position.into()),
        verdicts: verdicts.into(),
        rows,
    }
}

/// What the verdicts of a slot say.
///
/// # Errors
/// [`Malformed`].
pub fn read_judgement(from: v1::SlotJudgement) -> Result<SlotVerdicts, Malformed> {
    let mut rows = from.rows.into_iter();
    let mut judged = Vec::with_capacity(from.verdicts.len());
    for code in from.verdicts {
        let verdict = match code & !CONFLICT {
            ACCEPTED => Verdict::Accepted,
            REPAIRED => {
                let missing = || Malformed::new("slots.rows", "must be one a REPAIRED fact");
                Verdict::Repaired { rows: rows.next().ok_or_else(missing)? }
            }
            DUPLICATE => Verdict::Duplicate,
            LATE => Verdict::Late,
            QUEUED => Verdict::Queued,
            other => {
                let reason = other.checked_sub(REJECTED).and_then(RejectReason::from_number);
                let unknown = || Malformed::new("slots.verdicts", format!("{other} is none"));
                Verdict::Rejected(reason.ok_or_else(unknown)?)
            }
        };
        judged.push(Judged { verdict, conflict: code & CONFLICT != 0 });
    }
    let position = position(from.position, "slots.position")?;
    Ok(SlotVerdicts { slot: SlotId(from.slot), position, judged })
}

/// The state of a slot.
#[must_use]
pub fn owned_slot(slot: &SlotStatus) -> v1::OwnedSlot {
    let instants = |from: &[(StreamId, Micros)]| {
        let one = |(stream, at): &(StreamId, Micros)| v1::StreamInstant {
            stream: u32::from(stream.0),
            at_us: at.0,
        };
        from.iter().map(one).collect()
    };
    v1::OwnedSlot {
        slot: slot.slot.0,
        position: Some(slot.position.into()),
        known_at_us: slot.known_at.0,
        marked: Some(slot.marked.into()),
        dirty: slot.dirty,
        resident: slot.resident,
        resident_bytes: slot.resident_bytes,
        at_hand_bytes: slot.at_hand_bytes,
        queued: slot.queued,
        watermarks: instants(&slot.watermarks),
        latest: instants(&slot.latest),
        backfill: slot.backfill.map(|backfill| v1::BackfillState {
            catalog_version: backfill.catalog_version,
            done_permille: backfill.done_permille,
            time_left: backfill.time_left.and_then(|left| left.try_into().ok()),
        }),
        forgotten: instants(&slot.forgotten.iter().collect::<Vec<_>>()),
        unmarked_for: slot.unmarked_for.and_then(|age| age.try_into().ok()),
    }
}

/// What the state of a slot says.
///
/// # Errors
/// [`Malformed`].
pub fn read_owned_slot(from: v1::OwnedSlot) -> Result<SlotStatus, Malformed> {
    let instants = |from: Vec<v1::StreamInstant>| {
        let one =
            |i: v1::StreamInstant| Ok((stream_id(i.stream, "slots.stream")?, Micros(i.at_us)));
        from.into_iter().map(one).collect::<Result<Vec<_>, Malformed>>()
    };
    Ok(SlotStatus {
        is_owned: true,
        is_known: true,
        slot: SlotId(from.slot),
        position: position(from.position, "slots.position")?,
        known_at: KnownAt(from.known_at_us),
        marked: position(from.marked, "slots.marked")?,
        dirty: from.dirty,
        resident: from.resident,
        resident_bytes: from.resident_bytes,
        at_hand_bytes: from.at_hand_bytes,
        queued: from.queued,
        watermarks: instants(from.watermarks)?,
        latest: instants(from.latest)?,
        backfill: from.backfill.map(|backfill| BackfillStatus {
            catalog_version: backfill.catalog_version,
            done_permille: backfill.done_permille,
            time_left: backfill.time_left.and_then(|left| left.try_into().ok()),
        }),
        forgotten: instants(from.forgotten)?.into_iter().collect(),
        unmarked_for: from.unmarked_for.and_then(|age| age.try_into().ok()),
    })
}

#[cfg(test)]
mod tests {
    use millrace_types::Position;

    use super::*;

    #[test]
    fn every_verdict_comes_back_as_it_was() {
        let mut all = vec![
            Verdict::Accepted,
            Verdict::Repaired { rows: 0 },
            Verdict::Repaired { rows: u64::MAX },
            Verdict::Duplicate,
            Verdict::Late,
            Verdict::Queued,
        ];
        all.extend(RejectReason::ALL.map(Verdict::Rejected));
        let judged: Vec<Judged> = all
            .into_iter()
            .flat_map(|verdict| [false, true].map(|conflict| Judged { verdict, conflict }))
            .collect();
        let position = Position { epoch: 3, sequence: 4 };
        let slot = SlotVerdicts { slot: SlotId(2), position, judged: judged.clone() };
        let read = read_judgement(judgement(&slot)).unwrap();
        assert_eq!((read.slot, read.position, read.judged), (SlotId(2), position, judged));
    }

    #[test]
    fn verdicts_that_are_none_are_refused() {
        let read = |verdicts: &'static [u8]| {
            read_judgement(v1::SlotJudgement {
                position: Some(Position::START.into()),
                verdicts: verdicts.into(),
                ..v1::SlotJudgement::default()
            })
        };
        for bad in [&[0u8][..], &[6], &[16], &[23], &[2]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(&[1, 3]).is_ok());
    }

    #[test]
    fn faults_say_how_to_go_on() {
        for same in [
            JoinError::Overloaded { slot: SlotId(4) },
            JoinError::NotServing { slot: SlotId(5) },
            JoinError::Moved {
                slot: SlotId(6),
                owner: Box::new(SlotOwner {
                    node: NodeId("join-1".to_owned()),
                    incarnation: Incarnation(u64::MAX),
                    endpoint: "http://127.0.0.1:1".to_owned(),
                    epoch: 7,
                }),
            },
            JoinError::UnknownCatalog(6),
            JoinError::Store(StoreError::Failed { reason: "r".to_owned() }),
        ] {
            assert_eq!(error(fault(&same)), same);
        }
    }
}
