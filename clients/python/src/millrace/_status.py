"""Reads the status that a call ended with."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from .errors import (
    BY_CODE,
    Broken,
    DeadlineExceeded,
    MillraceError,
    NotTrusted,
    Refused,
    Violation,
)

#: The domain of every google.rpc.ErrorInfo of Millrace.
DOMAIN = "millrace.dev"
#: The trailer that holds a google.rpc.Status.
DETAILS = "grpc-status-details-bin"

#: What grpc says of a connection that trust ended, on this side or, as an alert that it tells as
#: corruption, on the other. One that a restart cut short has none of it.
UNTRUSTED = (
    "SSL_ERROR_SSL",
    "Hostname Verification Check failed",
    "Peer name",
    "TSI_DATA_CORRUPTED",
)
#: What grpc says of a call that the transport ended, with codes that say nothing of that.
CUT_SHORT = ("RST_STREAM", "Stream removed", "GOAWAY")


def error_of(
    error: grpc.RpcError, service: str, address: str, limit: float | None
) -> MillraceError:
    """The error of this package; `limit` is what the call was given, in seconds."""
    # Every error that a call raises is a Call too, which the types of grpc do not say.
    call: Any = error
    code: grpc.StatusCode = call.code()
    text: str = call.details() or ""
    status = _details(call.trailing_metadata() or ())
    info = error_details_pb2.ErrorInfo()
    if _unpack(status, info) and info.domain == DOMAIN:
        if info.reason == "DEADLINE_EXCEEDED":
            return DeadlineExceeded(limit, text or "the call took longer than it may")
        return _refused(code, text, status, info)
    # A status without our details was made on the way: by grpc, or a proxy.
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(limit)
    if code == grpc.StatusCode.UNAVAILABLE and any(sign in text for sign in UNTRUSTED):
        return NotTrusted(service, address, text)
    if code == grpc.StatusCode.UNAVAILABLE or any(sign in text for sign in CUT_SHORT):
        return Broken(service, address, text or code.name)
    return _refused(code, text, status, None)


def _details(trailers: Any) -> status_pb2.Status:
    status = status_pb2.Status()
    for name, value in trailers:
        if name == DETAILS:
            status.ParseFromString(value)
    return status


def _unpack(status: status_pb2.Status, message: Any) -> bool:
    """Fills `message` from the first detail of its type."""
    return any(detail.Is(message.DESCRIPTOR) and detail.Unpack(message) for detail in status.details)


def _refused(
    code: grpc.StatusCode,
    text: str,
    status: status_pb2.Status,
    info: error_details_pb2.ErrorInfo | None,
) -> Refused:
    bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    _unpack(status, bad)
    has_retry = _unpack(status, retry)
    delay = retry.retry_delay
    return BY_CODE.get(code, Refused)(
        code,
        text,
        reason=info.reason if info else "",
        metadata=dict(info.metadata) if info else None,
        violations=tuple(Violation(v.field, v.description) for v in bad.field_violations),
        retry_after=delay.seconds + delay.nanos / 1e9 if has_retry else None,
    )
