"""What can go wrong: one hierarchy below :class:`MillraceError`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc


class MillraceError(Exception):
    """Every error of this package."""

    @property
    def retryable(self) -> bool:
        """Whether the same call, unchanged and after a while, may succeed."""
        return False


class InvalidInput(MillraceError, ValueError):
    """Something that was never sent, since it breaks a rule."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        #: What is to blame.
        self.field = field
        #: The rule it breaks, and the way out.
        self.rule = rule


class NotReachable(MillraceError, ConnectionError):
    """No server answered, however often it was tried."""

    def __init__(self, service: str, address: str, waited: float, reason: str) -> None:
        super().__init__(
            f"{service} at {address} cannot be reached after {waited:.0f} s of trying: {reason}"
        )
        #: Which service.
        self.service = service
        #: Where it was looked for.
        self.address = address
        #: For how long, in seconds.
        self.waited = waited
        #: What the last attempt met.
        self.reason = reason


class NotTrusted(MillraceError, ConnectionError):
    """A certificate is not what it should be, or one side does not speak TLS.

    Trying again changes nothing: somebody has to change a file or an address.
    """

    def __init__(self, service: str, address: str, reason: str) -> None:
        super().__init__(
            f"{service} at {address} is not trusted, or does not trust this client: {reason}; "
            "check ca, cert and key here, and --tls-cert and --tls-client-ca there"
        )
        #: Which service.
        self.service = service
        #: Where it was called.
        self.address = address
        #: What TLS said.
        self.reason = reason


class Broken(MillraceError, ConnectionError):
    """The connection broke. Whether the call had its effect is not known."""

    def __init__(self, service: str, address: str, reason: str) -> None:
        super().__init__(f"the connection to {service} at {address} broke: {reason}")
        #: Which service.
        self.service = service
        #: Where it was called.
        self.address = address
        #: What the transport said.
        self.reason = reason

    @property
    def retryable(self) -> bool:
        """Always: the server restarts, moves, or was not reached."""
        return True


class DeadlineExceeded(MillraceError, TimeoutError):
    """A call took longer than it may. Whether it had its effect is not known."""

    def __init__(self, after: float | None, what: str = "the call took longer than it may") -> None:
        limit = "" if after is None else f" ({after:g} s)"
        super().__init__(f"{what}{limit}: give it more time with timeout, or ask for less")
        #: The limit in seconds; None where the server's own limit was reached.
        self.after = after


class ProtocolError(MillraceError):
    """The server answered something that the protocol does not allow."""


@dataclass(frozen=True)
class Violation:
    """A field of a request that breaks a rule."""

    #: The path of the field.
    field: str
    #: The rule.
    rule: str


class Refused(MillraceError):
    """A server refused a call and said why. Subclasses name the status code."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        parts = [message or reason or f"the server refused the call: {code.name}"]
        parts += [f"{v.field}: {v.rule}" for v in violations if v.rule not in message]
        super().__init__("; ".join(parts))
        #: The status code.
        self.code = code
        #: The server's message.
        self.message = message
        #: The stable name of the error, such as VIEW_NOT_FOUND; empty where the server gave none.
        self.reason = reason
        #: The values that the message speaks of, by name.
        self.metadata = dict(metadata or {})
        #: The fields that break a rule.
        self.violations = violations
        #: How many seconds to wait at least before the same call is made again; None where that
        #: does not help.
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the server said when to try again."""
        return self.retry_after is not None


class InvalidArgument(Refused):
    """A field of the request breaks a rule, see `violations`."""


class NotFound(Refused):
    """There is no such view, feature or catalog version."""


class OutOfRange(Refused):
    """An instant is ahead of what is over, or a message is too large."""


class Unauthenticated(Refused):
    """No credential was shown, or one that the server does not know."""


class PermissionDenied(Refused):
    """The credential lacks a role; `metadata["role"]` names it."""


class ResourceExhausted(Refused):
    """Overloaded (retryable), or a read that costs more than a read may."""


class Unavailable(Refused):
    """Not serving, draining, or without its store (retryable), or without trust in a hop."""


class Aborted(Refused):
    """Something changed meanwhile, such as the catalog."""


#: The subclass of a status code; all others are plain :class:`Refused`.
BY_CODE: dict[grpc.StatusCode, type[Refused]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.ABORTED: Aborted,
}
