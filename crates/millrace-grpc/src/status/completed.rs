//! Statuses that tonic makes itself, completed with what every status of Millrace carries.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{ErrorCode, Fault};

/// How tonic begins what it says of bytes that are no message.
const MALFORMED: [&str; 4] = [
    "failed to decode",
    // Of a client that ended its request, or gave it up, before it sent one.
    "Missing request message",
    "Error decompressing",
    "protocol error: received message with invalid compression flag",
];

/// How tonic begins what it says of a message that is compressed in a way the server does not take.
const NOT_UNPACKED: &str = "Content is compressed";
/// The header that names the ways it does take.
const ACCEPTED: &str = "grpc-accept-encoding";

/// What tonic says, as one of our faults; `None` for a status that a service made.
pub(crate) fn completed(status: &Status, path: &str) -> Option<Status> {
    if status.get_details_error_info().is_some() {
        return None;
    }
    let message = status.message();
    // The texts are tonic's; a test of the server holds each of them against the real thing.
    let fault = match status.code() {
        Code::OutOfRange => Fault::new(ErrorCode::MessageTooLarge, message),
        // What a message unpacks to is bounded like one that comes as it is.
        Code::ResourceExhausted if message.starts_with("Error decompressing") => {
            Fault::new(ErrorCode::MessageTooLarge, message)
        }
        Code::Unimplemented if message.starts_with(NOT_UNPACKED) => {
            return Some(not_unpacked(status));
        }
        Code::Unimplemented => {
            Fault::new(ErrorCode::MethodNotFound, format!("there is no method {path}"))
                .with("method", path)
        }
        Code::NotFound => Fault::new(ErrorCode::ServiceNotFound, message),
        Code::Internal if MALFORMED.iter().any(|start| message.starts_with(start)) => {
            Fault::new(ErrorCode::MessageMalformed, message)
        }
        Code::ResourceExhausted => Fault::new(ErrorCode::Overloaded, message),
        Code::Internal | Code::Unknown => {
            tracing::error!(%path, %message, "call failed in the transport");
            Fault::new(ErrorCode::Internal, "an internal error; see the server's log")
        }
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => return None,
    };
    Some(fault.into_status())
}

/// The method is there, and the client may call it again otherwise: how is named, also in the header of
/// the protocol.
fn not_unpacked(status: &Status) -> Status {
    let accepted = status.metadata().get(ACCEPTED);
    let named = accepted.and_then(|accepted| accepted.to_str().ok()).unwrap_or("identity");
    let message = format!("{}; this server takes {named}", status.message());
    let fault = Fault::new(ErrorCode::MessageMalformed, message).with("accepted", named);
    let mut refusal = fault.into_status();
    if let Some(accepted) = accepted {
        refusal.metadata_mut().insert(ACCEPTED, accepted.clone());
    }
    refusal
}
