"""What of a stream's facts is not answered yet, and what of it may be sent. No clock, no call."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .v1 import ingest_pb2


@dataclass(frozen=True)
class Batch:
    """A request, ready to be sent any number of times."""

    #: Without the schema of its Arrow payload.
    request: ingest_pb2.PublishRequest
    #: The schema its Arrow payload needs; empty for none.
    schema: bytes
    #: How many facts it has.
    facts: int

    @property
    def size(self) -> int:
        """What it takes in flight in bytes, its schema included."""
        return self.request.ByteSize() + len(self.schema)


class Window:
    """The batches that are not answered, oldest first: some sent on this call, the rest waiting."""

    def __init__(self) -> None:
        self._batches: deque[tuple[Batch, int]] = deque()
        #: How many, from the front, were sent on this call.
        self._sent = 0
        self._sent_facts = 0
        self._sent_bytes = 0
        #: Granted by the server on this call; nothing before its first message.
        self._credits = ingest_pb2.Credits()
        #: The schema that this call has.
        self._schema = b""

    @property
    def is_empty(self) -> bool:
        """Whether everything was answered."""
        return not self._batches

    @property
    def has_unsent(self) -> bool:
        """Whether a batch waits for credits."""
        return self._sent < len(self._batches)

    @property
    def has_sent(self) -> bool:
        """Whether an answer is awaited."""
        return self._sent > 0

    def push(self, batch: Batch) -> None:
        """Adds a batch behind all others."""
        self._batches.append((batch, batch.size))

    def restart(self) -> None:
        """A new call begins: it has seen nothing and granted nothing."""
        self._sent = self._sent_facts = self._sent_bytes = 0
        self._credits = ingest_pb2.Credits()
        self._schema = b""

    def grant(self, credits: ingest_pb2.Credits) -> None:
        """What may be in flight from now on."""
        self._credits = credits

    def may_send(self) -> bool:
        """Whether the credits allow the next batch. One larger than all of them goes alone."""
        if not self.has_unsent or not self._credits.facts or not self._credits.bytes:
            return False
        batch, size = self._batches[self._sent]
        fits = (
            self._sent_facts + batch.facts <= self._credits.facts
            and self._sent_bytes + size <= self._credits.bytes
        )
        return fits or not self._sent

    def send(self) -> ingest_pb2.PublishRequest:
        """The next request, if `may_send`."""
        batch, size = self._batches[self._sent]
        self._sent += 1
        self._sent_facts += batch.facts
        self._sent_bytes += size
        if not batch.schema or batch.schema == self._schema:
            return batch.request
        self._schema = batch.schema
        request = ingest_pb2.PublishRequest()
        request.CopyFrom(batch.request)
        request.arrow_ipc = batch.schema + batch.request.arrow_ipc
        return request

    def answered(self) -> Batch | None:
        """Takes out the oldest batch, which the server answered. None when none was sent."""
        if not self._sent:
            return None
        batch, size = self._batches.popleft()
        self._sent -= 1
        self._sent_facts -= batch.facts
        self._sent_bytes -= size
        return batch
