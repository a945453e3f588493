//! [`JoinPort`] and [`SlotPort`] over gRPC.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use millrace_grpc::Deadline;
use millrace_proto::v1;
use millrace_proto::v1::join_service_client::JoinServiceClient;
use millrace_store::StoreError;
use millrace_types::{Entity, KnownAt, Position, SlotId, StreamWatermark};
use tokio::sync::oneshot;
use tonic::{Request, Status};

use super::hop::{Broken, Hop};
use super::peer::RemotePeer;
use crate::client::ANSWER_BYTES_MAX;
use crate::endpoints::{EndpointError, Role};
use crate::error::innermost;
use crate::port::{
    Failed, Hold, Holds, JoinError, JoinPort, PendingVerdicts, ProcessRequest, SlotGrant, SlotPort,
    SlotStatus, SlotVerdicts,
};
use crate::security::{ClientSecurity, Wire};
use crate::wire;
use crate::wire::credits::Load;

/// How long a question to the owner of slots may take.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// Which refusals are known here.
#[derive(Debug, Default)]
struct Refused {
    /// The greatest tag of a refused request; whoever waited for it holds watermarks back since.
    known: AtomicU64,
    /// What was known when the watermarks to be stated next were looked at.
    stated: AtomicU64,
}

/// A join service in another process.
#[derive(Debug)]
pub struct RemoteJoin {
    process: Hop<v1::ProcessRequest, v1::ProcessResponse>,
    client: JoinServiceClient<Wire>,
    role: Role,
    /// The watermarks sent last, for the messages of a batch before its last one.
    sent: Mutex<Vec<StreamWatermark>>,
    refused: Arc<Refused>,
}

impl RemoteJoin {
    /// The join service at these addresses. Connects when it first has to. Must be made within a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError`] for an address that is none, or that is not fit for what would be sent.
    pub fn new(endpoints: &[String], security: &ClientSecurity) -> Result<Self, EndpointError> {
        let role = Role::secure("join", endpoints, security)?;
        let client =
            JoinServiceClient::new(role.wire()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let calls = client.clone();
        let process = Hop::spawn("process", role.clone(), move |requests| {
            let mut client = calls.clone();
            Box::pin(async move { Ok(client.process(requests).await?.into_inner()) })
        });
        Ok(Self { process, client, role, sent: Mutex::default(), refused: Arc::default() })
    }

    /// Whether the join service serves, asked on the connection of the calls.
    #[must_use]
    pub fn peer(&self) -> RemotePeer {
        RemotePeer::of(&self.role)
    }

    /// Splits a batch over messages: the watermarks move with the last facts, never ahead of one.
    fn messages(&self, request: ProcessRequest) -> Vec<ProcessRequest> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *sent, request.watermarks.clone());
        let ProcessRequest {
            incarnation,
            catalog_version,
            slots,
            watermarks,
            routes,
            order,
            departs,
            replays_late,
            trace,
        } = request;
        let mut runs = wire::split(slots, |slot| slot.facts.len() + 4 * slot.fingerprints.len());
        let last = runs.pop().unwrap_or_default();
        let early = runs.into_iter().map(|slots| ProcessRequest {
            incarnation,
            catalog_version,
            slots,
            watermarks: before.clone(),
            routes: routes.clone(),
            order,
            departs: false,
            replays_late,
            trace: trace.clone(),
        });
        let mut messages: Vec<ProcessRequest> = early.collect();
        messages.push(ProcessRequest {
            incarnation,
            catalog_version,
            slots: last,
            watermarks,
            routes,
            order,
            departs,
            replays_late,
            trace,
        });
        messages
    }
}

fn broken(broken: Broken) -> JoinError {
    JoinError::Store(match broken {
        Broken::Call(reason) => StoreError::Unknown { operation: "process", reason },
        Broken::NotTrusted(reason) => StoreError::NotTrusted { reason },
    })
}

fn failed(role: &Role, status: &Status) -> JoinError {
    JoinError::Store(match role.distrust(status) {
        Some(reason) => StoreError::NotTrusted { reason },
        None => StoreError::Unavailable { operation: "join", reason: innermost(status) },
    })
}

fn trusted(role: &Role) -> Result<(), JoinError> {
    role.trusted().map_err(|reason| JoinError::Store(StoreError::NotTrusted { reason }))
}

fn malformed(error: &wire::Malformed) -> JoinError {
    let reason = format!("the answer of the join service is not understood: {error}");
    JoinError::Store(StoreError::Failed { reason })
}

