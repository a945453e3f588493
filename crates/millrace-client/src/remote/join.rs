//! [`JoinPort`] and [`SlotPort`] over gRPC.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use millrace_grpc::Deadline;
use millrace_proto::v1;
use millrace_proto::v1::join_service_client::JoinServiceClient;
use millrace_store::StoreError;
use millrace_types::{KnownAt, Position, SlotId, StreamWatermark};
use tokio::sync::oneshot;
use tonic::{Request, Status};

use super::hop::{Broken, Hop};
use super::peer::RemotePeer;
use crate::client::ANSWER_BYTES_MAX;
use crate::endpoints::{EndpointError, Role};
use crate::error::innermost;
use crate::port::{
    Failed, Holds, JoinError, JoinPort, PendingVerdicts, ProcessRequest, SlotGrant, SlotPort,
    SlotStatus, SlotVerdicts,
};
use crate::security::{ClientSecurity, Wire};
use crate::wire;
use crate::wire::credits::Load;

/// How long a question to the owner of slots may take.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// A join service in another process.
#[derive(Debug)]
pub struct RemoteJoin {
    process: Hop<v1::ProcessRequest, v1::ProcessResponse>,
    client: JoinServiceClient<Wire>,
    role: Role,
    /// The watermarks sent last, for the messages of a batch before its last one.
    sent: Mutex<Vec<StreamWatermark>>,
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
        Ok(Self { process, client, role, sent: Mutex::default() })
    }

    /// Whether the join service serves, asked on the connection of the calls.
    #[must_use]
    pub fn peer(&self) -> RemotePeer {
        RemotePeer { role: self.role.clone() }
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

fn verdicts(answer: v1::ProcessResponse) -> Result<Vec<SlotVerdicts>, JoinError> {
    if let Some(fault) = answer.fault {
        return Err(wire::join::error(fault));
    }
    answer
        .slots
        .into_iter()
        .map(|slot| wire::join::read_judgement(slot).map_err(|e| malformed(&e)))
        .collect()
}

#[async_trait]
impl JoinPort for RemoteJoin {
    fn credits(&self) -> SlotGrant {
        let Load { facts, bytes } = self.process.credits();
        SlotGrant { facts, bytes }
    }

    async fn process(
        &self,
        request: ProcessRequest,
        holds: &Holds,
    ) -> Result<PendingVerdicts, JoinError> {
        let mut answers = Vec::new();
        for message in self.messages(request) {
            answers.push(self.process.send(wire::join::process_request(&message)).await);
        }
        let (sender, receiver) = oneshot::channel();
        let holds = holds.clone();
        tokio::spawn(async move {
            let mut all = Vec::new();
            let mut fault = None;
            for answer in answers {
                let answer =
                    answer.await.unwrap_or_else(|_| Err(Broken::Call("it ended".to_owned())));
                match answer.map_err(broken).and_then(verdicts) {
                    Ok(slots) => all.extend(slots),
                    Err(error) => fault = fault.or(Some(error)),
                }
            }
            let result = match fault {
                None => Ok(all),
                Some(error) => Err(Failed { error, hold: holds.hold() }),
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
