"""What `Client.publish` gives: what became of the facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from .v1 import fact_pb2, ingest_pb2

#: So many exceptions are listed; more are counted.
EXCEPTIONS_MAX = 1_000


class Verdict(str, Enum):
    """What became of a fact."""

    #: New, and it changed no row emitted before.
    ACCEPTED = "ACCEPTED"
    #: It changed rows emitted before, or will when its entity is rebuilt.
    REPAIRED = "REPAIRED"
    #: Known already.
    DUPLICATE = "DUPLICATE"
    #: Behind the repair horizon of its stream: logged, without effect on online values.
    LATE = "LATE"
    #: Refused; the reason says why.
    REJECTED = "REJECTED"
    #: One that this version of the package does not know.
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class FactException:
    """A fact that needs attention: rejected, late, or in conflict."""

    #: The index of its row in what was published, from 0.
    row: int
    #: Its sequence.
    sequence: int
    #: Its id; empty where it could not be read.
    id: str
    #: Its verdict.
    verdict: Verdict
    #: Another payload of the same id and revision is known: correct with a greater revision.
    conflict: bool
    #: Why it was rejected, such as BAD_ROW or MISSING_KEY; empty otherwise.
    reason: str
    #: The field that is to blame; empty where none is.
    field: str
    #: What is wrong, for a person.
    message: str


@dataclass
class Published:
    """What became of the facts: each has exactly one verdict."""

    #: The producer that they were published as.
    producer: str
    #: The stream.
    stream: str
    #: One past the last sequence: where the same producer goes on.
    next_sequence: int
    #: How many facts were sent.
    sent: int = 0
    #: New ones.
    accepted: int = 0
    #: Those that changed rows emitted before, queued ones included.
    repaired: int = 0
    #: Those known already.
    duplicate: int = 0
    #: Those behind the repair horizon.
    late: int = 0
    #: Refused ones.
    rejected: int = 0
    #: Of the repaired ones, those whose entity waits for a rebuild.
    queued: int = 0
    #: Rows retracted by the repaired ones, over all views.
    rows_repaired: int = 0
    #: Rejected and late facts and conflicts, one by one; the first 1,000.
    exceptions: list[FactException] = field(default_factory=list)
    #: How many more there are.
    exceptions_omitted: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether no fact was rejected, late, or in conflict."""
        return not (self.rejected or self.late or self.exceptions or self.exceptions_omitted)

    def add(self, result: ingest_pb2.PublishResult, facts: int, first_sequence: int) -> None:
        """Counts what became of a batch of so many facts; `first_sequence` is that of row 0."""
        counts = result.counts
        self.sent += facts
        self.accepted += counts.accepted
        self.repaired += counts.repaired
        self.duplicate += counts.duplicate
        self.late += counts.late
        self.rejected += counts.rejected
        self.queued += counts.queued
        self.rows_repaired += counts.rows_repaired
        room = EXCEPTIONS_MAX - len(self.exceptions)
        listed = result.exceptions[:room]
        self.exceptions += [_exception(exception, first_sequence) for exception in listed]
        self.exceptions_omitted += result.exceptions_omitted
        self.exceptions_omitted += len(result.exceptions) - len(listed)


def _exception(found: fact_pb2.FactException, first_sequence: int) -> FactException:
    return FactException(
        row=found.sequence - first_sequence,
        sequence=found.sequence,
        id=found.id,
        verdict=_verdict(found.verdict),
        conflict=found.conflict,
        reason=_reason(found.reason),
        field=found.field,
        message=found.message,
    )


def _verdict(number: int) -> Verdict:
    names = fact_pb2.Verdict.DESCRIPTOR.values_by_number
    name = names[number].name.removeprefix("VERDICT_") if number in names else ""
    return Verdict(name) if name in Verdict.__members__ else Verdict.UNKNOWN


def _reason(number: int) -> str:
    if number == fact_pb2.REJECT_REASON_UNSPECIFIED:
        return ""
    names = fact_pb2.RejectReason.DESCRIPTOR.values_by_number
    found = names.get(number)
    return str(number) if found is None else str(found.name.removeprefix("REJECT_REASON_"))