/// The verdicts of an answer, and what went wrong beside them.
fn verdicts(answer: v1::ProcessResponse) -> (Vec<SlotVerdicts>, Option<JoinError>) {
    let fault = answer.fault.map(wire::join::error);
    let slots = answer.slots.into_iter().map(wire::join::read_judgement);
    match slots.collect::<Result<_, _>>() {
        Ok(slots) => (slots, fault),
        Err(error) => (Vec::new(), Some(malformed(&error))),
    }
}

#[async_trait]
impl JoinPort for RemoteJoin {
    fn credits(&self) -> SlotGrant {
        let Load { facts, bytes } = self.process.credits();
        SlotGrant { facts, bytes }
    }

    fn begin(&self) -> u64 {
        let known = self.refused.known.load(Ordering::Acquire);
        self.refused.stated.store(known, Ordering::Release);
        0
    }

    async fn process(
        &self,
        request: ProcessRequest,
        holds: &Holds,
    ) -> Result<PendingVerdicts, JoinError> {
        let mut answers = Vec::new();
        for message in self.messages(request) {
            let mut message = wire::join::process_request(&message);
            message.refused_up_to = self.refused.stated.load(Ordering::Acquire);
            answers.push(self.process.send(message).await);
        }
        let (sender, receiver) = oneshot::channel();
        let (holds, refused) = (holds.clone(), Arc::clone(&self.refused));
        tokio::spawn(async move {
            let mut all = Vec::new();
            let mut fault: Option<(JoinError, Hold)> = None;
            for answer in answers {
                let answer =
                    answer.await.unwrap_or_else(|_| Err(Broken::Call("it ended".to_owned())));
                let tag = answer.as_ref().ok().map(|answer| answer.tag);
                let (slots, error) = match answer {
                    Ok(answer) => verdicts(answer),
                    Err(error) => (Vec::new(), Some(broken(error))),
                };
                all.extend(slots);
                if let Some(error) = error {
                    // Watermarks are held back before the refusal counts as known.
                    fault.get_or_insert_with(|| (error, holds.hold()));
                    refused.known.fetch_max(tag.unwrap_or(0), Ordering::AcqRel);
                }
            }
            let result = match fault {
                None => Ok(all),
                Some((error, hold)) => Err(Failed { error, hold, landed: all }),
            };
            // Whoever dropped the receiver does not want to know.
            let _ = sender.send(result);
        });
        Ok(receiver)
    }
}

#[async_trait]
impl SlotPort for RemoteJoin {
    async fn close_up_to(&self, slot: SlotId, known_at: KnownAt) -> Result<Position, JoinError> {
        trusted(&self.role)?;
        let message = v1::CloseUpToRequest { slot: slot.0, known_at_us: known_at.0 };
        let mut request = Request::new(message);
        request.set_timeout(Deadline::within(ASK_WITHIN));
        let answer = self.client.clone().close_up_to(request).await;
        let answer = answer.map_err(|s| failed(&self.role, &s))?.into_inner();
        match answer.fault {
            Some(fault) => Err(wire::join::error(fault)),
            None => wire::position(answer.position, "position").map_err(|e| malformed(&e)),
        }
    }

    async fn suspect(&self, slot: SlotId, entities: Vec<Entity>) -> Result<Position, JoinError> {
        trusted(&self.role)?;
        let entities = entities.iter().map(wire::store::stored_entity).collect();
        let mut request = Request::new(v1::SuspectEntitiesRequest { slot: slot.0, entities });
        request.set_timeout(Deadline::within(ASK_WITHIN));
        let answer = self.client.clone().suspect_entities(request).await;
        let answer = answer.map_err(|s| failed(&self.role, &s))?.into_inner();
        match answer.fault {
            Some(fault) => Err(wire::join::error(fault)),
            None => wire::position(answer.position, "position").map_err(|e| malformed(&e)),
        }
    }

    async fn status(&self) -> Result<Vec<SlotStatus>, JoinError> {
        trusted(&self.role)?;
        let mut request = Request::new(v1::GetSlotsRequest {});
        request.set_timeout(Deadline::within(ASK_WITHIN));
        let answer = self.client.clone().get_slots(request).await;
        let answer = answer.map_err(|s| failed(&self.role, &s))?.into_inner();
        if let Some(fault) = answer.fault {
            return Err(wire::join::error(fault));
        }
        let read = |slot| wire::join::read_owned_slot(slot).map_err(|e| malformed(&e));
        answer.slots.into_iter().map(read).collect()
    }
}
